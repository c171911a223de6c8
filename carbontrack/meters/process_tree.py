"""CPU time of a job: its process and everything that descends from it.

A live process shows its own time and that of the children it has waited for (utime, stime, cutime,
cstime in `/proc/PID/stat`), so short-lived children count although no scan ever sees them. A
process seen once is remembered when its parent dies and it becomes another process's child. What is
not seen: a daemon that detaches within one scan interval, and children of a parent that ignores
SIGCHLD, beyond their last scan.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from carbontrack.units import NS_PER_S, monotonic_ns

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Most children are forked by the main thread, whose list is one small file; the lists of all
# threads of a large job cost milliseconds, so they are read less often.
_ALL_THREADS_EVERY = 4
_ENDED_STATES = "ZX"


def descends(pid: int, roots: Collection[int]) -> bool:
    """Whether a process is one of `roots` or descends from one, now."""
    seen: set[int] = set()
    while pid > 0 and pid not in seen:  # a pid that is given again could make a circle
        if pid in roots:
            return True
        seen.add(pid)
        process = _read_process("/proc", pid)
        pid = 0 if process is None else process.parent
    return False


@dataclass(frozen=True, slots=True)
class _Process:
    """One line of /proc/PID/stat. Times are in clock ticks."""

    state: str
    parent: int
    own: int
    waited: int  # of children that have ended and were waited for, with theirs
    threads: int
    started: int  # since boot; a reused pid has another one

    @property
    def ticks(self) -> int:
        """CPU time that it answers for."""
        return self.own + self.waited

    @property
    def started_ns(self) -> int:
        """When it started, as `units.monotonic_ns()`."""
        return self.started * NS_PER_S // _TICKS_PER_S

    def ticks_before(self, since_ns: int, now_ns: int) -> int:
        """Those that it had used by a time, as if it had used them evenly from its start to now."""
        lived_ns = max(1, now_ns - self.started_ns)
        return round(self.ticks * min(1.0, max(0, since_ns - self.started_ns) / lived_ns))


class ProcessTree:
    """The processes of a job, found again at every `cpu_s()`."""

    def __init__(self, root: int, procfs: Path = Path("/proc")) -> None:
        self._root = root
        self._more: dict[int, int] = {}  # other roots, and when each started
        self._seeds = [root]
        self._procfs = str(procfs)
        self._known: dict[int, _Process] = {}
        self._retired = 0  # ticks of processes that ended and that no live one answers for
        self._not_ours = 0  # ticks that processes had used before they belonged to the job
        self._looks = 0
        self._has_children_files = (procfs / f"{root}/task/{root}/children").exists()

    def add_root(self, root: int, since_ns: int) -> None:
        """This process and what descends from it belongs to the job, too, since a time: what they
        had used before does not.
        """
        self._look(every_thread=True)  # what is known by now has belonged to the job all the time
        process = self._read(root)
        if process is None:
            return
        self._more[root] = process.started
        joined = self._scan([root], every_thread=True)  # or another thread's child joins later
        now_ns = monotonic_ns()
        for pid in joined.keys() - self._known.keys():
            self._not_ours += joined[pid].ticks_before(since_ns, now_ns)
        self._known = joined | self._known

    def root_has_ended(self) -> bool:
        """Whether the job's own process has ended (its last CPU time may still be readable), and
        those that belong to it as well.
        """
        root = self._read(self._root)
        if root is not None and root.state not in _ENDED_STATES:
            return False
        return not any(map(self._goes_on, self._more.items()))

    def _goes_on(self, other: tuple[int, int]) -> bool:
        pid, started = other
        process = self._read(pid)
        if process is None or process.started != started:
            return False
        return process.state not in _ENDED_STATES

    def root_started_ns(self) -> int | None:
        """When the job's process started, as `units.monotonic_ns()`; None if it is gone."""
        root = self._read(self._root)
        return None if root is None else root.started_ns

    def cpu_s(self) -> float:
        """CPU seconds (user and system) of the tree so far. Never decreases."""
        self._look(every_thread=self._looks % _ALL_THREADS_EVERY == 0)
        self._looks += 1
        live = sum(process.ticks for process in self._known.values())
        return (self._retired - self._not_ours + live) / _TICKS_PER_S

    def _look(self, *, every_thread: bool) -> None:
        now = self._scan([*self._seeds, *self._known], every_thread=every_thread)
        self._seeds = []  # from now on they are known
        self._retired += _unaccounted(self._known, now)
        self._known = now

    def _scan(self, pending: list[int], *, every_thread: bool) -> dict[int, _Process]:
        """The `pending` processes and what descends from them."""
        children: Callable[[int, _Process], Iterable[int]]
        if self._has_children_files:
            children = partial(self._children_files, every_thread)
        else:
            children = self._children_table()
        now: dict[int, _Process] = {}
        while pending:
            pid = pending.pop()
            process = None if pid in now else self._read(pid)
            before = self._known.get(pid)
            if process is None or (before is not None and before.started != process.started):
                continue
            now[pid] = process
            pending.extend(children(pid, process))
        return now

    def _children_files(self, every_thread: bool, pid: int, process: _Process) -> Iterable[int]:
        tasks = [str(pid)]
        if process.threads > 1 and every_thread:
            try:
                tasks = [entry.name for entry in os.scandir(f"{self._procfs}/{pid}/task")]
            except OSError:
                return ()
        lists = (_read_file(f"{self._procfs}/{pid}/task/{task}/children") for task in tasks)
        return [int(child) for text in lists for child in text.split()]

    def _children_table(self) -> _ChildrenTable:
        return _ChildrenTable(
            (int(entry.name), process)
            for entry in os.scandir(self._procfs)
            if entry.name.isdigit() and (process := self._read(int(entry.name))) is not None
        )

    def _read(self, pid: int) -> _Process | None:
        return _read_process(self._procfs, pid)


class _ChildrenTable:
    """Children by parent from one pass over all processes, for kernels without children files."""

    def __init__(self, processes: Iterable[tuple[int, _Process]]) -> None:
        self._children: dict[int, list[int]] = defaultdict(list)
        for pid, process in processes:
            self._children[process.parent].append(pid)

    def __call__(self, pid: int, process: _Process) -> Iterable[int]:
        return self._children.get(pid, ())


def _unaccounted(before: Mapping[int, _Process], now: Mapping[int, _Process]) -> int:
    """Ticks of processes that vanished without a live ancestor having waited for them."""
    vanished: dict[int | None, int] = defaultdict(int)
    for pid, process in before.items():
        if pid not in now:
            heir: int | None = process.parent
            while heir is not None and heir not in now:
                heir = before[heir].parent if heir in before else None
            vanished[heir] += process.ticks
    unaccounted = 0
    for heir, ticks in vanished.items():
        if heir is not None and heir in before:
            ticks -= now[heir].waited - before[heir].waited
        unaccounted += max(ticks, 0)
    return unaccounted


def _read_process(procfs: str, pid: int) -> _Process | None:
    text = _read_file(f"{procfs}/{pid}/stat")
    if not text:
        return None
    # The name, in parentheses, may itself hold blanks and parentheses.
    fields = text[text.rindex(b")") + 2 :].split()
    return _Process(
        state=fields[0].decode(),
        parent=int(fields[1]),
        own=int(fields[11]) + int(fields[12]),
        waited=int(fields[13]) + int(fields[14]),
        threads=int(fields[17]),
        started=int(fields[19]),
    )


def _read_file(path: str) -> bytes:
    """The whole of a small file; empty if it is gone. Files of procfs come in one read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
    finally:
        os.close(descriptor)

"""What the kernel says of a tool's processes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def watchers(pid: int, *, without: int) -> list[int]:
    """A process and its descendants, but not the job and its own; of those that are gone, none."""
    if pid == without:
        return []
    try:
        children = children_of(pid)
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(found for child in children for found in watchers(child, without=without))]


def children_of(pid: int) -> set[int]:
    """Of all of its threads."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for thread in threads for child in (thread / "children").read_text().split()}


def adopt_orphans() -> None:
    """Become the parent of what a descendant leaves behind when it ends, so that we can wait for it
    and know its CPU.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def wait_for_orphans(known: Collection[int]) -> float:
    """CPU in s of the children that are not `known`, until there are none."""
    used_s = 0.0
    while new := children_of(os.getpid()).difference(known):
        for pid in new:
            _, _, used = os.wait4(pid, 0)
            used_s += used.ru_utime + used.ru_stime
    return used_s


def cpu_s(pid: int) -> float:
    """0 of one that is gone."""
    fields = _said(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0


def peak_mib(pid: int) -> float:
    """0 of one that has ended, waited for or not."""
    words = _said(pid, "status").partition("VmHWM:")[2].split()
    return int(words[0]) / 1024 if words else 0.0


def _said(pid: int, what: str) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/{what}").read_text()
    return ""

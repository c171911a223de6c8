"""Where the wrappers of one run on one node meet: one of them has the recorder, the others join it.

It is a socket with a name and no file, in the kernel of this node: a folder that nodes share cannot
confuse it, and it is gone with the recorder. The wrapper names it before its job starts; the
recorder, which was started earlier, has it open already. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SO_PEERCRED, SOCK_SEQPACKET, SOL_SOCKET, socket
from contextlib import suppress
from typing import Any, final

from carbontrack.ids import uuid5, uuid7
from carbontrack.record.grace import grace_s
from carbontrack.record.own_process import close_in_children, leave_to_children
from carbontrack.record.recorder_process import RecorderProcess
from carbontrack.record.steps_file import LockedSteps
from carbontrack.record.this_node import boot_id, hostname, visibility
from carbontrack.record.warning import harmless, warn, warn_of_slow_recorder

# `socket` itself costs 8 ms to import.
_TRIES = 3  # a recorder may end between our two looks
_WAITING = 1024  # wrappers that the kernel lets wait for the recorder's start
_APART = "other processes of this run are recorded apart"
_CREDENTIALS = 12  # bytes of pid, uid, gid
_VIEWS = ("cgroup", "ns/mnt")  # by which the devices that a process can open may be others
_BUDGETS = ("budget_kg", "budget_usd", "budget_kwh")


@final
class Rendezvous:
    """One end of the socket: without an owner before `claim`."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._socket = socket(AF_UNIX, SOCK_SEQPACKET)

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    def claim(self, run_id: str) -> Joined | None:
        """Name it, so that the others of the run find it; or, if another has done so, join that.

        Raises OSError if neither works.
        """
        address = address_of(run_id)
        for _ in range(_TRIES):
            with suppress(OSError):
                self._socket.bind(address)
                self._socket.listen(_WAITING)
                return None
            with suppress(ConnectionRefusedError):
                return Joined(address)
        raise OSError("another recorder of this run is just ending")

    def joined(self, run_id: str) -> Joined | None:
        """As `claim`; None, with a warning, if neither works."""
        try:
            return self.claim(run_id)
        except OSError as error:
            warn(f"{_APART}: {error.strerror or error}.")
            return None

    def close(self) -> None:
        """Our descriptor of it: the recorder has its own."""
        self._socket.close()


def address_of(run_id: str, *what: str) -> bytes:
    """The name that the recorder of a run has in the kernel of this node, or one of its own."""
    return b"\0carbontrack-" + uuid5([os.getuid(), run_id, boot_id(), hostname(), *what]).encode()


def open_rendezvous() -> Rendezvous | None:
    """None, with a warning, if it cannot be: then each wrapper records for itself."""
    try:
        return Rendezvous()
    except OSError as error:
        warn(f"{_APART}: {error.strerror or error}.")
        return None


class Joined:
    """Our connection to the recorder that another wrapper of this run started on this node.

    It is used as a `RecorderProcess` is.
    """

    pid = None

    def __init__(self, address: bytes) -> None:
        """Raises OSError."""
        self._socket = socket(AF_UNIX, SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._steps: LockedSteps | None = None
        self._plan: dict[str, Any] = {}
        self._beside: RecorderProcess | None = None
        try:
            self._socket.connect(address)
            if peer_uid(self._socket) != os.getuid():
                raise OSError("another user has taken the place of this run's recorder")
            close_in_children(self._socket.fileno())
        except BaseException:
            self._socket.close()
            raise

    def bring(self, steps: LockedSteps | None) -> None:
        """The file in which our job logs its steps. The recorder that held it may have ended."""
        self._steps = steps

    def begin(self, plan: dict[str, Any]) -> None:
        """Say which job joins; the recorder gets its steps file and its stderr."""
        with harmless("this process is not recorded"):
            self._plan = plan
            said = {name: plan.get(name) for name in ("job_pid", "started_ns")}
            seen = plan.get("visibility")
            said["visibility"] = visibility(os.environ) if seen is None else seen
            said["quiet"] = bool(plan.get("quiet"))
            said["steps_path"] = self._steps and self._steps.path
            steps = self._open_steps()
            descriptors = [2, *steps]
            try:
                packed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in descriptors)
                self._socket.sendmsg(
                    [json.dumps(said).encode()], [(SOL_SOCKET, SCM_RIGHTS, packed)]
                )
            finally:
                for descriptor in steps:
                    os.close(descriptor)
        with harmless("GPUs that are hidden from the run's recorder are not recorded"):
            if not self._sees_what_we_see():
                self._record_beside(plan)

    def _sees_what_we_see(self) -> bool:
        """Whether no control group or container hides devices from the recorder that we can see, or
        the other way round.
        """
        pid = _peer(self._socket)[0]
        return all(_of_process(pid, what) == _of_process("self", what) for what in _VIEWS)

    def _record_beside(self, plan: dict[str, Any]) -> None:
        """By a recorder of our own, which looks for them and ends where there is none."""
        self._beside = RecorderProcess(None)
        nothing = dict.fromkeys(("steps_path", "log_path", "metrics_port", *_BUDGETS))
        own = {"recording_id": uuid7(), "is_beside": True, "quiet": True}
        self._beside.begin({**plan, **nothing, **own})

    def flush(self, timeout_s: float = 0.0) -> bool:
        """What the joined recorder has to know is sent at once."""
        return self._beside is None or self._beside.flush(timeout_s)

    def reaped(self, pid: int, status: int) -> None:
        """A child of this process has ended."""
        if self._beside is not None:
            self._beside.reaped(pid, status)

    def end(self, outcome: dict[str, Any]) -> None:
        """Say how the job ended. The last of the run waits until the recorder has written that."""
        if self._beside is not None:
            self._beside.end(outcome)
        with harmless("how this process ended is not recorded"):
            self._socket.send(json.dumps(outcome).encode())
            released = select.poll()
            released.register(self._socket.fileno(), select.POLLIN)
            if not released.poll(grace_s()[0] * 1000):
                warn_of_slow_recorder(self._plan)
        self.discard()

    def discard(self) -> None:
        """There is nothing to record, or no more."""
        leave_to_children(self._socket.fileno())
        self._socket.close()

    def _open_steps(self) -> list[int]:
        if self._steps is None:
            return []
        descriptor = os.open(self._steps.path, os.O_RDWR | os.O_CLOEXEC)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return [descriptor]


def peer_uid(connection: socket) -> int:
    """The user of the process at the other end."""
    return _peer(connection)[1]


def _peer(connection: socket) -> tuple[int, int]:
    """(process, user) of the other end; the process that named it."""
    credentials = connection.getsockopt(SOL_SOCKET, SO_PEERCRED, _CREDENTIALS)
    pid, uid, _ = memoryview(credentials).cast("I")
    return int(pid), int(uid)


def _of_process(pid: int | str, what: str) -> str:
    """One of `_VIEWS` of a process; empty if it is gone, or not in our sight."""
    path = f"/proc/{pid}/{what}"
    with suppress(OSError):
        if what.startswith("ns/"):
            return os.readlink(path)  # noqa: PTH115 - pathlib costs 8 ms
        with open(path) as file:  # noqa: PTH123
            return file.read()
    return ""

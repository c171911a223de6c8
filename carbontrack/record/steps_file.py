"""The run's own file in which the job logs its steps, and the lock that says it is recorded."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress

from carbontrack.files import open_regular
from carbontrack.folders import runtime_folders
from carbontrack.record.this_run import mark_in
from carbontrack.record.warning import warn


class LockedSteps:
    """The file, open: it can be read when its folder is gone (a logout clears the runtime folder).

    As long as the run is recorded, the recorder holds a lock on it through `descriptor`.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor


def make_steps_file(recording_id: str) -> LockedSteps | None:
    """The file, locked, in the first folder that works; None, with a warning, if none does."""
    problem = ""
    for base in runtime_folders(os.environ):
        folder = f"{base}/carbontrack-{recording_id}"
        path = f"{folder}/steps.jsonl"
        try:
            os.mkdir(folder, 0o700)  # noqa: PTH102 - pathlib costs 8 ms here
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            problem = problem or f"cannot create {path}: {getattr(error, 'strerror', error)}"
            with suppress(OSError, ValueError):
                os.rmdir(folder)  # noqa: PTH106
            continue
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return LockedSteps(path, descriptor)
    warn(f"training steps will not be recorded: {problem}.")
    return None


def remove_steps_file(path: str | None) -> None:
    """The file with the folder that was made for it, if there is one."""
    if path is not None:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108
        with suppress(OSError):
            os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120


def is_recorded_already(environ: Mapping[str, str]) -> bool:
    """Whether a recorder above a process with this environment counts this node's devices now: one
    run, not two.

    The file alone does not say so: after `kill -9` of the recorder it stays, the lock does not. Nor
    does the lock: another node may see the file, too, where they share its folder.
    """
    path = environ.get("CARBONTRACK_STEPS")
    mark = mark_in(environ)
    if path is None or mark is None or not mark.is_here:
        return False
    try:
        descriptor = open_regular(path)
    except (OSError, ValueError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # locked, or a file system without locks: then the file must do
        return True
    finally:
        os.close(descriptor)
    return False

"""What a file was at a time, by which it is known again. Light: the job waits for it."""

from __future__ import annotations

import os
from typing import NamedTuple


class FileState(NamedTuple):
    """What a path was at a time: device and inode, size and time of its last change."""

    device: int
    inode: int
    size: int
    changed_ns: int


def state_of(path: str) -> FileState | None:
    """None if there is no such file."""
    try:
        return state_in(os.stat(path))  # noqa: PTH116
    except OSError:
        return None


def state_in(status: os.stat_result) -> FileState:
    """The state that a look at a file gave."""
    return FileState(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

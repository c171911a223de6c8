"""Files that a user or a job names: opened without blocking, read up to a bound."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

TYPE_CHECKING = False  # `typing` costs 15 ms in the launcher, pathlib 8
if TYPE_CHECKING:
    from pathlib import Path


class NotAFile(OSError):
    """The path is a folder, FIFO, socket or device."""


class NotOurs(OSError):
    """The path is a link, or belongs to a user who is neither us nor root."""


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file; never waits for a writer or a terminal.

    Looked at before it is opened: to open a FIFO would set a job free that waits for its reader,
    and to close it again would kill that job. Raises NotAFile, or any other OSError.
    """
    try:
        _check(path, os.stat(path))  # noqa: PTH116 - pathlib costs 8 ms in the launcher
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
    with _closed_on_error(descriptor):
        _check(path, os.fstat(descriptor))
    return descriptor


def open_ours(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file that only we or root can have made, as it must be where other
    users can put files. Raises NotOurs or what `open_regular` does.
    """
    descriptor = open_regular(path, flags | os.O_NOFOLLOW)
    with _closed_on_error(descriptor):
        check_ours(path, os.fstat(descriptor))
    return descriptor


def write_ours(path: Path, data: bytes, flags: int) -> None:
    """Write into a file of our own, durably: at its end (O_APPEND), or a new one (O_EXCL). It and
    its folder are made if they are not there.

    Raises OSError, also where the folder or the file is not ours.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_ours(path.parent, path.parent.lstat())
    descriptor = open_ours(path, os.O_WRONLY | os.O_CREAT | flags)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def check_ours(path: str | os.PathLike[str], status: os.stat_result) -> None:
    """Raise NotOurs if it has another owner than us or root, or it is a link."""
    if stat.S_ISLNK(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
        reason = f"belongs to user {status.st_uid}"
        if stat.S_ISLNK(status.st_mode):
            reason = "is a link"
        raise NotOurs(errno.EPERM, reason, os.fspath(path))


def read_regular(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """All of a regular file. Raises OSError, also where it holds more than `max_bytes`."""
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes:,} bytes", os.fspath(path))
    return data


@contextmanager
def _closed_on_error(descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise


def _check(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(errno.EINVAL, "not a regular file", os.fspath(path))

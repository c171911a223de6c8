"""Where a log that was renamed has gone: files beside it, named as programs name old logs."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

_NUMBER = r"[.\-_]\d[\d.\-_T:+Z]*"  # .1, -20261129, .2026-11-29_05-51-30
_MOST_NAMES = 10_000  # of a folder: it is looked at again and again

Identity = tuple[int, int]
"""A file's device and inode."""


class Rotation(NamedTuple):
    """A file that may be an older part of a log."""

    path: str
    identity: Identity
    changed_ns: int

    def is_same(self, other: Rotation) -> bool:
        """Whether they are one file that was renamed or written since, but not both: a new file may
        have the inode of one that was deleted.
        """
        is_kept = self.path == other.path or self.changed_ns == other.changed_ns
        return self.identity == other.identity and is_kept


def rotations(path: str) -> list[Rotation]:
    """Those beside a log, the one that was written first in front; compressed ones are not read."""
    folder, name = os.path.split(path)
    stem, extension = os.path.splitext(name)  # noqa: PTH122
    named = re.compile(
        f"{re.escape(name)}{_NUMBER}|{re.escape(stem)}{_NUMBER}{re.escape(extension)}"
    )
    return sorted(_beside(folder or ".", named), key=lambda one: (one.changed_ns, one.path))


def _beside(folder: str, named: re.Pattern[str]) -> Iterator[Rotation]:
    with suppress(OSError), os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number >= _MOST_NAMES:
                return
            if named.fullmatch(entry.name):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        identity = status.st_dev, status.st_ino
                        yield Rotation(entry.path, identity, status.st_mtime_ns)

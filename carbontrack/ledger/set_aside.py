"""Recordings of which a batch was refused for what it holds, and refused tombstones: noted beside
the ledger until they are sent again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from carbontrack.files import open_ours, write_ours
from carbontrack.ledger.url import recorded_in, sqlite_path


@dataclass(frozen=True, slots=True)
class Refused:
    """What was refused, and why; its rows are in the ledger."""

    path: Path
    id: str  # of the recording, or of the run that was removed
    target: str
    reason: str


def folder(url: str) -> Path:
    """Where they are: beside the file that is shipped."""
    path = sqlite_path(recorded_in(url))
    assert path is not None
    return path.with_name(path.name + "-refused")


def put(url: str, id: str, target: str, reason: str) -> None:
    """Note a refusal, durably; the first of a recording stands for all, for all of it is sent
    again. Raises OSError, also where the folder is not ours.
    """
    said = {"id": id, "target": target, "reason": reason}
    name = hashlib.sha256(f"{id}\n{target}".encode()).hexdigest()[:32]  # an id can name a file
    with suppress(FileExistsError):
        path = folder(url) / f"{name}.json"
        write_ours(path, json.dumps(said).encode(), os.O_EXCL)


def found(url: str) -> Iterator[Refused]:
    """Those of a ledger, in the order of their names; what is not one is passed over."""
    where = folder(url)
    for path in sorted(where.glob("*.json")) if where.is_dir() else ():
        try:
            with os.fdopen(open_ours(path), "rb") as file:
                said = json.load(file)
                names = ("id", "target", "reason")
                yield Refused(path, *(str(said[name]) for name in names))
        except (OSError, ValueError, KeyError, TypeError):
            continue

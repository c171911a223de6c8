"""Batches that a collector refused for what they hold: kept beside the ledger until sent again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from carbontrack.files import open_ours, write_ours
from carbontrack.ledger.url import sqlite_path
from carbontrack.units import now_ms


@dataclass(frozen=True, slots=True)
class Refused:
    """A batch that was refused, and why."""

    path: Path
    target: str
    reason: str
    body: bytes


def folder(url: str) -> Path | None:
    """Where they are; None for a ledger on a server, which ships nothing."""
    path = sqlite_path(url)
    return None if path is None else path.with_name(path.name + "-refused")


def put(url: str, recording_id: str, target: str, reason: str, body: bytes) -> Path:
    """Keep a batch, durably. Raises OSError, also where the folder is not ours."""
    where = folder(url)
    assert where is not None
    path = where / f"{recording_id}-{now_ms()}.batch"
    head = json.dumps({"target": target, "reason": reason}).encode()
    write_ours(path, head + b"\n" + body, os.O_EXCL)
    return path


def found(url: str) -> Iterator[Refused]:
    """Those of a ledger, in the order of their names; what is not one is passed over."""
    where = folder(url)
    for path in sorted(where.glob("*.batch")) if where is not None and where.is_dir() else ():
        try:
            with os.fdopen(open_ours(path), "rb") as file:
                head = json.loads(file.readline())
                yield Refused(path, str(head["target"]), str(head["reason"]), file.read())
        except (OSError, ValueError, KeyError, TypeError):
            continue

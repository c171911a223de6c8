"""How a table was made: tool, time, command, runs, and a fingerprint of what it was made from."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime

from carbontrack.account.result import Estimate, Used
from carbontrack.version import __version__


def origin_of(rows: Sequence[Estimate], command: Sequence[str]) -> tuple[str, ...]:
    """A line each, for a comment; `rows` are those of the runs, before any grouping."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    each = {row.run_ids[0]: row for row in rows if len(row.run_ids) == 1}
    lines = [f"made by carbontrack {__version__} at {now}", f"command: {shlex.join(command)}"]
    if each:
        lines.append(f"ledger: SHA-256 {fingerprint(rows)} of what these runs used")
    lines += [f"run {row.label}: {run_id}" for run_id, row in each.items()]
    for row in rows:
        lines += [f"about {row.label}: {note}" for note in row.notes]
    return tuple(dict.fromkeys(lines))


def fingerprint(rows: Sequence[Estimate]) -> str:
    """SHA-256 of what was measured: the same by any factors, in any order, in any copy of the
    ledger; another where a reading, a device or a run is another.
    """
    facts = sorted(
        json.dumps([row.run_ids, row.method, *(_plain(row, f.name) for f in fields(Used))])
        for row in rows
    )
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _plain(row: Estimate, name: str) -> object:
    value = getattr(row, name)
    if isinstance(value, frozenset):
        return sorted(value)
    return dict(value) if isinstance(value, dict) else value

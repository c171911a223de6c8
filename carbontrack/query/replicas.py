"""Groups of runs to compare: those that differ in nothing but one tag, their seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Run
from carbontrack.query.by import values_of

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection

_TAG = "tag:"


def named(connection: Connection, references: Sequence[str]) -> list[Run]:
    """The runs that are meant; by a name all that have it, oldest first.

    Raises CarbontrackError where a reference means no run.
    """
    from carbontrack.ledger import read

    found: dict[str, Run] = {}
    for reference in references:
        runs = read.list_runs(connection, name=reference)[::-1]
        for run in runs or [read.resolve_run(connection, reference)]:
            found[run.id] = run
    return list(found.values())


def groups_of(connection: Connection, runs: Sequence[Run], by: str) -> list[str]:
    """The group of each run. By `tag:KEY` those are one that differ in this tag only: of one name
    (but for the seed in it) and with the same other tags. Where no two do, and by another key of a
    table, as model or project, they are those of one value. Raises CarbontrackError for an unknown
    key, and where no run has the tag.
    """
    if not by.startswith(_TAG):
        return values_of(connection, runs, by, "--group")
    key = by.removeprefix(_TAG)
    if not any(key in run.tags for run in runs):
        raise CarbontrackError(f"--group {by}: none of these runs has the tag {key}.")
    alike = [(_base(run, key), _other_tags(run, key)) for run in runs]
    if len(set(alike)) == len(runs):
        return values_of(connection, runs, by)
    names = [name for name, _ in dict.fromkeys(alike)]
    return [name if names.count(name) == 1 else _with_tags(name, others) for name, others in alike]


def _other_tags(run: Run, key: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((k, v) for k, v in run.tags.items() if k != key))


def _base(run: Run, key: str) -> str:
    """The name without the seed at its end: base of base-seed3, base_3 and base-s3."""
    value = run.tags.get(key)
    if not value:
        return run.name
    end = rf"[-_. ]*(?:{re.escape(key)}|s)?[-_=. ]*{re.escape(value)}$"
    return re.sub(end, "", run.name, flags=re.IGNORECASE) or run.name


def _with_tags(name: str, tags: Sequence[tuple[str, str]]) -> str:
    return f"{name} ({', '.join(f'{key}={value}' for key, value in tags) or 'no other tag'})"

"""Runs that differ in nothing but one tag, their seed, as groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.rows import Run

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


def groups_of(runs: Sequence[Run], by: str) -> dict[str, list[Run]]:
    """Runs of one name (but for the seed in it) whose other tags are the same, by that name.

    `by` is `tag:KEY`. Raises CarbontrackError for anything else, and where no run has the tag.
    """
    key = by.removeprefix(_TAG)
    if not by.startswith(_TAG) or not key:
        raise CarbontrackError(f"--group {by}: not tag:KEY.", hint="Example: --group tag:seed.")
    if not any(key in run.tags for run in runs):
        raise CarbontrackError(f"--group {by}: none of these runs has the tag {key}.")
    alike: dict[tuple[str, tuple[tuple[str, str], ...]], list[Run]] = {}
    for run in runs:
        others = tuple(sorted((k, v) for k, v in run.tags.items() if k != key))
        alike.setdefault((_base(run, key), others), []).append(run)
    names = [name for name, _ in alike]
    return {
        name if names.count(name) == 1 else _with_tags(name, others): found
        for (name, others), found in alike.items()
    }


def _base(run: Run, key: str) -> str:
    """The name without the seed at its end: base of base-seed3, base_3 and base-s3."""
    value = run.tags.get(key)
    if not value:
        return run.name
    end = rf"[-_. ]*(?:{re.escape(key)}|s)?[-_=. ]*{re.escape(value)}$"
    return re.sub(end, "", run.name, flags=re.IGNORECASE) or run.name


def _with_tags(name: str, tags: Sequence[tuple[str, str]]) -> str:
    return f"{name} ({', '.join(f'{key}={value}' for key, value in tags) or 'no other tag'})"

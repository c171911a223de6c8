"""Selecting runs by reference or by filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from carbontrack.ledger.rows import Run

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection


def choose(
    connection: Connection,
    references: Sequence[str],
    *,
    project: str | None = None,
    tags: Sequence[tuple[str, str]] = (),
    since_ms: int | None = None,
    status: str | None = None,
    limit: int | None = None,
) -> list[Run]:
    """The runs that are named, else those that match, newest first."""
    from carbontrack.ledger import read

    if references:
        named = [read.resolve_run(connection, reference) for reference in references]
        runs = list({run.id: run for run in named}.values())
        runs = [run for run in runs if project in (None, run.project)]
        runs = [run for run in runs if since_ms is None or run.started_ms >= since_ms]
        runs = [run for run in runs if all(run.tags.get(k) == v for k, v in tags)]
    else:
        runs = read.list_runs(connection, project=project, tags=tags, since_ms=since_ms)
    return [run for run in runs if status in (None, run.status)][:limit]

"""Selecting runs by reference or by filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from carbontrack.account.split import whole_hours
from carbontrack.ledger.recorded_rows import Run, Span

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection


@dataclass(frozen=True, slots=True)
class Selection:
    """Which runs are wanted; None: whatever it is. See `ledger.read.list_runs`."""

    project: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    user: str | None = None
    host: str | None = None
    status: str | None = None
    quality: str | None = None
    cluster: str | None = None
    job: str | None = None
    account: str | None = None
    partition: str | None = None
    untimed: bool = False

    @property
    def span_ms(self) -> Span | None:
        """The whole hours from `since_ms` to `until_ms`; None of all time."""
        return whole_hours(self.since_ms, self.until_ms)

    @property
    def counted(self) -> Selection:
        """The same by the whole hours of which a table counts what a run used."""
        if self.span_ms is None:
            return self
        since_ms, until_ms = self.span_ms
        return replace(self, since_ms=since_ms, until_ms=until_ms)


ALL = Selection()


def choose(
    connection: Connection,
    references: Sequence[str],
    wanted: Selection = ALL,
    *,
    limit: int | None = None,
) -> list[Run]:
    """The runs that are named, in this order, as far as they match; else all that do, newest first.

    Raises CarbontrackError where a reference means no run or several.
    """
    from carbontrack.ledger import read

    asked = asdict(wanted)
    if not references:
        return read.list_runs(connection, limit=limit, **asked)
    named = {run.id: run for run in (read.resolve_run(connection, name) for name in references)}
    if wanted == ALL:
        return list(named.values())[:limit]
    matching = {run.id for run in read.list_runs(connection, ids=list(named), **asked)}
    return [run for run in named.values() if run.id in matching][:limit]


def without_time(connection: Connection, references: Sequence[str], wanted: Selection) -> list[Run]:
    """The runs that a range of time leaves out of those chosen, as no time of theirs is known."""
    if wanted.span_ms is None:
        return []
    anytime = replace(wanted, since_ms=None, until_ms=None, untimed=True)
    return choose(connection, references, anytime)

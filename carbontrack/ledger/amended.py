"""Amendments that were read: which of them stand, and a run as they say. Pure.

They are ordered by (time, id), so that ledgers that are merged in any order agree. One that was
undone stays, and an undoing is an amendment too: its `after` is the id of the one that it undoes.
What one call amends has one time, stands together and is undone together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from carbontrack import config
from carbontrack.errors import CarbontrackError
from carbontrack.keys import BY_NAME, PRICES
from carbontrack.ledger.recorded_rows import Amendment, Run
from carbontrack.units import MS_PER_S
from carbontrack.vocabulary import AmendedField

TAG = "tag:"
"""Begins the field of a tag: tag:team."""


def ordered(amendments: Iterable[Amendment]) -> tuple[Amendment, ...]:
    """Oldest first."""
    return tuple(sorted(amendments, key=lambda one: (one.time_ms, one.id)))


def undoings(amendments: Iterable[Amendment]) -> dict[str, Amendment]:
    """What undid an amendment, by the id of that."""
    return {str(one.after): one for one in amendments if one.field == AmendedField.UNDO}


def standing(amendments: Sequence[Amendment]) -> list[Amendment]:
    """Those that were not undone, oldest first."""
    undone = undoings(amendments)
    return [
        one
        for one in ordered(amendments)
        if one.field != AmendedField.UNDO and one.id not in undone
    ]


def calls(amendments: Sequence[Amendment]) -> list[list[Amendment]]:
    """Those that stand, oldest first, what one call amended together."""
    found: dict[tuple[int, str], list[Amendment]] = {}
    for one in standing(amendments):
        found.setdefault((one.time_ms, one.user), []).append(one)
    return list(found.values())


def can_be(field: str, value: Any) -> bool:
    """Whether a field may be amended to this; None takes away what it had. A ledger takes anything,
    and so may a field that we do not know.
    """
    if field == AmendedField.NAME:
        return isinstance(value, str) and value != ""
    if field in (AmendedField.PROJECT, AmendedField.NOTE) or field.startswith(TAG):
        return value is None or isinstance(value, str)
    if field in (AmendedField.TOKENS, AmendedField.PLANNED_TOKENS):
        return value is None or (type(value) is int and value >= 0)
    return value is None or config.can_be(field, value)


def values_of(amendments: Sequence[Amendment]) -> dict[str, Any]:
    """The newest value of each field that is amended, but for those that cannot be; None where what
    it had is taken away.
    """
    return {one.field: one.after for one in standing(amendments) if can_be(one.field, one.after)}


def applied(run: Run, amendments: Sequence[Amendment]) -> Run:
    """The run as these say; its settings stay those it was recorded with, see `layers`."""
    if not amendments:
        return run
    said = values_of(amendments)
    tags = {key.removeprefix(TAG): value for key, value in said.items() if key.startswith(TAG)}
    planned = {key: value for key, value in said.items() if key == AmendedField.PLANNED_TOKENS}
    return replace(
        run,
        name=said.get(AmendedField.NAME, run.name),
        project=said.get(AmendedField.PROJECT, run.project),
        tags={key: value for key, value in {**run.tags, **tags}.items() if value is not None},
        model={**run.model, **planned},
        amended=ordered(amendments),
    )


def layers(run: Run) -> list[config.Layer]:
    """The settings of a run: those of each call that amended some, the newest first, and those
    that were recorded with it; as they were stored, which may be what cannot be.
    """
    found = [config.snapshot(run.facility)]
    currency = run.facility.get("currency")
    for of_call in calls(run.amended):
        said = [one for one in of_call if one.field in BY_NAME and one.after is not None]
        known = {one.field: one.after for one in said}
        currency = known.get("currency", currency)
        if currency is not None and not known.keys().isdisjoint(PRICES):
            known["currency"] = currency  # which is written only where it changed, too
        if known:
            user, day = of_call[0].user, datetime.fromtimestamp(of_call[0].time_ms / MS_PER_S, UTC)
            found.insert(0, config.Layer(f"amended by {user}, {day:%Y-%m-%d}", known))
    return found


def facility_of(run: Run) -> dict[str, Any]:
    """The settings of the run's own: recorded with it, or amended; where those contradict each
    other, the newest of each.
    """
    of_run = layers(run)
    if len(of_run) == 1:
        return dict(run.facility)
    try:
        return config.values(config.resolve(of_run))
    except CarbontrackError:
        return {name: value for layer in reversed(of_run) for name, value in layer.values.items()}


def tokens_of(run: Run) -> int | None:
    """The tokens of all its steps as amended; None if they are not."""
    tokens: int | None = values_of(run.amended).get(AmendedField.TOKENS)
    return tokens


def note_of(run: Run) -> str | None:
    """What was noted of the run."""
    note: str | None = values_of(run.amended).get(AmendedField.NOTE)
    return note

"""Quotas of projects for people and programs: a line for each limit, and what a check says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbontrack.account.quota import QuotaUse
from carbontrack.query.by import NO_GROUP
from carbontrack.query.quota import Standing
from carbontrack.report.notes import notes_of, untimed_text
from carbontrack.report.numbers import (
    NO_VALUE,
    amount_text,
    counted,
    digits_text,
    format_share,
    number_text,
)
from carbontrack.report.table import Column, Table
from carbontrack.vocabulary import BudgetState

_DIGITS = 4
_SHOWN = 10
_TITLES = {"kwh": "facility energy", "kg": "CO₂e", "cost": "cost", "gpu_hours": "GPU-hours"}


def quota_table(found: Standing) -> Table:
    uses = found.uses
    return Table(
        (
            Column("project", "", tuple(one.project for one in uses), left=True),
            Column("period", "", tuple(one.period.name for one in uses), left=True),
            Column("limit of", "", tuple(_TITLES[one.limit_of] for one in uses), left=True),
            Column("used", "", tuple(_at_least(one) + _amount(one, one.used) for one in uses)),
            Column("limit", "", tuple(map(_limit, uses))),
            Column("unit", "", tuple(map(_unit, uses)), left=True),
            Column("share", "", tuple(map(_share, uses))),
            Column("at this", "pace", tuple(_amount(one, one.projected) for one in uses)),
            Column("state", "", tuple(map(_state, uses)), left=True),
        ),
        has_total=False,
        notes=tuple(_notes(found)),
    )


def quota_lines(uses: Sequence[QuotaUse]) -> list[dict[str, Any]]:
    """In full precision."""
    return [
        {
            "project": one.project,
            "period": one.period.name,
            "period_start_ms": one.period.span_ms[0],
            "period_end_ms": one.period.span_ms[1],
            "limit_of": one.limit_of,
            "unit": one.unit,
            "used": one.used,
            "limit": one.limit,
            "share": None if one.use is None else one.use.share,
            "projected": one.projected,
            "state": None if one.state is None else one.state.value,
            "why": one.why or None,
        }
        for one in uses
    ]


def quota_data(found: Standing) -> dict[str, Any]:
    return {
        "quotas": quota_lines(found.uses),
        "without_quota": [name for name in found.without_quota if name != NO_GROUP],
        "notes": _notes(found),
    }


def failures(uses: Sequence[QuotaUse]) -> str:
    """What a check finds wrong, in a line: limits that are spent, and those that cannot be checked;
    empty where all is well.
    """
    spent = [_spent_text(one) for one in uses if one.use and one.use.state is BudgetState.SPENT]
    unknown = [f"{_name(one)} ({one.why})" for one in uses if one.why]
    parts = [f"quota spent: {'; '.join(spent)}"] if spent else []
    parts += [f"quota not known: {'; '.join(unknown)}"] if unknown else []
    return "; ".join(parts)


def _spent_text(one: QuotaUse) -> str:
    return f"{_name(one)}: {_amount(one, one.used)} of {_limit(one)} {_unit(one)}"


def _name(one: QuotaUse) -> str:
    return f"{one.project}, {_TITLES[one.limit_of]} of {one.period.name}"


def _amount(one: QuotaUse, value: float | None) -> str:
    if one.limit_of == "cost":
        return amount_text(value, one.unit)
    return number_text(value, 0) if value and value >= 1000 else digits_text(value, _DIGITS)


def _at_least(one: QuotaUse) -> str:
    return "≥ " if one.why and one.used is not None else ""


def _limit(one: QuotaUse) -> str:
    """As it was given."""
    return amount_text(one.limit, one.unit) if one.limit_of == "cost" else f"{one.limit:,.15g}"


def _unit(one: QuotaUse) -> str:
    return {"kg": "kg", "gpu_hours": "h"}.get(one.limit_of, one.unit)


def _share(one: QuotaUse) -> str:
    return NO_VALUE if one.use is None else format_share(one.use.share)


def _state(one: QuotaUse) -> str:
    return NO_VALUE if one.use is None or one.state is None else one.use.standing


def _notes(found: Standing) -> list[str]:
    notes = ["periods are calendar months, quarters and years in UTC"]
    if any(one.projected is not None for one in found.uses):
        notes.append(
            "at this pace: what the period comes to if it goes on as until now; what was used, of "
            "one that is over"
        )
    notes += [f"{_name(one)}: {one.why}" for one in found.uses if one.why]
    if found.without_quota:
        named = [name for name in found.without_quota if name != NO_GROUP]
        shown = named[:_SHOWN]
        shown += [counted(len(named) - _SHOWN, "more project")] if len(named) > _SHOWN else []
        shown += ["runs without a project"] if NO_GROUP in found.without_quota else []
        notes.append(f"without a quota in these periods: {', '.join(shown)}")
    notes += [untimed_text(found.untimed)] if found.untimed else []
    return [*notes, *notes_of(found.runs, found.rows)]

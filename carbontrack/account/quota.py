"""Quotas of projects: what is used of each limit in a calendar period, and what the period will
come to. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from carbontrack.account.budget import LimitUse
from carbontrack.account.result import Estimate
from carbontrack.account.split import span_of_month
from carbontrack.account.total import why_unknown
from carbontrack.ledger.recorded_rows import Span
from carbontrack.quotas import Quota
from carbontrack.units import KG_PER_T, MS_PER_DAY, month_of
from carbontrack.vocabulary import BudgetState, Per

_MONTHS = {Per.MONTH: 1, Per.QUARTER: 3, Per.YEAR: 12}
_LEAST_MS = MS_PER_DAY  # a pace of less than that says nothing of a month


@dataclass(frozen=True, slots=True)
class Period:
    """A calendar month, quarter or year in UTC: 2026-07, 2026-Q3, 2026."""

    name: str
    span_ms: Span

    def at_the_end(self, used: float, now_ms: int) -> float | None:
        """What it comes to if it goes on at the pace so far: what was used, of one that is over;
        None on its first day.
        """
        start_ms, end_ms = self.span_ms
        elapsed_ms = min(now_ms, end_ms) - start_ms
        return None if elapsed_ms < _LEAST_MS else used * (end_ms - start_ms) / elapsed_ms


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """One limit of a project in a period. `why` says what of the use is not known: `used` is then
    the least that it is, None if nothing is known, and `state` None unless that is nearly spent.
    """

    project: str
    period: Period
    limit_of: str  # kwh, kg, cost or gpu_hours
    unit: str
    limit: float
    used: float | None
    projected: float | None  # for the end of the period
    why: str = ""

    @property
    def use(self) -> LimitUse | None:
        return None if self.used is None else LimitUse(self.unit, self.limit, self.used)

    @property
    def state(self) -> BudgetState | None:
        """Where it stands."""
        if self.use is None or (self.why and self.use.state is BudgetState.WITHIN):
            return None
        return self.use.state


def period_of(per: Per, at_ms: int) -> Period:
    """The one that a time is in."""
    year, month = map(int, month_of(at_ms).split("-"))
    months = _MONTHS[per]
    first = (month - 1) // months * months + 1
    start_ms, _ = span_of_month(f"{year:04}-{first:02}")
    _, end_ms = span_of_month(f"{year:04}-{first + months - 1:02}")
    name = {
        Per.MONTH: f"{year:04}-{month:02}",
        Per.QUARTER: f"{year:04}-Q{first // 3 + 1}",
        Per.YEAR: f"{year:04}",
    }
    return Period(name[per], (start_ms, end_ms))


def uses_of(
    quota: Quota, period: Period, row: Estimate | None, runs: Sequence[Estimate], now_ms: int
) -> Iterator[QuotaUse]:
    """Each limit against what the project used in the period; `row` is None where it had no run,
    and is made of `runs`.
    """
    units = {"kwh": "kWh", "kg": "kg CO₂e", "cost": quota.currency, "gpu_hours": "GPU-hours"}
    for name, unit in units.items():
        limit: float | None = getattr(quota, name)
        if limit is None:
            continue
        used, why = (0.0, "") if row is None else _used(quota, limit, row, runs, name)
        projected = None if used is None else period.at_the_end(used, now_ms)
        yield QuotaUse(quota.project, period, name, unit, limit, used, projected, why)


def _used(
    quota: Quota, limit: float, row: Estimate, runs: Sequence[Estimate], limit_of: str
) -> tuple[float | None, str]:
    """Of what the limit is; None if unknown, and why. What is known of some runs only says enough
    where it is more than the limit already.
    """
    if limit_of == "cost" and row.cost is not None and row.currency != quota.currency:
        return None, f"its money is {row.currency}, the quota's {quota.currency}"
    used = _amount(row, limit_of)
    if used is None:
        return None, _why_unknown(row, limit_of)
    lacking = [run.label for run in runs if _amount(run, limit_of) is None]
    if lacking and used < limit:
        return used, f"unknown for {len(lacking)} of its {len(runs)} runs, as {lacking[0]}"
    return used, ""


def _amount(row: Estimate, limit_of: str) -> float | None:
    return {
        "kwh": row.facility_kwh,
        "kg": None if row.tco2e is None else row.tco2e * KG_PER_T,
        "cost": row.cost,
        "gpu_hours": row.gpu_hours,
    }[limit_of]


def _why_unknown(row: Estimate, limit_of: str) -> str:
    if limit_of == "gpu_hours":
        return "its GPU-hours are not stated"
    if row.energy_kwh is None:
        return "its runs have no energy"
    field, lacking = {
        "kwh": ("facility_kwh", "PUE"),
        "kg": ("tco2e", "intensity"),
        "cost": ("cost", "price"),
    }[limit_of]
    return why_unknown(row, field) or f"no {lacking} is known"

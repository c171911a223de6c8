"""Budgets of a run in kgCO2e, money and kWh: how much is spent, and when to warn. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from carbontrack.account.result import Estimate
from carbontrack.units import KG_PER_T

WARN_AT = 0.8


class State(StrEnum):
    """Where a budget stands."""

    within = "within"
    near = "near"  # WARN_AT or more of it is spent
    spent = "spent"


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; None is no limit. Energy is after PUE, money in the run's currency."""

    kg: float | None = None
    money: float | None = None
    kwh: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit against what is spent."""

    unit: str
    limit: float
    spent: float

    @property
    def share(self) -> float:
        """Spent ÷ limit; a limit of nothing is spent at once."""
        return self.spent / self.limit if self.limit > 0 else 1.0

    @property
    def state(self) -> State:
        if self.share >= 1:
            return State.spent
        return State.near if self.share >= WARN_AT else State.within

    def __str__(self) -> str:
        return f"{self.spent:.4g} of {self.limit:g} {self.unit} ({self.share:.0%})"


def judge(budget: Budget, estimate: Estimate) -> list[Verdict]:
    """Each limit that is set against the estimate; what is not known counts as nothing yet."""
    kg = None if estimate.tco2e is None else estimate.tco2e * KG_PER_T
    pairs = (
        ("kg CO₂e", budget.kg, kg),
        (estimate.currency or "money", budget.money, estimate.cost),
        ("kWh", budget.kwh, estimate.facility_kwh),
    )
    return [Verdict(unit, limit, spent or 0.0) for unit, limit, spent in pairs if limit is not None]

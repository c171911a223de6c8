"""Budgets of a run in kgCO2e, money and kWh: how much is spent, and when to warn. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from carbontrack.account.result import Estimate
from carbontrack.units import KG_PER_T
from carbontrack.vocabulary import BudgetState

WARN_AT = 0.8
_WHOLE = 1000  # from here on without decimals


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; None if there is none. Energy is after PUE, money in USD."""

    kg: float | None = None
    money: float | None = None
    kwh: float | None = None


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One limit against what is spent."""

    unit: str
    limit: float
    spent: float

    @property
    def share(self) -> float:
        """Spent ÷ limit; a limit of nothing is spent at once."""
        return self.spent / self.limit if self.limit > 0 else 1.0

    @property
    def percent(self) -> str:
        return f"{self.share * 100:.0f} %"

    @property
    def standing(self) -> str:
        """Where it stands, in words: within, nearly spent, spent."""
        return "nearly spent" if self.state is BudgetState.NEAR else str(self.state)

    @property
    def state(self) -> BudgetState:
        if self.share >= 1:
            return BudgetState.SPENT
        return BudgetState.NEAR if self.share >= WARN_AT else BudgetState.WITHIN

    @property
    def amount(self) -> str:
        """How much of how much: the limit as it was given."""
        digits = ",.0f" if self.spent >= _WHOLE else ".4g"
        return f"{self.spent:{digits}} of {self.limit:,.15g} {self.unit}"

    def __str__(self) -> str:
        return f"{self.amount} ({self.percent})"


def unwatchable(budget: Budget, estimate: Estimate, trouble: str = "") -> list[str]:
    """What of a budget cannot be watched as it was meant, a sentence each.

    `trouble` is why the zone, provider or day of the run is not used.
    """
    found = []
    factors = estimate.factors
    if budget.kg is not None and trouble:
        place = "the world's average" if factors and factors.intensity.assumed else "other settings"
        found.append(f"budget in kg CO₂e is judged by {place}: {trouble.rstrip('.')}")
    if budget.money is not None and (why := _no_money(estimate)):
        found.append(f"budget in USD is not watched: {why}")
    return found


def judge(budget: Budget, estimate: Estimate) -> list[LimitUse]:
    """Each limit that is set against the estimate; what is not known counts as nothing yet.

    A limit of money that cannot be watched is left out: see `unwatchable`.
    """
    kg = None if estimate.tco2e is None else estimate.tco2e * KG_PER_T
    pairs = (
        ("kg CO₂e", budget.kg, kg),
        ("USD", None if _no_money(estimate) else budget.money, estimate.cost),
        ("kWh", budget.kwh, estimate.facility_kwh),
    )
    return [
        LimitUse(unit, limit, spent or 0.0) for unit, limit, spent in pairs if limit is not None
    ]


def _no_money(estimate: Estimate) -> str:
    """Why this run has no sum in USD; empty if it has one, or may get one."""
    if estimate.currency != "USD":
        return f"this run's money is {estimate.currency}"
    if estimate.cost is not None or estimate.energy_kwh is None or estimate.factors is None:
        return ""
    if estimate.factors.price_per_gpu_hour is not None:
        return "a price of a GPU-hour says nothing of a run without GPUs"
    return "an imported price is read by reports only"

"""What `carbontrack run` prints when the job has ended; no heavy import, it comes at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from carbontrack import config
from carbontrack.account import sanity
from carbontrack.account.estimate import estimate_run
from carbontrack.account.result import Estimate
from carbontrack.errors import CarbontrackError
from carbontrack.factors.catalog import Factor
from carbontrack.factors.resolve import Factors, resolve
from carbontrack.ids import short_id
from carbontrack.keys import LOOKED_UP_BY
from carbontrack.ledger.recorded_rows import Run, Sensor, StepTotals, Usage
from carbontrack.report.escape import visible
from carbontrack.report.numbers import (
    count_text,
    final_loss_text,
    format_duration,
    format_energy,
    format_share,
    how_it_ended,
    mass_text,
    money_text,
)
from carbontrack.vocabulary import MeterName, Method, Quality

if TYPE_CHECKING:
    from carbontrack.account.budget import LimitUse


def summary_text(
    run: Run,
    sensors: Sequence[Sensor],
    usages: Sequence[Usage],
    steps: StepTotals,
    db_option: str = "",
    *,
    budget: Mapping[str, float] | None = None,
    waits: str = "",
    trouble: Sequence[str] = (),
    missing: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """A few aligned lines: outcome, energy, CO2e, cost, budgets, what is assumed, what next.

    The factors are those recorded with the run (`run.facility`), else the packaged defaults.
    `budget` are the limits it had, by the names of `account.budget.Budget`. `db_option` is what
    commands need to find the run's ledger; `waits` is the one that completes it there. `trouble` is
    what of the job's steps could not be recorded, `missing` the better meters that could not be
    taken, by name with why.
    """
    factors, unknown_place = factors_of(run)
    estimate = estimate_run(run, sensors, usages, steps, factors)
    ended = f" ({how_it_ended(run.exit_code)})" if run.exit_code else ""
    lines = [
        ("energy", format_energy(estimate.energy_kwh), _energy_note(estimate)),
        ("CO₂e", mass_text(estimate.tco2e), _carbon_note(estimate)),
    ]
    if estimate.cost is not None:
        lines.append(("cost", money_text(estimate.cost, estimate.currency), _cost_note(estimate)))
    if steps.steps:
        lines.append(("steps", f"{steps.steps:,}", _steps_note(steps)))
    if budget:
        lines += _budget_lines(budget, estimate)
    notes = (
        *_unmeasured(sensors, missing),
        *sanity.findings(run, sensors, usages, steps),
        *trouble,
    )
    lines += [("note", "", f"{text}.") for text in notes]
    if unknown_place:
        lines.append(("note", "", unknown_place))
    width = max(len(value) for _, value, _ in lines)
    lasted = format_duration(estimate.duration_s or 0.0)
    text = [f"carbontrack  {run.name}  {run.status}{ended} after {lasted}"]
    text += [f"  {head:<8}{value:>{width}}  {note}".rstrip() for head, value, note in lines]
    more = waits or f"table {short_id(run.id)}"
    text.append(f"  {'more':<8}carbontrack {more}{db_option}")
    return "\n".join(map(visible, text)) + "\n"


def _budget_lines(budget: Mapping[str, float], estimate: Estimate) -> list[tuple[str, str, str]]:
    """A line for each limit that is watched, and notes on those that cannot be."""
    from carbontrack.account.budget import Budget, judge, unwatchable  # few runs have one

    limits = Budget(**budget)
    watched = [("budget", one.percent, _budget_note(one)) for one in judge(limits, estimate)]
    return [*watched, *(("note", "", f"{text}.") for text in unwatchable(limits, estimate))]


def _unmeasured(sensors: Sequence[Sensor], missing: Mapping[str, str]) -> Iterator[str]:
    """That nothing was measured, what an estimate leaves out, and which meter was missing."""
    if any(sensor.meter == MeterName.CPU_MODEL for sensor in sensors):
        yield "idle power is not in it: the CPU model counts the job's own CPU time"
    if missing and all(sensor.quality == Quality.ESTIMATE for sensor in sensors):
        why = (
            f"{name} ({_BEGINNING.split(reason)[0].rstrip()})" for name, reason in missing.items()
        )
        yield f"no better meter: {', '.join(why)}; see: carbontrack doctor"


_BEGINNING = re.compile(r"[;(:]|[.]$")  # of a reason, which is enough here


def factors_of(run: Run) -> tuple[Factors, str]:
    """The run's factors; without its zone, its provider and the day they are of, and why, where the
    tables lack one of them.

    A zone may be one that was imported, and the ledger is not opened here.
    """
    settings = config.resolve([config.snapshot(run.facility)])
    try:
        return resolve(settings, method=Method.MEASURED), ""
    except CarbontrackError as error:
        known = {n: s for n, s in settings.items() if n not in LOOKED_UP_BY}
        return resolve(known, method=Method.MEASURED), f"{error.what} Not used here."


def _energy_note(estimate: Estimate) -> str:
    if not estimate.devices:
        return "nothing was measured"
    names = ", ".join(estimate.device_names) or "no device"
    several = len(estimate.uuids) > 1
    watts = "" if estimate.power_w is None else f", {estimate.power_w:.0f} W"
    return (
        f"{f'{estimate.devices} × ' if several else ''}{names}{watts}{' each' if several else ''}; "
        f"{estimate.meter}, {estimate.scope} only, coverage {format_share(estimate.coverage)}"
    )


def _carbon_note(estimate: Estimate) -> str:
    factors = estimate.factors
    if factors is None or estimate.tco2e is None:
        return ""
    return f"PUE {_said(factors.pue)} × {_said(factors.intensity)}{_place(factors.intensity)}"


def _cost_note(estimate: Estimate) -> str:
    factors = estimate.factors
    if factors is None:
        return ""
    price = factors.price_per_gpu_hour or factors.tariff
    return "" if price is None else f"{estimate.cost_of}, at {_said(price)}"


def _steps_note(steps: StepTotals) -> str:
    parts = []
    if steps.tokens is not None:
        parts.append(f"{count_text(steps.tokens)} tokens")
    parts.append(final_loss_text(steps.final_loss, steps.final_loss_steps))
    return ", ".join(filter(None, parts))


def _budget_note(verdict: LimitUse) -> str:
    return f"{verdict.amount}: {verdict.standing}"


def _said(factor: Factor) -> str:
    """A factor as people read it, *assumed* where it is a default."""
    unit = f" {factor.unit}" if factor.unit else ""
    return f"{factor.value:g}{unit}" + (" (assumed)" if factor.assumed else "")


def _place(factor: Factor) -> str:
    return f", {factor.source.partition(',')[0]} {factor.year}" if factor.year else ""

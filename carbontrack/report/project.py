"""A projection for people and programs, beside the model's published figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from carbontrack.account.project import Projection
from carbontrack.account.result import Estimate
from carbontrack.report.notes import notes_of
from carbontrack.report.numbers import (
    NO_VALUE,
    count_text,
    digits_text,
    hours_text,
    mass_text,
    money_text,
)
from carbontrack.report.table import Column, Table
from carbontrack.units import S_PER_HOUR

_HOURS_PER_DAY = 24.0
_MARKET, _EMBODIED = "CO₂e, market-based", "CO₂e, embodied"


def projection(found: Projection) -> tuple[Table, dict[str, Any]]:
    """Tokens, GPU-hours, days, energy, CO2e and cost at the middle and the ends of the range."""
    ends = (found.low, found.estimate, found.high)
    lines = [(name, text) for name, text in _LINES if name not in _unasked(found.estimate)]
    columns = [
        Column("", "", tuple(name for name, _ in lines), left=True),
        *(
            Column(head, "", tuple(text(end) for _, text in lines))
            for head, end in zip(("low", "projected", "high"), ends, strict=True)
        ),
    ]
    if found.target.report is not None:
        columns.append(
            Column("published", "", tuple(_published(found, [name for name, _ in lines])))
        )
    return Table(tuple(columns), has_total=False, notes=tuple(_notes(found))), _data(found)


def _days(estimate: Estimate) -> float:
    return (estimate.duration_s or 0.0) / S_PER_HOUR / _HOURS_PER_DAY


_LINES: Sequence[tuple[str, Callable[[Estimate], str]]] = (
    ("tokens", lambda e: count_text(e.tokens)),
    ("GPU-hours", lambda e: hours_text(e.gpu_hours or None)),
    ("days", lambda e: digits_text(_days(e))),
    ("device energy, kWh", lambda e: digits_text(e.energy_kwh or 0.0)),
    ("facility energy, kWh", lambda e: digits_text(e.facility_kwh or 0.0)),
    ("CO₂e", lambda e: mass_text(e.tco2e)),
    (_MARKET, lambda e: mass_text(e.tco2e_market)),
    (_EMBODIED, lambda e: mass_text(e.embodied_tco2e)),
    ("cost", lambda e: money_text(e.cost, e.currency)),
)


def _unasked(estimate: Estimate) -> set[str]:
    """Lines that are there only on demand."""
    known = {_MARKET: estimate.tco2e_market, _EMBODIED: estimate.embodied_tco2e}
    return {name for name, value in known.items() if value is None}


def _published(found: Projection, names: Sequence[str]) -> list[str]:
    report = found.target.report
    cells = dict.fromkeys(names, NO_VALUE)
    if report is not None:
        cells["tokens"] = count_text(report.tokens)
        cells["GPU-hours"] = hours_text(report.gpu_hours)
        if report.tco2e is not None:
            cells["CO₂e"] = f"{report.tco2e.printed:,g} t"
    return list(cells.values())


def _notes(found: Projection) -> list[str]:
    state, target = found.state, found.target
    energy, speed = state.j_per_token, state.tokens_per_s
    notes = [
        f"steady state: {energy.value:.4g} J/token ({energy.low:.4g} to {energy.high:.4g}), "
        f"{digits_text(speed.value)} tokens/s ({digits_text(speed.low)} to "
        f"{digits_text(speed.high)}) over {state.steps} "
        f"steps; {state.left_out} of warm-up or stalls left out",
        f"on {found.estimate.devices} × {', '.join(found.estimate.device_names)}, as the run",
    ]
    if found.doubt:
        notes.insert(0, found.doubt)
    if state.times_spread:
        notes.append(
            "the steps are even to the millisecond, as where a log is read long after they were "
            "written: the range shows how power varies, not how steps do"
        )
    if target.flops_ratio != 1.0:
        notes.append(
            f"extrapolated to {target.label} by 6 FLOPs per parameter and token: × "
            f"{target.flops_ratio:.4g} at the same efficiency"
        )
    if target.report is not None:
        notes.append(f"published: {target.report.hardware}, {target.report.source}")
    return [*notes, *notes_of([found.estimate]), *found.run_notes]


def _data(found: Projection) -> dict[str, Any]:
    target, state, report = found.target, found.state, found.target.report
    return {
        "target": target.label,
        "tokens": target.tokens,
        "flops_ratio": target.flops_ratio,
        "steady_state": {
            "j_per_token": state.j_per_token.value,
            "j_per_token_low": state.j_per_token.low,
            "j_per_token_high": state.j_per_token.high,
            "tokens_per_s": state.tokens_per_s.value,
            "tokens_per_s_low": state.tokens_per_s.low,
            "tokens_per_s_high": state.tokens_per_s.high,
            "steps": state.steps,
            "left_out": state.left_out,
            "times_spread": state.times_spread,
        },
        "whole_j_per_token": found.whole_j_per_token,
        "whole_over_steady": found.whole_over_steady,
        "projected": {**found.estimate.row(), "days": _days(found.estimate)},
        "low": {**found.low.row(), "days": _days(found.low)},
        "high": {**found.high.row(), "days": _days(found.high)},
        "published": None
        if report is None
        else {
            "model": report.model,
            "hardware": report.hardware,
            "tokens": report.tokens,
            "gpu_hours": report.gpu_hours,
            "tco2e": None if report.tco2e is None else report.tco2e.printed,
            "source": report.source,
        },
    }

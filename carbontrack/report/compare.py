"""Two runs side by side: cost and energy per token, and the loss at equal energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from carbontrack.account.curve import EnergyCurve
from carbontrack.account.loss import loss_at, width_of
from carbontrack.account.result import Estimate
from carbontrack.account.scores import PER_CENT, Score, is_share, per
from carbontrack.ledger.rows import Step
from carbontrack.report.notes import notes_of
from carbontrack.report.table import Column, Table
from carbontrack.units import J_PER_KWH, KG_PER_T


@dataclass(frozen=True, slots=True)
class Side:
    """One run to compare."""

    estimate: Estimate
    curve: EnergyCurve
    steps: Sequence[Step]
    score: Score | None = None  # in the benchmark that was asked for, the last one


@dataclass(frozen=True, slots=True)
class Measure:
    """One line: the value of both runs, None where a run does not have it."""

    name: str
    unit: str
    a: float | None
    b: float | None

    @property
    def ratio(self) -> float | None:
        return self.b / self.a if self.a and self.b is not None else None


def measures(a: Side, b: Side) -> list[Measure]:
    """All lines. Loss at equal energy is read where the cheaper of the two runs ended."""
    equal_j = min(a.curve.total_j, b.curve.total_j)
    lines = [
        _measure("duration", "s", a, b, lambda s: s.estimate.duration_s),
        _measure("GPU-hours", "h", a, b, lambda s: s.estimate.gpu_hours or None),
        _measure("mean power of a device", "W", a, b, lambda s: s.estimate.power_w),
        _measure("energy", "kWh", a, b, lambda s: s.estimate.energy_kwh),
        _measure("CO₂e", "kg", a, b, lambda s: _times(s.estimate.tco2e, KG_PER_T)),
    ]
    lines += [
        line
        for name, unit, value in _FACTORS
        if (line := _measure(name, unit, a, b, value)).a != line.b
    ]
    for name, value in _ON_DEMAND:
        asked = _measure(name, "kg", a, b, value)
        if asked.a is not None or asked.b is not None:
            lines.append(asked)
    if a.estimate.currency == b.estimate.currency:
        unit = a.estimate.currency or ""
        lines.append(_measure("cost", unit, a, b, lambda s: s.estimate.cost))
        lines.append(_measure("cost per million tokens", unit, a, b, _cost_per_mtok))
    lines += [
        _measure("tokens", "", a, b, lambda s: _times(s.estimate.tokens, 1.0)),
        _measure("tokens/s", "", a, b, _tokens_per_s),
        _measure("energy per token", "J", a, b, _j_per_token),
        _measure("CO₂e per million tokens", "g", a, b, _g_per_mtok),
        _measure("final loss", "", a, b, lambda s: s.estimate.final_loss),
        _measure(
            f"loss at {equal_j / J_PER_KWH:.4g} kWh, a mean over {_width(a, b)} steps",
            "",
            a,
            b,
            lambda s: loss_at(s.steps, s.curve, equal_j),
        ),
    ]
    return [*lines, *_scores(a, b)]


def _scores(a: Side, b: Side) -> list[Measure]:
    """A benchmark's score, and over what the whole run took."""
    if a.score is None or b.score is None:
        return []
    if not is_share(a.score.metric):
        return [_measure(a.score.name, "", a, b, lambda s: s.score.score)]
    lines = [
        _measure(a.score.name, "%", a, b, _points),
        _measure("  by chance", "%", a, b, lambda s: _times(s.score.chance, PER_CENT)),
        _measure("  standard error", "%", a, b, lambda s: _times(s.score.stderr, PER_CENT)),
        _measure("  points per kWh", "", a, b, lambda s: per(_points(s), s.estimate.facility_kwh)),
        _measure("  points per tCO₂e", "", a, b, lambda s: per(_points(s), s.estimate.tco2e)),
    ]
    if a.estimate.currency == b.estimate.currency and a.estimate.cost is not None:
        name = f"  points per {a.estimate.currency}"
        lines.append(_measure(name, "", a, b, lambda s: per(_points(s), s.estimate.cost)))
    return lines


def _points(side: Side) -> float | None:
    return None if side.score is None else side.score.score * PER_CENT


def _width(a: Side, b: Side) -> str:
    """Over how many steps the loss at an energy is a mean, for both runs."""
    widths = {width_of(sum(step.loss is not None for step in side.steps)) for side in (a, b)}
    return " or ".join(str(width) for width in sorted(widths))


_FACTORS: Sequence[tuple[str, str, Callable[[Side], float | None]]] = (  # where they differ
    ("PUE", "", lambda s: s.estimate.pue),
    ("intensity", "kg/kWh", lambda s: s.estimate.intensity_kg_per_kwh),
)
_ON_DEMAND: Sequence[tuple[str, Callable[[Side], float | None]]] = (
    ("CO₂e, market-based", lambda s: _times(s.estimate.tco2e_market, KG_PER_T)),
    ("CO₂e, embodied", lambda s: _times(s.estimate.embodied_tco2e, KG_PER_T)),
)


def comparison(a: Side, b: Side) -> tuple[Table, dict[str, Any]]:
    """The table for people and the same for programs."""
    lines = measures(a, b)
    rows = [a.estimate, b.estimate]
    names = [row.label for row in rows]
    if names[0] == names[1]:
        names = [f"{row.label} {row.run_ids[0][:13]}" for row in rows]
    table = Table(
        (
            Column("", "", tuple(line.name for line in lines), left=True),
            Column("unit", "", tuple(line.unit for line in lines), left=True),
            Column(names[0], "", tuple(_text(line.a) for line in lines)),
            Column(names[1], "", tuple(_text(line.b) for line in lines)),
            Column("ratio", "", tuple(_ratio(line.ratio) for line in lines)),
        ),
        has_total=False,
        notes=tuple(notes_of(rows)),
    )
    data = {
        "a": a.estimate.row(),
        "b": b.estimate.row(),
        "measures": [
            {"name": m.name, "unit": m.unit, "a": m.a, "b": m.b, "ratio": m.ratio} for m in lines
        ],
    }
    return table, data


def _measure(name: str, unit: str, a: Side, b: Side, value: Any) -> Measure:
    return Measure(name, unit, value(a), value(b))


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _per_token(value: float | None, side: Side) -> float | None:
    return value / side.estimate.tokens if value is not None and side.estimate.tokens else None


def _j_per_token(side: Side) -> float | None:
    return _per_token(_times(side.estimate.energy_kwh, J_PER_KWH), side)


def _g_per_mtok(side: Side) -> float | None:
    return _per_token(_times(side.estimate.tco2e, KG_PER_T * 1e3 * 1e6), side)


def _cost_per_mtok(side: Side) -> float | None:
    return _per_token(_times(side.estimate.cost, 1e6), side)


def _tokens_per_s(side: Side) -> float | None:
    tokens, seconds = side.estimate.tokens, side.estimate.duration_s
    return tokens / seconds if tokens and seconds else None


def _text(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.5g}"


def _ratio(ratio: float | None) -> str:
    return "–" if ratio is None else f"× {ratio:.3g}"

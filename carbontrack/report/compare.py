"""Runs, or groups of them, side by side: cost and energy per token, the loss at equal energy, and
the energy that equal losses took. No verdict within what the runs scatter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carbontrack.account.curve import EnergyCurve
from carbontrack.account.loss import arrival, loss_at, lowest_common, width_of
from carbontrack.account.result import Estimate
from carbontrack.account.scores import PER_CENT, Score, is_share, per
from carbontrack.account.spread import Spread, apart, spread_of
from carbontrack.ids import short_id
from carbontrack.ledger.recorded_rows import Step
from carbontrack.report.notes import notes_of
from carbontrack.report.numbers import (
    COUNT,
    ENERGY,
    MASS,
    Units,
    amount_text,
    counted,
    digits_text,
    format_energy,
    unit_of,
)
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
class Group:
    """What is compared: one run, or several that differ in their seed only."""

    name: str
    sides: tuple[Side, ...]


@dataclass(frozen=True, slots=True)
class Measure:
    """One line: the value of each group, None where a group does not have it."""

    name: str
    unit: str
    values: tuple[Spread | None, ...]

    def ratio(self, at: int) -> float | None:
        """Of a group to the first one."""
        first, value = self.values[0], self.values[at]
        return value.mean / first.mean if first and value and first.mean else None

    def apart(self, at: int) -> bool | None:
        """Whether a group and the first one differ by more than they scatter."""
        first, value = self.values[0], self.values[at]
        return apart(first, value) if first and value else None


def measures(groups: Sequence[Group]) -> list[Measure]:
    """All lines. Loss at equal energy is read where the cheapest of the runs ended."""
    sides = [side for group in groups for side in group.sides]
    equal_j = min(side.curve.total_j for side in sides)
    lines = [
        _measure("duration", "s", groups, lambda s: s.estimate.duration_s),
        _measure("GPU-hours", "h", groups, lambda s: s.estimate.gpu_hours or None),
        _measure("mean power of a device", "W", groups, lambda s: s.estimate.power_w),
        _measure("energy", "kWh", groups, lambda s: s.estimate.energy_kwh),
        _measure("CO₂e", "kg", groups, lambda s: _times(s.estimate.tco2e, KG_PER_T)),
    ]
    for name, unit, value in _FACTORS:
        line = _measure(name, unit, groups, value)
        lines += [line] if len({v and v.mean for v in line.values}) > 1 else []
    for name, value in _ON_DEMAND:
        asked = _measure(name, "kg", groups, value)
        lines += [asked] if any(asked.values) else []
    currencies = {side.estimate.currency for side in sides}
    if len(currencies) == 1:
        unit = currencies.pop() or ""
        lines.append(_measure("cost", unit, groups, lambda s: s.estimate.cost))
        lines.append(_measure("cost per million tokens", unit, groups, _cost_per_mtok))
    lines += [
        _measure("tokens", "", groups, lambda s: _times(s.estimate.tokens, 1.0)),
        _measure("tokens/s", "", groups, _tokens_per_s),
        _measure("energy per token", "J", groups, _j_per_token),
        _measure("CO₂e per million tokens", "g", groups, _g_per_mtok),
        _measure(_FINAL_LOSS, "", groups, lambda s: s.estimate.final_loss),
        _measure(
            f"loss at {format_energy(equal_j / J_PER_KWH)}, a mean over {_width(sides)}",
            "",
            groups,
            lambda s: loss_at(s.steps, s.curve, equal_j),
        ),
    ]
    return [*lines, *_to_reach(groups, sides), *_scores(groups, sides)]


_FINAL_LOSS = "final loss, a mean over the last 1 % of steps"


def _to_reach(groups: Sequence[Group], sides: Sequence[Side]) -> list[Measure]:
    """The energy until the smoothed loss is down to the lowest that all runs reached."""
    target = lowest_common([_losses(side) for side in sides])
    if target is None:
        return []
    values = tuple(_reached(group, target) for group in groups)
    return [Measure(f"energy to reach loss {target:.4g}", "kWh", values)] if all(values) else []


def _reached(group: Group, target: float) -> Spread | None:
    """Of one run with the range that the noise of its losses allows."""
    if len(group.sides) > 1:
        return spread_of([_energies_at(side, target)[0] for side in group.sides])
    at, first, last = _energies_at(group.sides[0], target)
    if at is None:
        return None
    high = group.sides[0].curve.total_j / J_PER_KWH if last is None else last
    return Spread(at, None, 1, at if first is None else first, high)


def _energies_at(side: Side, target: float) -> tuple[float | None, float | None, float | None]:
    """Energy in kWh where the target is reached, the earliest and the latest that noise allows."""
    losses = _losses(side)
    times = [step.time_ms for step in side.steps if step.loss is not None]
    found = arrival(losses, target, width_of(len(losses)))
    at, first, last = (
        None if index is None else side.curve.energy_j(times[index]) / J_PER_KWH
        for index in (found.at, found.earliest, found.latest)
    )
    return at, first, last


def _losses(side: Side) -> list[float]:
    return [step.loss for step in side.steps if step.loss is not None]


def _scores(groups: Sequence[Group], sides: Sequence[Side]) -> list[Measure]:
    """A benchmark's score, and over what the whole run took."""
    first = sides[0].score
    if first is None or any(side.score is None for side in sides):
        return []
    if not is_share(first.metric):
        return [_measure(first.name, "", groups, _scored(lambda score: score.score))]
    lines = [
        _measure(first.name, "%", groups, _points),
        _measure("  by chance", "%", groups, _scored(lambda one: _times(one.chance, PER_CENT))),
        _measure(
            "  standard error", "%", groups, _scored(lambda one: _times(one.stderr, PER_CENT))
        ),
        _measure(
            "  points per kWh", "", groups, lambda s: per(_points(s), s.estimate.facility_kwh)
        ),
        _measure("  points per tCO₂e", "", groups, lambda s: per(_points(s), s.estimate.tco2e)),
    ]
    currencies = {side.estimate.currency for side in sides}
    if len(currencies) == 1 and all(side.estimate.cost is not None for side in sides):
        name = f"  points per {currencies.pop()}"
        lines.append(_measure(name, "", groups, lambda s: per(_points(s), s.estimate.cost)))
    return lines


def _scored(value: Callable[[Score], float | None]) -> Callable[[Side], float | None]:
    return lambda side: None if side.score is None else value(side.score)


def _points(side: Side) -> float | None:
    return None if side.score is None else side.score.score * PER_CENT


def _width(sides: Sequence[Side]) -> str:
    """Over how many steps the loss at an energy is a mean, for all runs."""
    widths = {width_of(len(_losses(side))) for side in sides}
    *fewer, most = sorted(widths)
    return " or ".join([*map(str, fewer), counted(most, "step")])


_FACTORS: Sequence[tuple[str, str, Callable[[Side], float | None]]] = (  # where they differ
    ("PUE", "", lambda s: s.estimate.pue),
    ("intensity", "kg/kWh", lambda s: s.estimate.intensity_kg_per_kwh),
)
_ON_DEMAND: Sequence[tuple[str, Callable[[Side], float | None]]] = (
    ("CO₂e, market-based", lambda s: _times(s.estimate.tco2e_market, KG_PER_T)),
    ("CO₂e, embodied", lambda s: _times(s.estimate.embodied_tco2e, KG_PER_T)),
)


def comparison(groups: Sequence[Group]) -> tuple[Table, dict[str, Any]]:
    """The table for people and the same for programs."""
    lines = measures(groups)
    rows = [side.estimate for group in groups for side in group.sides]
    names = [group.name for group in groups]
    if len(set(names)) < len(names):
        names = [f"{group.name} {short_id(group.sides[0].estimate.run_ids[0])}" for group in groups]
    shown = [_texts(line) for line in lines]
    two = len(groups) == 2
    columns = [
        Column("", "", tuple(line.name for line in lines), left=True),
        Column("unit", "", tuple(unit for unit, _ in shown), left=True),
    ]
    for at, name in enumerate(names):
        cells = tuple(texts[at] for _, texts in shown)
        columns.append(Column(name, "" if two else f"{at + 1}", cells))
    for at in range(1, len(groups)):
        ratios = tuple(_ratio(line, at) for line in lines)
        columns.append(Column("ratio", "" if two else f"{at + 1} ÷ 1", ratios))
    notes = [note for group in groups for note in _of_group(group)]
    if any(line.apart(at) is False for line in lines for at in range(1, len(groups))):
        notes.append(f"{_WITHIN}: they differ by less than they scatter: neither is better")
    table = Table(tuple(columns), has_total=False, notes=(*notes, *notes_of(rows)))
    return table, _data(groups, lines)


_WITHIN = "≈"


def _of_group(group: Group) -> list[str]:
    if len(group.sides) < 2:
        return []
    ids = ", ".join(short_id(side.estimate.run_ids[0]) for side in group.sides)
    return [f"{group.name}: mean ± standard deviation of {len(group.sides)} runs ({ids})"]


def _data(groups: Sequence[Group], lines: Sequence[Measure]) -> dict[str, Any]:
    """Two single runs are `a` and `b` as well."""
    two = len(groups) == 2
    data: dict[str, Any] = {}
    if two and all(len(group.sides) == 1 for group in groups):
        data = {k: g.sides[0].estimate.row() for k, g in zip("ab", groups, strict=True)}
    data["sides"] = [
        {"name": group.name, "rows": [side.estimate.row() for side in group.sides]}
        for group in groups
    ]
    data["measures"] = [
        {
            "name": line.name,
            "unit": line.unit,
            **({k: v and v.mean for k, v in zip("ab", line.values, strict=True)} if two else {}),
            **({"ratio": line.ratio(1)} if two else {}),
            "values": [
                v and {"mean": v.mean, "sd": v.sd, "n": v.n, "low": v.low, "high": v.high}
                for v in line.values
            ],
            "ratios": [line.ratio(at) for at in range(len(groups))],
            "apart": [line.apart(at) for at in range(len(groups))],
        }
        for line in lines
    ]
    return data


def _measure(
    name: str, unit: str, groups: Sequence[Group], value: Callable[[Side], float | None]
) -> Measure:
    return Measure(name, unit, tuple(spread_of([value(s) for s in g.sides]) for g in groups))


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


_SCALES: Mapping[str, Units] = {
    "kWh": ENERGY,
    "kg": [(factor / KG_PER_T, unit) for factor, unit in MASS],
}


def _texts(line: Measure) -> tuple[str, list[str]]:
    """The unit that suits all values of a line, and each in it."""
    factor, unit = 1.0, line.unit
    scale = COUNT if line.name == "tokens" else _SCALES.get(line.unit)
    if scale is not None and any(line.values):
        factor, unit = unit_of([v.mean for v in line.values if v], scale)
    if line.name == "cost":
        return unit, [_money(value, unit) for value in line.values]
    return unit, [_text(value, factor, _digits(line)) for value in line.values]


def _money(value: Spread | None, currency: str) -> str:
    text = amount_text(None if value is None else value.mean, currency)
    return f"{text} ± {amount_text(value.sd, currency)}" if value and value.sd else text


def _digits(line: Measure) -> int:
    """Losses differ in the fourth digit."""
    return 4 if "loss" in line.name and not line.unit else 3


def _text(value: Spread | None, factor: float, digits: int) -> str:
    if value is None:
        return digits_text(None)
    text = digits_text(value.mean * factor, digits)
    if not value.sd:
        return text
    return f"{text} ± {digits_text(value.sd * factor, 2)}"


def _ratio(line: Measure, at: int) -> str:
    ratio = line.ratio(at)
    if ratio is None:
        return digits_text(None)
    return _WITHIN if line.apart(at) is False else f"× {digits_text(ratio)}"

"""Totals of estimates: sums of unrounded rows, and a refusal where rows do not add up. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from carbontrack.account.pricing import priced, unpriced
from carbontrack.account.result import (
    Estimate,
    Used,
    bases_of,
    currencies_of,
    tokens_of_carbon,
    unique,
)
from carbontrack.factors.resolve import Factors
from carbontrack.ids import short_id
from carbontrack.ledger.rows import Overlap
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import MEASURED, UNATTRIBUTED, Method, Quality

_LEVELS = {60: "minute", 3600: "hour"}
_WORTH_SAYING = 0.001  # share of a row's energy
_ROUNDING = 1e-9  # of what sums may be off
_WORDS = {
    "facility_kwh": "facility energy",
    "tco2e": "CO₂e",
    "cost": "cost",
    "tco2e_market": "market-based CO₂e",
    "embodied_tco2e": "embodied CO₂e",
    "sci_g_per_mtok": "SCI",
    "water_l": "water",
}
_MEASURED = (Quality.COUNTER, Quality.POWER)


def combine(
    estimates: Sequence[Estimate],
    *,
    label: str = "total",
    group: Mapping[str, str] | None = None,
    overlaps: Mapping[str, Sequence[Overlap]] | None = None,
) -> Estimate:
    """The sum of unrounded rows by one method, each field by its own rule.

    `overlaps` has, by run id, what a run recorded of devices that another of the runs recorded at
    the same time: it counts once. What cannot be added is None with a note: money in several
    currencies, emissions by several bases, a column that some rows lack. Rows of several kinds of
    energy, scopes or currencies have sub-totals, which are the `parts` of the total.
    Raises ValueError for no rows, or rows by different methods.
    """
    methods = {estimate.method for estimate in estimates}
    if len(methods) != 1:
        raise ValueError(f"cannot add up rows by {sorted(methods) or 'no method'}")
    notes = list(_not_added(estimates))
    whole, rows = estimates, [_once(estimate, overlaps) for estimate in estimates]
    notes += [note for row in whole for note in _of_twice(row, _overlaps_of(row, overlaps))]
    values = {
        one.name: one.metadata["adds"](rows, one.name)
        for one in fields(Estimate)
        if "adds" in one.metadata
    }
    return Estimate(
        label=label,
        group=group or {},
        method=rows[0].method,
        notes=tuple(notes),
        parts=tuple(_subtotals(whole, label, group, overlaps)),
        **values,
    )


def parts_of(rows: Sequence[Estimate]) -> list[Estimate]:
    """The rows, those of unlike things as their parts: nothing in one is of several kinds."""
    return [part for row in rows for part in row.parts or (row,)]


class _Kind(NamedTuple):
    """What rows must have in common to be added up."""

    quality: str
    scope: str
    currency: str


def _kind(estimate: Estimate) -> _Kind:
    """Empty where a row has none: it goes with any kind."""
    quality = estimate.quality.split(" + ")
    named = unique(MEASURED if one in _MEASURED else one for one in quality)
    currency = "" if estimate.cost is None else estimate.currency or ""
    return _Kind(" + ".join(named), estimate.scope, currency)


def _subtotals(
    estimates: Sequence[Estimate],
    label: str,
    group: Mapping[str, str] | None,
    overlaps: Mapping[str, Sequence[Overlap]] | None,
) -> list[Estimate]:
    """A total of each kind of rows; none where all are alike."""
    kinds = list(dict.fromkeys(map(_kind, estimates)))
    alike: dict[_Kind, list[Estimate]] = {}
    for estimate in estimates:
        alike.setdefault(_home(_kind(estimate), kinds), []).append(estimate)
    if len(alike) < 2:
        return []
    names = zip(*alike, strict=True)
    differing = [len(set(values) - {""}) > 1 for values in names]
    return [
        replace(
            combine(rows, label=label, group=group, overlaps=overlaps),
            kind=", ".join(n for n, differs in zip(kind, differing, strict=True) if differs and n)
            or "no device",
        )
        for kind, rows in sorted(alike.items(), key=lambda item: not item[0].scope)
    ]


def _home(kind: _Kind, kinds: Sequence[_Kind]) -> _Kind:
    """The fullest kind that a row of this one can be added to; its own where there are several."""
    fitting = [
        other
        for other in kinds
        if all(not own or own == theirs for own, theirs in zip(kind, other, strict=True))
    ]
    fullest = max(fitting, key=lambda other: sum(map(bool, other)))
    clear = all(other[:2] in (kind[:2], fullest[:2]) for other in fitting)
    return fullest if clear else kind


def _not_added(rows: Sequence[Estimate]) -> Iterator[str]:
    """What the total lacks, a sentence each."""
    bases, currencies = bases_of(rows), currencies_of(rows)
    if len(bases) > 1:
        yield f"{_not('tco2e')} the intensities are {' and '.join(bases)}"
    if len(currencies) > 1:
        yield f"{_not('cost')} {' and '.join(currencies)}"
    unknown = sum(row.energy_kwh is None for row in rows)
    if 0 < unknown < len(rows):
        yield f"{unknown} of {len(rows)} rows have no energy and add nothing to the total"
    unknown = sum(row.gpu_hours is None for row in rows)
    if 0 < unknown < len(rows):
        yield (
            "GPU-hours of the total are too low: they are unknown for "
            f"{unknown} of {len(rows)} rows"
        )
    metered = [row for row in rows if row.energy_kwh is not None]
    has_sci = [row.sci_g_per_mtok is not None for row in rows]
    for name, whole, values in (
        ("facility_kwh", False, [row.facility_kwh for row in metered]),
        ("tco2e", False, [row.tco2e for row in metered] if len(bases) < 2 else []),
        ("cost", False, [row.cost for row in metered] if len(currencies) < 2 else []),
        ("tco2e_market", True, [row.tco2e_market for row in metered]),
        ("embodied_tco2e", True, [row.embodied_tco2e for row in rows]),
        ("sci_g_per_mtok", True, tokens_of_carbon(rows) if any(has_sci) else []),
        ("water_l", True, [row.water_l for row in metered]),
    ):
        missing = values.count(None)
        if 0 < missing < len(values):
            so = _not(name) if whole else f"{_WORDS[name]} of the total is too low:"
            yield f"{so} it is unknown for {missing} of {len(values)} rows"


def _not(name: str) -> str:
    return f"{_WORDS[name]} is not added up:"


def why_unknown(total: Estimate, name: str) -> str:
    """The note of a total that says why it lacks a field; empty where none does."""
    notes = total.notes if name in _WORDS else ()
    return next((note for note in notes if note.startswith(_not(name))), "")


def once(rows: Sequence[Estimate], overlaps: Mapping[str, Sequence[Overlap]]) -> list[Estimate]:
    """The rows, those of watches without what others of the runs recorded, too: what is left is
    unattributed.
    """
    return [_once(row, overlaps) if row.kind == UNATTRIBUTED else row for row in rows]


def _once(estimate: Estimate, overlaps: Mapping[str, Sequence[Overlap]] | None) -> Estimate:
    twice = _overlaps_of(estimate, overlaps)
    return minus_overlap(estimate, twice) if twice else estimate


def _overlaps_of(
    estimate: Estimate, overlaps: Mapping[str, Sequence[Overlap]] | None
) -> Sequence[Overlap]:
    return (overlaps or {}).get(estimate.run_ids[0], ()) if len(estimate.run_ids) == 1 else ()


def _of_twice(estimate: Estimate, twice: Sequence[Overlap]) -> Iterator[str]:
    """What of a row counts once, how well that is known, and what may count twice."""
    if not twice:
        return
    who = f"{estimate.label} ({short_id(estimate.run_ids[0])})"
    level = _LEVELS.get(max(one.level_s for one in twice), "")
    dropped = "seconds were dropped before the runs met in one ledger"
    if estimate.kind != UNATTRIBUTED and any(one.seconds for one in twice):
        known = f", known to the {level} only ({dropped}), " if level else " "
        yield (
            f"{who} recorded devices that another run recorded at the same time: that part{known}"
            "counts once in the total"
        )
    unsure_kwh = sum(one.unsure_j for one in twice) / J_PER_KWH
    share = unsure_kwh / estimate.energy_kwh if estimate.energy_kwh else 0.0
    if share > _WORTH_SAYING:
        yield f"up to {share:.1%} of {who} may be counted twice: {dropped}, and some were not read"


def minus_overlap(estimate: Estimate, overlaps: Sequence[Overlap]) -> Estimate:
    """The estimate without what `overlaps` hold, priced by its own factors again if it has them.

    Hours, and with them rented and rated energy, shrink by the share of device-seconds of the
    primary kind.
    """
    primary = [one for one in overlaps if one.uuid in estimate.uuids]
    seconds = sum(one.seconds for one in primary)
    device_s = estimate.primary_expected_s
    left = 1.0 - (min(1.0, seconds / device_s) if device_s else 0.0)
    rated = estimate.method == Method.REPORT
    shrunk: dict[str, Any] = {
        one.name: _times(getattr(estimate, one.name), left)
        for one in fields(Used)
        if one.metadata.get("shrinks")
    }
    smaller = replace(
        estimate,
        primary_kwh=_less(estimate.primary_kwh, primary, left, rated=rated),
        primary_s=estimate.primary_s * left if rated else max(0.0, estimate.primary_s - seconds),
        energy_kwh=_less(estimate.energy_kwh, overlaps, left, rated=rated),
        **shrunk,
    )
    embodied = estimate.embodied_tco2e is not None
    factors = _of_the_rest(estimate, primary if rated else overlaps)
    return priced(smaller, factors, embodied=embodied) if factors else unpriced(smaller)


def _of_the_rest(estimate: Estimate, taken: Sequence[Overlap]) -> Factors | None:
    """The factors of a row, its hourly intensity as the mean over the energy that is not taken."""
    factors = estimate.factors
    whole_kwh = estimate.metered_kwh if estimate.method == Method.REPORT else estimate.energy_kwh
    if factors is None or factors.hourly is None or not whole_kwh:
        return factors
    mean, of_hour = factors.intensity.value, factors.hourly.kg_per_kwh
    taken_kwh = taken_kg = 0.0
    for one in taken:
        for hour_ms, energy_j in one.j_by_hour.items():
            taken_kwh += energy_j / J_PER_KWH
            taken_kg += energy_j / J_PER_KWH * of_hour.get(hour_ms, mean)
    left_kwh = whole_kwh - taken_kwh
    if left_kwh <= _ROUNDING * whole_kwh:
        return factors
    left = (whole_kwh * mean - taken_kg) / left_kwh
    left = min(max(left, min(of_hour.values())), max(of_hour.values()))
    return replace(factors, intensity=replace(factors.intensity, value=left))


def _less(
    energy_kwh: float | None, overlaps: Sequence[Overlap], left: float, *, rated: bool
) -> float | None:
    if energy_kwh is None or rated:
        return None if energy_kwh is None else energy_kwh * left
    return max(0.0, energy_kwh - sum(one.energy_j for one in overlaps) / J_PER_KWH)


def _times(
    value: float | Mapping[str, float] | None, left: float
) -> float | Mapping[str, float] | None:
    if isinstance(value, Mapping):
        return {key: amount * left for key, amount in value.items()}
    return None if value is None else value * left

"""Totals of estimates: sums of unrounded rows, and a refusal where rows do not add up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from carbontrack.account.pricing import priced, unpriced
from carbontrack.account.result import Estimate, sum_of, unique
from carbontrack.ledger.rows import Overlap
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import MIXED, Method

_SHOWN_ID = 8


def combine(
    estimates: Sequence[Estimate],
    *,
    label: str = "total",
    overlaps: Mapping[str, Sequence[Overlap]] | None = None,
) -> Estimate:
    """The sum of unrounded rows by one method; `devices` counts each once, whatever its runs.

    `overlaps` has, by run id, what a run recorded of devices that another of the runs recorded at
    the same time: it counts once. What cannot be added is None with a note: money in several
    currencies, emissions by several bases, a column that some rows lack.
    Raises ValueError for no rows, or rows by different methods.
    """
    methods = {estimate.method for estimate in estimates}
    if len(methods) != 1:
        raise ValueError(f"cannot add up rows by {sorted(methods) or 'no method'}")
    notes: list[str] = []
    bases = _bases(estimates)
    if len(bases) > 1:
        notes.append(f"CO₂e is not added up: the intensities are {' and '.join(bases)}")
    currencies = unique(e.currency for e in estimates if e.cost is not None)
    if len(currencies) > 1:
        notes.append(f"cost is not added up: {' and '.join(currencies)}")
    unknown = sum(estimate.energy_kwh is None for estimate in estimates)
    if 0 < unknown < len(estimates):
        notes.append(
            f"{unknown} of {len(estimates)} rows have no energy and add nothing to the total"
        )
    measured = [estimate for estimate in estimates if estimate.energy_kwh is not None]
    notes += _partly_known(estimates, carbon=len(bases) < 2, cost=len(currencies) < 2)
    one_kind = len({e.gpu_hours > 0 for e in measured}) < 2  # no mean power of GPUs and CPUs
    whole, estimates = estimates, [_once(estimate, overlaps or {}) for estimate in estimates]
    notes += [
        f"{was.label} ({was.run_ids[0][:_SHOWN_ID]}) recorded devices that another run recorded at "
        "the same time: that part counts once in the total"
        for was, now in zip(whole, estimates, strict=True)
        if was is not now
    ]
    known = [estimate for estimate in estimates if estimate.energy_kwh is not None]
    one = estimates[0]
    uuids = frozenset().union(*(estimate.uuids for estimate in estimates))
    statuses = unique(estimate.status for estimate in estimates)
    one_basis = len(bases) < 2
    return Estimate(
        label=label,
        method=one.method,
        factors=one.factors if all(e.factors == one.factors for e in estimates) else None,
        run_ids=tuple(unique(run_id for e in estimates for run_id in e.run_ids)),
        status=None if not statuses else statuses[0] if len(statuses) == 1 else MIXED,
        started_ms=min((e.started_ms for e in estimates if e.started_ms is not None), default=None),
        duration_s=sum_of(e.duration_s for e in estimates),
        uuids=uuids,
        nodes=max(e.nodes for e in estimates),
        devices=len(uuids) or sum(e.devices for e in estimates),
        device_names=tuple(unique(name for e in estimates for name in e.device_names)),
        gpu_hours_of=_by_name(e.gpu_hours_of for e in estimates),
        device_hours=sum(e.device_hours for e in estimates),
        primary_kwh=sum_of(e.primary_kwh for e in estimates) if one_kind else None,
        primary_s=sum(e.primary_s for e in estimates),
        energy_kwh=sum_of(e.energy_kwh for e in estimates),
        metered_kwh=sum_of(e.metered_kwh for e in estimates),
        metered_rated_kwh=sum_of(e.metered_rated_kwh for e in estimates),
        node_kwh=sum(e.node_kwh for e in estimates),
        facility_kwh=sum_of(e.facility_kwh for e in estimates),
        tco2e=sum_of(e.tco2e for e in estimates) if one_basis else None,
        tco2e_market=_all(e.tco2e_market for e in known),
        embodied_tco2e=_all(e.embodied_tco2e for e in estimates),
        water_l=_all(e.water_l for e in known),
        cost=sum_of(e.cost for e in estimates) if len(currencies) < 2 else None,
        currency=currencies[0] if len(currencies) == 1 else None,
        sampled_s=sum(e.sampled_s for e in estimates),
        expected_s=sum(e.expected_s for e in estimates),
        scope=", ".join(unique(e.scope for e in estimates)),
        meter=", ".join(unique(e.meter for e in estimates)),
        quality=", ".join(unique(e.quality for e in estimates)),
        tokens=_total_tokens(estimates),
        assumed=tuple(unique(name for e in estimates for name in e.assumed)),
        notes=tuple(notes),
    )


def _once(estimate: Estimate, overlaps: Mapping[str, Sequence[Overlap]]) -> Estimate:
    twice = overlaps.get(estimate.run_ids[0], ()) if len(estimate.run_ids) == 1 else ()
    return minus_overlap(estimate, twice) if twice else estimate


def _bases(estimates: Iterable[Estimate]) -> list[str]:
    """The bases of intensities; a bare number has one of its own, *as given*."""
    factors = [e.factors for e in estimates if e.factors is not None and e.tco2e is not None]
    return unique(f.intensity.basis for f in factors if f.intensity.basis)


def _partly_known(rows: Sequence[Estimate], *, carbon: bool, cost: bool) -> Iterator[str]:
    """What some rows have and others have not; `carbon` and `cost`: they are added up."""
    metered = [row for row in rows if row.energy_kwh is not None]
    for what, whole, values in (
        ("CO₂e", False, [row.tco2e for row in metered] if carbon else []),
        ("cost", False, [row.cost for row in metered] if cost else []),
        ("market-based CO₂e", True, [row.tco2e_market for row in metered]),
        ("embodied CO₂e", True, [row.embodied_tco2e for row in rows]),
        ("water", True, [row.water_l for row in metered]),
    ):
        unknown = values.count(None)
        if 0 < unknown < len(values):
            so = f"{what} is not added up:" if whole else f"{what} of the total is too low:"
            yield f"{so} it is not known for {unknown} of {len(values)} rows"


def _by_name(hours: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for of_one in hours:
        for name, amount in of_one.items():
            found[name] = found.get(name, 0.0) + amount
    return found


def _total_tokens(estimates: Sequence[Estimate]) -> int | None:
    known = [estimate.tokens for estimate in estimates if estimate.tokens is not None]
    return sum(known) if known else None


def _all(values: Iterable[float | None]) -> float | None:
    """The sum if every value is known."""
    found = list(values)
    return None if not found or None in found else sum_of(found)


def minus_overlap(estimate: Estimate, overlaps: Sequence[Overlap]) -> Estimate:
    """The estimate without what `overlaps` hold, priced by its own factors again if it has them.

    Hours, and with them rented and rated energy, shrink by the share of device-seconds of the
    primary kind.
    """
    device_s = (estimate.duration_s or 0.0) * estimate.devices
    primary = [one for one in overlaps if one.uuid in estimate.uuids]
    share = min(1.0, sum(one.seconds for one in primary) / device_s) if device_s else 0.0
    left = 1.0 - share
    rated = estimate.method == Method.REPORT
    smaller = replace(
        estimate,
        duration_s=(estimate.duration_s or 0.0) * left,
        gpu_hours_of={name: hours * left for name, hours in estimate.gpu_hours_of.items()},
        device_hours=estimate.device_hours * left,
        primary_kwh=_less(estimate.primary_kwh, primary, left, rated=rated),
        primary_s=estimate.primary_s * left
        if rated
        else max(0.0, estimate.primary_s - sum(one.seconds for one in primary)),
        energy_kwh=_less(estimate.energy_kwh, overlaps, left, rated=rated),
        metered_kwh=_times(estimate.metered_kwh, left),
        metered_rated_kwh=_times(estimate.metered_rated_kwh, left),
    )
    embodied = estimate.embodied_tco2e is not None
    factors = estimate.factors
    again = priced(smaller, factors, embodied=embodied) if factors else unpriced(smaller)
    return replace(again, duration_s=estimate.duration_s)


def _less(
    energy_kwh: float | None, overlaps: Sequence[Overlap], left: float, *, rated: bool
) -> float | None:
    if energy_kwh is None:
        return None
    if rated:
        return _times(energy_kwh, left)
    return max(0.0, energy_kwh - sum(one.energy_j for one in overlaps) / J_PER_KWH)


def _times(energy_kwh: float | None, left: float) -> float | None:
    return None if energy_kwh is None else energy_kwh * left

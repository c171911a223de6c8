"""From what was measured to an estimate of energy, carbon and money, with all that led to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from carbontrack.account import formulas, sanity
from carbontrack.account.by_hour import energy_by_hour, with_hours
from carbontrack.account.devices import devices_of, primary_of
from carbontrack.account.pricing import priced
from carbontrack.account.result import Estimate, sum_of, unique
from carbontrack.factors.resolve import Factors
from carbontrack.ledger.recorded_rows import (
    Alike,
    Devices,
    Run,
    Sensor,
    Span,
    StepTotals,
    Usage,
    span_s,
)
from carbontrack.units import J_PER_KWH, S_PER_HOUR
from carbontrack.vocabulary import NO_METER, UNMEASURED, DeviceKind, Method, Scope


def estimate_run(
    run: Run,
    sensors: Sequence[Sensor],
    usages: Sequence[Usage],
    steps: StepTotals,
    factors: Factors,
    *,
    method: str = Method.MEASURED,
    embodied: bool = False,
    spans_ms: Sequence[Span] = (),
    by_hour: Callable[[], Mapping[int, float]] | None = None,
    lost_kwh: float | None = None,
) -> Estimate:
    """One run by one method. `usages` add up to the run: of each device in each hour; or in all,
    where `by_hour` gives the energy in kWh of all devices in each hour.

    `factors` are resolved for the run's devices: `report` needs their rated power. `spans_ms` are
    those of a part of the run that does not have all the time from its start to its end, `lost_kwh`
    is what work that was done again had used.
    """
    return estimate_devices(
        run,
        devices_of(run, sensors, usages, spans_ms),
        steps,
        factors,
        by_hour=by_hour or partial(energy_by_hour, usages),
        method=method,
        embodied=embodied,
        spans_ms=spans_ms,
        lost_kwh=lost_kwh,
        doubts=sanity.of_each(run, sensors, usages),
    )


def estimate_devices(
    run: Run,
    devices: Devices,
    steps: StepTotals,
    factors: Factors,
    *,
    by_hour: Callable[[], Mapping[int, float]],
    method: str = Method.MEASURED,
    embodied: bool = False,
    spans_ms: Sequence[Span] = (),
    lost_kwh: float | None = None,
    doubts: Sequence[str] = (),
) -> Estimate:
    """The same of devices that have been added up; `doubts` are what is implausible of each."""
    factors, missing = with_hours(factors, by_hour, from_ms=run.started_ms, to_ms=run.end_ms)
    length_s = span_s(run, spans_ms)
    every, primary = devices.alike, primary_of(devices)
    base = Estimate(
        label=run.name,
        method=method,
        factors=factors,
        run_ids=(run.id,),
        status=run.status,
        started_ms=run.started_ms,
        duration_s=length_s,
        uuids=frozenset().union(*(alike.uuids for alike in primary)),
        devices=sum(len(alike.uuids) for alike in primary),
        nodes=devices.nodes,
        device_names=tuple(unique(alike.name for alike in primary)),
        gpu_hours_of=_hours_by_name([one for one in primary if one.kind == DeviceKind.GPU]),
        device_hours=sum(map(_hours, primary)),
        node_hours=devices.node_s / S_PER_HOUR,
        active_s=devices.active_s,
        primary_expected_s=sum(alike.recorded_s for alike in primary),
        sampled_s=sum(alike.sampled_s for alike in every),
        expected_s=sum(alike.recorded_s for alike in every),
        runs_watched=int(length_s > 0 and len(every) > 0),
        meter=_meters(every),
        tokens=steps.tokens,
        final_loss=steps.final_loss,
        final_loss_steps=steps.final_loss_steps,
        lost_kwh=lost_kwh,
    )
    metered = (_rated if method == Method.REPORT else _measured)(base, devices)
    doubts = [*sanity.of_run(run, devices, steps), *doubts]
    noted = replace(metered, notes=(*metered.notes, *([missing] if missing else []), *doubts))
    return priced(noted, factors, embodied=embodied)


def estimate_rated(
    label: str,
    gpu_hours: float,
    power_w: float,
    factors: Factors,
    *,
    gpu: str | None = None,
    embodied: bool = False,
) -> Estimate:
    """GPU-hours × W without a run, as in the Llama 2 report. `gpu` names the device."""
    energy_kwh = formulas.rated_energy_kwh(gpu_hours, power_w)
    base = Estimate(
        label=label,
        method=Method.REPORT,
        factors=factors,
        device_names=(gpu,) if gpu else (),
        gpu_hours_of={gpu or "": gpu_hours},
        device_hours=gpu_hours,
        primary_kwh=energy_kwh,
        primary_s=gpu_hours * S_PER_HOUR,
        energy_kwh=energy_kwh,
        scope=Scope.GPU,
        meter=NO_METER,
        quality="rated power",
    )
    return priced(base, factors, embodied=embodied)


def _measured(base: Estimate, devices: Devices) -> Estimate:
    primary = primary_of(devices)
    energy_kwh = sum_of(map(_kwh, devices.alike))
    return replace(
        base,
        primary_kwh=sum_of(map(_kwh, primary)),
        primary_s=sum(alike.energy_s for alike in primary),
        energy_kwh=energy_kwh,
        scope="+".join(unique(alike.scope for alike in devices.alike)),
        quality=" + ".join(unique(alike.quality for alike in devices.alike)),
        notes=() if energy_kwh is not None else ("no energy was measured",),
    )


def _rated(base: Estimate, devices: Devices) -> Estimate:
    """Hours × rated W, and what rated power would have used while the devices were metered."""
    primary = primary_of(devices)
    scope = "+".join(unique(alike.kind for alike in primary))
    base = replace(base, scope=scope, quality="rated power")
    ratings = base.factors.rated_w if base.factors else {}
    unknown = [name for name in base.device_names if name not in ratings]
    if unknown or not primary:
        note = f"no rated power is known for {', '.join(unknown) or 'any device'}"
        return replace(base, notes=(note,))

    def rated_kwh(alike: Alike, seconds: float) -> float:
        watts = alike.share * ratings[alike.name].value
        return formulas.rated_energy_kwh(seconds / S_PER_HOUR, watts)

    energy_kwh = sum(rated_kwh(alike, alike.recorded_s) for alike in primary)
    metered = [alike for alike in primary if alike.energy_j is not None]
    return replace(
        base,
        primary_kwh=energy_kwh,
        primary_s=base.device_hours * S_PER_HOUR,
        energy_kwh=energy_kwh,
        metered_kwh=sum_of(map(_kwh, metered)),
        metered_rated_kwh=sum_of(rated_kwh(alike, alike.energy_s) for alike in metered),
    )


def _hours(alike: Alike) -> float:
    """Device-hours; a MIG instance counts as its share of the GPU."""
    return alike.recorded_s / S_PER_HOUR * alike.share


def _hours_by_name(devices: Sequence[Alike]) -> dict[str, float]:
    return {
        name: sum(_hours(alike) for alike in devices if alike.name == name)
        for name in unique(alike.name for alike in devices)
    }


def _meters(devices: Sequence[Alike]) -> str:
    said: dict[str, str] = {quality: f" ({quality})" for quality in UNMEASURED}
    return " + ".join(unique(one.meter + said.get(one.quality, "") for one in devices))


def _kwh(alike: Alike) -> float | None:
    return None if alike.energy_j is None else alike.energy_j / J_PER_KWH

"""From what was measured to an estimate of energy, carbon and money, with all that led to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from carbontrack.account import formulas, sanity
from carbontrack.account.over_time import energy_by_hour, with_hours
from carbontrack.account.pricing import priced
from carbontrack.account.result import Estimate, sum_of, unique
from carbontrack.factors.resolve import Factors
from carbontrack.ledger.rows import Run, Sensor, Span, StepTotals, Usage, span_s
from carbontrack.units import J_PER_KWH, S_PER_HOUR
from carbontrack.vocabulary import NO_METER, UNMEASURED, DeviceKind, Method, Scope

_KINDS = tuple(DeviceKind)


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
    kwh_by_hour: Mapping[int, float] | None = None,
    lost_kwh: float | None = None,
) -> Estimate:
    """One run by one method. `usages` add up to the run: of each device in each hour; or in all,
    where `kwh_by_hour` has the energy of all devices in each hour.

    `factors` are resolved for the run's devices: `report` needs their rated power. `spans_ms` are
    those of a part of the run that does not have all the time from its start to its end, `lost_kwh`
    is what work that was done again had used.
    """
    length_s = span_s(run, spans_ms)
    recorded_s = {sensor.device_key: sensor.recorded_s(run, spans_ms) for sensor in sensors}
    if kwh_by_hour is None:
        kwh_by_hour = energy_by_hour(usages)
    factors, missing = with_hours(factors, kwh_by_hour, from_ms=run.started_ms, to_ms=run.end_ms)
    primary = _primary(sensors)
    base = Estimate(
        label=run.name,
        method=method,
        factors=factors,
        run_ids=(run.id,),
        status=run.status,
        started_ms=run.started_ms,
        duration_s=length_s,
        uuids=frozenset(sensor.uuid for sensor in primary),
        devices=len(primary),
        nodes=len({sensor.host for sensor in sensors}),
        device_names=tuple(dict.fromkeys(sensor.name for sensor in primary)),
        gpu_hours_of=_hours_by_name(recorded_s, [s for s in primary if s.kind == DeviceKind.GPU]),
        device_hours=_hours(recorded_s, primary),
        sampled_s=sum(usage.sampled_s for usage in usages),
        expected_s=sum(recorded_s.values()),
        runs_watched=int(length_s > 0 and len(sensors) > 0),
        meter=_meters(sensors),
        tokens=steps.tokens,
        final_loss=steps.final_loss,
        final_loss_steps=steps.final_loss_steps,
        lost_kwh=lost_kwh,
    )
    if method == Method.REPORT:
        metered = _rated(recorded_s, base, primary, usages)
    else:
        metered = _measured(base, sensors, usages)
    doubts = sanity.findings(run, sensors, usages, steps)
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


def _measured(base: Estimate, sensors: Sequence[Sensor], usages: Sequence[Usage]) -> Estimate:
    primary = {s.device_key for s in sensors if s.uuid in base.uuids}
    energy_kwh = sum_of(_kwh(usage) for usage in usages)
    return replace(
        base,
        primary_kwh=sum_of(_kwh(usage) for usage in usages if usage.device_key in primary),
        primary_s=sum(usage.energy_s for usage in usages if usage.device_key in primary),
        energy_kwh=energy_kwh,
        scope="+".join(unique(s.scope for s in sorted(sensors, key=_kind_order))),
        quality=" + ".join(unique(sensor.quality for sensor in sensors)),
        notes=() if energy_kwh is not None else ("no energy was measured",),
    )


def _rated(
    recorded_s: Mapping[int, float],
    base: Estimate,
    primary: Sequence[Sensor],
    usages: Sequence[Usage],
) -> Estimate:
    """Hours × rated W, and what rated power would have used while the devices were metered."""
    base = replace(base, scope=_scope_of(primary), quality="rated power")
    ratings = base.factors.rated_w if base.factors else {}
    unknown = [name for name in base.device_names if name not in ratings]
    if unknown or not primary:
        note = f"no rated power is known for {', '.join(unknown) or 'any device'}"
        return replace(base, notes=(note,))
    rated_w = {s.device_key: s.share * ratings[s.name].value for s in primary}
    energy_kwh = sum(
        formulas.rated_energy_kwh(recorded_s[key] / S_PER_HOUR, watts)
        for key, watts in rated_w.items()
    )
    metered = [u for u in usages if u.energy_j is not None and u.device_key in rated_w]
    return replace(
        base,
        primary_kwh=energy_kwh,
        primary_s=base.device_hours * S_PER_HOUR,
        energy_kwh=energy_kwh,
        metered_kwh=sum_of(_kwh(usage) for usage in metered),
        metered_rated_kwh=sum_of(
            formulas.rated_energy_kwh(usage.energy_s / S_PER_HOUR, rated_w[usage.device_key])
            for usage in metered
        ),
    )


def _primary(sensors: Sequence[Sensor]) -> list[Sensor]:
    """The sensors of the first kind that the run has: GPUs, else CPUs, else memory."""
    for kind in _KINDS:
        if found := [sensor for sensor in sensors if sensor.kind == kind]:
            return found
    return []


def _hours(recorded_s: Mapping[int, float], sensors: Sequence[Sensor]) -> float:
    """Device-hours; a MIG instance counts as its share of the GPU."""
    return sum(recorded_s[sensor.device_key] / S_PER_HOUR * sensor.share for sensor in sensors)


def _hours_by_name(recorded_s: Mapping[int, float], sensors: Sequence[Sensor]) -> dict[str, float]:
    return {
        name: _hours(recorded_s, [sensor for sensor in sensors if sensor.name == name])
        for name in unique(sensor.name for sensor in sensors)
    }


def _meters(sensors: Sequence[Sensor]) -> str:
    said: dict[str, str] = {quality: f" ({quality})" for quality in UNMEASURED}
    return " + ".join(unique(s.meter + said.get(s.quality, "") for s in sensors))


def _scope_of(primary: Sequence[Sensor]) -> str:
    return "+".join(unique(sensor.kind for sensor in primary))


def _kind_order(sensor: Sensor) -> int:
    return _KINDS.index(DeviceKind(sensor.kind)) if sensor.kind in _KINDS else len(_KINDS)


def _kwh(usage: Usage) -> float | None:
    return None if usage.energy_j is None else usage.energy_j / J_PER_KWH

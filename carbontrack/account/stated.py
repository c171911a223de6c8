"""An estimate of a run that was measured elsewhere and entered by hand. Pure.

By *report* it is the stated device-hours × rated power, by *measured* the stated energy; neither is
made of the other. Where its time is known, it lies evenly between start and end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from carbontrack.account import formulas
from carbontrack.account.by_hour import with_hours
from carbontrack.account.pricing import priced
from carbontrack.account.result import Estimate, sum_of
from carbontrack.factors.catalog import Factor
from carbontrack.factors.resolve import Factors
from carbontrack.ledger.recorded_rows import Run, StepTotals
from carbontrack.ledger.rows import Stated, devices_stated
from carbontrack.units import MS_PER_HOUR, S_PER_HOUR
from carbontrack.vocabulary import ENTERED, Method, Quality, Scope


def kwh_by_hour_of(rows: Sequence[Stated]) -> dict[int, float]:
    """The stated energy in each hour, by its start in ms; nothing where the time is not known."""
    found: dict[int, float] = {}
    for row in rows:
        if row.energy_kwh is None or row.started_ms is None or row.ended_ms is None:
            continue
        first_ms = row.started_ms - row.started_ms % MS_PER_HOUR
        for hour_ms in range(first_ms, max(row.ended_ms, first_ms + 1), MS_PER_HOUR):
            share = _share(row, hour_ms, hour_ms + MS_PER_HOUR)
            found[hour_ms] = found.get(hour_ms, 0.0) + row.energy_kwh * share
    return found


def estimate_stated(
    run: Run,
    rows: Sequence[Stated],
    steps: StepTotals,
    factors: Factors,
    *,
    method: str = Method.MEASURED,
    embodied: bool = False,
) -> Estimate:
    """The run, or the part of it between its start and end, by one method.

    `factors` are resolved for the rows' devices: `report` needs their rated power, which a row may
    state itself.
    """
    shares = [_share(row, run.started_ms, run.end_ms) for row in rows]
    factors, missing = with_hours(
        factors,
        lambda: _within(run, kwh_by_hour_of(rows)),
        from_ms=run.started_ms,
        to_ms=run.end_ms,
    )
    hours = {
        row.device_name: row.device_hours * share
        for row, share in zip(rows, shares, strict=True)
        if row.device_hours is not None
    }
    is_timed = all(row.started_ms is not None for row in rows)
    base = Estimate(
        label=run.name,
        method=method,
        factors=factors,
        run_ids=(run.id,),
        status=run.status,
        started_ms=run.started_ms if is_timed else None,
        duration_s=run.duration_s if is_timed else None,
        devices=devices_stated(rows),
        device_names=tuple(row.device_name for row in rows),
        gpu_hours_of=hours,
        device_hours=sum(
            hours.get(row.device_name, _hours_from_start_to_end(run, row)) for row in rows
        ),
        scope=Scope.GPU,
        meter=ENTERED,
        tokens=steps.tokens,
        final_loss=steps.final_loss,
        final_loss_steps=steps.final_loss_steps,
    )
    if method == Method.REPORT:
        found = _rated(base, rows, hours)
    else:
        energies_kwh = {
            row.device_name: row.energy_kwh * share
            for row, share in zip(rows, shares, strict=True)
            if row.energy_kwh is not None
        }
        found = _with_energy(base, energies_kwh, Quality.STATED, "no energy is stated")
    noted = replace(found, notes=(*found.notes, *([missing] if missing else [])))
    return priced(noted, noted.factors or factors, embodied=embodied)


def _rated(base: Estimate, rows: Sequence[Stated], hours: Mapping[str, float]) -> Estimate:
    """Hours × rated W: the row's own, else the table's."""
    factors = base.factors
    assert factors is not None
    stated_w = {
        row.device_name: Factor("rated_w", row.power_w, "W", f"{row.device_name}, {row.source}")
        for row in rows
        if row.power_w is not None
    }
    rated_w = {**factors.rated_w, **stated_w}
    base = replace(base, factors=replace(factors, rated_w=rated_w))
    unknown = [name for name in base.device_names if name not in rated_w]
    energies_kwh = {}
    if not unknown:
        energies_kwh = {
            name: formulas.rated_energy_kwh(device_hours, rated_w[name].value)
            for name, device_hours in hours.items()
        }
    why = f"no rated power is known for {', '.join(unknown)}" if unknown else "no hours are stated"
    return _with_energy(base, energies_kwh, "rated power", why)


def _with_energy(
    base: Estimate, energies_kwh: Mapping[str, float], quality: str, why: str
) -> Estimate:
    """With the energy by the device's name; power is of those whose hours are known as well."""
    energy_kwh = sum_of(energies_kwh.values())
    hours = base.gpu_hours_of
    return replace(
        base,
        energy_kwh=energy_kwh,
        primary_kwh=sum_of(kwh for name, kwh in energies_kwh.items() if name in hours),
        primary_s=sum(hours[name] for name in energies_kwh if name in hours) * S_PER_HOUR,
        quality=quality,
        notes=() if energy_kwh is not None else (why,),
    )


def _hours_from_start_to_end(run: Run, row: Stated) -> float:
    """Of its devices, where their hours are not stated; none where its time is not either."""
    is_timed = row.started_ms is not None
    return (row.devices or 0) * run.duration_s / S_PER_HOUR if is_timed else 0.0


def _share(row: Stated, from_ms: int, to_ms: int) -> float:
    """What of the row lies between two times; all of it where its own are not known."""
    if row.started_ms is None or row.ended_ms is None or row.ended_ms <= row.started_ms:
        return 1.0
    inside_ms = min(to_ms, row.ended_ms) - max(from_ms, row.started_ms)
    return max(0, inside_ms) / (row.ended_ms - row.started_ms)


def _within(run: Run, kwh_by_hour: Mapping[int, float]) -> dict[int, float]:
    first_ms = run.started_ms - run.started_ms % MS_PER_HOUR
    hours = range(first_ms, max(run.end_ms, first_ms + 1), MS_PER_HOUR)
    return {hour_ms: kwh_by_hour[hour_ms] for hour_ms in hours if hour_ms in kwh_by_hour}

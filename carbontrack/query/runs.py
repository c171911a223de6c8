"""A run in one line: what `runs` lists, as data. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from carbontrack.ledger.rows import Run, Sensor, Stated, Usage
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import ENTERED, Quality, Status


@dataclass(frozen=True, slots=True)
class RunItem:
    """One run with its energy, of the devices and before PUE. None if unknown."""

    id: str
    name: str
    project: str | None
    tags: Mapping[str, str]
    status: Status
    exit_code: int | None
    started_ms: int
    ended_ms: int | None
    heard_ms: int | None  # last; None once its end was seen
    duration_s: float
    devices: int
    meter: str | None  # several joined by +
    quality: str | None  # several joined by +
    energy_kwh: float | None
    coverage: float | None  # share of device-seconds that were watched by samples
    scheduler: str | None = None
    cluster: str | None = None
    job_id: str | None = None
    array_index: int | None = None
    account: str | None = None
    partition: str | None = None
    nodes_expected: int | None = None


def item_of(
    run: Run, sensors: Sequence[Sensor], totals: Sequence[Usage], stated: Sequence[Stated] = ()
) -> RunItem:
    """The run in one line; `totals` and `stated` are those of `ledger.read`."""
    energies_j = [usage.energy_j for usage in totals if usage.energy_j is not None]
    energies_j += [row.energy_kwh * J_PER_KWH for row in stated if row.energy_kwh is not None]
    meters = {sensor.meter for sensor in sensors} | ({ENTERED} if stated else set())
    qualities = {sensor.quality for sensor in sensors} | ({Quality.STATED} if stated else set())
    sampled_s = sum(usage.sampled_s for usage in totals)
    return RunItem(
        id=run.id,
        name=run.name,
        project=run.project,
        tags=dict(run.tags),
        status=run.status,
        exit_code=run.exit_code,
        started_ms=run.started_ms,
        ended_ms=run.ended_ms,
        heard_ms=run.heard_ms,
        duration_s=run.duration_s,
        devices=len(sensors) + sum(row.devices or 0 for row in stated),
        meter="+".join(sorted(meters)) or None,
        quality="+".join(sorted(qualities)) or None,
        energy_kwh=sum(energies_j) / J_PER_KWH if energies_j else None,
        coverage=share_of(sampled_s, sum(sensor.recorded_s(run) for sensor in sensors)),
        scheduler=run.scheduler,
        cluster=run.cluster,
        job_id=run.job_id,
        array_index=run.array_index,
        account=run.account,
        partition=run.partition,
        nodes_expected=run.nodes_expected,
    )


def share_of(part: float, whole: float) -> float | None:
    """Part ÷ whole, at most 1; None of nothing."""
    return min(1.0, part / whole) if whole > 0 else None

"""A run in one line: what `runs` lists, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontrack.account.devices import devices_of
from carbontrack.ledger.recorded_rows import Devices, Run
from carbontrack.ledger.rows import Stated, devices_stated
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import ENTERED, Quality, Status

if TYPE_CHECKING:
    from carbontrack.ledger.held import Held
    from carbontrack.ledger.imported import Connection


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
    devices: int | None
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


def list_items(connection: Connection, runs: Sequence[Run]) -> Iterator[RunItem]:
    """Each of the runs in one line, in order. The devices of one are added up by a server where
    they are alike.
    """
    from carbontrack.ledger.held import ManyHeld

    def look_at(held: Held) -> None:
        held.will_look_at(run for run in held.runs if held.devices(run) is None)

    for held, run in ManyHeld(connection, runs).each(look_at):
        summed = held.devices(run)
        if summed is None:
            devices = devices_of(run, held.sensors(run), held.totals(run))
        else:
            devices = summed.devices
        yield item_of(run, devices, held.stated(run))


def item_of(run: Run, devices: Devices, stated: Sequence[Stated] = ()) -> RunItem:
    """The run in one line; `stated` are those of `ledger.read`."""
    alike = devices.alike
    energies_j = [one.energy_j for one in alike if one.energy_j is not None]
    energies_j += [row.energy_kwh * J_PER_KWH for row in stated if row.energy_kwh is not None]
    meters = {one.meter for one in alike} | ({ENTERED} if stated else set())
    qualities = {one.quality for one in alike} | ({Quality.STATED} if stated else set())
    recorded, by_hand = sum(len(one.uuids) for one in alike), devices_stated(stated)
    recorded_s = sum(one.recorded_s for one in alike)
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
        devices=None if by_hand is None else recorded + by_hand,
        meter="+".join(sorted(meters)) or None,
        quality="+".join(sorted(qualities)) or None,
        energy_kwh=sum(energies_j) / J_PER_KWH if energies_j else None,
        coverage=share_of(sum(one.sampled_s for one in alike), recorded_s),
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

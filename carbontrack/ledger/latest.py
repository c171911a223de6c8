"""What a run is doing now: questions that only its newest rows answer, however long it has run."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, func, select

from carbontrack.ledger import models, stored_windows
from carbontrack.ledger.node_clocks import true_ms
from carbontrack.ledger.pyramid import keys_of
from carbontrack.ledger.recorded_rows import Run, Sensor
from carbontrack.ledger.rows import PowerNow
from carbontrack.ledger.run_steps import steps_of
from carbontrack.ledger.sql import in_parts
from carbontrack.ledger.true_time import farthest_ms
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_S

_LOOK_BACK_S = 30  # nodes may reach a team ledger some seconds apart


def latest_power(connection: Connection, run: Run, sensors: Sequence[Sensor]) -> PowerNow | None:
    """The power of all devices in the newest second that is complete.

    That is the newest of the last seconds in which the most devices were read: one that is lost
    does not stop the others, and is not counted. None where no power is known that late.
    """
    sensor = models.Sensor
    since_ms = run.end_ms - _LOOK_BACK_S * MS_PER_S
    window = stored_windows.windows_between(LEVELS_S[0], since_ms - farthest_ms(run.clocks), None)
    start_ms = window.start_ms
    if run.clocks:
        start_ms = true_ms(window.start_ms, window.recording_key, run.clocks)
    of_device = (
        select(start_ms.label("start_ms"), func.avg(window.power_mean_w).label("power_w"))
        .join(sensor, sensor.key == window.sensor_key)
        .where(
            window.recording_key.in_(keys_of(connection, run.key)),
            sensor.device_key.in_([one.device_key for one in sensors]),
            start_ms >= since_ms,
        )
        .group_by(start_ms, sensor.device_key)  # two recordings may both have it
        .subquery()
        .c
    )
    known = func.count(of_device.power_w)
    query = (
        select(of_device.start_ms, func.sum(of_device.power_w), known)
        .group_by(of_device.start_ms)
        .having(known > 0)
        .order_by(known.desc(), of_device.start_ms.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None or row[1] is None else PowerNow(row[0], row[1], row[2])


def limits_w(connection: Connection, recording_ids: Collection[str]) -> dict[str, float]:
    """By UUID the power limit of each device of these recordings, else its rated power."""
    device, sensor, recording = models.Device, models.Sensor, models.Recording
    limit = func.coalesce(sensor.power_limit_w, sensor.rated_power_w)
    query = select(device.uuid, limit).join(sensor, sensor.device_key == device.key)
    query = query.join(recording, recording.key == sensor.recording_key)
    found: dict[str, float] = {}
    for ids in in_parts(sorted(recording_ids)):
        some = query.where(recording.id.in_(ids))
        found |= {uuid: watts for uuid, watts in connection.execute(some) if watts}
    return found


def not_finite_since(connection: Connection, run: Run) -> int | None:
    """The step since which the loss is NaN or infinite; None where the newest step's is a number,
    or it has none.
    """
    step = steps_of(connection, run).c
    newest = connection.scalar(select(step.extra).order_by(step.step.desc()).limit(1))
    if not newest or "loss" not in newest:  # the writer keeps there what is not a number
        return None
    last_known = connection.scalar(
        select(step.step).where(step.loss.is_not(None)).order_by(step.step.desc()).limit(1)
    )
    after = [step.step > last_known] if last_known is not None else []
    odd = step.extra["loss"].as_string().is_not(None)
    return connection.scalar(select(step.step).where(odd, *after).order_by(step.step).limit(1))

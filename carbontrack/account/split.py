"""A run as the parts that it has by month, by host or in a range. Parts add up to it. Pure.

A part is a `RunRecord` as the whole is: it can be priced, and split by another key again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from carbontrack.ledger.recorded_rows import (
    ALWAYS_MS,
    Devices,
    Run,
    Sensor,
    Span,
    StepTotals,
    Usage,
    inner_span,
    span_s,
)
from carbontrack.ledger.rows import Stated
from carbontrack.units import MS_PER_HOUR, MS_PER_S, month_of


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the ledger holds of a run, or of one part of it, for an estimate.

    `usages` are of each device in each hour; where only their sums are known, of each device in
    all, or of none and `devices` has what they used together; and `by_hour` gives the energy in
    kWh of all devices in each hour.

    Of a part, `run` begins and ends with it, `sensors`, `usages` and `steps` are those that belong
    to it, and `spans_ms` are the stretches of time that it is made of, each from a time up to, and
    without, another; empty where it has all the time of its run. Of an attempt, which may begin and
    end within an hour, `recordings` are the keys of those that made it. `lost_kwh` is what its
    devices used for work that a later attempt did again, None if unknown. Of a run that was entered
    by hand `stated` is all that is known, of a part too: its share by time.
    """

    run: Run
    sensors: Sequence[Sensor]
    usages: Sequence[Usage]
    steps: StepTotals
    spans_ms: tuple[Span, ...] = ()
    recordings: Sequence[int] | None = None
    by_hour: Callable[[], Mapping[int, float]] | None = None
    lost_kwh: float | None = None
    stated: Sequence[Stated] = ()
    devices: Devices | None = None

    @property
    def duration_s(self) -> float:
        """Seconds of the run that are the part's."""
        return span_s(self.run, self.spans_ms)


def by_host(whole: RunRecord) -> dict[str, RunRecord]:
    """The devices of each host with their hours; a run on one host is whole.

    Steps belong to the run and not to a host: the parts of several have none.
    """
    hosts = list(dict.fromkeys(sensor.host for sensor in whole.sensors))
    if len(hosts) < 2:
        return dict.fromkeys(hosts, whole)
    parts = {}
    for host in hosts:
        sensors = [sensor for sensor in whole.sensors if sensor.host == host]
        keys = {sensor.device_key for sensor in sensors}
        usages = [usage for usage in whole.usages if usage.device_key in keys]
        parts[host] = replace(
            whole, sensors=sensors, usages=usages, steps=StepTotals(), lost_kwh=None
        )
    return parts


def by_month(whole: RunRecord, steps_in: Callable[[Span], StepTotals]) -> dict[str, RunRecord]:
    """Each calendar month in UTC, whose ends are ends of hours; a run within one is whole.

    `steps_in` gives the steps of a span of time.
    """
    months = months_of(whole.run)
    if len(months) == 1:
        return dict.fromkeys(months, whole)
    return {month: part_in(whole, span_of_month(month), steps_in) for month in months}


def part_in(whole: RunRecord, span_ms: Span, steps_in: Callable[[Span], StepTotals]) -> RunRecord:
    """What is in a span of time whose ends are ends of hours; `steps_in` as of `by_month`. The
    `devices` of the whole are those of this span already.
    """
    by_hour = whole.by_hour
    first_ms, next_ms = inner_span(whole.run, span_ms)

    def of_hours() -> Mapping[int, float]:
        hours = by_hour() if by_hour is not None else {}
        return {at_ms: kwh for at_ms, kwh in hours.items() if first_ms <= at_ms < next_ms}

    run = run_in(whole.run, span_ms)
    usages = [usage for usage in whole.usages if first_ms <= usage.start_ms < next_ms]
    return RunRecord(
        run,
        there(whole.sensors, run, (span_ms,), usages),
        usages,
        steps_in((first_ms, next_ms)),
        (span_ms,),
        by_hour=None if by_hour is None else of_hours,
        stated=whole.stated,
        devices=whole.devices,
    )


def there(
    sensors: Sequence[Sensor], run: Run, spans_ms: Sequence[Span], usages: Sequence[Usage]
) -> list[Sensor]:
    """Those of a part of a run: to be read in its time, or read, as `usages` say."""
    read = {usage.device_key for usage in usages}
    return [
        sensor
        for sensor in sensors
        if sensor.device_key in read or any(sensor.recorded_in(run, spans_ms))
    ]


def run_in(run: Run, span_ms: Span) -> Run:
    """A run as it was in a span: it begins and ends with that part."""
    first_ms, next_ms = span_ms
    return replace(run, started_ms=max(first_ms, run.started_ms), ended_ms=min(next_ms, run.end_ms))


def whole_hours(since_ms: int | None, until_ms: int | None) -> Span | None:
    """From the beginning of the hour of a time up to that of another, so that ranges that meet add
    up; None where neither is given.
    """
    if since_ms is None and until_ms is None:
        return None
    first_ms = 0 if since_ms is None else since_ms // MS_PER_HOUR * MS_PER_HOUR
    next_ms = ALWAYS_MS if until_ms is None else until_ms // MS_PER_HOUR * MS_PER_HOUR
    return first_ms, next_ms


def reaches_beyond(run: Run, span_ms: Span | None) -> bool:
    """Whether some of a run is not in a span."""
    return span_ms is not None and not span_ms[0] <= run.started_ms <= run.end_ms <= span_ms[1]


def months_of(run: Run) -> list[str]:
    """The calendar months in UTC that a run was in, as `2026-07`."""
    months = [month_of(run.started_ms)]
    while (next_ms := span_of_month(months[-1])[1]) < run.end_ms:
        months.append(month_of(next_ms))
    return months


def span_of_month(label: str) -> Span:
    """From its first millisecond up to, and without, the next month's, of `2026-07`."""
    first = datetime.strptime(label, "%Y-%m").replace(tzinfo=UTC)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return round(first.timestamp() * MS_PER_S), round(after.timestamp() * MS_PER_S)

"""The phases of a run, read from a ledger: their time and energy, and the run's part in each."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carbontrack.account.phases import Timeline, Used, close_open, usages_by_phase
from carbontrack.account.result import sum_of
from carbontrack.account.split import RunRecord, there
from carbontrack.ledger.recorded_rows import Run, Span, StepTotals, Usage
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import J_PER_KWH, MS_PER_HOUR, MS_PER_S, S_PER_HOUR, now_ms

if TYPE_CHECKING:
    from carbontrack.ledger.held import Held
    from carbontrack.ledger.imported import Connection

_MS_PER_MINUTE = 60 * MS_PER_S

MOST_ROWS = 2_000_000
"""Windows that may be read for it: the seconds of eight devices in three days, some seconds."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of a run. `energy_kwh` is of the devices, before PUE; None if unknown."""

    name: str
    spans_ms: tuple[Span, ...]
    energy_kwh: float | None

    @property
    def duration_s(self) -> float:
        return sum(after - first for first, after in self.spans_ms) / MS_PER_S


@dataclass(frozen=True, slots=True)
class Phases:
    """The phases of a run, *other* last; all of it is *other* where the job logged none.

    Inside a window of `level_s` energy is split by time: of a second; longer where finer windows
    were dropped or are too many to be read.
    """

    each: tuple[Phase, ...] = ()
    level_s: int = LEVELS_S[0]

    @property
    def energy_kwh(self) -> float | None:
        """Of all phases; None if unknown."""
        return sum_of(phase.energy_kwh for phase in self.each)


def timeline_of(held: Held, run: Run) -> Timeline:
    """The phases of a run over its time; all of it *other* where the job logged none."""
    events = close_open(held.phases(run), held.recordings(run), now_ms=now_ms())
    return Timeline.of(events, from_ms=run.started_ms, to_ms=run.end_ms)


def phases_of(
    held: Held,
    run: Run,
    *,
    most_rows: int = MOST_ROWS,
    hours: Sequence[Usage] | None = None,
) -> Phases:
    """The phases of a run, which they add up to; `hours` as of `energies_on`."""
    timeline = timeline_of(held, run)
    energies_kwh, level_s = energies_on(held, run, timeline, most_rows=most_rows, hours=hours)
    spans = timeline.spans().items()
    return Phases(tuple(Phase(name, of, energies_kwh[name]) for name, of in spans), level_s)


def energies_on(
    held: Held,
    run: Run,
    timeline: Timeline,
    recordings: Sequence[int] | None = None,
    *,
    most_rows: int = MOST_ROWS,
    hours: Sequence[Usage] | None = None,
) -> tuple[dict[str, float | None], int]:
    """Energy in kWh of all devices by each name on a timeline of the run, None if unknown, and the
    length in s of the longest window that was split by time. Devices are read one by one
    only where names share an hour. `hours` are those of `read.hours_of_all`, where they are known.
    """
    of_all = held.hours_of_all(run, recordings) if hours is None else list(hours)
    shared = shared_hours(of_all, timeline)
    finer = held.with_finer(run, shared)
    devices = held.count_devices(run) if finer else 0
    level_s = _affordable_level(len(finer) * devices, most_rows)
    if level_s < LEVELS_S[-1]:
        of_all = [usage for usage in of_all if usage.start_ms not in finer]
        for span_ms in _joined(sorted(finer)):
            of_all += held.hours(run, recordings, span_ms)
    windows = Windows(held.connection, run, level_s, finer, recordings)
    usages, split_s = usages_by_phase(of_all, timeline, windows)
    return {name: _kwh(of) for name, of in usages.items()}, split_s


def shared_hours(hours: Sequence[Usage], timeline: Timeline) -> list[int]:
    """When those begin that several names share."""
    return [usage.start_ms for usage in hours if _is_shared(usage, timeline)]


def _joined(hours_ms: Sequence[int]) -> list[Span]:
    """Hours, in order, as the spans that those make which follow each other."""
    spans: list[Span] = []
    for hour_ms in hours_ms:
        begins_ms = spans.pop()[0] if spans and spans[-1][1] == hour_ms else hour_ms
        spans.append((begins_ms, hour_ms + MS_PER_HOUR))
    return spans


def _kwh(usages: Sequence[Usage]) -> float | None:
    energy_j = sum_of(usage.energy_j for usage in usages)
    return None if energy_j is None else energy_j / J_PER_KWH


def by_phase(held: Held, whole: RunRecord) -> dict[str, RunRecord]:
    """The part of each phase."""
    return split_by(held, whole, timeline_of(held, whole.run))


def split_by(held: Held, whole: RunRecord, timeline: Timeline) -> dict[str, RunRecord]:
    """The part of each name on a timeline of the run."""
    steps = _steps(held, whole, timeline)
    usages = _usages_of(held, whole, timeline)
    return {
        name: replace(
            whole,
            sensors=there(whole.sensors, whole.run, spans_ms, usages[name]),
            usages=usages[name],
            steps=steps.get(name, StepTotals()),
            spans_ms=spans_ms,
            lost_kwh=None,
        )
        for name, spans_ms in timeline.spans().items()
    }


def _usages_of(held: Held, whole: RunRecord, timeline: Timeline) -> dict[str, list[Usage]]:
    """What each device used in each hour by each name. An attempt shares hours, minutes and a
    second with those of the same recordings: it is split out of them again, along with its names.
    """
    if whole.recordings is None:
        return usages_on(held, whole.run, timeline, whole.usages)
    together = [one for one in held.recordings(whole.run) if one.key in whole.recordings]
    amid = timeline.amid(
        min(one.started_ms for one in together), max(one.end_ms for one in together)
    )
    own = {(usage.device_key, usage.start_ms) for usage in whole.usages}
    hours = [
        usage
        for usage in held.hours(whole.run, whole.recordings)
        if (usage.device_key, usage.start_ms) in own
    ]
    return usages_on(held, whole.run, amid, hours, whole.recordings)


def usages_on(
    held: Held,
    run: Run,
    timeline: Timeline,
    hours: Sequence[Usage],
    recordings: Sequence[int] | None = None,
) -> dict[str, list[Usage]]:
    """What each device used in each hour by each name on a timeline of the run. `hours` are those
    of the devices of all its recordings, or of those with these keys.
    """
    shared = shared_hours(hours, timeline)
    level_s = _affordable_level(len(shared), MOST_ROWS)
    finer = held.with_finer(run, shared)
    windows = Windows(held.connection, run, level_s, finer, recordings)
    return usages_by_phase(hours, timeline, windows)[0]


def _steps(held: Held, whole: RunRecord, timeline: Timeline) -> dict[str, StepTotals]:
    """The steps of each phase: a step is of the phase in which it ended. Those of a host are not
    known, and so not of its phases.
    """
    from carbontrack.ledger import read

    if not whole.steps.steps:
        return {}
    found: dict[str, StepTotals] = {}
    for time_ms, tokens in read.tokens_of_steps(held.connection, whole.run, whole.spans_ms):
        name = timeline.at(time_ms)
        known = found.get(name, StepTotals())
        found[name] = StepTotals(
            steps=known.steps + 1,
            tokens=known.tokens if tokens is None else (known.tokens or 0) + tokens,
        )
    return found


def _is_shared(usage: Usage, timeline: Timeline) -> bool:
    """Whether several names share the hour."""
    return len(timeline.lengths_ms(usage.start_ms, usage.start_ms + MS_PER_HOUR)) > 1


def _affordable_level(shared: int, most_rows: int) -> int:
    """The finest level of which so many windows can be read in so many hours of a device."""
    fits = (level_s for level_s in LEVELS_S if shared * S_PER_HOUR / level_s <= most_rows)
    return next(fits, LEVELS_S[-1])


class Windows:
    """The windows of a run, or of some of its recordings by their keys, an hour of all its devices
    at a time; none finer than `level_s`, and only in these hours, by their starts.
    """

    def __init__(
        self,
        connection: Connection,
        run: Run,
        level_s: int,
        hours_ms: Container[int],
        recordings: Sequence[int] | None = None,
    ) -> None:
        self._hours_ms = hours_ms
        self._connection = connection
        self._run = run
        self._level_s = level_s
        self._recordings = recordings
        self._hour_of: dict[int, int] = {}  # by level
        self._by_minute: dict[int, dict[int, list[Used]]] = {}

    def __call__(self, level_s: int, from_ms: int, to_ms: int) -> Sequence[Used]:
        hour_ms = from_ms // MS_PER_HOUR * MS_PER_HOUR
        if level_s < self._level_s or hour_ms not in self._hours_ms:
            return ()
        if self._hour_of.get(level_s) != hour_ms:
            self._hour_of[level_s] = hour_ms
            self._by_minute[level_s] = self._read(level_s, hour_ms)
        rows = self._by_minute[level_s]
        minutes = range(from_ms, to_ms, _MS_PER_MINUTE)
        return [row for minute_ms in minutes for row in rows.get(minute_ms, ())]

    def _read(self, level_s: int, hour_ms: int) -> dict[int, list[Used]]:
        from carbontrack.ledger import read

        columns = read.windows(
            self._connection,
            self._run,
            level_s,
            from_ms=hour_ms,
            to_ms=hour_ms + MS_PER_HOUR,
            recordings=self._recordings,
        )
        found: dict[int, list[Used]] = {}
        for row in map(Used, *(columns[name] for name in Used._fields)):
            found.setdefault(row.start_ms // _MS_PER_MINUTE * _MS_PER_MINUTE, []).append(row)
        return found

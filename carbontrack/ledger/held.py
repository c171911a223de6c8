"""What a ledger holds of some runs: what is asked of one is read of all of them at once.

So a table of a thousand runs takes as many queries as that of one. A part of a run is asked for by
its run, whose key it has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection

from carbontrack.ledger import (
    imported,
    read,
    run_devices,
    run_steps,
    step_means,
    stored_windows,
    usages,
)
from carbontrack.ledger.device_sums import DeviceSums
from carbontrack.ledger.outcome import attempts_of
from carbontrack.ledger.overlaps import AmongRuns
from carbontrack.ledger.recorded_rows import Event, Recording, Run, Sensor, Span, StepTotals, Usage
from carbontrack.ledger.rows import Stated, Summed
from carbontrack.ledger.run_steps import Logged
from carbontrack.ledger.sql import in_parts
from carbontrack.ledger.step_sums import StepsOf, extras_of, loss_means_of, step_totals_of
from carbontrack.ledger.true_time import true_ms
from carbontrack.units import MS_PER_HOUR

T = TypeVar("T")
_HOURS_AT_ONCE = 200_000
"""Of devices that are held in memory; of one run there may be more."""


class Held:
    """Of these runs, some hundreds at most. `connection` answers what nothing here does; `sums` are
    of these and perhaps of others.
    """

    def __init__(
        self, connection: Connection, runs: Sequence[Run], sums: DeviceSums | None = None
    ) -> None:
        self.connection = connection
        self.runs = runs
        self._sums = sums or DeviceSums(connection, runs)
        self._split: set[int] = set()
        self._alone: set[int] = set()
        self._hours: dict[int, list[usages.Hour]] = {}
        self._some_wanted: dict[int, set[int]] = {}
        self._finer: dict[tuple[int, int], bool] = {}
        self._some_hours: dict[int, list[usages.Hour]] = {}
        self._step_totals: dict[tuple[int, Span | None], StepTotals] = {}
        self._worked_out: dict[Any, Any] = {}
        self._prices: dict[Any, list[Mapping[str, Any]]] = {}
        self._intensity: dict[Any, imported.Intensities] = {}
        self._has_intensity: dict[str, bool] = {}

    def once(self, work: Callable[[Held], T]) -> T:
        """What this makes of all of them, worked out when it is asked first."""
        if work not in self._worked_out:
            self._worked_out[work] = work(self)
        found: T = self._worked_out[work]
        return found

    def forget_hours(self) -> None:
        """Those of each device, of which there are many."""
        self._hours, self._some_hours = {}, {}

    def will_split(self, runs: Iterable[Run]) -> None:
        """Say of which of them `hours` will be wanted."""
        self._split |= {run.key for run in runs}

    def recordings(self, run: Run) -> list[Recording]:
        """As `read.recordings`."""
        return self._recordings[run.key]

    def will_look_at(self, runs: Iterable[Run]) -> None:
        """Say of which of them `sensors` and `totals` will be wanted."""
        more = {run.key for run in runs} - self._alone
        if more:
            self._alone |= more
            for name in ("_looked_at", "_readers", "_sensors", "_totals"):
                self.__dict__.pop(name, None)

    def sensors(self, run: Run) -> list[Sensor]:
        """As `read.sensors`."""
        self.will_look_at([run])
        return self._sensors[run.key]

    def count_devices(self, run: Run) -> int:
        """How many devices it has."""
        count = self._sums.count(run)
        return len(self.sensors(run)) if count is None else count

    def devices(self, run: Run, span_ms: Span | None = None) -> Summed | None:
        """As `DeviceSums.of`."""
        return self._sums.of(run, span_ms)

    def will_sum(self, wanted: Iterable[tuple[Run, Span | None]]) -> None:
        """As `DeviceSums.will_sum`."""
        self._sums.will_sum(wanted)

    def kwh_by_hour(self, run: Run) -> Mapping[int, float]:
        """As `DeviceSums.kwh_by_hour`."""
        return self._sums.kwh_by_hour(run)

    def stated(self, run: Run) -> list[Stated]:
        """As `read.stated`."""
        return self._stated[run.key]

    def phases(self, run: Run) -> list[tuple[int, Event]]:
        """The events that are phases, in order, each with the key of its recording."""
        return self._phases[run.key]

    def logged(self, run: Run) -> list[Logged]:
        """Where its steps are."""
        return self._logged[run.key]

    def restarts(self, run: Run) -> dict[int, dict[int, int]]:
        """When the job's processes were started again, in ms, by the recording's key and the number
        of that start.
        """
        keys = (one.key for one in self.recordings(run))
        return {key: self._restarts[key] for key in keys if key in self._restarts}

    def last_steps_below(
        self, wanted: Collection[tuple[int, int, int]]
    ) -> dict[tuple[int, int, int], int]:
        """As `run_steps.last_steps_below`, at true times."""
        found = run_steps.last_steps_below(self.connection, wanted)
        clocks = {key: shifts for run in self.runs for key, shifts in run.clocks.items()}
        return {of: true_ms(clocks.get(of[0], ()), time_ms) for of, time_ms in found.items()}

    def totals(self, run: Run) -> list[Usage]:
        """As `read.totals`."""
        self.will_look_at([run])
        return self._totals[run.key]

    def hours(
        self, run: Run, recordings: Collection[int] | None = None, span_ms: Span | None = None
    ) -> list[Usage]:
        """As `read.hours`."""
        found: Iterable[usages.Hour] = self._hours_in(run, span_ms)
        if recordings is not None:
            found = [part for part in found if part.recording_key in recordings]
        if span_ms is not None:
            found = [part for part in found if span_ms[0] <= part.start_ms < span_ms[1]]
        return usages.united(found)

    def will_read(self, hours: Iterable[tuple[Run, int]]) -> None:
        """Say of which hours of runs, by their starts, `hours` will be wanted if there are finer
        windows.
        """
        alone = ((run.key, hour_ms) for run, hour_ms in hours if not run.clocks)
        for key, hour_ms in self._look_for_finer(alone):
            self._some_wanted.setdefault(key, set()).add(hour_ms)

    def with_finer(self, run: Run, hours_ms: Iterable[int]) -> set[int]:
        """Those of some hours, by their starts, of which there are minutes or seconds; where the
        clock of a node was off, any of them may have some.
        """
        if run.clocks:
            return set(hours_ms)
        asked = {(run.key, hour_ms) for hour_ms in hours_ms}
        return {hour_ms for _, hour_ms in self._look_for_finer(asked)}

    def _look_for_finer(self, hours: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
        asked = set(hours)
        if left := asked - self._finer.keys():
            found = stored_windows.hours_with_finer(self.connection, left)
            self._finer |= {hour: hour in found for hour in left}
        return {hour for hour in asked if self._finer[hour]}

    def _hours_in(self, run: Run, span_ms: Span | None) -> Sequence[usages.Hour]:
        """At least those that begin in the span."""
        wanted = self._some_wanted.get(run.key, ())
        if run.key in self._hours or span_ms is None or span_ms[0] not in wanted:
            if run.key not in self._hours:
                self._hours = self._read_hours(run)
            return self._hours[run.key]
        if run.key not in self._some_hours:
            left = {key: of for key, of in self._some_wanted.items() if key not in self._some_hours}
            self._some_hours |= usages.parts_at(self.connection, left, self._repeating)
        return self._some_hours[run.key]

    def hours_of_all(self, run: Run, recordings: Sequence[int] | None = None) -> list[Usage]:
        """As `read.hours_of_all`."""
        if recordings is None or set(recordings) == {one.key for one in self.recordings(run)}:
            return self._hours_of_all[run.key]
        known = self._hours_of_attempts.get(tuple(sorted(recordings)))
        if known is None:
            known = usages.hours_of_all(self.connection, run, recordings)
        return known

    def step_totals(self, run: Run, span_ms: Span | None = None) -> StepTotals:
        """Sums over the steps, or over those from a time up to, and without, another."""
        if (run.key, span_ms) not in self._step_totals:
            self.sum_steps([(one, None) for one in self.runs] if span_ms is None else [])
            self.sum_steps([(run, span_ms)])
        return self._step_totals[run.key, span_ms]

    def loss_means(self, runs: Sequence[Run], points: int) -> list[list[float | None]]:
        """Of each of these, the losses of `read.step_means`, in order."""
        wanted = [
            (
                StepsOf(run, self._logged[run.key]),
                step_means.step_bucket_ms(run, from_ms=None, to_ms=None, points=points),
            )
            for run in runs
        ]
        return loss_means_of(self.connection, wanted)

    def ends_odd(self, runs: Iterable[tuple[Run, StepTotals]]) -> set[int]:
        """The keys of those of whose newest step the loss is no number, and was logged."""
        ends = ((run, totals.last) for run, totals in runs if totals.last.steps)
        asked = [(run, last.steps[-1]) for run, last in ends if last.losses[-1] is None]
        wanted = [(StepsOf(run, self._logged[run.key]), step) for run, step in asked]
        extras = extras_of(self.connection, wanted)
        return {run.key for (run, _), extra in zip(asked, extras, strict=True) if "loss" in extra}

    def sum_steps(self, wanted: Iterable[tuple[Run, Span | None]]) -> None:
        """Read these of `step_totals` together."""
        of_key = {run.key: run for run in self.runs}
        missing = list(
            dict.fromkeys(
                (run.key, span) for run, span in wanted if (run.key, span) not in self._step_totals
            )
        )
        asked = [StepsOf(of_key[key], self._logged[key], span) for key, span in missing]
        found = step_totals_of(self.connection, asked)
        self._step_totals |= dict(zip(missing, found, strict=True))

    def prices(self, item: str, as_of: str | None) -> list[Mapping[str, Any]]:
        """As `imported.prices`."""
        if (item, as_of) not in self._prices:
            found = imported.prices(self.connection, contains=item, as_of=as_of)
            self._prices[item, as_of] = found
        return self._prices[item, as_of]

    def intensity(self, zone: str, run: Run, as_of: str | None) -> list[Mapping[str, Any]]:
        """As `imported.intensity`, of a run's time."""
        if (zone, as_of) not in self._intensity:
            span = min(one.started_ms for one in self.runs), max(one.end_ms for one in self.runs)
            self._intensity[zone, as_of] = imported.intensities(
                self.connection, zone, from_ms=span[0], to_ms=span[1], as_of=as_of
            )
        return self._intensity[zone, as_of].between(run.started_ms, run.end_ms)

    def has_intensity(self, zone: str) -> bool:
        """As `imported.has_intensity`."""
        if zone not in self._has_intensity:
            self._has_intensity[zone] = imported.has_intensity(self.connection, zone)
        return self._has_intensity[zone]

    @cached_property
    def _recordings(self) -> dict[int, list[Recording]]:
        return run_devices.recordings_of(self.connection, self.runs)

    @cached_property
    def _looked_at(self) -> list[Run]:
        """Those whose devices are looked at one by one."""
        keys = self._alone
        return [run for run in self.runs if self._sums.are_none or run.key in keys]

    @cached_property
    def _readers(self) -> run_devices.Readers:
        of = {run.key: self._recordings[run.key] for run in self._looked_at}
        return run_devices.readers_of(self.connection, of)

    @cached_property
    def _repeating(self) -> set[int]:
        """Runs that recorded a device twice at one time."""
        if self._sums.are_none:
            return run_devices.repeating(self._readers)
        return self._sums.repeating(self.runs)

    @cached_property
    def _sensors(self) -> dict[int, list[Sensor]]:
        return run_devices.by_run(self._looked_at, self._readers)

    @cached_property
    def _stated(self) -> dict[int, list[Stated]]:
        return run_devices.stated_of(self.connection, self.runs)

    @cached_property
    def _totals(self) -> dict[int, list[Usage]]:
        return usages.totals_of(self.connection, self._looked_at, self._repeating)

    @cached_property
    def _hours_of_all(self) -> dict[int, list[Usage]]:
        apart = [run for run in self.runs if run.key in self._repeating or run.clocks]
        others = [run for run in self.runs if run.key not in self._repeating and not run.clocks]
        parts = usages.parts_of(self.connection, apart, self._repeating)
        found = {key: usages.hours_together(of_run) for key, of_run in parts.items()}
        return found | usages.hours_of_all_of(self.connection, [run.key for run in others])

    @cached_property
    def _hours_of_attempts(self) -> dict[tuple[int, ...], list[Usage]]:
        """By the keys of the recordings, of runs with several attempts."""
        groups = []
        for run in self.runs:
            attempts = attempts_of(self._recordings[run.key])
            if len(attempts) > 1 and run.key not in self._repeating and not run.clocks:
                for of in attempts:
                    span = min(one.started_ms for one in of), max(one.end_ms for one in of)
                    keys = sorted(one.key for one in of)
                    groups.append(usages.Group(run.key, of[0].restart, keys, span))
        found = usages.hours_of_attempts(self.connection, dict(enumerate(groups)))
        return {tuple(group.keys): found[number] for number, group in enumerate(groups)}

    @cached_property
    def _logged(self) -> dict[int, list[Logged]]:
        return run_steps.logged_of(self.connection, self._recordings)

    @cached_property
    def _restarts(self) -> dict[int, dict[int, int]]:
        return run_steps.restarts_of(self.connection, self._recordings)

    @cached_property
    def _phases(self) -> dict[int, list[tuple[int, Event]]]:
        return read.phases_of(self.connection, self.runs)

    def _read_hours(self, run: Run) -> dict[int, list[usages.Hour]]:
        """Of a run, and of those after it that will be split, as far as there is room."""
        at = next(place for place, one in enumerate(self.runs) if one.key == run.key)
        wanted, left = [self.runs[at]], _HOURS_AT_ONCE - self._count(self.runs[at])
        for one in self.runs[at + 1 :]:
            if one.key in self._split:
                left -= self._count(one)
                if left < 0:
                    break
                wanted.append(one)
        return usages.parts_of(self.connection, wanted, self._repeating)

    def _count(self, run: Run) -> int:
        """About how many hours its devices have."""
        return self.count_devices(run) * (2 + (run.end_ms - run.started_ms) // MS_PER_HOUR)


class ManyHeld:
    """The same of any number of runs, and `among` them what several recorded; `span_ms` as of
    `DeviceSums`.
    """

    def __init__(
        self, connection: Connection, runs: Sequence[Run], span_ms: Span | None = None
    ) -> None:
        self.among = AmongRuns(connection, runs)
        sums = DeviceSums(connection, runs, span_ms)
        self._parts = [Held(connection, some, sums) for some in in_parts(runs)]

    def each(self, begin: Callable[[Held], None] = lambda held: None) -> Iterator[tuple[Held, Run]]:
        """Each of the runs, in order, with what holds it and others; `begin` is called once for
        each of those.
        """
        for held in self._parts:
            begin(held)
            for run in held.runs:
                yield held, run
            held.forget_hours()


def each_held(connection: Connection, runs: Sequence[Run]) -> Iterator[tuple[Held, Run]]:
    """Each of the runs, in order, with what holds it and many beside it."""
    return ManyHeld(connection, runs).each()

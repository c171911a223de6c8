"""What a recorder writes of a run, and what its sums are made of, as plain frozen rows.

Apart from all other rows, for the summary of a short job waits until these are imported: each such
class takes half a millisecond.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from carbontrack.ledger.window import Window
from carbontrack.units import MS_PER_S
from carbontrack.vocabulary import DeviceKind, RunKind, Status

EDGE_STEPS = 64  # enough to see what kind of values a job logs


def end_of(started_ms: int, ended_ms: int | None, heartbeat_ms: int | None) -> int:
    """Its end; the last heartbeat if that was not seen, or not yet; never before its start."""
    last_ms = heartbeat_ms if ended_ms is None else ended_ms
    return started_ms if last_ms is None else max(started_ms, last_ms)


Span = tuple[int, int]
"""From a time in ms up to, and without, another."""

ALWAYS_MS = 2**62
"""Later than anything."""

Shifts = tuple[tuple[int, int], ...]
"""What is to be added to the times of a recording whose clock was off: (from when by that clock,
ms), in order. See `ledger.true_time`.
"""


@dataclass(frozen=True, slots=True)
class Amendment:
    """A change of what is said of a run; what was recorded is never overwritten."""

    id: str  # UUID
    run_id: str
    time_ms: int
    user: str
    field: str  # an `AmendedField`, a setting, or tag:KEY
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Run:
    """One wrapped job. How it stands and when it ended is what its recordings say: see
    `ledger.outcome`.
    """

    id: str  # UUID
    name: str
    project: str | None
    tags: Mapping[str, str]
    command: tuple[str, ...]  # secrets redacted
    cwd: str
    user: str
    git_commit: str | None
    git_dirty: bool | None
    started_ms: int  # of its first recording
    facility: Mapping[str, Any]  # what was configured: name, zone, pue, intensity, tariff, ...
    model: Mapping[str, Any]  # name, parameters, planned_tokens, as the job described itself
    kind: RunKind = RunKind.JOB
    scheduler: str | None = None
    cluster: str | None = None
    job_id: str | None = None
    array_index: int | None = None
    account: str | None = None
    partition: str | None = None
    nodes_expected: int | None = None
    ended_ms: int | None = None
    status: Status = Status.RUNNING
    exit_code: int | None = None  # 128+n when a signal n ended the job
    heartbeat_ms: int | None = None  # newest of the run's recordings
    heard_ms: int | None = None  # when the ledger heard of it last; None once its end was seen
    amended: tuple[Amendment, ...] = ()  # oldest first; applied already: see `ledger.amended`
    clocks: Mapping[int, Shifts] = field(default_factory=dict)
    """By key of its recording, of those whose clocks were off; added to the times here already."""
    key: int = 0  # integer key inside this ledger; 0 before it is written

    @property
    def end_ms(self) -> int:
        """When it ended; the last heartbeat if its end was not seen, or not yet.

        So a run that goes on is everywhere as long as what is recorded of it: its duration, its
        hours, its coverage and its energy are of the same time.
        """
        return end_of(self.started_ms, self.ended_ms, self.heartbeat_ms)

    @property
    def duration_s(self) -> float:
        """Seconds from its start to `end_ms`."""
        return (self.end_ms - self.started_ms) / MS_PER_S


def span_s(run: Run, spans_ms: Sequence[Span]) -> float:
    """Seconds of a run that are in some spans of time; of all of it where there are none."""
    return _length_s(spans_in(run, spans_ms))


def spans_in(run: Run, spans_ms: Sequence[Span]) -> Iterator[Span]:
    """What of some spans of time is in a run; all of it where there are none."""
    for start_ms, end_ms in spans_ms or ((run.started_ms, run.end_ms),):
        inside = max(start_ms, run.started_ms), min(end_ms, run.end_ms)
        if inside[0] < inside[1]:
            yield inside


def _length_s(spans_ms: Iterable[Span]) -> float:
    return sum(end_ms - start_ms for start_ms, end_ms in spans_ms) / MS_PER_S


def inner_span(run: Run, span_ms: Span) -> Span:
    """A span without its ends where these are no ends of what the run has in it."""
    first_ms, next_ms = span_ms
    if first_ms <= run.started_ms:
        first_ms = 0  # an hour begins before the run does
    if next_ms >= run.end_ms:
        next_ms = ALWAYS_MS
    return first_ms, next_ms


@dataclass(frozen=True, slots=True)
class Recording:
    """What one recorder did on one host: all of a run on one node, or one attempt at it."""

    id: str  # UUID
    host: str
    boot_id: str | None
    recorder_version: str
    settings: Mapping[str, Any]  # meter, hz, visible devices, the meter's note
    started_ms: int
    heartbeat_ms: int
    restart: int = 0  # how often the scheduler had restarted the job
    ended_ms: int | None = None
    status: Status = Status.RUNNING  # as it was written last: a recorder may have been killed since
    exit_code: int | None = None
    key: int = 0  # integer key inside this ledger; 0 before it is written
    heard_ms: int | None = None  # when it was shipped here last, while it goes on; by our clock
    shifts: Shifts = ()  # that were added to the times here
    set_ms: int = 0  # how far the clock of this machine was set since it began: see `set_clocks`

    @property
    def end_ms(self) -> int:
        """When it ended; the last heartbeat if its end was not seen, or not yet."""
        return end_of(self.started_ms, self.ended_ms, self.heartbeat_ms)


AS_STORED = tuple(one.name for one in fields(Recording) if one.name not in ("shifts", "set_ms"))
"""Of a recording what a ledger stores, in the order in which one is built from a row: a fleet has
many in a month.
"""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One device of a run, and how it was read: by one recording, as it is written; by the newest
    that has it, as it is read.
    """

    uuid: str
    kind: str  # a `DeviceKind`, or another package's
    name: str
    rated_power_w: float | None
    power_limit_w: float | None
    mig_parent: str | None
    host: str
    meter: str  # a `MeterName`, or another package's
    quality: str  # a `Quality`
    field: str
    scope: str  # a `Scope`, or another package's
    update_period_ms: float | None
    share: float
    device_key: int = 0
    spans_ms: tuple[Span, ...] = ()  # when it was recorded; empty: as long as its run

    def recorded_in(self, run: Run, spans_ms: Sequence[Span] = ()) -> Iterator[Span]:
        """When it was to be read: of the run, or of some spans of it."""
        if not self.spans_ms:
            return spans_in(run, spans_ms)
        both = ((max(a, c), min(b, d)) for a, b in self.spans_ms for c, d in spans_ms)
        return spans_in(run, tuple(both) if spans_ms else self.spans_ms)

    def recorded_s(self, run: Run, spans_ms: Sequence[Span] = ()) -> float:
        """For how many seconds that was."""
        return _length_s(self.recorded_in(run, spans_ms))


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums of one sensor over a run (or over an hour of it), from the windows."""

    device_key: int
    start_ms: int
    energy_j: float | None
    energy_s: float
    sampled_s: float
    samples: int
    power_min_w: float | None
    power_max_w: float | None
    util_pct: float | None
    flags: int


def usage_of(device_key: int, window: Window) -> Usage:
    """A window as what its device used."""
    return Usage(
        device_key=device_key,
        start_ms=window.start_ms,
        energy_j=window.energy_j,
        energy_s=window.energy_s,
        sampled_s=window.sampled_s,
        samples=window.samples,
        power_min_w=window.power_min_w,
        power_max_w=window.power_max_w,
        util_pct=window.util_pct,
        flags=int(window.flags),
    )


@dataclass(frozen=True, slots=True)
class Alike:
    """Devices of a run that are of one kind and name and were read in the same way, together; of a
    part of the run, what they used in it.
    """

    kind: str
    name: str
    rated_power_w: float | None
    share: float  # of each one
    meter: str
    quality: str
    scope: str
    uuids: frozenset[str]
    recorded_s: float  # for how long each was to be read, added up
    energy_j: float | None
    energy_s: float  # device-seconds that the energy accounts for
    sampled_s: float


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of a run, or of a part of it: GPUs first, of a kind by name."""

    alike: tuple[Alike, ...]
    nodes: int
    active_s: float  # for how long any was recorded
    node_s: float  # for how long each node was recorded, added up
    pause_ms: int  # the longest time in between in which none was recorded

    @classmethod
    def of(
        cls, alike: Iterable[Alike], of_node: Mapping[str, Collection[Span]], pause_ms: int
    ) -> Devices:
        """`of_node` has, by its host, when each node was recorded, by each recording."""
        active_ms = covered_ms(itertools.chain.from_iterable(of_node.values()))
        node_ms = sum(map(covered_ms, of_node.values()))
        return cls(
            alike=tuple(sorted(alike, key=_place)),
            nodes=len(of_node),
            active_s=active_ms / MS_PER_S,
            node_s=node_ms / MS_PER_S,
            pause_ms=pause_ms,
        )


_KINDS: Mapping[str, int] = {kind: place for place, kind in enumerate(DeviceKind)}


def _place(alike: Alike) -> tuple[object, ...]:
    kind = _KINDS.get(alike.kind, len(_KINDS)), alike.kind
    return *kind, alike.name, alike.meter, alike.quality, alike.scope, alike.share


def longest_pause_ms(spans_ms: Iterable[Span]) -> int:
    """The longest time in between that is in none of these."""
    spans = sorted(set(spans_ms))
    until_ms = itertools.accumulate((after for _, after in spans), max)
    pauses = (first - before for (first, _), before in zip(spans[1:], until_ms, strict=False))
    return max(0, max(pauses, default=0))


def covered_ms(spans_ms: Iterable[Span]) -> int:
    """The time that is in any of these."""
    covered, until_ms = 0, 0
    for start_ms, end_ms in sorted(spans_ms):
        covered += max(0, end_ms - max(start_ms, until_ms))
        until_ms = max(until_ms, end_ms)
    return covered


@dataclass(frozen=True, slots=True)
class Step:
    """One training step as the job logged it. `tokens` are those of this step."""

    step: int
    time_ms: int
    loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    tokens: int | None = None
    tokens_per_s: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    restart: int = 0  # how often the launcher had restarted the job's processes
    rank: int | None = None


def final_steps(losses: int) -> int:
    """Over how many of so many losses the final one is a mean: the last 1 %, at least one."""
    return max(1, round(losses / 100)) if losses else 0


def final_loss(last: Sequence[float]) -> float | None:
    """The mean of the last `final_steps` losses; None of none. A sum could be too large."""
    return sum(loss / len(last) for loss in last) if last else None


@dataclass(frozen=True, slots=True)
class EdgeSteps:
    """Steps in a row at one end of a run, in order, as columns: a month of a fleet has half a
    million.
    """

    steps: tuple[int, ...] = ()
    times_ms: tuple[int, ...] = ()
    losses: tuple[float | None, ...] = ()
    tokens: tuple[int | None, ...] = ()
    tokens_per_s: tuple[float | None, ...] = ()

    @classmethod
    def of(cls, steps: Iterable[Step]) -> EdgeSteps:
        """The columns of steps in order."""
        rows = ((s.step, s.time_ms, s.loss, s.tokens, s.tokens_per_s) for s in steps)
        return cls(*zip(*rows, strict=True))


@dataclass(frozen=True, slots=True)
class StepTotals:
    """Sums over the steps of a run, and the steps at its two ends, EDGE_STEPS each."""

    steps: int = 0
    tokens: int | None = None
    final_loss: float | None = None  # mean of the last `final_loss_steps` that have one
    final_loss_steps: int | None = None
    first: EdgeSteps = EdgeSteps()
    last: EdgeSteps = EdgeSteps()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a marker on the plots."""

    time_ms: int
    kind: str  # an `EventKind`, or what the job says
    message: str
    host: str | None = None
    device_uuid: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

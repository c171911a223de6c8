"""Polling every device at a steady rate, whatever one of them does.

One thread polls all devices in turn. A driver call may block for seconds or for ever, and a thread
cannot be taken out of it. So when a call is overdue, `rescue` leaves the thread to its device alone
and starts another one for the rest: a silent device costs its own rows and no others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from carbontrack.ledger.recorded_rows import Event
from carbontrack.ledger.window import Window
from carbontrack.meters.base import DeviceLost, Reading, Source, Vitals
from carbontrack.record.channel import EDGE_ATTEMPTS, Channel
from carbontrack.record.clock import Clock
from carbontrack.record.doubts import Finding
from carbontrack.record.plausible import BY_POWER, RESET
from carbontrack.units import NS_PER_S, monotonic_ns
from carbontrack.vocabulary import EventKind

_OVERDUE_PERIODS = 2
_OVERDUE_NS = 1 * NS_PER_S  # at most, however slow the sampling
_MAX_BEHIND_NS = (
    4 * NS_PER_S
)  # a device whose seconds end earlier is lost, hangs, or is read rarely
_LOST_RETRY_NS = 1 * NS_PER_S
_LAST_READ_S = 0.3  # what the job's end may wait for a device


class _Worker(threading.Thread):
    """Polls its channels; loses those that a rescuer has taken over."""

    def __init__(self, sampler: Sampler, channels: Sequence[Channel]) -> None:
        super().__init__(name="sampler", daemon=True)
        self.channels = list(channels)
        self._sampler = sampler

    def run(self) -> None:
        sampler = self._sampler
        tick_ns = monotonic_ns()
        stopped = False
        while not stopped:
            for channel in list(self.channels):
                if channel in self.channels:  # a rescuer may have taken it meanwhile
                    sampler.poll(channel)
            tick_ns = max(tick_ns + sampler.tick_ns, monotonic_ns())
            stopped = sampler.wait(max(0.0, (tick_ns - monotonic_ns()) / NS_PER_S))
        for channel in list(self.channels):
            sampler.poll(channel, attempts=EDGE_ATTEMPTS)  # the reading at the job's end


class Batch(NamedTuple):
    """What was recorded since the last time: finished seconds, their minutes and hours, events.

    `as_of_ms` is when the last of these seconds ended, by the clock of the recording: what is
    recorded of the run is recorded up to then.
    """

    windows: list[tuple[str, Window]]
    events: list[Event]
    as_of_ms: int


class Sampler:
    """Polls `sources` at `hz` from now until `finish`."""

    def __init__(
        self,
        sources: Sequence[Source],
        clock: Clock,
        *,
        start_ns: int,
        hz: float,
        host: str,
    ) -> None:
        self.period_ns = round(NS_PER_S / hz)
        self._sampling = threading.Lock()  # held until the end; an Event is dearer to wait for
        self._sampling.acquire()
        self._clock = clock
        self._host = host
        self._channels = [Channel(source, clock, start_ns, self.period_ns) for source in sources]
        # A slow sampling must not be slower than the driver's own samples are overwritten.
        self.tick_ns = min([self.period_ns, *(channel.period_ns for channel in self._channels)])
        self._workers = [_Worker(self, self._channels)]
        self._events: list[Event] = []
        self.by_power: set[str] = set()  # UUIDs of devices whose counter was not believed for long

    def start(self) -> None:
        self._workers[0].start()

    def add(self, sources: Sequence[Source], *, start_ns: int) -> None:
        """Poll these, too, from now on."""
        channels = [Channel(source, self._clock, start_ns, self.period_ns) for source in sources]
        self._channels += channels
        worker = _Worker(self, channels)
        self._workers.append(worker)
        worker.start()

    def wait(self, seconds: float) -> bool:
        """So long, or until the end: true then. Called by workers."""
        ended = self._sampling.acquire(timeout=seconds)
        if ended:
            self._sampling.release()
        return ended

    def poll(self, channel: Channel, attempts: int = 1) -> None:
        """Read one device once, and its vitals once a second. Called by workers.

        A counter that does not answer is asked again, up to so many times.
        """
        now_ns = monotonic_ns()
        if channel.lost and now_ns < channel.retry_ns:
            return
        if attempts == 1 and not channel.is_due(now_ns):
            return
        channel.busy_since_ns = now_ns
        try:
            channel.poll(now_ns, attempts)
        except DeviceLost as lost:
            channel.retry_ns = monotonic_ns() + _LOST_RETRY_NS
            if not channel.lost:
                channel.lost = True
                self._event(channel, EventKind.DEVICE_LOST, str(lost))
            return
        finally:
            channel.busy_since_ns = None
        if channel.lost or channel.silent:
            channel.lost = channel.silent = False
            self._event(channel, EventKind.DEVICE_FOUND, "answers again")

    def rescue(self) -> None:
        """Free the other devices from a call that is overdue. Call this a few times a second."""
        now_ns = monotonic_ns()
        patience_ns = min(_OVERDUE_PERIODS * self.period_ns, _OVERDUE_NS)
        for worker in list(self._workers):
            for channel in worker.channels:
                since_ns = channel.busy_since_ns
                overdue = since_ns is not None and now_ns - since_ns > patience_ns
                if overdue and not channel.silent:
                    channel.silent = True
                    self._event(
                        channel, EventKind.DEVICE_SILENT, "does not answer; the others go on"
                    )
                if overdue and len(worker.channels) > 1:
                    others = [c for c in worker.channels if c is not channel]
                    worker.channels = [channel]
                    rescuer = _Worker(self, others)
                    self._workers.append(rescuer)
                    rescuer.start()
                    break

    def drain(self) -> Batch:
        """Take what has been recorded since the last time."""
        windows: list[tuple[str, Window]] = []
        for channel in self._channels:
            seconds: list[Window] = []
            while channel.inbox:
                seconds += self._feed(channel, channel.inbox.popleft())
            windows += self._take(channel, seconds)
        return self._batch(windows)

    def finish(self, end_ns: int) -> Batch:
        """Read each device a last time and end its windows at `end_ns`, the end of the job."""
        self._sampling.release()
        deadline = time.monotonic() + _LAST_READ_S
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        windows: list[tuple[str, Window]] = []
        for channel in self._channels:
            last = None
            seconds: list[Window] = []
            while channel.inbox and last is None:
                item = channel.inbox.popleft()
                if isinstance(item, Reading) and item.time_ns >= end_ns:
                    last = item
                else:
                    seconds += self._feed(channel, item)
            seconds += channel.builder.finish(end_ns, last)
            windows += self._take(channel, seconds)
        return self._batch(windows)

    def _feed(self, channel: Channel, item: Reading | Vitals) -> list[Window]:
        if isinstance(item, Vitals):
            channel.builder.use_limits(channel.source.device)
            channel.builder.add_vitals(item)
            return []
        return channel.builder.add(item)

    def _take(self, channel: Channel, seconds: list[Window]) -> list[tuple[str, Window]]:
        for second in seconds:
            channel.pyramid.add(second)
        for finding in channel.builder.findings():
            self._found(channel, finding)
        return [(channel.uuid, second) for second in seconds]

    def _batch(self, seconds: list[tuple[str, Window]]) -> Batch:
        """With the seconds that still wait for a counter, as far as they are known: they are
        written again when it has answered.
        """
        coarse = []
        for channel in self._channels:
            known, fresh = channel.builder.waiting()
            seconds += [(channel.uuid, second) for second in fresh]
            coarse += [(channel.uuid, row) for row in channel.pyramid.take_changed(known)]
        events, self._events = self._events, []
        return Batch(seconds + coarse, events, self._as_of_ms())

    def _as_of_ms(self) -> int:
        """Of the devices that answer; if none does, now, so that they are seen to be missing."""
        now_ns = monotonic_ns()
        ends_ns = [channel.builder.complete_ns for channel in self._channels]
        behind_ns = [now_ns - end_ns for end_ns in ends_ns if end_ns is not None]
        answering_ns = (behind for behind in behind_ns if 0 <= behind <= _MAX_BEHIND_NS)
        return self._clock.wall_ms(now_ns - max(answering_ns, default=0))

    def _found(self, channel: Channel, finding: Finding) -> None:
        if finding.rule in BY_POWER:
            self.by_power.add(channel.uuid)
        if finding.rule == RESET.name:
            kind = EventKind.COUNTER_RESET
        else:
            kind = EventKind.SENSOR_TRUSTED if finding.ended else EventKind.SENSOR_DOUBTED
        self._event(channel, kind, finding.message, finding.at_ns, {"rule": finding.rule})

    def _event(
        self,
        channel: Channel,
        kind: EventKind,
        what: str,
        at_ns: int | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        device = channel.source.device
        self._events.append(
            Event(
                time_ms=self._clock.wall_ms(at_ns or monotonic_ns()),
                kind=kind,
                message=f"{device.name} ({device.uuid}): {what}",
                host=self._host,
                device_uuid=device.uuid,
                data=data or {},
            )
        )

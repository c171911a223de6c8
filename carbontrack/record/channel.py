"""One device's way from its meter to windows: what is read when, and where it waits."""

from __future__ import annotations

from collections import deque
from typing import cast

from carbontrack.ledger.window import Pyramid
from carbontrack.meters.base import BufferedSource, Reading, Source, Vitals
from carbontrack.record.clock import Clock
from carbontrack.record.reduce import WindowBuilder
from carbontrack.units import NS_PER_MS, NS_PER_S, monotonic_ns
from carbontrack.vocabulary import Quality

# At both edges of the job a counter that does not answer is asked again, for there is no reading
# beyond them that would show what was missed.
EDGE_ATTEMPTS = 12
_BUFFER_PERIOD_NS = 1 * NS_PER_S
_BUFFER_LAG_NS = 50 * NS_PER_MS  # after a second's end its last sample is there


class Channel:
    """A worker calls `poll`, which may block for ever, and fills the inbox; the thread that drains
    it uses the builder and the pyramid.
    """

    def __init__(self, source: Source, clock: Clock, start_ns: int, period_ns: int) -> None:
        self.source = source
        self.uuid = source.device.uuid
        self.inbox: deque[Reading | Vitals] = deque()
        self.builder = WindowBuilder(source.device, clock, start_ns=start_ns, period_ns=period_ns)
        self.pyramid = Pyramid()
        self.busy_since_ns: int | None = None
        self.silent = False
        self.lost = False
        self.retry_ns = 0
        buffer = cast(BufferedSource, source) if hasattr(source, "recent") else None
        self.buffered = buffer is not None and buffer.buffered
        self.period_ns = _BUFFER_PERIOD_NS if self.buffered else period_ns
        self._buffer = buffer  # until its first samples are read, unless they are all there is
        self._due_ns = 0
        self._clock = clock
        self._vitals_due_ns = 0  # the next second's begin
        self._counts = source.device.quality is Quality.COUNTER
        self._counted = False  # whether its counter has answered

    def is_due(self, now_ns: int) -> bool:
        """Whether to poll it now: a device that keeps its own samples needs it once a second."""
        return now_ns >= self._due_ns

    def poll(self, now_ns: int, attempts: int) -> None:
        """Read what is new, and vitals once a second. A counter that does not answer is asked
        again, up to so many times. Raises DeviceLost as `Source` does.
        """
        readings = self._read(now_ns, attempts)
        self.inbox.extend(readings)
        # By the second that the builder puts them in, so that no window goes without.
        if readings and (at_ns := readings[-1].placed_ns) >= self._vitals_due_ns:
            self._vitals_due_ns = self._next_second_ns(at_ns)
            if (vitals := self.source.vitals()) is not None:
                self.inbox.append(vitals)

    def _read(self, now_ns: int, attempts: int) -> list[Reading]:
        readings: list[Reading] = []
        if self._buffer is not None:
            readings += self._buffer.recent()
            if self.buffered:
                self._due_ns = self._next_second_ns(monotonic_ns()) + _BUFFER_LAG_NS
                return readings
            self._buffer = None
        self._due_ns = now_ns + self.period_ns // 2
        reading = self.source.read()
        if self._counts:
            attempts = attempts if self._counted else EDGE_ATTEMPTS
            while reading.energy_j is None and (attempts := attempts - 1) > 0:
                reading = self.source.read()
            self._counted = self._counted or reading.energy_j is not None
        return [*readings, reading]

    def _next_second_ns(self, at_ns: int) -> int:
        """When the wall clock's next second begins."""
        return at_ns + NS_PER_S - self._clock.wall_ns(at_ns) % NS_PER_S

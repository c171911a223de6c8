"""The devices of many runs, and what they used together, added up by a server: neither each device
nor each of its hours comes to us.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from carbontrack.ledger.recorded_rows import (
    Alike,
    Devices,
    Run,
    Span,
    end_of,
    inner_span,
    longest_pause_ms,
)
from carbontrack.ledger.rows import Signs, Summed
from carbontrack.ledger.sharing import devices_at_once
from carbontrack.ledger.window import FIRST_MS, LAST_MS
from carbontrack.units import J_PER_KWH, MS_PER_DAY, MS_PER_HOUR, MS_PER_S
from carbontrack.vocabulary import MeterName


class _How(NamedTuple):
    """How devices were read: where it is the same, they are alike."""

    name: str
    rated_power_w: float | None
    share: float
    meter: str
    quality: str
    scope: str


class _Read(NamedTuple):
    """The devices of one kind in one recording."""

    kind: str
    how: _How
    is_alike: bool
    limit_w: float | None
    host: str
    device_keys: Sequence[int]
    from_ms: int
    to_ms: int


class _Used(NamedTuple):
    """What the devices of one kind used together."""

    energy_j: float | None
    energy_s: float
    sampled_s: float
    peak_w: float | None
    used: int
    flags: int


_Part = tuple[int, Span | None]
"""The key of a run, and what of it."""
_ALL = FIRST_MS, LAST_MS
_HOURS_MS = range(0, MS_PER_DAY, MS_PER_HOUR)
_NOTHING = _Used(None, 0.0, 0.0, None, 0, 0)


class DeviceSums:
    """Of some runs, read of all of them at once; in a file there are none, and a run's devices are
    looked at one by one. `span_ms` is what most of them will be wanted in, if not in all.
    """

    def __init__(
        self, connection: Connection, runs: Sequence[Run], span_ms: Span | None = None
    ) -> None:
        self._connection = connection
        self._runs = runs if connection.dialect.name == "postgresql" else ()
        self._span_ms = span_ms
        self._wanted: dict[_Part, Run] = {}
        self._used: dict[_Part, dict[str, _Used]] = {}
        self._found: dict[_Part, Summed] = {}
        self._kwh: dict[int, dict[int, float]] = {}

    def will_sum(self, wanted: Iterable[tuple[Run, Span | None]]) -> None:
        """Say in which spans which of them will be wanted."""
        self._wanted |= {(run.key, span_ms): run for run, span_ms in wanted}

    def of(self, run: Run, span_ms: Span | None = None) -> Summed | None:
        """Of a run, or of what of it is in a span of whole hours. None where its devices must be
        looked at one by one: where those of a kind are not alike, where the run recorded one twice
        at one time, and where the clock of a node was off.
        """
        read = self._read.get(run.key)
        if read is None or run.clocks:
            return None
        part = run.key, self._as_read(run, span_ms)
        if part not in self._found:
            if part not in self._used:
                self._read_used(run, part[1])
            self._found[part] = self._sum(run, read, span_ms, self._used[part])
        return self._found[part]

    def count(self, run: Run) -> int | None:
        """How many devices it has; None where they must be looked at one by one."""
        read = self._read.get(run.key)
        if read is None:
            return None
        return len({key for one in read for key in one.device_keys})

    def _as_read(self, run: Run, span_ms: Span | None) -> Span | None:
        """All of a run that is in the span of most is read with it."""
        first_ms, next_ms = self._span_ms or (run.end_ms, run.started_ms)
        is_inside = first_ms <= run.started_ms and run.end_ms <= next_ms
        return self._span_ms if span_ms is None and is_inside else span_ms

    def _sum(
        self, run: Run, read: Sequence[_Read], span_ms: Span | None, used: Mapping[str, _Used]
    ) -> Summed:
        from_ms, to_ms = span_ms or (FIRST_MS, LAST_MS)
        span = max(from_ms, run.started_ms), min(to_ms, run.end_ms)
        if span_ms is not None:
            read = [one for one in read if one.from_ms < to_ms and one.to_ms > from_ms]
        of_kind: dict[str, list[_Read]] = defaultdict(list)
        for one in read:
            of_kind[one.kind].append(one)
        alike = [
            self._together(kind, of, used.get(kind, _NOTHING), span) for kind, of in of_kind.items()
        ]
        of_node: dict[str, list[Span]] = defaultdict(list)
        for one in read:
            of_node[one.host].append((max(one.from_ms, span[0]), min(one.to_ms, span[1])))
        pause_ms = longest_pause_ms((one.from_ms, one.to_ms) for one in read)
        signs = {kind: _signs(of, used.get(kind, _NOTHING)) for kind, of in of_kind.items()}
        return Summed(Devices.of(alike, of_node, pause_ms), signs)

    def repeating(self, runs: Sequence[Run]) -> set[int]:
        """The keys of those of which two recordings read one device at one time."""
        return {run.key for run in runs if _is_repeating(self._every.get(run.key, ()))}

    @property
    def are_none(self) -> bool:
        """Whether there are none, as of a file."""
        return not self._runs

    def kwh_by_hour(self, run: Run) -> Mapping[int, float]:
        """The energy of all its devices in each hour, by its start in ms and in order."""
        if run.key not in self._kwh:
            zone = run.facility.get("zone")
            keys = [one.key for one in self._runs if one.facility.get("zone") == zone]
            self._kwh |= {key: {} for key in keys}
            for run_key, starts_ms, days_j in self._ask(_BY_HOUR, keys=keys):
                by_hour: dict[int, float] = defaultdict(float)
                for day_ms, hourly_j in zip(starts_ms, days_j, strict=True):
                    for at_ms, energy_j in zip(_HOURS_MS, hourly_j, strict=True):
                        if energy_j is not None:
                            by_hour[day_ms + at_ms] += energy_j / J_PER_KWH
                self._kwh[run_key] = dict(sorted(by_hour.items()))
        return self._kwh[run.key]

    def _together(self, kind: str, read: Sequence[_Read], used: _Used, span: Span) -> Alike:
        from_ms, to_ms = span
        recorded_ms = sum(
            max(0, min(one.to_ms, to_ms) - max(one.from_ms, from_ms)) * len(one.device_keys)
            for one in read
        )
        uuid_of = self._uuids
        return Alike(
            kind=kind,
            **read[0].how._asdict(),
            uuids=frozenset(uuid_of[key] for one in read for key in one.device_keys),
            recorded_s=recorded_ms / MS_PER_S,
            energy_j=used.energy_j,
            energy_s=used.energy_s,
            sampled_s=used.sampled_s,
        )

    @cached_property
    def _keys(self) -> list[int]:
        return [run.key for run in self._runs]

    @cached_property
    def _read(self) -> dict[int, list[_Read]]:
        """By the key of the run, of those whose devices need not be looked at one by one."""
        return {key: read for key, read in self._every.items() if _are_summable(read)}

    @cached_property
    def _every(self) -> dict[int, list[_Read]]:
        """By the key of the run."""
        found: dict[int, list[_Read]] = {key: [] for key in self._keys}
        for row in self._ask(_READ, keys=self._keys):
            run_key, kind, is_alike, limit_w, host, keys, started_ms, ended_ms, beat_ms, *how = row
            to_ms = end_of(started_ms, ended_ms, beat_ms)
            one = _Read(kind, _How(*how), is_alike, limit_w, host, keys, started_ms, to_ms)
            found[run_key].append(one)
        return found

    @cached_property
    def _uuids(self) -> Mapping[int, str]:
        """By the key of the device."""
        keys = {key for read in self._read.values() for one in read for key in one.device_keys}
        return dict(self._ask(_UUIDS, keys=sorted(keys)))

    def _read_used(self, run: Run, span_ms: Span | None) -> None:
        """Of this one, and of all others that are wanted in the same span or in others."""
        wanted = {(run.key, span_ms): run}
        if span_ms in (None, self._span_ms):
            wanted |= {(one.key, span_ms): one for one in self._runs}
        wanted |= self._wanted
        self._wanted = {}
        parts = list(wanted)
        days, hours = _Wanted("days"), _Wanted("hours")
        for place, (part, one) in enumerate(wanted.items()):
            whole_days, edges = _in_days(inner_span(one, part[1] or _ALL))
            days.add(place, one, whole_days)
            hours.add(place, one, edges)
        self._used |= {part: {} for part in wanted}
        some = [one for one in (days, hours) if one.rows]  # neither is free
        query = _USED.format(rows=" union all ".join(one.query for one in some))
        rows = self._ask(query, **dict(chain.from_iterable(one.columns() for one in some)))
        for place, kind, *values in rows:
            self._used[parts[place]][kind] = _Used(*values)

    def _ask(self, query: str, **arrays: Iterable[int]) -> Iterable[Any]:
        """Each array as its text: of thousands of integers the driver makes that slowly."""
        if not self._runs:
            return ()
        values = {name: f"{{{','.join(map(str, of))}}}" for name, of in arrays.items()}
        return self._connection.execute(text(query), values).all()


class _Wanted:
    """Spans of runs, in days or in hours, each with the place of what it is a part of."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self.rows: list[tuple[int, int, int, int]] = []

    def add(self, place: int, run: Run, spans: Iterable[Span]) -> None:
        self.rows += [(place, run.key, *span) for span in spans]

    @property
    def query(self) -> str:
        """What of them is there."""
        return _IN_SPANS.format(of=self._unit)

    def columns(self) -> Iterator[tuple[str, list[int]]]:
        """Its values, by their names."""
        for at, name in enumerate(("places", "keys", "from_ms", "to_ms")):
            yield f"{self._unit}_{name}", [row[at] for row in self.rows]


def _in_days(span_ms: Span) -> tuple[list[Span], list[Span]]:
    """The whole days (UTC) of a span, and the hours before and after them; one that does not end
    has no hours after them.
    """
    from_ms, to_ms = span_ms
    first_ms = -(-from_ms // MS_PER_DAY) * MS_PER_DAY
    next_ms = to_ms = min(to_ms, LAST_MS)
    if to_ms < LAST_MS:
        next_ms = to_ms // MS_PER_DAY * MS_PER_DAY
    if first_ms >= next_ms:
        return [], [(from_ms, to_ms)]
    edges = (from_ms, first_ms), (next_ms, to_ms)
    return [(first_ms, next_ms)], [(begin, end) for begin, end in edges if begin < end]


def _are_summable(read: Sequence[_Read]) -> bool:
    how = {one.kind: one.how for one in read}
    if not all(one.is_alike and one.how == how[one.kind] for one in read):
        return False
    return not devices_at_once((one.from_ms, one.to_ms, one.device_keys) for one in read)


def _is_repeating(read: Sequence[_Read]) -> bool:
    shared = (one for one in read if one.how.meter != MeterName.CPU_MODEL or not one.is_alike)
    return bool(devices_at_once((one.from_ms, one.to_ms, one.device_keys) for one in shared))


def _signs(read: Sequence[_Read], used: _Used) -> Signs:
    limits_w = [one.limit_w for one in read if one.limit_w is not None]
    return Signs(used.peak_w, min(limits_w, default=None), used.used, used.flags)


_READ = """
select r.run_key, d.kind, d.is_alike, d.limit_w, d.host, d.device_keys, r.started_ms, r.ended_ms,
    r.heartbeat_ms, d.name, d.rated_power_w, d.share, d.meter, d.quality, d.scope
from recordings r join recorded_devices d on d.recording_key = r.key
where r.run_key = any(cast(:keys as integer[]))"""
_UUIDS = "select key, uuid from devices where key = any(cast(:keys as integer[]))"
_IN_SPANS = """
select w.place, k.kind, k.energy_j, k.energy_s, k.sampled_s, k.peak_w, k.used, k.flags
from run_{of} k join unnest(cast(:{of}_places as integer[]), cast(:{of}_keys as integer[]),
    cast(:{of}_from_ms as bigint[]), cast(:{of}_to_ms as bigint[]))
    as w(place, run_key, from_ms, to_ms) on w.run_key = k.run_key
where k.start_ms >= w.from_ms and k.start_ms < w.to_ms"""
_USED = """
select k.place, k.kind, sum(k.energy_j), sum(k.energy_s), sum(k.sampled_s), max(k.peak_w),
    max(k.used), bit_or(k.flags) from ({rows}) k group by k.place, k.kind"""
_BY_HOUR = """
select k.run_key, array_agg(k.start_ms), array_agg(k.hourly_j) from run_days k
where k.run_key = any(cast(:keys as integer[])) and k.energy_j is not null group by k.run_key"""

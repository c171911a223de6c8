"""What a node sent, checked: a batch that a ledger can hold, or the reason why it is refused. Pure.

Nothing of it is trusted: not its size, its depth, its numbers nor its texts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import msgspec

from carbontrack import config
from carbontrack.ids import is_uuid
from carbontrack.ledger import amended
from carbontrack.ledger.batch import VERSION, Batch
from carbontrack.ledger.limits import INT16, INT32, INT64, LARGEST
from carbontrack.ledger.names import MAX_TEXT_CHARS
from carbontrack.ledger.packed import PACKED, SECONDS, Segment, values_of
from carbontrack.ledger.recorded_rows import Amendment, Event, Recording, Run, Sensor, Step
from carbontrack.ledger.rows import ClockOffset, Import, Live, OverlapPart, Stated, Tombstone
from carbontrack.ledger.tables import (
    AMENDMENTS,
    CLOCKS,
    EVENTS,
    IMPORTS,
    OVERLAPS,
    RECORDINGS,
    RUNS,
    SENSORS,
    STATED,
    STEPS,
    TOMBSTONES,
    WINDOWS,
    Table,
)
from carbontrack.ledger.window import LEVELS_S, Flag, Window
from carbontrack.record import step_values
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_S

MAX_BODY_BYTES = 4 << 20  # as it comes
MAX_DOCUMENT_BYTES = 32 << 20  # decompressed
# What recorders cut had a character more, and each may have become six that stand for half a one.
_MAX_TEXT_CHARS = 8 * MAX_TEXT_CHARS
_MAX_JSON_BYTES = 256 << 10  # of one value that is JSON itself
_MAX_DEPTH = 16
_MAX_SENSORS = 1_024
_MAX_POWER_W = 1e6  # of one device: beyond it a unit is wrong
_MAX_ENERGY_J = _MAX_POWER_W * 1e9  # 30 years of that
_MOST = 1e15  # of any other figure
_MOST_OF_STEP = 1e300  # a loss may be anything whose sums are still numbers
_AHEAD_MS = MS_PER_HOUR
_HOUR_S = MS_PER_HOUR // MS_PER_S
_FLAGS = sum(Flag)
_D = TypeVar("_D")
_MINUTE_MS = SECONDS * MS_PER_S
_LONGEST_SECOND_MS = MS_PER_S + 1
# Of the arrays of a segment that have no value below 0, the largest.
_MOST_IN = {
    "energy_mj": round(_MAX_POWER_W * MS_PER_S),
    "energy_ms": _LONGEST_SECOND_MS,
    "sampled_ms": _LONGEST_SECOND_MS,
    "memory_max_kib": INT32,
    "flags": _FLAGS,
    **dict.fromkeys(("samples", "vitals", "throttle"), INT16),
}
_MAX_COUNTS = (INT32, INT32, INT64, INT64)


class Refused(Exception):
    """The batch is not taken, and never will be; why."""


class OtherVersion(Refused):
    """Its document is of another version than ours."""


class _Head(msgspec.Struct):
    version: int


def _window_type() -> Any:
    """A window as it is sent: the number of its sensor, then its fields in their order."""
    hints = get_type_hints(Window) | {"flags": int}
    return tuple.__class_getitem__((int, *(hints[name] for name in WINDOWS.fields)))


def _segment_type() -> Any:
    """A segment as it is sent: the number of its sensor, then its fields in their order."""
    at = Annotated[
        list[Annotated[int, msgspec.Meta(ge=0, lt=SECONDS)]],
        msgspec.Meta(min_length=1, max_length=SECONDS),
    ]
    hints = get_type_hints(Window)
    arrays = (
        _array_type(array, type(None) in get_args(hints[name]), most)
        for name, array, _, most in PACKED
    )
    return tuple.__class_getitem__((int, int, at | None, *arrays))


def _array_type(name: str, may_be_unknown: bool, most: int) -> Any:
    """One array of it: each value within what the ledger holds and what can be."""
    value = Annotated[
        int, msgspec.Meta(ge=0 if name in _MOST_IN else -most, le=_MOST_IN.get(name, most))
    ]
    some = msgspec.Meta(min_length=1, max_length=SECONDS)
    if may_be_unknown:
        return Annotated[list[value | None], some] | None
    return Annotated[list[value], some]


class _Document(msgspec.Struct):
    version: int
    run: Run
    recording: Recording
    sensors: list[Sensor]
    live: Live | None
    windows: list[_window_type()]  # type: ignore[valid-type]
    segments: list[_segment_type()]  # type: ignore[valid-type]
    steps: list[Step]
    events: list[tuple[int, Event]]
    clocks: list[ClockOffset]
    amendments: list[Amendment]
    stated: list[Stated]
    imports: list[Import]
    overlaps: list[tuple[int, OverlapPart]]
    final: bool


class _Removal(msgspec.Struct):
    version: int
    tombstone: Tombstone


def decode_tombstone(body: bytes, *, now_ms: int) -> Tombstone:
    """The tombstone of a body. Raises OtherVersion, or Refused, as `decode` does."""
    tombstone = _parsed(_decompressed(body), dict.fromkeys(DOCUMENTS, _Removal)).tombstone
    _check_row("tombstone", TOMBSTONES, tombstone, 0, now_ms + _AHEAD_MS)
    return tombstone


DOCUMENTS: dict[int, type[_Document]] = {VERSION: _Document}
"""What is taken, by version: ours, and with its next change the one before, as a subclass with what
it lacked, so that a collector can be brought to a new version before its nodes.
"""


def decode(body: bytes, *, now_ms: int, oldest_ms: int) -> Batch:
    """The batch of a body. Times before `oldest_ms`, or an hour and more after now, are refused.

    Raises OtherVersion, or Refused for whatever else cannot be taken.
    """
    document = _parsed(_decompressed(body), DOCUMENTS)
    batch = Batch(
        run=document.run,
        recording=document.recording,
        sensors=tuple(document.sensors),
        live=document.live,
        windows=tuple(_windows(document)),
        segments=tuple(_segments(document)),
        steps=tuple(document.steps),
        events=tuple(document.events),
        clocks=tuple(document.clocks),
        amendments=tuple(document.amendments),
        stated=tuple(document.stated),
        imports=tuple(document.imports),
        overlaps=tuple((_uuid(document, number), part) for number, part in document.overlaps),
        final=document.final,
    )
    _check(batch, now_ms=now_ms, oldest_ms=oldest_ms)
    return batch


def _decompressed(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        document = inflater.decompress(body, MAX_DOCUMENT_BYTES)
    except zlib.error:
        raise Refused("the body is not zlib data") from None
    if inflater.unconsumed_tail:
        raise Refused(f"the body is larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
    if not inflater.eof:
        raise Refused("the body is cut off")
    return document


def _parsed(document: bytes, types: Mapping[int, type[_D]]) -> _D:
    try:
        version = msgspec.json.decode(document, type=_Head).version
        if version not in types:
            ours = " and ".join(map(str, sorted(types)))
            raise OtherVersion(f"version {version} of the document; this collector takes {ours}")
        return msgspec.json.decode(document, type=types[version])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(f"the document is invalid: {_shown(str(error))}") from None


def _windows(document: _Document) -> Iterator[tuple[str, Window]]:
    for number, *values in document.windows:
        values[-1] = Flag(values[-1] & _FLAGS)
        yield _uuid(document, number), Window(*values)


def _segments(document: _Document) -> Iterator[tuple[str, Segment]]:
    for number, *values in document.segments:
        yield _uuid(document, number), Segment(*values)


def _uuid(document: _Document, number: int) -> str:
    """Of the device of a sensor by its number in the batch."""
    if not 0 <= number < len(document.sensors):
        raise Refused(f"a row is of sensor {number}, which is not in the batch")
    return document.sensors[number].uuid


def _check(batch: Batch, *, now_ms: int, oldest_ms: int) -> None:
    if len(batch.sensors) > _MAX_SENSORS:
        raise Refused(f"{len(batch.sensors)} sensors are more than {_MAX_SENSORS}")
    if len({sensor.uuid for sensor in batch.sensors}) < len(batch.sensors):
        raise Refused("a device is there twice")
    for name, rows in (
        ("run", [(RUNS, batch.run)]),
        ("recording", [(RECORDINGS, batch.recording)]),
        ("sensor", [(SENSORS, sensor) for sensor in batch.sensors]),
        ("step", [(STEPS, step) for step in batch.steps]),
        ("event", [(EVENTS, event) for _, event in batch.events]),
        ("amendment", [(AMENDMENTS, one) for one in batch.amendments]),
        ("stated figure", [(STATED, one) for one in batch.stated]),
        ("import", [(IMPORTS, one) for one in batch.imports]),
        ("overlap", [(OVERLAPS, part) for _, part in batch.overlaps]),
    ):
        for table, row in rows:
            _check_row(name, table, row, oldest_ms, now_ms + _AHEAD_MS)
    if any(not 0 <= number < 1 << 31 for number, _ in batch.events):
        raise Refused("the number of an event is out of range")
    _check_run(batch.run)
    for one in batch.amendments:
        _check_amendment(one, batch.run)
    for sensor in batch.sensors:
        _check_figures("sensor", sensor, _OF_SENSOR)
    for stated in batch.stated:
        _check_figures("stated figure", stated, _OF_STATED)
    for step in batch.steps:
        _check_step(step)
    for clock in batch.clocks:
        _check_row("clock", CLOCKS, clock, 0, INT64)
        _check_clock(clock, now_ms)
    for _, part in batch.overlaps:
        if not (0 <= part.seconds <= _HOUR_S and 0 <= part.energy_j <= _MAX_POWER_W * _HOUR_S):
            raise Refused(f"an overlap has {part.seconds:g} s and {part.energy_j:g} J")
    if batch.live is not None:
        _check_live(batch.live, len(batch.sensors), oldest_ms, now_ms + _AHEAD_MS)
    for _, window in batch.windows:
        _check_window(window, oldest_ms, now_ms + _AHEAD_MS)
    for _, segment in batch.segments:
        _check_segment(segment, oldest_ms, now_ms + _AHEAD_MS)


def _check_run(run: Run) -> None:
    """What it is priced by, and the counts of its model: tables of all runs are made of them."""
    for name, value in run.facility.items():
        if value is not None and not config.can_be(name, value):
            raise Refused(f"the {name} of the run's facility cannot be what is sent")
    for name in ("parameters", "planned_tokens"):
        value = run.model.get(name)
        try:
            if value is not None:
                step_values.above_zero(value)
        except step_values.Refused as error:
            raise Refused(f"the {name} of the model {error}") from None


def _check_amendment(one: Amendment, run: Run) -> None:
    if one.run_id != run.id:
        raise Refused("an amendment is of another run")
    if not amended.can_be(one.field, one.after):
        raise Refused(f"{_shown(one.field)} cannot be amended to what is sent")


_OF_SENSOR = ("rated_power_w", "power_limit_w", "update_period_ms", "share")
_OF_STATED = ("devices", "device_hours", "power_w", "energy_kwh")


def _check_figures(what: str, row: Any, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(row, name)
        if value is not None and not 0 <= value <= _MOST:
            raise Refused(f"the {name} of a {what} is out of range: {value:g}")


def _check_step(step: Step) -> None:
    for name in ("loss", "lr", "grad_norm", "tokens_per_s"):
        value = getattr(step, name)
        if value is not None and abs(value) > _MOST_OF_STEP:
            raise Refused(f"the {name} of a step is out of range: {value:g}")
    if step.tokens is not None and step.tokens < 0:
        raise Refused(f"a step has {step.tokens} tokens")


def _check_clock(clock: ClockOffset, now_ms: int) -> None:
    """It is added to times. The node's clock may say anything, which is what it is measured for;
    and another collector may have said what time it was, by a clock of its own.
    """
    there_ms = clock.time_ms + clock.offset_ms
    if not 0 <= there_ms <= now_ms + MS_PER_DAY or clock.error_ms < 0:
        raise Refused(f"a clock is off by {clock.offset_ms} ms, give or take {clock.error_ms}")


def _check_live(live: Live, sensors: int, oldest_ms: int, newest_ms: int) -> None:
    if not oldest_ms <= live.time_ms <= newest_ms:
        raise Refused(f"what is now is of {live.time_ms} ms, which is too old or in the future")
    largest = {"power_w": _MAX_POWER_W, "energy_j": _MAX_ENERGY_J, "util_pct": 100.0}
    for name, most in largest.items():
        values = getattr(live, name)
        if len(values) != sensors:
            raise Refused(f"{len(values)} {name} of {sensors} sensors")
        if any(value is not None and not 0 <= value <= most for value in values):
            raise Refused(f"the {name} of now is out of range")


def _check_window(window: Window, oldest_ms: int, newest_ms: int) -> None:
    """By hand, for there are many of them; their types are known."""
    level_s, start_ms, energy_j = window.level_s, window.start_ms, window.energy_j
    if level_s not in LEVELS_S or start_ms % (level_s * MS_PER_S):
        raise Refused(f"a window of {level_s} s from {start_ms} ms on is of no level")
    if not oldest_ms - MS_PER_HOUR <= start_ms <= newest_ms:
        raise Refused(f"a window from {start_ms} ms on is too old or in the future")
    if not 0 <= window.energy_s <= level_s * 1.001 or not 0 <= window.sampled_s <= level_s * 1.001:
        raise Refused(f"a window of {level_s} s covers {window.energy_s:g} s")
    if energy_j is not None and not 0 <= energy_j <= _MAX_POWER_W * level_s:
        raise Refused(f"a window of {level_s} s has {energy_j:g} J")
    power_w = window.power_min_w, window.power_max_w
    readings = (*power_w, window.util_pct, window.temperature_max_c, window.sm_clock_mhz)
    if any(value is not None and abs(value) > _MAX_POWER_W for value in readings):
        raise Refused(f"a window has a reading that is out of range: {readings}")
    counts = (window.samples, window.vitals, window.memory_max_bytes or 0, window.throttle)
    if not all(0 <= count <= most for count, most in zip(counts, _MAX_COUNTS, strict=True)):
        raise Refused(f"a window has a count that is out of range: {counts}")


def _check_segment(segment: Segment, oldest_ms: int, newest_ms: int) -> None:
    """What its type does not say: its values are known to be in range."""
    start_ms, at, *arrays = values_of(segment)
    if start_ms % _MINUTE_MS:
        raise Refused(f"seconds from {start_ms} ms on begin with no minute")
    if not oldest_ms - MS_PER_HOUR <= start_ms <= newest_ms:
        raise Refused(f"seconds from {start_ms} ms on are too old or in the future")
    if at is not None and sorted(set(at)) != at:
        raise Refused(f"the seconds of a minute are not in order: {at}")
    lengths = {1, SECONDS if at is None else len(at)}
    if any(array is not None and len(array) not in lengths for array in arrays):
        raise Refused(f"the arrays of a minute are not of one length: {start_ms} ms")


def _check_row(what: str, table: Table[Any], row: Any, oldest_ms: int, newest_ms: int) -> None:
    largest = LARGEST[table.name]
    for name in type(row).__dataclass_fields__:
        value = getattr(row, name)
        kind = type(value)
        if kind is float or kind is bool or value is None:
            continue
        if kind is str or isinstance(value, str):
            if len(value) > _MAX_TEXT_CHARS:
                most = f"{_MAX_TEXT_CHARS:,} characters"
                raise Refused(f"the {name} of a {what} is longer than {most}")
            if "\0" in value:
                raise Refused(f"the {name} of a {what} has a character that no ledger holds")
            if name in _IDS and not is_uuid(value):
                raise Refused(f"the {name} of a {what} is no UUID")
        elif kind is int:
            if name in _TIMES and not oldest_ms <= value <= newest_ms:
                raise Refused(f"the {name} of a {what}, {value}, is too old or in the future")
            if abs(value) > largest.get(name, INT64):
                raise Refused(f"the {name} of a {what} is out of range: {value}")
        elif value and isinstance(value, (Mapping, Sequence)):
            _check_json(f"the {name} of a {what}", value)


_IDS = ("id", "run_id")
_TIMES = frozenset({"started_ms", "ended_ms", "heartbeat_ms", "time_ms", "start_ms"})


def _check_json(what: str, value: Any) -> None:
    if _depth(value) > _MAX_DEPTH:
        raise Refused(f"{what} is nested more than {_MAX_DEPTH} deep")
    if len(msgspec.json.encode(value)) > _MAX_JSON_BYTES:
        raise Refused(f"{what} is larger than {_MAX_JSON_BYTES >> 10} KiB")


def _depth(value: Any) -> int:
    """How deep it is nested, as far as it matters."""
    depth, level = 0, [value]
    while level and depth <= _MAX_DEPTH:
        depth += 1
        inner = [one for one in level if isinstance(one, (Mapping, list, tuple))]
        level = [
            item for one in inner for item in (one.values() if isinstance(one, Mapping) else one)
        ]
    return depth


def _shown(message: str) -> str:
    """A reason as it may stand in an answer: one line, and not what was sent."""
    return message.splitlines()[0][:200]

"""Which recordings of runs have a clock that was off, as the ledger knows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, case, func, literal, select

from carbontrack.ledger import models, tables
from carbontrack.ledger.clock import NOTED_MS
from carbontrack.ledger.recorded_rows import Shifts
from carbontrack.ledger.rows import ClockOffset
from carbontrack.ledger.sql import in_parts
from carbontrack.ledger.true_time import pieces_of, shift_at, shifts_of
from carbontrack.ledger.window import FIRST_MS
from carbontrack.vocabulary import EventKind

_KEYS_IN_A_QUERY = 500  # more of them, and all clocks that were off are read


def clocks_of(connection: Connection, run_keys: Collection[int]) -> dict[int, dict[int, Shifts]]:
    """By the key of the run and that of the recording: what is to be added to its times. Nearly all
    runs have no such recording.
    """
    clock, recording = models.ClockOffset, models.Recording
    off = select(recording.run_key).select_from(clock).where(_is_off()).distinct()
    off = off.join(recording, recording.key == clock.recording_key)
    if len(run_keys) <= _KEYS_IN_A_QUERY:
        off = off.where(recording.run_key.in_(run_keys))
    found: dict[int, dict[int, Shifts]] = {}
    for some in in_parts(connection.scalars(off).all()):
        for run_key, shifts in _shifts_of(connection, some).items():
            if any(shifts.values()):
                found[run_key] = {key: of for key, of in shifts.items() if of}
    return found


def _shifts_of(connection: Connection, run_keys: Sequence[int]) -> dict[int, dict[int, Shifts]]:
    """By the key of the run and that of the recording, of all recordings of these runs."""
    one = models.Recording
    query = select(one.run_key, one.key, one.host, one.boot_id, one.started_ms)
    query = query.where(one.run_key.in_(run_keys)).order_by(one.started_ms, one.key)
    recordings = connection.execute(query).all()
    keys = [row.key for row in recordings]
    offsets, sets_ms = _offsets_of(connection, keys), _sets_of(connection, keys)
    shifts = {key: shifts_of(of, sets_ms[key]) for key, of in offsets.items() if of}
    of_node: dict[tuple[int, str, str | None], list[Any]] = defaultdict(list)
    for row in recordings:
        of_node[row.run_key, row.host, row.boot_id].append(row)
    found: dict[int, dict[int, Shifts]] = {key: {} for key in run_keys}
    for (run_key, *_), rows in of_node.items():
        known = [row for row in rows if row.key in shifts]
        for row in rows:
            found[run_key][row.key] = shifts.get(row.key, ()) or _as_beside(row, known, shifts)
    return found


def _as_beside(row: Any, known: Sequence[Any], shifts: Mapping[int, Shifts]) -> Shifts:
    """What is added to the times of a recording that was too short to know its clock: as to those
    of the nearest one on its node.
    """
    if row in known or not known:
        return ()
    nearest = min(known, key=lambda one: abs(one.started_ms - row.started_ms))
    shift_ms = shift_at(shifts[nearest.key], row.started_ms)
    return ((FIRST_MS, shift_ms),) if shift_ms else ()


def _offsets_of(connection: Connection, keys: Sequence[int]) -> dict[int, list[ClockOffset]]:
    clock = models.ClockOffset
    found: dict[int, list[ClockOffset]] = {key: [] for key in keys}
    for some in in_parts(keys):
        query = select(clock.__table__).where(clock.recording_key.in_(some))
        for row in connection.execute(query).mappings():
            found[row["recording_key"]].append(tables.CLOCKS.read(row))
    return found


def _sets_of(connection: Connection, keys: Sequence[int]) -> dict[int, list[int]]:
    """By the key of the recording: how far the clock of its node had been set each time, since the
    recording began.
    """
    event = models.Event
    query = select(event.recording_key, event.data).where(event.kind == EventKind.CLOCK_SET)
    found: dict[int, list[int]] = {key: [] for key in keys}
    for some in in_parts(keys):
        for key, data in connection.execute(query.where(event.recording_key.in_(some))):
            if isinstance(set_ms := data.get("set_ms"), int):
                found[key].append(set_ms)
    return found


def last_set_ms(connection: Connection, recording_key: int) -> int:
    """How far the clock of its node has been set since a recording began, as it knows."""
    event = models.Event
    query = select(event.data).where(event.kind == EventKind.CLOCK_SET)
    query = query.where(event.recording_key == recording_key).order_by(event.number.desc())
    data = connection.scalars(query.limit(1)).first() or {}
    set_ms = data.get("set_ms")
    return set_ms if isinstance(set_ms, int) else 0


def farthest_ms(connection: Connection) -> int:
    """By how much the times of a run may have to be corrected, in ms; 0 where no clock was off."""
    offset_ms = func.abs(models.ClockOffset.offset_ms)
    found = connection.scalar(select(func.max(offset_ms)).where(_is_off()))
    return 0 if found is None else int(found) + NOTED_MS


def _is_off() -> ColumnElement[bool]:
    found: ColumnElement[bool] = func.abs(models.ClockOffset.offset_ms) > NOTED_MS
    return found


def true_ms(
    time_ms: ColumnElement[int], recording_key: ColumnElement[int], clocks: Mapping[int, Shifts]
) -> ColumnElement[Any]:
    """The true time of a column of times, each by the clock of a recording."""
    shifts = [
        (and_(recording_key == key, time_ms < piece.to_ms), literal(piece.shift_ms, BigInteger()))
        for key, of_recording in clocks.items()
        for piece in pieces_of(of_recording)
    ]
    return time_ms + case(*shifts, else_=0)

"""Which recordings of runs have a clock that was off, as the ledger knows it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, case, func, literal, select

from carbontrack.ledger import models, tables
from carbontrack.ledger.clock import NOTED_MS
from carbontrack.ledger.rows import ClockOffset, Shifts
from carbontrack.ledger.sql import in_parts
from carbontrack.ledger.true_time import pieces_of, shifts_of
from carbontrack.vocabulary import EventKind

_KEYS_IN_A_QUERY = 500  # more of them, and all clocks that were off are read


def clocks_of(connection: Connection, run_keys: Collection[int]) -> dict[int, dict[int, Shifts]]:
    """By the key of the run and that of the recording: what is to be added to its times. Nearly all
    runs have no such recording.
    """
    clock, recording = models.ClockOffset, models.Recording
    off = select(recording.key, recording.run_key).select_from(clock)
    off = off.join(recording, recording.key == clock.recording_key).where(_is_off()).distinct()
    if len(run_keys) <= _KEYS_IN_A_QUERY:
        off = off.where(recording.run_key.in_(run_keys))
    run_of = {row.key: row.run_key for row in connection.execute(off)}
    offsets: dict[int, list[ClockOffset]] = {key: [] for key in run_of}
    for keys in in_parts(sorted(run_of)):
        query = select(clock.__table__).where(clock.recording_key.in_(keys))
        for row in connection.execute(query).mappings():
            offsets[row["recording_key"]].append(tables.CLOCKS.read(row))
    sets_ms = _sets_of(connection, sorted(run_of))
    found: dict[int, dict[int, Shifts]] = {}
    for key, of_recording in offsets.items():
        if shifts := shifts_of(of_recording, sets_ms[key]):
            found.setdefault(run_of[key], {})[key] = shifts
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

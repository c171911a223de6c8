"""Whether a ledger is sound: its levels agree, its keys resolve, its values can be."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, text

from carbontrack.ids import short_id
from carbontrack.ledger.damage import first_damage
from carbontrack.ledger.models import Base
from carbontrack.ledger.recorded_rows import end_of
from carbontrack.ledger.remove import LEFT
from carbontrack.ledger.settle import TOLERANCE_J, TOLERANCE_S
from carbontrack.ledger.source import open_source
from carbontrack.ledger.tables import WINDOWS
from carbontrack.ledger.url import db_option, sqlite_path
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_S

_TOLERANCES = {
    "energy_j": TOLERANCE_J,
    "energy_s": TOLERANCE_S,
    "sampled_s": TOLERANCE_S,
    "samples": 0.0,
}
_MS_OF = {level_s: level_s * MS_PER_S for level_s in LEVELS_S}
_SECOND, _MINUTE, _HOUR = LEVELS_S
_EDGE_S = 2.0  # a recording begins and ends within a second


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a ledger, and where."""

    where: str  # a table, or a run with its host, device and time
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def verify(
    url: str, *, progress: Callable[[str, int, int], None] = lambda name, done, total: None
) -> list[Problem]:
    """What is wrong with the ledger at a URL of `ledger_url`; `progress` hears its name, how many
    recordings are done and how many there are.

    Raises CarbontrackError if it cannot be read or is of another schema.
    """
    path = sqlite_path(url)
    with open_source(url) as source:
        if path is not None and (damage := _damage(str(path))):
            return damage  # the other questions would break on it
        connection = source.connection
        problems = [*_keys(connection), *_removed(connection, url), *_rolled(connection)]
        recordings = source.connection.execute(text(_RECORDINGS)).mappings().all()
        for number, recording in enumerate(recordings):
            problems += _of_recording(source.connection, recording)
            progress(source.name, number + 1, len(recordings))
    return problems


def _damage(path: str) -> list[Problem]:
    """What SQLite itself says, and the first value that a column cannot have."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        said = [line for (line,) in connection.execute("pragma integrity_check") if line != "ok"]
        found = None if said else first_damage(connection)
    problems = [Problem("the file", line) for line in said]
    return problems + ([Problem(found, "a value that it cannot have")] if found else [])


def _keys(connection: Connection) -> Iterator[Problem]:
    """Rows that refer to rows that are not there."""
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            if table.name != WINDOWS.name:
                column, other = f'"{key.parent.name}"', key.column
                lost = connection.scalar(
                    text(
                        f'select count(*) from "{table.name}" where {column} is not null and '
                        f'{column} not in (select "{other.name}" from "{other.table.name}")'
                    )
                )
                if lost:
                    where = f"{table.name}.{key.parent.name}"
                    yield Problem(where, f"{lost:,} refer to no row of {other.table.name}")
    for row in connection.execute(text(_LOST_WINDOWS)):
        where = f"windows of recording {row.recording_key}, sensor {row.sensor_key}"
        yield Problem(where, f"{row.lost:,} refer to no sensor of that recording")


def _rolled(connection: Connection) -> Iterator[Problem]:
    """A server's sums of hours, and of days, that are not those of its hours."""
    if connection.dialect.name != "postgresql":
        return
    for view, query in _ROLLED.items():
        for row in connection.execute(text(query)).mappings():
            time = datetime.fromtimestamp(row["start_ms"] / MS_PER_S, UTC)
            if unlike := _unlike({name: row[f"own_{name}"] for name in _TOLERANCES}, row):
                where = f"{view} of run {short_id(row['id'])}, {time.isoformat(timespec='seconds')}"
                yield Problem(where, unlike)
    for row in connection.execute(text(_RECORDED_DEVICES)).mappings():
        where = f"recorded_devices of recording {row['recording_key']}, {row['kind']}"
        yield Problem(where, "are not the devices of its sensors")


def _removed(connection: Connection, url: str) -> Iterator[Problem]:
    ends = f"carbontrack db recover{db_option(url)}"
    for run_id in connection.scalars(text(LEFT)):
        yield Problem(f"run {run_id}", f"was removed, and not to the end: see {ends}")


def _of_recording(connection: Connection, recording: Mapping[Any, Any]) -> Iterator[Problem]:
    """What is wrong with its windows."""
    key = {"key": recording["key"]}
    sensors = connection.execute(text(_SENSORS), key).all()
    devices = {sensor: f"{recording['host']} {uuid}" for sensor, uuid in sensors}
    run = f"run {short_id(recording['run_id'])}"

    def where(sensor: int, start_ms: int) -> str:
        time = datetime.fromtimestamp(start_ms / MS_PER_S, UTC).isoformat(timespec="seconds")
        return f"{run}, {devices.get(sensor, f'sensor {sensor}')}, {time}"

    for row in connection.execute(text(_ODD_WINDOWS), key).mappings():
        yield Problem(where(row["sensor_key"], row["start_ms"]), _odd(row))
    length_s = (
        end_of(recording["started_ms"], recording["ended_ms"], recording["heartbeat_ms"])
        - recording["started_ms"]
    ) / MS_PER_S
    rows = connection.execute(text(_SUMS), key).mappings()
    for sensor, of_sensor in groupby(rows, lambda row: int(row["sensor_key"])):
        watched_s = 0.0
        for hour_ms, of_hour in groupby(of_sensor, lambda row: int(row["hour_ms"])):
            parts = list(of_hour)
            watched_s += sum(row["sampled_s"] for row in parts if row["level"] == _HOUR)
            for start_ms, what in _differences(hour_ms, parts):
                yield Problem(where(sensor, start_ms), what)
        if watched_s > length_s + _EDGE_S:
            what = f"{watched_s:,.1f} s are covered of the {length_s:,.1f} s that were recorded"
            yield Problem(where(sensor, recording["started_ms"]), what)


def _odd(row: Mapping[Any, Any]) -> str:
    level = row["level"]
    if level not in LEVELS_S:
        return f"a window of {level} s"
    if row["start_ms"] % _MS_OF[level]:
        return f"a window of {level} s that does not begin at a multiple of {level} s"
    covered = f"energy_s {row['energy_s']:g}, sampled_s {row['sampled_s']:g}"
    return f"a window of {level} s covers less than 0 s or more than {level} s: {covered}"


def _differences(hour_ms: int, rows: Sequence[Mapping[Any, Any]]) -> Iterator[tuple[int, str]]:
    """The levels of an hour that do not add up to the next longer one, by the start of that.

    `rows` are sums: of seconds and of minutes by minute, of the hour. A level may be missing: it
    was dropped, or never there.
    """
    by_level: dict[int, dict[int, Mapping[Any, Any]]] = {level_s: {} for level_s in LEVELS_S}
    for row in rows:
        if row["level"] in by_level:
            by_level[row["level"]][row["start_ms"]] = row
    hour = by_level[_HOUR].get(hour_ms)
    if hour is None:
        yield hour_ms, "shorter windows without the hour that they add up to"
        return
    seconds, minutes = by_level[_SECOND], by_level[_MINUTE]
    if seconds and minutes:
        for start_ms in sorted({*seconds, *minutes}):
            found = _unlike(seconds.get(start_ms), minutes.get(start_ms))
            if found:
                yield start_ms, f"the seconds of this minute have {found}"
    finest = seconds or minutes
    if finest:
        whole = {name: sum(row[name] or 0 for row in finest.values()) for name in _TOLERANCES}
        if found := _unlike(whole, hour):
            level = "seconds" if seconds else "minutes"
            yield hour_ms, f"the {level} of this hour have {found}"


def _unlike(fine: Mapping[Any, Any] | None, coarse: Mapping[Any, Any] | None) -> str:
    """The first sum that differs, as text; empty if none does."""
    for name, tolerance in _TOLERANCES.items():
        values = [row[name] or 0 if row is not None else 0 for row in (fine, coarse)]
        if abs(values[0] - values[1]) > tolerance:
            return f"{name} {values[0]:.3f}, not {values[1]:.3f}"
    return ""


_RECORDINGS = (
    "select recordings.key, recordings.host, recordings.started_ms, recordings.ended_ms, "
    "recordings.heartbeat_ms, runs.id as run_id from recordings "
    "join runs on runs.key = recordings.run_key order by runs.started_ms, recordings.key"
)
_SENSORS = (
    "select sensors.key, devices.uuid from sensors "
    "join devices on devices.key = sensors.device_key where sensors.recording_key = :key"
)
_LOST_WINDOWS = (
    "select windows.recording_key, windows.sensor_key, count(*) as lost from windows "
    "left join sensors on sensors.key = windows.sensor_key "
    "and sensors.recording_key = windows.recording_key where sensors.key is null "
    "group by windows.recording_key, windows.sensor_key"
)
_ODD_WINDOWS = (
    "select level, start_ms, sensor_key, energy_s, sampled_s from windows "
    "where recording_key = :key and ("
    f"level not in ({', '.join(map(str, LEVELS_S))}) "
    f"or start_ms - start_ms / (level * {MS_PER_S}) * (level * {MS_PER_S}) <> 0 "
    f"or energy_s < -{_TOLERANCES['energy_s']} or sampled_s < -{_TOLERANCES['sampled_s']} "
    f"or energy_s > level + {_TOLERANCES['energy_s']} "
    f"or sampled_s > level + {_TOLERANCES['sampled_s']})"
)


def _rolled_as(rolled: str, own: str) -> str:
    """Sums of each run, time and kind beside what they should be."""
    columns = ", ".join(f"k.{name}, own.{name} as own_{name}" for name in _TOLERANCES)
    return (
        f"select runs.id, start_ms, {columns} from ({rolled}) k "
        f"full join ({own}) own using (run_key, start_ms, kind, restart) "
        "join runs on runs.key = run_key order by 1, 2"
    )


_SUMMED = ", ".join(f"sum({name}) as {name}" for name in _TOLERANCES)
_ENERGY_ALONE = (
    "run_key, start_ms, kind, 0 as restart, energy_j, 0 as energy_s, 0 as sampled_s, 0 as samples"
)
_DAY = f"start_ms - (start_ms % {MS_PER_DAY} + {MS_PER_DAY}) % {MS_PER_DAY}"
_ROLLED = {
    "run_hours": _rolled_as(
        "select * from run_hours",
        f"select run_key, hours.start_ms, kind, restart, {_SUMMED} "
        "from hours join recordings on recordings.key = hours.recording_key "
        "join sensors on sensors.key = hours.sensor_key "
        "join devices on devices.key = sensors.device_key group by 1, 2, 3, 4",
    ),
    "run_days": _rolled_as(
        "select *, 0 as restart from run_days",
        f"select run_key, {_DAY} as start_ms, kind, 0 as restart, {_SUMMED} "
        "from run_hours group by 1, 2, 3",
    ),
    "hourly_j in run_days": _rolled_as(
        f"select {_ENERGY_ALONE} from (select run_key, kind, of_hour_j as energy_j, "
        f"start_ms + (number - 1) * {MS_PER_HOUR} as start_ms from run_days "
        "cross join lateral unnest(hourly_j) with ordinality as u(of_hour_j, number)) of_day",
        f"select {_ENERGY_ALONE} from (select run_key, kind, sum(energy_j) as energy_j, start_ms "
        "from run_hours group by run_key, kind, start_ms) of_hour",
    ),
}
_RECORDED_DEVICES = """
select recording_key, kind from recorded_devices full join (
    select sensors.recording_key, devices.kind,
        array_agg(sensors.device_key order by sensors.device_key) as device_keys
    from sensors join devices on devices.key = sensors.device_key group by 1, 2
) own using (recording_key, kind)
where recorded_devices.device_keys is distinct from own.device_keys order by 1, 2"""


def _floor(level_s: int) -> str:
    return f"start_ms / {_MS_OF[level_s]} * {_MS_OF[level_s]}"


_SUMS = (
    f"select sensor_key, {_floor(_HOUR)} as hour_ms, level, {_floor(_MINUTE)} as start_ms, "
    f"{', '.join(f'sum({name}) as {name}' for name in _TOLERANCES)} from windows "
    "where recording_key = :key "
    f"group by sensor_key, {_floor(_HOUR)}, level, {_floor(_MINUTE)} order by 1, 2, 3, 4"
)

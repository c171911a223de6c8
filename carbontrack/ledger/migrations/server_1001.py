"""How PostgreSQL keeps windows, as of revision 1001: seconds packed by the minute, in partitions by
day, minutes by month, hours, and a view `windows` with the columns that the table has in SQLite.

A row of `seconds` is a device-minute. Its arrays have a value for each second that there is, or a
single one where all are the same; NULL where none is known. `at` says which seconds of the minute
they are, NULL all 60 of them. A second whose values are no such integers is in `odd_seconds`.
"""

from __future__ import annotations

from collections.abc import Iterator

from carbontrack.ledger.migrations import server_run_hours

_EVERY = f"'{{{','.join(map(str, range(60)))}}}'::smallint[]"

# Of a second: the column of the view, its type, the array that has it, and how many of that are one
# of the view's.
_PACKED = (
    ("energy_j", "energy_mj", "integer", 1000),
    ("energy_s", "energy_ms", "smallint", 1000),
    ("sampled_s", "sampled_ms", "smallint", 1000),
    ("samples", "samples", "smallint", None),
    ("power_min_w", "power_min_mw", "integer", 1000),
    ("power_max_w", "power_max_mw", "integer", 1000),
    ("vitals", "vitals", "smallint", None),
    ("util_pct", "util_cpct", "smallint", 100),
    ("memory_max_bytes", "memory_max_kib", "integer", -1024),
    ("temperature_max_c", "temperature_max_c", "smallint", 1),
    ("sm_clock_mhz", "sm_clock_mhz", "smallint", 1),
    ("throttle", "throttle", "smallint", -1),
    ("flags", "flags", "smallint", None),
)
_PLAIN = """(
    start_ms bigint not null,
    energy_j double precision,
    energy_s double precision not null,
    sampled_s double precision not null,
    power_min_w double precision,
    power_max_w double precision,
    util_pct double precision,
    memory_max_bytes bigint,
    temperature_max_c double precision,
    sm_clock_mhz double precision,
    throttle bigint not null,
    recording_key integer not null,
    sensor_key integer not null,
    samples integer not null,
    vitals integer not null,
    flags integer not null,
    primary key (recording_key, start_ms, sensor_key)
)"""
_COLUMNS = """
    recording_key integer, level integer, start_ms bigint, sensor_key integer,
    energy_j double precision, energy_s double precision, sampled_s double precision,
    samples integer, power_mean_w double precision, power_min_w double precision,
    power_max_w double precision, vitals integer, util_pct double precision,
    memory_max_bytes bigint, temperature_max_c double precision, sm_clock_mhz double precision,
    throttle bigint, flags integer"""


def statements(schema: str) -> Iterator[str]:
    """What makes them in a schema, one after the other."""
    arrays = ",\n    ".join(f"{array} {kind}[]" for _, array, kind, _ in _PACKED)
    yield (
        "create table seconds (\n    start_ms bigint not null,\n"
        "    recording_key integer not null,\n    sensor_key integer not null,\n"
        f"    at smallint[],\n    {arrays},\n"
        "    primary key (recording_key, start_ms, sensor_key)\n) partition by range (start_ms)"
    )
    yield f"create table odd_seconds {_PLAIN}"
    yield f"create table minutes {_PLAIN} partition by range (start_ms)"
    yield f"create table hours {_PLAIN}"
    yield "create index ix_odd_seconds_start_ms on odd_seconds using brin (start_ms)"
    yield "create index ix_minutes_start_ms on minutes using brin (start_ms)"
    yield "create index ix_hours_start_ms on hours using brin (start_ms)"
    yield _WINDOWS_BETWEEN
    yield f"create view windows as {_every_window()}"
    yield _FIRST_WINDOW
    of_owner = as_owner(schema)
    yield _MAKE_PARTITIONS.format(of_owner=of_owner)
    yield _DROP_PARTITION.format(of_owner=of_owner)
    yield _FORGET_RECORDINGS.format(of_owner=of_owner)
    yield from server_run_hours.statements(of_owner)
    yield _OF_WRITERS
    yield (
        "create trigger forget_windows after delete on recordings referencing old table as gone "
        "for each statement execute function forget_windows()"
    )


def as_owner(schema: str) -> str:
    """What makes a function in a schema run as its owner."""
    doubled = schema.replace('"', '""')
    return f'security definer set search_path = "{doubled}", pg_temp'


def _packed() -> Iterator[str]:
    for name, array, _, by in _PACKED:
        value = f"(case when cardinality(s.{array}) = 1 then s.{array}[1] else u.{array} end)"
        if by is None:
            yield f"{value}::integer as {name}"
        elif by < 0:
            yield f"({value}::bigint * {-by}) as {name}"
        else:
            yield f"({value}::double precision / {by}) as {name}"


def _seconds(minutes: str, seconds: str) -> str:
    arrays = [array for _, array, _, _ in _PACKED]
    of_segment = ", ".join(f"s.{array}" for array in arrays)
    start_ms = "s.start_ms + u.at * 1000::bigint as start_ms"
    return (
        "select s.recording_key, 1 as level, s.start_ms, s.sensor_key, s.energy_j, s.energy_s, "
        "s.sampled_s, s.samples, s.energy_j / nullif(s.energy_s, 0) as power_mean_w, "
        "s.power_min_w, s.power_max_w, s.vitals, s.util_pct, s.memory_max_bytes, "
        "s.temperature_max_c, s.sm_clock_mhz, s.throttle, s.flags "
        f"from (select s.recording_key, s.sensor_key, {start_ms}, {', '.join(_packed())} "
        f"from seconds s cross join lateral unnest(coalesce(s.at, {_EVERY}), {of_segment}) "
        f"as u(at, {', '.join(arrays)})"
        f"{minutes}) s{seconds}"
    )


def _rows(table: str, level_s: int, where: str) -> str:
    return (
        f"select s.recording_key, {level_s} as level, s.start_ms, s.sensor_key, s.energy_j, "
        "s.energy_s, s.sampled_s, s.samples, s.energy_j / nullif(s.energy_s, 0) as power_mean_w, "
        "s.power_min_w, s.power_max_w, s.vitals, s.util_pct, s.memory_max_bytes, "
        f"s.temperature_max_c, s.sm_clock_mhz, s.throttle, s.flags from {table} s{where}"
    )


def _every_window() -> str:
    parts = [_seconds("", "")]
    return _UNION.join(parts + [_rows(table, level_s, "") for table, level_s in _LEVELS])


def _windows_between() -> str:
    """Those of level $1 that begin from $2 on, and before $3."""
    inside = " where s.start_ms >= $2 and s.start_ms < $3 and $1 = "
    touched = " where s.start_ms > $2 - 60000 and s.start_ms < $3"
    parts = [_seconds(touched, f"{inside}1")]
    return _UNION.join(
        parts + [_rows(table, level_s, f"{inside}{level_s}") for table, level_s in _LEVELS]
    )


_UNION = "\nunion all\n"
_LEVELS = (("odd_seconds", 1), ("minutes", 60), ("hours", 3600))

# In SQL, so that it is planned as a part of the query that asks.
_WINDOWS_BETWEEN = f"""create function windows_between(integer, bigint, bigint)
returns table ({_COLUMNS}) language sql stable parallel safe as $$
{_windows_between()}
$$"""


def _first_of(table: str, level_s: int) -> str:
    return (
        f"(select s.start_ms from {table} s where $2 = {level_s} and s.recording_key = $1 "
        "and s.start_ms >= $3 and s.start_ms < $4 order by s.start_ms limit 1)"
    )


# When the first of a recording's windows begins, of those of a level between two times; of seconds
# the start of their minute, or the first of these times.
_FIRST_WINDOW = f"""create function first_window(integer, integer, bigint, bigint)
returns bigint language sql stable parallel safe as $$
select min(first.start_ms) from (
(select greatest(s.start_ms, $3) as start_ms from seconds s where $2 = 1 and s.recording_key = $1
and s.start_ms > $3 - 60000 and s.start_ms < $4 order by s.start_ms limit 1)
union all
{_UNION.join(_first_of(*one) for one in _LEVELS)}) first
$$"""

# As their owner, so that a collector needs no right to change the schema. The lock that a writer
# needs anyway is taken first: no partition is dropped between this and what is written.
_MAKE_PARTITIONS = """create function make_partitions(wanted text, starts_ms bigint[])
returns void language plpgsql {of_owner} as $$
declare
    first_ms bigint;
    name text;
    begins timestamp;
    step interval := case wanted when 'seconds' then interval '1 day' else interval '1 month' end;
begin
    if wanted not in ('seconds', 'minutes') then
        raise check_violation using message = 'there are no partitions of ' || wanted;
    end if;
    execute format('lock table only %I in row exclusive mode', wanted);
    for begins in
        select distinct date_trunc(case wanted when 'seconds' then 'day' else 'month' end,
            to_timestamp(start_ms / 1000.0) at time zone 'UTC') from unnest(starts_ms) start_ms
    loop
        name := wanted || to_char(begins,
            case wanted when 'seconds' then '_YYYYMMDD' else '_YYYYMM' end);
        continue when to_regclass(quote_ident(name)) is not null;
        perform pg_advisory_xact_lock(hashtext('carbontrack ' || wanted));
        continue when to_regclass(quote_ident(name)) is not null;
        if begins > (now() + interval '1 hour') at time zone 'UTC' then
            raise check_violation using message = name || ' would be of the future';
        end if;
        first_ms := extract(epoch from begins at time zone 'UTC') * 1000;
        execute format('create table %I (like %I including all)', name, wanted);
        execute format('alter table %I attach partition %I for values from (%s) to (%s)',
            wanted, name, first_ms,
            (extract(epoch from (begins + step) at time zone 'UTC') * 1000)::bigint);
    end loop;
end $$"""

# As their owner, as above. A lock that does not come at once is given up, for all who write would
# queue behind it; and none goes that is younger than a day, whoever asks.
_DROP_PARTITION = """create function drop_partition(name text)
returns void language plpgsql {of_owner} set lock_timeout = '200ms' as $$
declare
    wanted text := split_part(name, '_', 1);
    ends timestamp := case wanted
        when 'seconds' then to_date(split_part(name, '_', 2), 'YYYYMMDD') + interval '1 day'
        when 'minutes' then to_date(split_part(name, '_', 2), 'YYYYMM') + interval '1 month' end;
begin
    if name !~ '^(seconds_[0-9]{{8}}|minutes_[0-9]{{6}})$' then
        raise check_violation using message = name || ' is no partition';
    end if;
    if ends > (now() - interval '1 day') at time zone 'UTC' then
        raise check_violation using message = name || ' is too young to be dropped';
    end if;
    execute format('drop table if exists %I', name);  -- another collector may have been faster
end $$"""

# A foreign key would have each row look for its recording when it is written.
_FORGET_RECORDINGS = """create function forget_windows() returns trigger
language plpgsql {of_owner} as $$
begin
    insert into stale_hours (run_key, start_ms, recording_key)
    select h.run_key, h.start_ms, h.recording_key from (
        select distinct g.run_key, hours.start_ms, g.key as recording_key
        from hours join gone g on g.key = hours.recording_key
        join runs on runs.key = g.run_key) h
    on conflict do nothing;
    delete from seconds where recording_key in (select key from gone);
    delete from odd_seconds where recording_key in (select key from gone);
    delete from minutes where recording_key in (select key from gone);
    delete from hours where recording_key in (select key from gone);
    return null;
end $$"""

# What runs as the owner is not for everybody: roles are granted it.
_OF_WRITERS = (
    "revoke all on function make_partitions(text, bigint[]), drop_partition(text), "
    "forget_windows(), mark_hours(), note_devices(), roll_hours(bigint, integer) from public"
)

"""How PostgreSQL adds up the hours of a run's devices, as of revision 1002: the views `run_hours`
and `run_days`.

`rolled_hours` has a row per run, hour, kind of device and restart of the scheduler, so that what
several attempts used in one hour is known of each; see `server_run_hours` for the marks that keep
it exact. `rolled_days` has the sums of these by day (UTC), and the energy of each hour of the day
in one array: a month of a run is thirty rows. Where an hour is marked, so is its day: it is added
up again of its hours, of which those that are marked are added up again of their devices.
"""

from __future__ import annotations

from collections.abc import Iterator

_USED = 512  # the flag
_HOUR_MS, _HOURS = 3_600_000, 24
_DAY_MS = _HOURS * _HOUR_MS
_COLUMNS = (
    "run_key, start_ms, kind, energy_j, energy_s, sampled_s, samples, peak_w, sensors, used, "
    "flags, restart"
)
_SUMS = (
    "r.run_key, h.start_ms, d.kind, sum(h.energy_j) as energy_j, sum(h.energy_s) as energy_s, "
    "sum(h.sampled_s) as sampled_s, sum(h.samples)::bigint as samples, "
    "max(h.energy_j / nullif(h.energy_s, 0)) as peak_w, count(*)::integer as sensors, "
    f"(count(*) filter (where h.flags & {_USED} <> 0))::integer as used, "
    "bit_or(h.flags) as flags, r.restart"
)
_OF_DEVICES = (
    "join sensors s on s.key = h.sensor_key join devices d on d.key = s.device_key "
    "group by r.run_key, h.start_ms, d.kind, r.restart"
)

_IS_UNMARKED = """not exists (
    select 1 from stale_hours s where s.run_key = k.run_key and s.start_ms = k.start_ms)"""
_MARKED = f"""select {_SUMS} from (select distinct s.run_key, s.start_ms from stale_hours s) t
join recordings r on r.run_key = t.run_key
join hours h on h.recording_key = r.key and h.start_ms = t.start_ms {_OF_DEVICES}"""


def _in_day(time: str) -> str:
    """The ms of a time since its day began, before 1970 too."""
    return f"(({time} % {_DAY_MS} + {_DAY_MS}) % {_DAY_MS})"


def _day(time: str) -> str:
    return f"({time} - {_in_day(time)})"


_DAY_COLUMNS = (
    "run_key, start_ms, kind, energy_j, energy_s, sampled_s, samples, peak_w, used, flags, hourly_j"
)
_HOURLY = ", ".join(
    f"sum(k.energy_j) filter (where {_in_day('k.start_ms')} = {hour * _HOUR_MS})"
    for hour in range(_HOURS)
)
_DAY_SUMS = (
    f"k.run_key, {_day('k.start_ms')} as start_ms, k.kind, sum(k.energy_j) as energy_j, "
    "sum(k.energy_s) as energy_s, sum(k.sampled_s) as sampled_s, sum(k.samples)::bigint as samples,"
    " max(k.peak_w) as peak_w, max(k.used) as used, bit_or(k.flags) as flags, "
    f"array[{_HOURLY}] as hourly_j"
)
_BY_DAY = f"group by k.run_key, {_day('k.start_ms')}, k.kind"
ROLL_ALL = (
    f"insert into rolled_hours ({_COLUMNS}) select {_SUMS} "
    f"from hours h join recordings r on r.key = h.recording_key {_OF_DEVICES} order by 2, 1",
    f"insert into rolled_days ({_DAY_COLUMNS}) select {_DAY_SUMS} from rolled_hours k {_BY_DAY} "
    "order by 2, 1",
)
"""Into empty ones, one after the other."""


def statements(of_owner: str) -> Iterator[str]:
    """What makes them of those of revision 1001, one after the other."""
    yield "truncate rolled_hours"
    yield "alter table rolled_hours drop constraint rolled_hours_pkey"
    yield "alter table rolled_hours add column restart integer not null"
    yield """create table rolled_days (
    start_ms bigint not null,
    energy_j double precision,
    energy_s double precision not null,
    sampled_s double precision not null,
    samples bigint not null,
    peak_w double precision,
    run_key integer not null references runs (key) on delete cascade,
    used integer not null,
    flags integer not null,
    kind text not null,
    hourly_j double precision[] not null,
    primary key (run_key, start_ms, kind)
)"""
    yield from ROLL_ALL
    yield "alter table rolled_hours add primary key (run_key, start_ms, kind, restart)"
    yield f"""create or replace view run_hours as
select {_COLUMNS} from rolled_hours k where {_IS_UNMARKED}
union all
{_MARKED}"""
    yield f"""create view run_days as
select {_DAY_COLUMNS} from rolled_days k where not exists (
    select 1 from stale_hours s
    where s.run_key = k.run_key and {_day("s.start_ms")} = k.start_ms)
union all
select {_DAY_SUMS} from (
    select {_COLUMNS} from rolled_hours k join (
        select distinct s.run_key as of_run_key, {_day("s.start_ms")} as day_ms
        from stale_hours s) t
        on k.run_key = of_run_key and k.start_ms >= day_ms and k.start_ms < day_ms + {_DAY_MS}
    where {_IS_UNMARKED}
    union all
    {_MARKED}) k {_BY_DAY}"""
    yield _ROLL_HOURS.format(of_owner=of_owner)


# As of revision 1001, and then the days of these hours. Of a day that has another mark still, what
# is written here is not read.
_ROLL_HOURS = f"""create or replace function roll_hours(before_ms bigint, most integer)
returns integer language plpgsql {{of_owner}} as $$
declare
    keys integer[];
    starts_ms bigint[];
begin
    if not pg_try_advisory_xact_lock(hashtext('carbontrack roll_hours')) then
        return 0;
    end if;
    with taken as (
        select s.run_key, s.start_ms, s.recording_key from stale_hours s
        where s.start_ms < before_ms order by s.run_key, s.start_ms limit most
        for update skip locked
    ),
    gone as (
        delete from stale_hours s using taken t where s.run_key = t.run_key
            and s.start_ms = t.start_ms and s.recording_key = t.recording_key
        returning s.run_key, s.start_ms
    )
    select array_agg(g.run_key), array_agg(g.start_ms) into keys, starts_ms
    from (select distinct run_key, start_ms from gone) g;
    if keys is null then
        return 0;
    end if;
    delete from rolled_hours k using unnest(keys, starts_ms) as t(run_key, start_ms)
        where k.run_key = t.run_key and k.start_ms = t.start_ms;
    insert into rolled_hours ({_COLUMNS})
    select {_SUMS} from unnest(keys, starts_ms) as t(run_key, start_ms)
    join recordings r on r.run_key = t.run_key
    join hours h on h.recording_key = r.key and h.start_ms = t.start_ms {_OF_DEVICES};
    delete from rolled_days k using unnest(keys, starts_ms) as t(run_key, start_ms)
        where k.run_key = t.run_key and k.start_ms = {_day("t.start_ms")};
    insert into rolled_days ({_DAY_COLUMNS})
    select {_DAY_SUMS} from (
        select distinct t.run_key, {_day("t.start_ms")} as start_ms
        from unnest(keys, starts_ms) as t(run_key, start_ms)) t
    join rolled_hours k on k.run_key = t.run_key and k.start_ms >= t.start_ms
        and k.start_ms < t.start_ms + {_DAY_MS} {_BY_DAY};
    return cardinality(keys);
end $$"""

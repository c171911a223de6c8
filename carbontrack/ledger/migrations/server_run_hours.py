"""How PostgreSQL adds up the hours of a run's devices, as of revision 1001: the view `run_hours`.

A month of a large fleet has millions of hours of a device. `rolled_hours` has their sums by run,
hour and kind of device, and what says whether one of them is odd: the highest mean power of a
device, on how many the driver named a process of the job, and all flags. A trigger marks each hour
that is written, in the same transaction; what is marked the view adds up again, so that it is exact
at any time. `roll_hours` takes the marks away by rolling again. `recorded_devices` has the devices
of a recording, those of a kind together, as its `sensors` are.

A mark has its recording in its key, which the one who writes hours has locked: no writer waits for
another one.
"""

from __future__ import annotations

from collections.abc import Iterator

_USED = 512  # the flag
_COLUMNS = (
    "run_key, start_ms, kind, energy_j, energy_s, sampled_s, samples, peak_w, sensors, used, flags"
)
_SUMS = (
    "r.run_key, h.start_ms, d.kind, sum(h.energy_j) as energy_j, sum(h.energy_s) as energy_s, "
    "sum(h.sampled_s) as sampled_s, sum(h.samples)::bigint as samples, "
    "max(h.energy_j / nullif(h.energy_s, 0)) as peak_w, count(*)::integer as sensors, "
    f"(count(*) filter (where h.flags & {_USED} <> 0))::integer as used, bit_or(h.flags) as flags"
)
_OF_DEVICES = (
    "join sensors s on s.key = h.sensor_key join devices d on d.key = s.device_key "
    "group by r.run_key, h.start_ms, d.kind"
)


def statements(of_owner: str) -> Iterator[str]:
    """What makes them, one after the other, when `hours` is there."""
    yield """create table rolled_hours (
    start_ms bigint not null,
    energy_j double precision,
    energy_s double precision not null,
    sampled_s double precision not null,
    samples bigint not null,
    peak_w double precision,
    run_key integer not null references runs (key) on delete cascade,
    sensors integer not null,
    used integer not null,
    flags integer not null,
    kind text not null,
    primary key (run_key, start_ms, kind)
)"""
    yield """create table stale_hours (
    start_ms bigint not null,
    run_key integer not null references runs (key) on delete cascade,
    recording_key integer not null,
    primary key (run_key, start_ms, recording_key)
)"""
    yield f"""create view run_hours as
select {_COLUMNS} from rolled_hours k where not exists (
    select 1 from stale_hours s where s.run_key = k.run_key and s.start_ms = k.start_ms)
union all
select {_SUMS} from (select distinct s.run_key, s.start_ms from stale_hours s) t
join recordings r on r.run_key = t.run_key
join hours h on h.recording_key = r.key and h.start_ms = t.start_ms {_OF_DEVICES}"""
    yield """create table recorded_devices (
    rated_power_w double precision,
    limit_w double precision,
    share double precision not null,
    recording_key integer not null references recordings (key) on delete cascade,
    kind text not null,
    is_alike boolean not null,
    host text not null,
    name text not null,
    meter text not null,
    quality text not null,
    scope text not null,
    device_keys integer[] not null,
    primary key (recording_key, kind)
)"""
    yield _NOTE_DEVICES.format(of_owner=of_owner)
    for event, rows in _EVENTS:
        yield (
            f"create trigger note_devices_{event} after {event} on sensors referencing {rows} "
            "table as changed for each statement execute function note_devices()"
        )
    yield _MARK_HOURS.format(of_owner=of_owner)
    for event, rows in _EVENTS:
        yield (
            f"create trigger mark_hours_{event} after {event} on hours referencing {rows} table as "
            "changed for each statement execute function mark_hours()"
        )
    yield _ROLL_HOURS.format(
        of_owner=of_owner, columns=_COLUMNS, sums=_SUMS, of_devices=_OF_DEVICES
    )


_EVENTS = (("insert", "new"), ("update", "new"), ("delete", "old"))
_ONE = ("s.host", "d.name", "s.meter", "s.quality", "s.scope", "s.share")
_OR_NONE = "s.rated_power_w"

# What a run's devices have in common is then one row a node, and is never behind: who writes a
# recording's sensors has locked it.
_NOTE_DEVICES = f"""create function note_devices() returns trigger
language plpgsql {{of_owner}} as $$
begin
    delete from recorded_devices where recording_key in (select recording_key from changed);
    insert into recorded_devices (recording_key, kind, is_alike, host, name, meter, quality, scope,
        share, rated_power_w, limit_w, device_keys)
    select s.recording_key, d.kind, {" and ".join(f"min({one}) = max({one})" for one in _ONE)}
            and min({_OR_NONE}) is not distinct from max({_OR_NONE})
            and count({_OR_NONE}) in (0, count(*)),
        {", ".join(f"min({one})" for one in (*_ONE, _OR_NONE))},
        min(nullif(greatest(s.power_limit_w, s.rated_power_w, 0) * s.share, 0)),
        array_agg(s.device_key order by s.device_key)
    from sensors s join devices d on d.key = s.device_key
    join recordings r on r.key = s.recording_key
    where s.recording_key in (select recording_key from changed) group by s.recording_key, d.kind;
    return null;
end $$"""

# The mark is written again where it is there: that locks it, and no roller takes it away meanwhile.
_MARK_HOURS = """create function mark_hours() returns trigger language plpgsql {of_owner} as $$
begin
    insert into stale_hours (run_key, start_ms, recording_key)
    select distinct r.run_key, c.start_ms, c.recording_key
    from changed c join recordings r on r.key = c.recording_key order by 1, 2, 3
    on conflict (run_key, start_ms, recording_key)
    do update set recording_key = excluded.recording_key;
    return null;
end $$"""

# Marks that a writer holds stay, and so what they mark stays stale. Each statement sees what is
# committed by then: all hours whose marks were taken. One at a time: an older view of an hour must
# not be written over a newer one.
_ROLL_HOURS = """create function roll_hours(before_ms bigint, most integer)
returns integer language plpgsql {of_owner} as $$
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
    insert into rolled_hours ({columns})
    select {sums} from unnest(keys, starts_ms) as t(run_key, start_ms)
    join recordings r on r.run_key = t.run_key
    join hours h on h.recording_key = r.key and h.start_ms = t.start_ms {of_devices};
    return cardinality(keys);
end $$"""

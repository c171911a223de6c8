"""How PostgreSQL adds up the hours of a run's devices, as of revision 1001: the view `run_hours`.

A month of a large fleet has millions of hours of a device. `rolled_hours` has their sums by run and
hour. A trigger marks each hour that is written, in the same transaction; what is marked the view
adds up again, so that it is exact at any time. `roll_hours` takes the marks away by rolling again.

A mark has its recording in its key, which the one who writes hours has locked: no writer waits for
another one.
"""

from __future__ import annotations

from collections.abc import Iterator

_SUMS = (
    "sum(h.energy_j) as energy_j, sum(h.energy_s) as energy_s, sum(h.sampled_s) as sampled_s, "
    "sum(h.samples)::bigint as samples, count(*)::integer as sensors"
)


def statements(of_owner: str) -> Iterator[str]:
    """What makes them, one after the other, when `hours` is there."""
    yield """create table rolled_hours (
    start_ms bigint not null,
    energy_j double precision,
    energy_s double precision not null,
    sampled_s double precision not null,
    samples bigint not null,
    run_key integer not null references runs (key) on delete cascade,
    sensors integer not null,
    primary key (run_key, start_ms)
)"""
    yield """create table stale_hours (
    start_ms bigint not null,
    run_key integer not null references runs (key) on delete cascade,
    recording_key integer not null,
    primary key (run_key, start_ms, recording_key)
)"""
    yield f"""create view run_hours as
select k.run_key, k.start_ms, k.energy_j, k.energy_s, k.sampled_s, k.samples, k.sensors
from rolled_hours k where not exists (
    select 1 from stale_hours s where s.run_key = k.run_key and s.start_ms = k.start_ms)
union all
select r.run_key, h.start_ms, {_SUMS}
from (select distinct s.run_key, s.start_ms from stale_hours s) s
join recordings r on r.run_key = s.run_key
join hours h on h.recording_key = r.key and h.start_ms = s.start_ms
group by r.run_key, h.start_ms"""
    yield _MARK_HOURS.format(of_owner=of_owner)
    for event, rows in (("insert", "new"), ("update", "new"), ("delete", "old")):
        yield (
            f"create trigger mark_hours_{event} after {event} on hours referencing {rows} table as "
            "changed for each statement execute function mark_hours()"
        )
    yield _ROLL_HOURS.format(of_owner=of_owner, sums=_SUMS)


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
    insert into rolled_hours (run_key, start_ms, energy_j, energy_s, sampled_s, samples, sensors)
    select r.run_key, h.start_ms, {sums}
    from unnest(keys, starts_ms) as t(run_key, start_ms)
    join recordings r on r.run_key = t.run_key
    join hours h on h.recording_key = r.key and h.start_ms = t.start_ms
    group by r.run_key, h.start_ms;
    return cardinality(keys);
end $$"""

"""The pieces of which the SQL of the Grafana boards is made.

By them each panel counts a joule once, as a table does: the energy of `run_hours`, less what
`overlaps` say that another recording has, too; and with what was entered by hand.

It runs on PostgreSQL; that the numbers are the table's is tested.
"""

from __future__ import annotations

from carbontrack.ledger.live import FORGOTTEN_MS
from carbontrack.ledger.outcome import POSTS_STALE_MS
from carbontrack.units import MS_PER_HOUR
from carbontrack.vocabulary import AmendedField

FROM_MS, TO_MS = "$__unixEpochFrom()::bigint * 1000", "$__unixEpochTo()::bigint * 1000"
_IN_RANGE = f"start_ms > {FROM_MS} - {MS_PER_HOUR} and start_ms < {TO_MS}"


def amended(field: AmendedField) -> str:
    """The name or the project of a run `r`, as amended; a dash where it has none."""
    return f"""coalesce((
    select coalesce(a.after #>> '{{}}', '–') from amendments a
    where a.run_id = r.id and a.field = '{field}' and not exists (
      select 1 from amendments u
      where u.field = '{AmendedField.UNDO}' and u.after #>> '{{}}' = a.id)
    order by a.time_ms desc, a.id desc limit 1), r.{field}, '–')"""


PRESENT = "from runs r where r.id not in (select run_id from tombstones)"

# The runs that are there, with the project and the name that were last said of them. These are
# looked up once a run, and what PostgreSQL knows of their keys is used: that takes `offset 0`, and
# no `materialized`.
WHOSE = f"""whose as not materialized (
  select r.key, r.id, r."user", r.kind, r.started_ms, {amended(AmendedField.PROJECT)} as project,
    {amended(AmendedField.NAME)} as name
  {PRESENT} offset 0
)"""

# Recordings in the order in which they count: the one that began first, and a job before a watch.
_READERS = """readers as (
  select c.key as recording_key, r.key as run_key, r.project, row_number() over (
    order by r.kind = 'watch', r.started_ms, r.id, c.started_ms, c.id) as place
  from recordings c join whose r on r.key = c.run_key
)"""


def _left(all_s: str, seconds: str, of: str) -> str:
    """What those before a part leave of some time; `of` says of whom."""
    before = f"partition by start_ms, {of} order by place"
    sums = f"sum({seconds}) over ({before} rows between unbounded preceding and 1 preceding)"
    return f"greatest({all_s} - coalesce({sums}, 0), 0)"


_LEFT_OF_DEVICE, _OWN_LEFT_OF_DEVICE = (
    _left("device_s", "seconds", f"device_key{more}") for more in ("", ", project")
)
_LEFT_OF_BOARD = _left("board_s", "on_device_s * share", "board_key")
_OWN_LEFT_OF_BOARD = _left("board_s", "own_on_device_s * share", "board_key, project")
# What of a sensor's hour others have as well and count: among all runs, and among those of its
# project; of the device, and of the board that it is a part of (see `sharing.repeated`).
_LOST = f"""lost as (
  select run_key, recording_key, start_ms - start_ms % {MS_PER_HOUR} as start_ms, gpus,
    energy_j * (1 - counted_s / nullif(seconds, 0)) as energy_j, seconds - counted_s as seconds,
    energy_j * (1 - own_counted_s / nullif(seconds, 0)) as own_j, seconds - own_counted_s as own_s
  from (
    select *, least(on_device_s, {_LEFT_OF_BOARD} / share) as counted_s,
      least(own_on_device_s, {_OWN_LEFT_OF_BOARD} / share) as own_counted_s
    from (
      select *, greatest(max(seconds) over (partition by start_ms, board_key), 1) as board_s,
        least(seconds, {_LEFT_OF_DEVICE}) as on_device_s,
        least(seconds, {_OWN_LEFT_OF_DEVICE}) as own_on_device_s
      from (
        select r.*, o.start_ms, o.energy_j, o.seconds, s.device_key, s.share,
          coalesce(p.key, d.key) as board_key,
          case when d.kind = 'gpu' then s.share else 0 end as gpus,
          greatest(max(o.seconds) over (partition by o.start_ms, s.device_key), 1) as device_s
        from "overlaps" o join sensors s on s.key = o.sensor_key
        join devices d on d.key = s.device_key left join devices p on p.uuid = d.mig_parent
        join readers r on r.recording_key = s.recording_key
        where o.start_ms > {FROM_MS} - {MS_PER_HOUR} and o.start_ms < {TO_MS}
      ) as read
    ) as of_devices
  ) as of_boards
)"""

# What was entered by hand, in the hours of the range: it lies evenly between its start and end.
# Where these are not stated, it is in no range.
_ENTERED = f"""entered as (
  select s.run_key, c.key as recording_key, h.start_ms, s.energy_kwh * 3.6e6 * p.share as energy_j,
    s.device_hours * p.share as hours
  from (
    select *, greatest(ended_ms, started_ms + 1) as until_ms from stated
    where started_ms is not null
  ) as s join recordings c on c.run_key = s.run_key
  cross join lateral generate_series(
    greatest(s.started_ms, {FROM_MS}) / {MS_PER_HOUR} * {MS_PER_HOUR},
    least(s.until_ms, {TO_MS}) - 1, {MS_PER_HOUR}) as h(start_ms)
  cross join lateral (values (
    (least(s.until_ms, h.start_ms + {MS_PER_HOUR}) - greatest(s.started_ms, h.start_ms))
      / (s.until_ms - s.started_ms)::float8)) as p(share)
)"""

# What was used in the hours of the range, and less what is lost of it: `energy_j` with each joule
# once; `own_j` once among its project's.
_USED = f"""used as (
  select r.project, r."user", r.kind, r.id, r.name, w.start_ms, w.energy_j, w.own_j
  from (
    select run_key, start_ms, energy_j, energy_j as own_j from run_hours
    where energy_j is not null and {_IN_RANGE}
    union all
    select run_key, start_ms, energy_j, energy_j from entered where energy_j is not null
    union all
    select run_key, start_ms, -energy_j, -own_j from lost
  ) as w join whose r on r.key = w.run_key
)"""

# The same of each recording.
_ON_NODES = f"""on_nodes as (
  select c.host, r.kind, w.energy_j
  from (
    select recording_key, sum(energy_j) as energy_j from hours where {_IN_RANGE} group by 1
    union all
    select recording_key, energy_j from entered
    union all
    select recording_key, -energy_j from lost
  ) as w join recordings c on c.key = w.recording_key join whose r on r.key = c.run_key
  where w.energy_j is not null
)"""

# GPU-hours of the range: as long as a GPU was recorded, less what others count; or as stated.
_HOURS = f"""gpus as (
  select r.project, r."user", r.kind, r.id, w.hours, w.own_hours
  from (
    select c.run_key, g.gpus * c.hours as hours, g.gpus * c.hours as own_hours
    from (
      select key, run_key, (least(coalesce(ended_ms, heartbeat_ms), {TO_MS})
        - greatest(started_ms, {FROM_MS})) / {MS_PER_HOUR}.0 as hours from recordings
      where started_ms < {TO_MS} and coalesce(ended_ms, heartbeat_ms) > {FROM_MS}
    ) as c join (
      select recording_key, share * cardinality(device_keys) as gpus from recorded_devices
      where kind = 'gpu' and is_alike
      union all
      select a.recording_key, s.share from recorded_devices a
      join sensors s on s.recording_key = a.recording_key join devices d on d.key = s.device_key
      where a.kind = 'gpu' and not a.is_alike and d.kind = 'gpu'
    ) as g on g.recording_key = c.key
    union all
    select run_key, hours, hours from entered where hours is not null
    union all
    select run_key, -gpus * seconds / 3600, -gpus * own_s / 3600 from lost
  ) as w join whose r on r.key = w.run_key
)"""
_WITH_PIECES = f"with {WHOSE}, {_READERS}, {_LOST}, {_ENTERED}"
WITH = f"{_WITH_PIECES}, {_USED}"
WITH_HOURS = f"{WITH}, {_HOURS}"
WITH_NODES = f"{_WITH_PIECES}, {_ON_NODES}"
LABEL = "case when kind = 'watch' then 'unattributed' else project end"
ENERGY = "case when kind = 'watch' then energy_j else own_j end"
GPU_HOURS = "case when kind = 'watch' then hours else own_hours end"
PUE = "* ${pue:sqlstring}"
KG = f"{PUE} * ${{intensity:sqlstring}}"
OF_PROJECT_WHERE = "where project = ${project:sqlstring} and kind <> 'watch'"

# What nodes ship: each device once, as one has it that is heard of, and a job before a watch.
_END_MS = "$__unixEpochTo() * 1000.0"
NOW = f"""select host, power_w, silent from (
  select c.host, v.power_w, n.silent, row_number() over (
      partition by s.device_key order by n.silent, r.kind = 'watch', l.heard_ms desc) as place
  from live l join recordings c on c.key = l.recording_key join runs r on r.key = c.run_key
  cross join lateral (values (l.heard_ms < {_END_MS} - {POSTS_STALE_MS})) as n(silent)
  cross join lateral unnest(l.sensor_keys, l.power_w) as v(sensor_key, power_w)
  join sensors s on s.key = v.sensor_key
  where c.ended_ms is null and l.heard_ms > {_END_MS} - {FORGOTTEN_MS}
) as every_device where place = 1"""


# The recordings of the run that is shown.
_RECORDINGS = (
    "select c.key from recordings c join runs r on r.key = c.run_key where r.id = ${run:sqlstring}"
)
OF_RUN = f"recording_key = any(array({_RECORDINGS}))"

# Of the hours of its sensors of which an earlier recording of the same run has something, too, how
# much is left: shares of the energy and of the time.
LEFT = f"""with left_of as (
  select t.sensor_key, t.start_ms,
    1 - least(coalesce(t.energy_j / nullif(h.energy_j, 0), 0), 1) as energy,
    1 - least(coalesce(t.seconds / nullif(h.energy_s, 0), 0), 1) as time
  from (
    select recording_key, sensor_key, start_ms - start_ms % {MS_PER_HOUR} as start_ms,
      sum(energy_j * (1 - counted_s / nullif(seconds, 0))) as energy_j,
      sum(seconds - counted_s) as seconds
    from (
      select *, least(seconds, {_LEFT_OF_DEVICE}) as counted_s
      from (
        select r.key as recording_key, r.place, o.start_ms, o.energy_j, o.seconds, o.sensor_key,
          s.device_key,
          greatest(max(o.seconds) over (partition by o.start_ms, s.device_key), 1) as device_s
        from (
          select key, row_number() over (order by started_ms, id) as place from recordings
          where key in ({_RECORDINGS})
        ) as r join sensors s on s.recording_key = r.key
        join "overlaps" o on o.sensor_key = s.key
      ) as read
    ) as parts group by 1, 2, 3
  ) as t join hours h on h.recording_key = t.recording_key and h.start_ms = t.start_ms
    and h.sensor_key = t.sensor_key
)"""
STATED_OF_RUN = "from stated s join runs r on r.key = s.run_key where r.id = ${run:sqlstring}"
HOURS_LEFT = f"""from hours h left join left_of o
  on o.sensor_key = h.sensor_key and o.start_ms = h.start_ms where h.{OF_RUN}"""
KWH_OF_RUN = f"""{LEFT}, used as (
  select h.energy_j * coalesce(o.energy, 1) / 3.6e6 as kwh {HOURS_LEFT}
  union all
  select s.energy_kwh {STATED_OF_RUN}
)"""

# The windows in view, as `w`.
_VIEW_S = "$__unixEpochTo() - $__unixEpochFrom()"
_LEVEL_S = f"case when {_VIEW_S} <= 3600 then 1 when {_VIEW_S} <= 172800 then 60 else 3600 end"
_WINDOWS = f"""(
  select * from windows_between({_LEVEL_S}, {FROM_MS}, {TO_MS})
  union all -- where there are none, longer ones: a minute without a second in its hour, and an hour
  select m.* from windows_between(60, {FROM_MS} - 60000, {TO_MS}) m
  where {_LEVEL_S} < 60 and m.start_ms + 60000 > {FROM_MS} and not exists (
    select from windows_between(
      1, m.start_ms / 3600000 * 3600000, (m.start_ms / 3600000 + 1) * 3600000) s
    where s.recording_key = m.recording_key and s.sensor_key = m.sensor_key)
  union all
  select h.* from windows_between(3600, {FROM_MS} - 3600000, {TO_MS}) h
  where {_LEVEL_S} < 3600 and h.start_ms + 3600000 > {FROM_MS} and not exists (
    select from windows_between(60, h.start_ms, h.start_ms + 3600000) m
    where m.recording_key = h.recording_key and m.sensor_key = h.sensor_key) and not exists (
    select from windows_between(1, h.start_ms, h.start_ms + 3600000) s
    where {_LEVEL_S} = 1 and s.recording_key = h.recording_key and s.sensor_key = h.sensor_key)
) w"""


def of_devices(column: str) -> str:
    """A column of the windows in view, a line for each device."""
    return f"""select greatest(w.start_ms, {FROM_MS}) / 1000 as time, d.uuid as metric,
  w.{column} as value
from {_WINDOWS} join sensors s on s.key = w.sensor_key join devices d on d.key = s.device_key
where w.{OF_RUN} order by 1"""


def spent(factors: str) -> str:
    """The energy since the beginning of the view, times these."""
    return f"""{LEFT}
select start_ms / 1000 as time,
  sum(energy_j) over (order by start_ms) / 3.6e6 {factors} as value
from (
  select greatest(w.start_ms, {FROM_MS}) as start_ms,
    sum(w.energy_j * coalesce(o.energy, 1)) as energy_j
  from {_WINDOWS} left join left_of o
    on o.sensor_key = w.sensor_key and o.start_ms = w.start_ms - w.start_ms % {MS_PER_HOUR}
  where w.{OF_RUN} group by 1
) as by_window order by start_ms"""

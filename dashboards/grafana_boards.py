"""The Grafana boards of a fleet, a project and a run, by `python -m dashboards.grafana_boards`.

Their SQL is made of a few pieces, so that each panel counts a joule once, as a table does: the
energy of `run_hours`, less what `overlaps` say that another recording has, too; and with what was
entered by hand. It runs on PostgreSQL; that the numbers are the table's is tested.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carbontrack.ledger.live import FORGOTTEN_MS
from carbontrack.ledger.outcome import POSTS_STALE_MS
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR
from carbontrack.vocabulary import ENTERED, AmendedField, Quality, Scope

FOLDER = Path(__file__).parent / "grafana" / "boards"
_SOURCE = {"type": "grafana-postgresql-datasource", "uid": "carbontrack"}
_FROM_MS, _TO_MS = "$__unixEpochFrom()::bigint * 1000", "$__unixEpochTo()::bigint * 1000"
_IN_RANGE = f"start_ms > {_FROM_MS} - {MS_PER_HOUR} and start_ms < {_TO_MS}"


def _amended(field: AmendedField) -> str:
    """The name or the project of a run `r`, as amended; a dash where it has none."""
    return f"""coalesce((
    select coalesce(a.after #>> '{{}}', '–') from amendments a
    where a.run_id = r.id and a.field = '{field}' and not exists (
      select 1 from amendments u
      where u.field = '{AmendedField.UNDO}' and u.after #>> '{{}}' = a.id)
    order by a.time_ms desc, a.id desc limit 1), r.{field}, '–')"""


_PRESENT = "from runs r where r.id not in (select run_id from tombstones)"

# The runs that are there, with the project and the name that were last said of them. These are
# looked up once a run, and what PostgreSQL knows of their keys is used: that takes `offset 0`, and
# no `materialized`.
_WHOSE = f"""whose as not materialized (
  select r.key, r.id, r."user", r.kind, r.started_ms, {_amended(AmendedField.PROJECT)} as project,
    {_amended(AmendedField.NAME)} as name
  {_PRESENT} offset 0
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
        where o.start_ms > {_FROM_MS} - {MS_PER_HOUR} and o.start_ms < {_TO_MS}
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
    greatest(s.started_ms, {_FROM_MS}) / {MS_PER_HOUR} * {MS_PER_HOUR},
    least(s.until_ms, {_TO_MS}) - 1, {MS_PER_HOUR}) as h(start_ms)
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
      select key, run_key, (least(coalesce(ended_ms, heartbeat_ms), {_TO_MS})
        - greatest(started_ms, {_FROM_MS})) / {MS_PER_HOUR}.0 as hours from recordings
      where started_ms < {_TO_MS} and coalesce(ended_ms, heartbeat_ms) > {_FROM_MS}
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
_WITH_PIECES = f"with {_WHOSE}, {_READERS}, {_LOST}, {_ENTERED}"
_WITH = f"{_WITH_PIECES}, {_USED}"
_WITH_HOURS = f"{_WITH}, {_HOURS}"
_WITH_NODES = f"{_WITH_PIECES}, {_ON_NODES}"
_LABEL = "case when kind = 'watch' then 'unattributed' else project end"
_ENERGY = "case when kind = 'watch' then energy_j else own_j end"
_GPU_HOURS = "case when kind = 'watch' then hours else own_hours end"
_PUE = "* ${pue:sqlstring}"
_KG = f"{_PUE} * ${{intensity:sqlstring}}"
_OF_PROJECT_WHERE = "where project = ${project:sqlstring} and kind <> 'watch'"

# What nodes ship: each device once, as one has it that is heard of, and a job before a watch.
_END_MS = "$__unixEpochTo() * 1000.0"
_NOW = f"""select host, power_w, silent from (
  select c.host, v.power_w, n.silent, row_number() over (
      partition by s.device_key order by n.silent, r.kind = 'watch', l.heard_ms desc) as place
  from live l join recordings c on c.key = l.recording_key join runs r on r.key = c.run_key
  cross join lateral (values (l.heard_ms < {_END_MS} - {POSTS_STALE_MS})) as n(silent)
  cross join lateral unnest(l.sensor_keys, l.power_w) as v(sensor_key, power_w)
  join sensors s on s.key = v.sensor_key
  where c.ended_ms is null and l.heard_ms > {_END_MS} - {FORGOTTEN_MS}
) as every_device where place = 1"""


def fleet() -> dict[str, Any]:
    """All nodes: what they use, whose it is, and what no job used."""
    rows = f"""{_WITH_HOURS}
select e.project, h.hours as gpu_hours, e.kwh, e.kwh {_KG} as kg
from (select {_LABEL} as project, sum({_ENERGY}) / 3.6e6 as kwh from used group by 1) e
left join (select {_LABEL} as project, sum({_GPU_HOURS}) as hours from gpus group by 1) h
  on h.project = e.project
order by e.kwh desc"""
    hosts = f"""{_WITH_NODES}
select host, sum(case when kind <> 'watch' then energy_j else 0 end) / 3.6e6 as jobs_kwh,
  sum(case when kind = 'watch' then energy_j else 0 end) / 3.6e6 as unattributed_kwh
from on_nodes group by host order by sum(energy_j) desc limit 50"""
    power = f"""{_WITH}
select start_ms / 1000 as time, {_LABEL} as metric, sum({_ENERGY}) / 3600 as value
from used group by start_ms, {_LABEL} order by start_ms"""
    of_all = "select sum(energy_j) / 3.6e6 as value from used"
    panels = [
        _stat(
            "Power now", f"select sum(power_w) as value from ({_NOW}) as n where not silent", "watt"
        ),
        _stat(
            "Devices now", f"select count(*) as value from ({_NOW}) as n where not silent", "short"
        ),
        _stat(
            "Silent nodes",
            f"select count(distinct host) as value from ({_NOW}) as n where silent",
            "short",
        ),
        _stat("Energy of the devices", f"{_WITH}\n{of_all}", "kwatth"),
        _stat("Energy that no job used", f"{_WITH}\n{of_all} where kind = 'watch'", "kwatth"),
        _stat(
            "Emissions (PUE and intensity of this board)",
            f"{_WITH}\nselect sum(energy_j) / 3.6e6 {_KG} as value from used",
            "masskg",
        ),
        _series("Power by project, mean of each hour", power, "watt"),
        _table("By project", rows),
        _table("By node, the 50 that use most", hosts),
    ]
    return _board("carbontrack-fleet", "carbontrack: the fleet", panels, [], "now-7d/h")


def project() -> dict[str, Any]:
    """One project: what it uses, by user, run and day."""
    whole = f"from used {_OF_PROJECT_WHERE}"
    energy = "sum(own_j) / 3.6e6"
    runs = f"""{_WITH_HOURS}
select e.name, e."user", e.id, h.hours as gpu_hours, e.kwh, e.kwh {_KG} as kg
from (select name, "user", id, {energy} as kwh {whole} group by name, "user", id) e
left join (select id, sum(own_hours) as hours from gpus group by id) h on h.id = e.id
order by e.kwh desc limit 500"""
    days = f"""{_WITH}
select (start_ms - start_ms % {MS_PER_DAY}) / 1000 as time, "user" as metric, {energy} as value
{whole} group by start_ms - start_ms % {MS_PER_DAY}, "user" order by 1"""
    power = f"""{_WITH}
select start_ms / 1000 as time, 'power' as metric, sum(own_j) / 3600 as value
{whole} group by start_ms order by start_ms"""
    users = f'{_WITH}\nselect "user", {energy} as kwh {whole} group by "user" order by kwh desc'
    names = f"""with {_WHOSE}
select distinct project from whose where kind <> 'watch' order by project"""
    panels = [
        _stat("Energy of the devices", f"{_WITH}\nselect {energy} as value {whole}", "kwatth"),
        _stat(
            "GPU-hours",
            f"{_WITH_HOURS}\nselect sum(own_hours) as value from gpus {_OF_PROJECT_WHERE}",
            "h",
        ),
        _stat(
            "Energy of the facility (PUE of this board)",
            f"{_WITH}\nselect {energy} {_PUE} as value {whole}",
            "kwatth",
        ),
        _stat(
            "Emissions (PUE and intensity of this board)",
            f"{_WITH}\nselect {energy} {_KG} as value {whole}",
            "masskg",
        ),
        _series("Power, mean of each hour", power, "watt"),
        _series("Energy by user and day (UTC)", days, "kwatth", bars=True),
        _table("By user", users),
        _table("By run", runs),
    ]
    return _board(
        "carbontrack-project",
        "carbontrack: a project",
        panels,
        [_choice("project", "Project", names, sort=1)],
        "now-30d/h",
    )


# The recordings of the run that is shown.
_RECORDINGS = (
    "select c.key from recordings c join runs r on r.key = c.run_key where r.id = ${run:sqlstring}"
)
_OF_RUN = f"recording_key = any(array({_RECORDINGS}))"

# Of the hours of its sensors of which an earlier recording of the same run has something, too, how
# much is left: shares of the energy and of the time.
_LEFT = f"""with left_of as (
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
_STATED_OF_RUN = "from stated s join runs r on r.key = s.run_key where r.id = ${run:sqlstring}"
_HOURS_LEFT = f"""from hours h left join left_of o
  on o.sensor_key = h.sensor_key and o.start_ms = h.start_ms where h.{_OF_RUN}"""
_KWH_OF_RUN = f"""{_LEFT}, used as (
  select h.energy_j * coalesce(o.energy, 1) / 3.6e6 as kwh {_HOURS_LEFT}
  union all
  select s.energy_kwh {_STATED_OF_RUN}
)"""

# The windows in view, as `w`.
_VIEW_S = "$__unixEpochTo() - $__unixEpochFrom()"
_LEVEL_S = f"case when {_VIEW_S} <= 3600 then 1 when {_VIEW_S} <= 172800 then 60 else 3600 end"
_WINDOWS = f"""(
  select * from windows_between({_LEVEL_S}, {_FROM_MS}, {_TO_MS})
  union all -- where there are none, longer ones: a minute without a second in its hour, and an hour
  select m.* from windows_between(60, {_FROM_MS} - 60000, {_TO_MS}) m
  where {_LEVEL_S} < 60 and m.start_ms + 60000 > {_FROM_MS} and not exists (
    select from windows_between(
      1, m.start_ms / 3600000 * 3600000, (m.start_ms / 3600000 + 1) * 3600000) s
    where s.recording_key = m.recording_key and s.sensor_key = m.sensor_key)
  union all
  select h.* from windows_between(3600, {_FROM_MS} - 3600000, {_TO_MS}) h
  where {_LEVEL_S} < 3600 and h.start_ms + 3600000 > {_FROM_MS} and not exists (
    select from windows_between(60, h.start_ms, h.start_ms + 3600000) m
    where m.recording_key = h.recording_key and m.sensor_key = h.sensor_key) and not exists (
    select from windows_between(1, h.start_ms, h.start_ms + 3600000) s
    where {_LEVEL_S} = 1 and s.recording_key = h.recording_key and s.sensor_key = h.sensor_key)
) w"""


def run() -> dict[str, Any]:
    """One run: what its devices use, its training, and what happened in it."""
    share = f"""{_LEFT}
select (select sum(h.sampled_s * coalesce(o.time, 1)) {_HOURS_LEFT})
  / nullif(sum(greatest(end_ms - greatest(started_ms, before_ms), 0)) / 1000.0, 0) as value
from (
  select started_ms, end_ms, max(end_ms) over (
    partition by device_key order by started_ms, end_ms
    rows between unbounded preceding and 1 preceding) as before_ms
  from (
    select s.device_key, c.started_ms, coalesce(c.ended_ms, c.heartbeat_ms) as end_ms
    from sensors s join recordings c on c.key = s.recording_key where s.{_OF_RUN}
  ) as read
) as spans"""
    meter = f"""select string_agg(distinct said, '; ') as value
from (
  select s.meter || ' (' || s.quality || '), scope ' || s.scope as said
  from sensors s where s.{_OF_RUN}
  union all
  select '{ENTERED} ({Quality.STATED}), scope {Scope.GPU}' {_STATED_OF_RUN}
) as read"""
    loss = f"""select max(s.time_ms) / 1000.0 as time, avg(s.loss) as loss
from steps s
where s.{_OF_RUN} and s.loss < 'infinity' and s.time_ms between {_FROM_MS} and {_TO_MS}
group by s.time_ms / $__interval_ms order by 1"""
    happened = f"""select e.time_ms / 1000.0 as time, e.kind || ' ' || e.message as text,
  e.kind as tags
from events e
where e.{_OF_RUN} and e.kind <> 'phase' and e.time_ms between {_FROM_MS} and {_TO_MS}
order by e.time_ms"""
    names = f"""select {_amended(AmendedField.NAME)} || ' ' || left(r.id, 13) as __text,
  r.id as __value
{_PRESENT} order by r.started_ms desc limit 500"""
    panels = [
        _stat(
            "Energy of the devices",
            f"{_KWH_OF_RUN}\nselect sum(kwh) as value from used",
            "kwatth",
            width=6,
        ),
        _stat(
            "Emissions (PUE and intensity of this board)",
            f"{_KWH_OF_RUN}\nselect sum(kwh) {_KG} as value from used",
            "masskg",
            width=6,
        ),
        _stat("Share of device-seconds watched", share, "percentunit", width=6),
        _stat("Meter, and how good it is", meter, "string", width=6, fields="/.*/"),
        _lines("Power of each device", _of_devices("power_mean_w"), "watt"),
        _lines("Loss", loss, "none"),
        _lines("Energy of the facility in view", _spent(_PUE), "kwatth"),
        _lines("Emissions in view", _spent(_KG), "masskg"),
        _lines("Utilisation", _of_devices("util_pct"), "percent"),
        _lines("Temperature", _of_devices("temperature_max_c"), "celsius"),
    ]
    board = _board(
        "carbontrack-run",
        "carbontrack: a run",
        panels,
        [_choice("run", "Run", names)],
        "now-6h",
        refresh="10s",
        timezone="browser",
    )
    events = {"name": "Events", "enable": True, "datasource": _SOURCE, "iconColor": "#6b6b6b"}
    return board | {"annotations": {"list": [events | {"target": _query(happened, "table")}]}}


def _of_devices(column: str) -> str:
    """A column of the windows in view, a line for each device."""
    return f"""select greatest(w.start_ms, {_FROM_MS}) / 1000 as time, d.uuid as metric,
  w.{column} as value
from {_WINDOWS} join sensors s on s.key = w.sensor_key join devices d on d.key = s.device_key
where w.{_OF_RUN} order by 1"""


def _spent(factors: str) -> str:
    """The energy since the beginning of the view, times these."""
    return f"""{_LEFT}
select start_ms / 1000 as time,
  sum(energy_j) over (order by start_ms) / 3.6e6 {factors} as value
from (
  select greatest(w.start_ms, {_FROM_MS}) as start_ms,
    sum(w.energy_j * coalesce(o.energy, 1)) as energy_j
  from {_WINDOWS} left join left_of o
    on o.sensor_key = w.sensor_key and o.start_ms = w.start_ms - w.start_ms % {MS_PER_HOUR}
  where w.{_OF_RUN} group by 1
) as by_window order by start_ms"""


def _choice(name: str, label: str, sql: str, *, sort: int = 0) -> dict[str, Any]:
    """A variable of the board: one of what the query finds."""
    own = {"name": name, "label": label, "type": "query", "datasource": _SOURCE}
    return {**own, "refresh": 2, "sort": sort, "query": sql}


def _board(
    uid: str,
    title: str,
    panels: Sequence[dict[str, Any]],
    variables: Sequence[dict[str, Any]],
    since: str,
    *,
    refresh: str = "1m",
    timezone: str = "utc",
) -> dict[str, Any]:
    """The panels row by row, each with a number."""
    x = y = high = 0
    for number, panel in enumerate(panels, start=1):
        width, height = panel["gridPos"]["w"], panel["gridPos"]["h"]
        if x + width > 24:
            x, y, high = 0, y + high, 0
        panel["id"] = number
        panel["gridPos"] |= {"x": x, "y": y}
        x, high = x + width, max(high, height)
    return {
        "uid": uid,
        "title": title,
        "tags": ["carbontrack"],
        "schemaVersion": 39,
        "timezone": timezone,
        "refresh": refresh,
        "time": {"from": since, "to": "now"},
        "templating": {"list": [*variables, *_factors()]},
        "panels": list(panels),
    }


def _factors() -> list[dict[str, Any]]:
    """Those that every table assumes, to be typed over."""
    from carbontrack.factors import catalog

    pue, intensity = catalog.pue("industry").value, catalog.intensity("WORLD").value
    return [
        {
            "name": name,
            "label": label,
            "type": "textbox",
            "query": value,
            "current": {"text": value, "value": value},
        }
        for name, label, value in (
            ("pue", "PUE", f"{pue:g}"),
            ("intensity", "kgCO₂e/kWh", f"{intensity:g}"),
        )
    ]


def _panel(
    kind: str, title: str, sql: str, size: tuple[int, int], format: str, **more: Any
) -> dict[str, Any]:
    grid = {"w": size[0], "h": size[1]}
    own = {"type": kind, "title": title, "datasource": _SOURCE, "gridPos": grid}
    return {**own, "targets": [_query(sql, format)], **more}


def _query(sql: str, format: str) -> dict[str, Any]:
    own = {"refId": "A", "datasource": _SOURCE}
    return {**own, "format": format, "rawQuery": True, "rawSql": sql}


def _stat(title: str, sql: str, unit: str, *, width: int = 4, **reduced: Any) -> dict[str, Any]:
    reduce = {"calcs": ["lastNotNull"], **reduced}
    options = {"reduceOptions": reduce, "colorMode": "none"}
    return _panel("stat", title, sql, (width, 4), "table", fieldConfig=_unit(unit), options=options)


def _series(title: str, sql: str, unit: str, *, bars: bool = False) -> dict[str, Any]:
    """What adds up, over the whole width."""
    drawn = {"drawStyle": "bars", "fillOpacity": 80} if bars else {"fillOpacity": 40}
    custom = {**drawn, "lineWidth": 1, "stacking": {"mode": "normal"}}
    return _timeseries(title, sql, unit, 24, custom, {"mode": "multi", "sort": "desc"})


def _lines(title: str, sql: str, unit: str) -> dict[str, Any]:
    """What does not add up, two beside each other."""
    return _timeseries(title, sql, unit, 12, {}, {"mode": "multi"})


def _timeseries(
    title: str, sql: str, unit: str, width: int, custom: dict[str, Any], tooltip: dict[str, Any]
) -> dict[str, Any]:
    config = _unit(unit, {**custom, "spanNulls": False})
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": tooltip}
    return _panel(
        "timeseries", title, sql, (width, 9), "time_series", fieldConfig=config, options=options
    )


def _table(title: str, sql: str) -> dict[str, Any]:
    overrides = [
        {
            "matcher": {"id": "byRegexp", "options": pattern},
            "properties": [{"id": "unit", "value": unit}],
        }
        for pattern, unit in ((".*kwh", "kwatth"), ("kg", "masskg"), ("gpu_hours", "h"))
    ]
    config = {"defaults": {}, "overrides": overrides}
    return _panel("table", title, sql, (12, 9), "table", fieldConfig=config)


def _unit(unit: str, custom: Any = None) -> dict[str, Any]:
    defaults = {"unit": unit} if custom is None else {"unit": unit, "custom": custom}
    return {"defaults": defaults, "overrides": []}


def texts() -> dict[str, str]:
    """The boards as files, by name."""
    boards = {"fleet.json": fleet(), "project.json": project(), "run.json": run()}
    return {
        name: json.dumps(board, indent=1, ensure_ascii=False) + "\n"
        for name, board in boards.items()
    }


def main() -> None:
    """Write the boards."""
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

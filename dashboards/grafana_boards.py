"""The Grafana boards of a fleet, a project and a run, by `python -m dashboards.grafana_boards`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carbontrack.units import MS_PER_DAY
from carbontrack.vocabulary import ENTERED, AmendedField, Quality, Scope
from dashboards import grafana_sql as sql
from dashboards.grafana_panels import board, choice, lines, series, stat, table, with_events

FOLDER = Path(__file__).parent / "grafana" / "boards"


def fleet() -> dict[str, Any]:
    """All nodes: what they use, whose it is, and what no job used."""
    rows = f"""{sql.WITH_HOURS}
select e.project, h.hours as gpu_hours, e.kwh, e.kwh {sql.KG} as kg
from (select {sql.LABEL} as project, sum({sql.ENERGY}) / 3.6e6 as kwh from used group by 1) e
left join (select {sql.LABEL} as project, sum({sql.GPU_HOURS}) as hours from gpus group by 1) h
  on h.project = e.project
order by e.kwh desc"""
    hosts = f"""{sql.WITH_NODES}
select host, sum(case when kind <> 'watch' then energy_j else 0 end) / 3.6e6 as jobs_kwh,
  sum(case when kind = 'watch' then energy_j else 0 end) / 3.6e6 as unattributed_kwh
from on_nodes group by host order by sum(energy_j) desc limit 50"""
    power = f"""{sql.WITH}
select start_ms / 1000 as time, {sql.LABEL} as metric, sum({sql.ENERGY}) / 3600 as value
from used group by start_ms, {sql.LABEL} order by start_ms"""
    of_all = "select sum(energy_j) / 3.6e6 as value from used"
    panels = [
        stat(
            "Power now",
            f"select sum(power_w) as value from ({sql.NOW}) as n where not silent",
            "watt",
        ),
        stat(
            "Devices now",
            f"select count(*) as value from ({sql.NOW}) as n where not silent",
            "short",
        ),
        stat(
            "Silent nodes",
            f"select count(distinct host) as value from ({sql.NOW}) as n where silent",
            "short",
        ),
        stat("Energy of the devices", f"{sql.WITH}\n{of_all}", "kwatth"),
        stat("Energy that no job used", f"{sql.WITH}\n{of_all} where kind = 'watch'", "kwatth"),
        stat(
            "Emissions (PUE and intensity of this board)",
            f"{sql.WITH}\nselect sum(energy_j) / 3.6e6 {sql.KG} as value from used",
            "masskg",
        ),
        series("Power by project, mean of each hour", power, "watt"),
        table("By project", rows),
        table("By node, the 50 that use most", hosts),
    ]
    return board("carbontrack-fleet", "carbontrack: the fleet", panels, [], "now-7d/h")


def project() -> dict[str, Any]:
    """One project: what it uses, by user, run and day."""
    whole = f"from used {sql.OF_PROJECT_WHERE}"
    energy = "sum(own_j) / 3.6e6"
    runs = f"""{sql.WITH_HOURS}
select e.name, e."user", e.id, h.hours as gpu_hours, e.kwh, e.kwh {sql.KG} as kg
from (select name, "user", id, {energy} as kwh {whole} group by name, "user", id) e
left join (select id, sum(own_hours) as hours from gpus group by id) h on h.id = e.id
order by e.kwh desc limit 500"""
    days = f"""{sql.WITH}
select (start_ms - start_ms % {MS_PER_DAY}) / 1000 as time, "user" as metric, {energy} as value
{whole} group by start_ms - start_ms % {MS_PER_DAY}, "user" order by 1"""
    power = f"""{sql.WITH}
select start_ms / 1000 as time, 'power' as metric, sum(own_j) / 3600 as value
{whole} group by start_ms order by start_ms"""
    users = f'{sql.WITH}\nselect "user", {energy} as kwh {whole} group by "user" order by kwh desc'
    names = f"""with {sql.WHOSE}
select distinct project from whose where kind <> 'watch' order by project"""
    panels = [
        stat("Energy of the devices", f"{sql.WITH}\nselect {energy} as value {whole}", "kwatth"),
        stat(
            "GPU-hours",
            f"{sql.WITH_HOURS}\nselect sum(own_hours) as value from gpus {sql.OF_PROJECT_WHERE}",
            "h",
        ),
        stat(
            "Energy of the facility (PUE of this board)",
            f"{sql.WITH}\nselect {energy} {sql.PUE} as value {whole}",
            "kwatth",
        ),
        stat(
            "Emissions (PUE and intensity of this board)",
            f"{sql.WITH}\nselect {energy} {sql.KG} as value {whole}",
            "masskg",
        ),
        series("Power, mean of each hour", power, "watt"),
        series("Energy by user and day (UTC)", days, "kwatth", bars=True),
        table("By user", users),
        table("By run", runs),
    ]
    return board(
        "carbontrack-project",
        "carbontrack: a project",
        panels,
        [choice("project", "Project", names, sort=1)],
        "now-30d/h",
    )


def run() -> dict[str, Any]:
    """One run: what its devices use, its training, and what happened in it."""
    share = f"""{sql.LEFT}
select (select sum(h.sampled_s * coalesce(o.time, 1)) {sql.HOURS_LEFT})
  / nullif(sum(greatest(end_ms - greatest(started_ms, before_ms), 0)) / 1000.0, 0) as value
from (
  select started_ms, end_ms, max(end_ms) over (
    partition by device_key order by started_ms, end_ms
    rows between unbounded preceding and 1 preceding) as before_ms
  from (
    select s.device_key, c.started_ms, coalesce(c.ended_ms, c.heartbeat_ms) as end_ms
    from sensors s join recordings c on c.key = s.recording_key where s.{sql.OF_RUN}
  ) as read
) as spans"""
    meter = f"""select string_agg(distinct said, '; ') as value
from (
  select s.meter || ' (' || s.quality || '), scope ' || s.scope as said
  from sensors s where s.{sql.OF_RUN}
  union all
  select '{ENTERED} ({Quality.STATED}), scope {Scope.GPU}' {sql.STATED_OF_RUN}
) as read"""
    loss = f"""select max(s.time_ms) / 1000.0 as time, avg(s.loss) as loss
from steps s
where s.{sql.OF_RUN} and s.loss < 'infinity' and s.time_ms between {sql.FROM_MS} and {sql.TO_MS}
group by s.time_ms / $__interval_ms order by 1"""
    happened = f"""select e.time_ms / 1000.0 as time, e.kind || ' ' || e.message as text,
  e.kind as tags
from events e
where e.{sql.OF_RUN} and e.kind <> 'phase' and e.time_ms between {sql.FROM_MS} and {sql.TO_MS}
order by e.time_ms"""
    names = f"""select {sql.amended(AmendedField.NAME)} || ' ' || left(r.id, 13) as __text,
  r.id as __value
{sql.PRESENT} order by r.started_ms desc limit 500"""
    panels = [
        stat(
            "Energy of the devices",
            f"{sql.KWH_OF_RUN}\nselect sum(kwh) as value from used",
            "kwatth",
            width=6,
        ),
        stat(
            "Emissions (PUE and intensity of this board)",
            f"{sql.KWH_OF_RUN}\nselect sum(kwh) {sql.KG} as value from used",
            "masskg",
            width=6,
        ),
        stat("Share of device-seconds watched", share, "percentunit", width=6),
        stat("Meter, and how good it is", meter, "string", width=6, fields="/.*/"),
        lines("Power of each device", sql.of_devices("power_mean_w"), "watt"),
        lines("Loss", loss, "none"),
        lines("Energy of the facility in view", sql.spent(sql.PUE), "kwatth"),
        lines("Emissions in view", sql.spent(sql.KG), "masskg"),
        lines("Utilisation", sql.of_devices("util_pct"), "percent"),
        lines("Temperature", sql.of_devices("temperature_max_c"), "celsius"),
    ]
    shown = board(
        "carbontrack-run",
        "carbontrack: a run",
        panels,
        [choice("run", "Run", names)],
        "now-6h",
        refresh="10s",
        timezone="browser",
    )
    return with_events(shown, happened)


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

"""What `runs` and `show` print: what was measured, without any factor."""

from __future__ import annotations

import shlex
import signal
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from carbontrack.ledger.rows import Event, Node, Run, Sensor, StepTotals, Usage
from carbontrack.units import J_PER_KWH, MS_PER_S, now_ms

_MAX_EVENTS = 20
_MAX_COMMAND = 500


def duration_s(run: Run) -> float:
    """Seconds from start to end; to the last sign of life where the end was not seen."""
    end_ms = run.ended_ms or run.heartbeat_ms or run.started_ms
    if run.status == "running":
        end_ms = now_ms()
    return max(0, end_ms - run.started_ms) / MS_PER_S


def run_item(run: Run, sensors: Sequence[Sensor], totals: Sequence[Usage]) -> dict[str, Any]:
    """One line of `runs`, with the keys of `--format json`. Energy of the devices, before PUE."""
    length_s = duration_s(run)
    energies = [usage.energy_j for usage in totals if usage.energy_j is not None]
    expected_s = length_s * len(sensors)
    sampled_s = sum(usage.sampled_s for usage in totals)
    return {
        "id": run.id,
        "name": run.name,
        "project": run.project,
        "tags": dict(run.tags),
        "status": run.status,
        "exit_code": run.exit_code,
        "started": _iso(run.started_ms),
        "ended": _iso(run.ended_ms),
        "duration_s": length_s,
        "devices": len(sensors),
        "meter": "+".join(sorted({sensor.meter for sensor in sensors})) or None,
        "quality": "+".join(sorted({sensor.quality for sensor in sensors})) or None,
        "energy_kwh": sum(energies) / J_PER_KWH if energies else None,
        "coverage": _share(sampled_s, expected_s),
    }


def run_detail(
    run: Run,
    sensors: Sequence[Sensor],
    totals: Sequence[Usage],
    steps: StepTotals,
    nodes: Sequence[Node],
    events: Sequence[Event],
) -> dict[str, Any]:
    """All of `show --format json`."""
    usage_of = {usage.device_key: usage for usage in totals}
    return {
        **run_item(run, sensors, totals),
        "devices": [
            _device(sensor, usage_of.get(sensor.device_key), duration_s(run)) for sensor in sensors
        ],
        "command": list(run.command),
        "cwd": run.cwd,
        "user": run.user,
        "git_commit": run.git_commit,
        "git_dirty": run.git_dirty,
        "facility": dict(run.facility),
        "model": dict(run.model),
        "steps": steps.steps,
        "tokens": steps.tokens,
        "final_loss": steps.final_loss,
        "nodes": [{**asdict(node), "heartbeat": _iso(node.heartbeat_ms)} for node in nodes],
        "events": [{**asdict(event), "time": _iso(event.time_ms)} for event in events],
    }


def _device(sensor: Sensor, usage: Usage | None, length_s: float) -> dict[str, Any]:
    energy_j = usage.energy_j if usage else None
    energy_s = usage.energy_s if usage else 0.0
    return {
        "uuid": sensor.uuid,
        "kind": sensor.kind,
        "name": sensor.name,
        "host": sensor.host,
        "meter": sensor.meter,
        "quality": sensor.quality,
        "field": sensor.field,
        "scope": sensor.scope,
        "energy_kwh": None if energy_j is None else energy_j / J_PER_KWH,
        "power_mean_w": energy_j / energy_s if energy_j is not None and energy_s > 0 else None,
        "power_min_w": usage.power_min_w if usage else None,
        "power_max_w": usage.power_max_w if usage else None,
        "util_pct": usage.util_pct if usage else None,
        "coverage": _share(usage.sampled_s if usage else 0.0, length_s),
        "rated_power_w": sensor.rated_power_w,
        "power_limit_w": sensor.power_limit_w,
        "update_period_ms": sensor.update_period_ms,
        "mig_parent": sensor.mig_parent,
        "share": sensor.share,
    }


def print_runs(items: Sequence[Mapping[str, Any]]) -> None:
    """The list for people; a narrow terminal gets fewer columns, never cut ones."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    wide = console.width >= 110
    heads = ["run", "name", "status", "started", "duration", "energy"]
    heads += ["devices", "coverage"] if wide else []
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        right = head in ("duration", "energy", "devices", "coverage")
        justify: Literal["left", "right"] = "right" if right else "left"
        table.add_column(head, justify=justify, no_wrap=head != "name", overflow="fold")
    for item in items:
        status = " ".join([item["status"], *_code(item["exit_code"])])
        started = _local(item["started"])
        duration, energy = format_duration(item["duration_s"]), _energy_and_quality(item)
        cells = [item["id"][:13], item["name"], status]
        cells += [started if wide else started[5:16], duration, energy]
        if wide:
            cells += [str(item["devices"]), format_share(item["coverage"])]
        table.add_row(*cells)
    console.print(table)


def print_detail(item: Mapping[str, Any]) -> None:
    """One run for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    ended = "" if item["exit_code"] is None else f", {how_it_ended(item['exit_code'])}"
    facts = Table.grid(padding=(0, 2))
    rows = [
        ("run", f"{item['name']}  {item['id']}"),
        ("status", f"{item['status']}{ended}"),
        ("started", f"{_local(item['started'])}, ran {format_duration(item['duration_s'])}"),
        ("command", _command(item["command"])),
        ("in", f"{item['cwd']} by {item['user']}"),
        ("git", _git(item)),
        ("model", _model(item)),
        ("steps", _steps(item)),
        ("energy", f"{_energy_and_quality(item)}, devices only, before PUE"),
    ]
    for head, value in rows:
        if value:
            facts.add_row(head, value)
    console.print(facts)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device", overflow="fold")
    table.add_column("uuid", no_wrap=True)
    for head in ("mean W", "max W", "energy", "coverage"):
        table.add_column(head, justify="right", no_wrap=True)
    for device in item["devices"]:
        table.add_row(
            device["name"],
            device["uuid"][:12],
            _watts(device["power_mean_w"]),
            _watts(device["power_max_w"]),
            format_energy(device["energy_kwh"]),
            format_share(device["coverage"]),
        )
    if item["devices"]:
        console.print()
        console.print(table)
        for how in sorted({_how(device) for device in item["devices"]}):
            console.print(f"\n{how}")
    for node in item["nodes"]:
        if note := node["settings"].get("note"):
            console.print(f"{node['host']}: {note}")
    # A phase begins with each evaluation and ends with it: they would hide all the others.
    events = [event for event in item["events"] if event["kind"] != "phase"]
    if item["events"]:
        console.print("\nevents")
        for event in events[-_MAX_EVENTS:]:
            text = event["message"] or _named_values(event["data"])
            console.print(f"  {_local(event['time'])}  {event['kind']}  {text}")
        hidden = [f"the last {_MAX_EVENTS} of {len(events)}"] if len(events) > _MAX_EVENTS else []
        if phases := len(item["events"]) - len(events):
            hidden.append(f"without {phases} changes of phase")
        if hidden:
            console.print(f"  ({', '.join(hidden)}; all with --format json)")


def how_it_ended(exit_code: int) -> str:
    """An exit code for people: 128+n means that signal n ended the job."""
    try:
        return f"killed by {signal.Signals(exit_code - 128).name}"
    except ValueError:
        return f"exit code {exit_code}"


def format_duration(length_s: float) -> str:
    """1 h 02 min, 3 min 07 s, 4.2 s."""
    if length_s < 60:
        return f"{length_s:.1f} s"
    minutes, seconds = divmod(round(length_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"


def format_energy(energy_kwh: float | None) -> str:
    """Energy with the SI prefix that leaves a readable number."""
    if energy_kwh is None:
        return "–"
    for factor, unit in ((1e-3, "MWh"), (1, "kWh"), (1e3, "Wh"), (1e6, "mWh")):
        if abs(energy_kwh * factor) >= 1 or unit == "mWh":
            return f"{energy_kwh * factor:.4g} {unit}"
    raise AssertionError("unreachable")


def format_share(share: float | None) -> str:
    """A share as per cent, cut so that 99.97 % never reads as all."""
    return "–" if share is None else f"{int(share * 1000) / 10:.1f} %"


def _share(part: float, whole: float) -> float | None:
    return min(1.0, part / whole) if whole > 0 else None


def _energy_and_quality(item: Mapping[str, Any]) -> str:
    """Energy, with a word for what was not measured."""
    energy, quality = format_energy(item["energy_kwh"]), item["quality"] or ""
    unmeasured = [word for word in ("simulated", "estimate") if word in quality]
    return " ".join([energy, *unmeasured])


def _how(device: Mapping[str, Any]) -> str:
    """How a device was read, one line for all that were read alike."""
    period = device["update_period_ms"]
    refreshed = f", refreshed every {period:g} ms" if period else ""
    share = ", a share of its parent GPU" if device["mig_parent"] else ""
    return (
        f"{device['meter']}: {device['quality']}, reads {device['field']}, scope {device['scope']}"
        f"{refreshed}{share}"
    )


def _watts(power_w: float | None) -> str:
    return "–" if power_w is None else f"{power_w:.1f}"


def _git(item: Mapping[str, Any]) -> str:
    if not item["git_commit"]:
        return ""
    return str(item["git_commit"])[:12] + (" with changes" if item["git_dirty"] else "")


def _model(item: Mapping[str, Any]) -> str:
    return _named_values(item["model"])


def _code(exit_code: int | None) -> list[str]:
    return [how_it_ended(exit_code).rpartition(" ")[2]] if exit_code else []


def _command(words: Sequence[str]) -> str:
    """As one may type it, on one line."""
    return textwrap.shorten(shlex.join(words), _MAX_COMMAND, placeholder=" …")


def _named_values(values: Mapping[str, Any]) -> str:
    known = {key: value for key, value in values.items() if value is not None}
    return ", ".join(
        f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}"
        for key, value in known.items()
    )


def _steps(item: Mapping[str, Any]) -> str:
    if not item["steps"]:
        return ""
    tokens = "" if item["tokens"] is None else f", {item['tokens']:,} tokens"
    loss = "" if item["final_loss"] is None else f", final loss {item['final_loss']:.4f}"
    return f"{item['steps']}{tokens}{loss}"


def _iso(time_ms: int | None) -> str | None:
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / MS_PER_S, UTC).isoformat(timespec="milliseconds")


def _local(time: str) -> str:
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")

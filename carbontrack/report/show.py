"""What `show` prints: one run, its devices and events, as measured, without any factor."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from carbontrack.account.phases import OTHER
from carbontrack.ledger.amended import facility_of, note_of
from carbontrack.ledger.outcome import heard_of, status_of
from carbontrack.ledger.recorded_rows import Event, Recording, Run, Sensor, StepTotals, Usage
from carbontrack.ledger.rows import ClockOffset, Import, Stated
from carbontrack.query.attempts import Tried
from carbontrack.query.phases import Phase, Phases
from carbontrack.query.runs import share_of
from carbontrack.report import terminal
from carbontrack.report.amendments import amendments_data
from carbontrack.report.clocks import corrected_text, shifts_data
from carbontrack.report.devices import device_labels
from carbontrack.report.escape import visible
from carbontrack.report.numbers import (
    count_text,
    digits_text,
    final_loss_text,
    format_duration,
    format_energy,
    format_part,
    format_share,
    how_it_ended,
    iso_time,
    local_time,
)
from carbontrack.report.runs import energy_and_quality, last_heard, run_item
from carbontrack.report.stated import stated_data
from carbontrack.units import J_PER_KWH, MS_PER_S, now_ms
from carbontrack.vocabulary import EventKind, Status

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_MAX_EVENTS = 20
_MAX_COMMAND = 500


def run_detail(
    run: Run,
    sensors: Sequence[Sensor],
    totals: Sequence[Usage],
    steps: StepTotals,
    recordings: Sequence[Recording],
    clocks: Mapping[int, ClockOffset],
    events: Sequence[Event],
    phases: Phases,
    attempts: Sequence[Tried],
    imports: Sequence[Import],
    stated: Sequence[Stated] = (),
) -> dict[str, Any]:
    """All of `show --format json`."""
    usage_of = {usage.device_key: usage for usage in totals}
    return {
        **run_item(run, sensors, totals, stated),
        "devices": [
            {
                "label": label,
                **_device(sensor, usage_of.get(sensor.device_key), sensor.recorded_s(run)),
            }
            for label, sensor in zip(device_labels(sensors), sensors, strict=True)
        ],
        "command": list(run.command),
        "cwd": run.cwd,
        "user": run.user,
        "git_commit": run.git_commit,
        "git_dirty": run.git_dirty,
        "facility": facility_of(run),
        "model": dict(run.model),
        "steps": steps.steps,
        "tokens": steps.tokens,
        "final_loss": steps.final_loss,
        "final_loss_steps": steps.final_loss_steps,
        "phases": [_phase(phase, phases) for phase in phases.each],
        "phases_level_s": phases.level_s,
        "attempts": [_attempt(one) for one in attempts],
        "nodes": [_node(one, clocks.get(one.key)) for one in recordings],
        "corrected": corrected_text(recordings),
        "events": [{**asdict(event), "time": iso_time(event.time_ms)} for event in events],
        "imports": [_import(source) for source in imports],
        "stated": stated_data(stated),
        "amendments": amendments_data(run.amended),
        "note": note_of(run),
    }


def _import(source: Import) -> dict[str, Any]:
    time = iso_time(source.time_ms)
    return {**asdict(source), "time": time, "provenance": source.provenance}


def _node(recording: Recording, clock: ClockOffset | None) -> dict[str, Any]:
    return {
        "host": recording.host,
        "boot_id": recording.boot_id,
        "recorder_version": recording.recorder_version,
        "settings": dict(recording.settings),
        "heartbeat": iso_time(recording.heartbeat_ms),
        "heartbeat_ms": recording.heartbeat_ms,
        "heard_ms": heard_of(recording),
        "status": status_of(recording, now_ms=now_ms()),
        "clock_offset_ms": None if clock is None else clock.offset_ms,
        "clock_shifts": shifts_data(recording),
    }


def _attempt(tried: Tried) -> dict[str, Any]:
    attempt = tried.attempt
    return {
        "attempt": attempt.number,
        "started": iso_time(attempt.started_ms),
        "ended": None if attempt.ended_ms is None else iso_time(attempt.ended_ms),
        "status": attempt.status,
        "duration_s": (attempt.until_ms - attempt.started_ms) / MS_PER_S,
        "energy_kwh": tried.energy_kwh,
        "lost_kwh": tried.lost_kwh,
        "nodes": attempt.nodes,
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
        "recorded_s": length_s,
        "coverage": share_of(usage.sampled_s if usage else 0.0, length_s),
        "rated_power_w": sensor.rated_power_w,
        "power_limit_w": sensor.power_limit_w,
        "update_period_ms": sensor.update_period_ms,
        "mig_parent": sensor.mig_parent,
        "share": sensor.share,
    }


def _phase(phase: Phase, phases: Phases) -> dict[str, Any]:
    energy_kwh, total_kwh = phase.energy_kwh, phases.energy_kwh or 0.0
    return {
        "name": phase.name,
        "duration_s": phase.duration_s,
        "energy_kwh": energy_kwh,
        "energy_share": None if energy_kwh is None else share_of(energy_kwh, total_kwh),
    }


def print_detail(item: Mapping[str, Any]) -> None:
    """One run for people."""
    from rich.table import Table

    console = terminal.console()
    ended = "" if item["exit_code"] is None else how_it_ended(item["exit_code"])
    facts = Table.grid(padding=(0, 2))
    rows = [
        ("run", f"{item['name']}  {item['id']}"),
        ("status", ", ".join(filter(None, [item["status"], ended, _as_of(item)]))),
        ("started", f"{local_time(item['started'])}, ran {format_duration(item['duration_s'])}"),
        ("command", _command(item["command"])),
        ("job", _job(item)),
        ("nodes", _nodes(item)),
        ("in", f"{item['cwd'] or 'an unknown folder'} by {item['user']}"),
        ("git", _git(item)),
        ("model", _model(item)),
        ("devices", _devices(item)),
        ("steps", _steps(item)),
        ("energy", f"{energy_and_quality(item)}, devices only, before PUE"),
        *(("imported", source["provenance"]) for source in item["imports"]),
        *(("stated", one["text"]) for one in item["stated"]),
        *(("amended", one["text"]) for one in item["amendments"]),
        ("corrected", item["corrected"]),
        ("note", item["note"]),
    ]
    for head, value in rows:
        if value:
            facts.add_row(head, visible(value))
    console.print(facts)
    table = Table(box=None, pad_edge=False, header_style="bold")
    several = len({device["name"] for device in item["devices"]}) > 1
    table.add_column("device", no_wrap=True)
    if several:
        table.add_column("name", overflow="fold")
    table.add_column("uuid", no_wrap=True)
    for head in ("mean W", "max W", "energy", "coverage"):
        table.add_column(head, justify="right", no_wrap=True)
    for device in item["devices"]:
        table.add_row(
            visible(device["label"]),
            *([visible(device["name"])] if several else []),
            visible(device["uuid"][:12]),
            _watts(device["power_mean_w"]),
            _watts(device["power_max_w"]),
            format_energy(device["energy_kwh"]),
            format_share(device["coverage"]),
        )
    if item["devices"]:
        console.print()
        console.print(table)
        for how in sorted({_how(device) for device in item["devices"]}):
            console.print(f"\n{visible(how)}")
    if [phase["name"] for phase in item["phases"]] != [OTHER]:
        console.print()
        console.print(_phase_table(item["phases"]))
        if item["phases_level_s"] > 1:
            length = format_duration(item["phases_level_s"])
            console.print(f"phases: energy within {length} is split by time")
        console.print()
    if len(item["attempts"]) > 1:
        console.print()
        console.print(_attempt_table(item["attempts"]))
        console.print()
    notes = ((node["host"], node["settings"].get("note")) for node in item["nodes"])
    for host, note in dict.fromkeys(notes):
        if note:
            console.print(visible(f"{host}: {note}"))
    # A phase begins with each evaluation and ends with it: they would hide all the others.
    events = [event for event in item["events"] if event["kind"] != EventKind.PHASE]
    if item["events"]:
        console.print("\nevents")
        for event in events[-_MAX_EVENTS:]:
            text = event["message"]
            if not text or event["kind"] == EventKind.EVAL:
                text = ": ".join(filter(None, [text, _named_values(event["data"])]))
            line = f"{local_time(event['time'])}  {event['kind']}  {text}"
            console.print(f"  {visible(line)}")
        hidden = [f"the last {_MAX_EVENTS} of {len(events)}"] if len(events) > _MAX_EVENTS else []
        if phases := len(item["events"]) - len(events):
            hidden.append(f"without {phases} {'change' if phases == 1 else 'changes'} of phase")
        if hidden:
            console.print(f"  ({', '.join(hidden)}; all with --format json)")


def _devices(item: Mapping[str, Any]) -> str:
    """8 × A100; empty where they are of several kinds, each of which is named in its row."""
    names = [device["name"] for device in item["devices"]]
    if len(set(names)) != 1:
        return ""
    return f"{len(names)} × {names[0]}" if len(names) > 1 else str(names[0])


def _attempt_table(attempts: Sequence[Mapping[str, Any]]) -> RichTable:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("attempt")
    table.add_column("started", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for head in ("time", "energy", "lost"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("nodes", overflow="fold")
    for one in attempts:
        table.add_row(
            str(one["attempt"]),
            local_time(one["started"]),
            one["status"],
            format_duration(one["duration_s"]),
            format_energy(one["energy_kwh"]),
            format_energy(one["lost_kwh"]),
            visible(", ".join(one["nodes"])),
        )
    return table


def _job(item: Mapping[str, Any]) -> str:
    """The scheduler's job, as its users name it."""
    if not item["job_id"]:
        return ""
    index = "" if item["array_index"] is None else f", array task {item['array_index']}"
    cluster = f" on {item['cluster']}" if item["cluster"] else ""
    where = [f"{name} {item[name]}" for name in ("account", "partition") if item[name]]
    rest = f" ({', '.join(where)})" if where else ""
    return f"{item['scheduler']} {item['job_id']}{index}{cluster}{rest}"


def _nodes(item: Mapping[str, Any]) -> str:
    """How many of the nodes that the scheduler gave are recorded; empty of a run on one."""
    here = len(item["attempts"][-1]["nodes"]) if item["attempts"] else 0
    expected = item["nodes_expected"]
    if expected is None or (here == 1 and expected == 1):
        return ""
    return f"{here} of {expected} nodes here"


def _phase_table(phases: Sequence[Mapping[str, Any]]) -> RichTable:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("phase", overflow="fold")
    for head in ("time", "energy", "share"):
        table.add_column(head, justify="right", no_wrap=True)
    for phase in phases:
        table.add_row(
            visible(phase["name"]),
            format_duration(phase["duration_s"]),
            format_energy(phase["energy_kwh"]),
            format_part(phase["energy_share"]),
        )
    return table


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
    return digits_text(power_w)


def _git(item: Mapping[str, Any]) -> str:
    if not item["git_commit"]:
        return ""
    return str(item["git_commit"])[:12] + (" with changes" if item["git_dirty"] else "")


def _model(item: Mapping[str, Any]) -> str:
    return _named_values(item["model"])


def _as_of(item: Mapping[str, Any]) -> str:
    """How old the figures of a running run are, or when an interrupted one was heard of last."""
    if item["status"] != Status.RUNNING or not item["nodes"]:
        return last_heard(item)
    age_s = max(0, now_ms() - max(node["heard_ms"] for node in item["nodes"])) / MS_PER_S
    return f"as of {age_s:.0f} s ago"


def _command(words: Sequence[str]) -> str:
    """As one may type it, on one line."""
    return textwrap.shorten(shlex.join(words), _MAX_COMMAND, placeholder=" …")


def _named_values(values: Mapping[str, Any]) -> str:
    known = {key: value for key, value in values.items() if value is not None}
    return ", ".join(f"{key} {_value(key, value)}" for key, value in known.items())


def _value(key: str, value: Any) -> str:
    """Counts of tokens and parameters as everywhere, other numbers with four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if key.endswith(("tokens", "parameters")):
        return count_text(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _steps(item: Mapping[str, Any]) -> str:
    if not item["steps"]:
        return ""
    tokens = "" if item["tokens"] is None else f", {count_text(item['tokens'])} tokens"
    loss = final_loss_text(item["final_loss"], item["final_loss_steps"])
    return f"{item['steps']:,}{tokens}{loss and f', {loss}'}"

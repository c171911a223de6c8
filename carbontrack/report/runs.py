"""What `runs` prints: one line a run, as measured, without any factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from carbontrack.ledger.rows import Run, Sensor, Usage
from carbontrack.query.runs import item_of
from carbontrack.report import terminal
from carbontrack.report.escape import visible
from carbontrack.report.numbers import (
    format_duration,
    format_energy,
    format_share,
    how_it_ended,
    iso_time,
    local_time,
)
from carbontrack.vocabulary import UNMEASURED


def run_item(run: Run, sensors: Sequence[Sensor], totals: Sequence[Usage]) -> dict[str, Any]:
    """One line of `runs`, with the keys of `--format json`. Energy of the devices, before PUE."""
    item = asdict(item_of(run, sensors, totals))
    times = {"started_ms": "started", "ended_ms": "ended"}
    return {
        times.get(key, key): iso_time(value) if key in times else value
        for key, value in item.items()
    }


def print_runs(items: Sequence[Mapping[str, Any]]) -> None:
    """The list for people; a narrow terminal gets fewer columns, never cut ones."""
    from rich.table import Table

    console = terminal.console()
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
        started = local_time(item["started"])
        duration, energy = format_duration(item["duration_s"]), energy_and_quality(item)
        cells = [item["id"][:13], item["name"], status]
        cells += [started if wide else started[5:16], duration, energy]
        if wide:
            cells += [str(item["devices"]), format_share(item["coverage"])]
        table.add_row(*map(visible, cells))
    console.print(table)


def energy_and_quality(item: Mapping[str, Any]) -> str:
    """Energy, with a word for what was not measured."""
    energy, quality = format_energy(item["energy_kwh"]), item["quality"] or ""
    unmeasured = [word for word in UNMEASURED if word in quality]
    return " ".join([energy, *unmeasured])


def _code(exit_code: int | None) -> list[str]:
    return [how_it_ended(exit_code).rpartition(" ")[2]] if exit_code else []

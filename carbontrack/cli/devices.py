"""`carbontrack devices`: what can be measured here, how well, and what could be better."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from carbontrack.cli.common import FormatOption, print_json
from carbontrack.errors import CarbontrackError
from carbontrack.meters import AUTO
from carbontrack.report.numbers import NO_VALUE
from carbontrack.vocabulary import Devices, Format, Quality

# Long enough for two looks of the slowest meter (the CPU model) and for 30 refreshes of an NVML
# counter.
_LOOK_S = 0.7
_QUALITY = {
    Quality.COUNTER: "energy counter",
    Quality.POWER: "power samples",
    Quality.ESTIMATE: "estimate",
    Quality.SIMULATED: "simulated",
}


def devices(
    meter: Annotated[
        str, typer.Option(help="auto, nvml, rapl, cpu-model, sim:a100x8; several joined by commas.")
    ] = AUTO,
    which: Annotated[
        str,
        typer.Option(
            "--devices", metavar="job|all", help="Those a job started here would see, or all."
        ),
    ] = Devices.JOB.value,
    format: FormatOption = Format.TEXT,
) -> None:
    """Show what can be measured here, how well, and why nothing better can be.

    Example: carbontrack devices --meter nvml --devices all
    """
    from carbontrack.meters.base import MeterContext
    from carbontrack.meters.observe import observe
    from carbontrack.meters.registry import find_meters

    if which not in tuple(Devices):
        raise CarbontrackError(f"--devices {which}: unknown.", hint="Give job or all.")
    found = find_meters(meter, MeterContext(environ=os.environ, visible=which))
    sources = [source for opened in found.meters for source in opened.sources]
    looks = observe(sources, _LOOK_S)
    items = [
        {**asdict(source.device), **asdict(look)}
        for source, look in zip(sources, looks, strict=True)
    ]
    notes = [{"name": opened.name, "note": opened.note} for opened in found.meters]
    passed_over = [asdict(over) for over in found.rejected]
    if format is Format.JSON:
        print_json({"devices": items, "meters": notes, "passed_over": passed_over})
    else:
        _print(items, notes, passed_over)


def _print(
    items: Sequence[Mapping[str, Any]],
    meters: Sequence[Mapping[str, str]],
    passed_over: Sequence[Mapping[str, str]],
) -> None:
    from rich.table import Table

    from carbontrack.report import terminal

    console = terminal.console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device")
    table.add_column("uuid", no_wrap=True)
    table.add_column("energy from")
    for head in ("now W", "limit W"):
        table.add_column(head, justify="right", no_wrap=True)
    for item in items:
        share = f" ({item['share']:.0%} of its GPU)" if item["mig_parent"] else ""
        table.add_row(
            f"{item['name']}{share}",
            item["uuid"][:12],
            _QUALITY[item["quality"]],
            _watts(item["power_w"]) if item["answers"] else "silent",
            _limit(item),
        )
    console.print(table)
    console.print()
    facts = Table.grid(padding=(0, 2))
    for meter in meters:
        facts.add_row(meter["name"], meter["note"])
        for line in _readings([item for item in items if item["meter"] == meter["name"]]):
            facts.add_row("", line)
    for over in passed_over:
        facts.add_row(f"not {over['name']}", over["reason"])
    console.print(facts)


def _readings(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which sensors are read, what they include and how often they refresh."""
    import statistics

    periods_ms: dict[tuple[str, str], list[float]] = defaultdict(list)
    for item in items:
        period_ms = item["update_period_ms"]
        periods_ms[item["field"], item["scope"]] += [] if period_ms is None else [period_ms]
    return [
        f"reads {field}, scope {scope}"
        + (f", refreshed every {statistics.median(known):.0f} ms" if known else "")
        for (field, scope), known in periods_ms.items()
    ]


def _limit(item: Mapping[str, Any]) -> str:
    """The limit enforced now, beside the rated one where they differ."""
    limit_w, rated_w = item["power_limit_w"], item["rated_power_w"]
    if limit_w is None or rated_w is None or limit_w == rated_w:
        return _watts(rated_w if limit_w is None else limit_w)
    return f"{_watts(limit_w)} of {_watts(rated_w)}"


def _watts(power_w: float | None) -> str:
    return NO_VALUE if power_w is None else f"{power_w:.1f}" if power_w < 10 else f"{power_w:.0f}"

"""What `runs` prints: one line a run, as measured, without any factor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from carbontrack.account.devices import devices_of
from carbontrack.ids import short_id
from carbontrack.ledger.recorded_rows import Run, Sensor, Usage
from carbontrack.ledger.rows import Stated
from carbontrack.query.runs import RunItem, item_of
from carbontrack.report import terminal
from carbontrack.report.escape import visible
from carbontrack.report.numbers import (
    NO_VALUE,
    format_duration,
    format_energy,
    format_share,
    how_it_ended,
    iso_time,
    local_time,
)
from carbontrack.units import MS_PER_S, now_ms
from carbontrack.vocabulary import UNMEASURED, Quality, Status

_SHOWN_S = 12 * 3600.0  # so that the time of the day says which day


def run_item(
    run: Run, sensors: Sequence[Sensor], totals: Sequence[Usage], stated: Sequence[Stated] = ()
) -> dict[str, Any]:
    """As `listed`, of a run whose devices were read one by one: as by `ledger.read`."""
    return listed(item_of(run, devices_of(run, sensors, totals), stated))


def listed(item: RunItem) -> dict[str, Any]:
    """One line of `runs`, with the keys of `--format json`. Energy of the devices, before PUE."""
    times = {"started_ms": "started", "ended_ms": "ended", "heard_ms": "heard"}
    return {
        times.get(key, key): iso_time(value) if key in times else value
        for key, value in asdict(item).items()
    }


def print_runs(items: Sequence[Mapping[str, Any]]) -> None:
    """The list for people; a narrow terminal gets fewer columns, never cut ones."""
    from rich.table import Table

    console = terminal.console()
    columns = _fitting(_columns(items), console.width)
    console.width = max(console.width, _needed(columns))  # too wide rather than cut
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.head,
            justify="right" if column.right else "left",
            no_wrap=column is not columns[_NAME],
            overflow="fold",
            min_width=column.least,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    console.print(table)


_NAME = 1  # the place of the column that may be folded
_LEAST_NAME = 12
_BETWEEN = 2


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the list. Of those that do not fit, the one of the highest `spare` gets its
    `shorter` cells, if there are any, and goes next; one that is `needed` only gets shorter.
    """

    head: str
    cells: tuple[str, ...]
    right: bool = False
    spare: int = 0
    shorter: tuple[str, ...] = ()
    needed: bool = False

    @property
    def width(self) -> int:
        from rich.cells import cell_len

        return max(cell_len(text) for text in (self.head, *self.cells))

    @property
    def least(self) -> int:
        return min(self.width, _LEAST_NAME) if self.head == "name" else self.width


def _columns(items: Sequence[Mapping[str, Any]]) -> list[_Column]:
    def cells(text: Callable[[Mapping[str, Any]], str]) -> tuple[str, ...]:
        return tuple(visible(text(item)) for item in items)

    days = cells(lambda item: local_time(item["started"])[:10])
    return [
        _Column("run", cells(lambda item: short_id(item["id"]))),
        _Column("name", cells(lambda item: item["name"])),
        _Column("status", cells(_status), spare=1, shorter=cells(_status_word), needed=True),
        _Column(
            "started",
            cells(lambda item: local_time(item["started"], seconds=False)),
            spare=3,
            shorter=days,
        ),
        _Column("duration", cells(lambda i: format_duration(i["duration_s"])), right=True, spare=2),
        _Column("energy", cells(energy_and_quality), right=True),
        _Column("devices", cells(_count), right=True, spare=5),
        _Column("coverage", cells(lambda i: format_share(i["coverage"])), right=True, spare=4),
    ]


def _needed(columns: Sequence[_Column]) -> int:
    return sum(column.least + _BETWEEN for column in columns) - _BETWEEN


def _fitting(columns: Sequence[_Column], width: int) -> list[_Column]:
    """As many as fit beside a name of 12 letters, or of all its letters."""
    kept = list(columns)
    while _needed(kept) > width:
        last = max(kept, key=lambda one: one.spare)
        if not last.spare:
            break
        at = kept.index(last)
        spare = 0 if last.needed else last.spare
        shorter = replace(last, cells=last.shorter, shorter=(), spare=spare)
        kept[at : at + 1] = [shorter] if last.shorter else []
    return kept


def energy_and_quality(item: Mapping[str, Any]) -> str:
    """Energy, with a word for what was not measured, or not here."""
    energy, quality = format_energy(item["energy_kwh"]), item["quality"] or ""
    words = [word for word in (*UNMEASURED, Quality.STATED) if word in quality]
    return " ".join([energy, *words])


def _count(item: Mapping[str, Any]) -> str:
    return NO_VALUE if item["devices"] is None else str(item["devices"])


def _status(item: Mapping[str, Any]) -> str:
    heard = last_heard(item)
    return " ".join([item["status"], *_code(item["exit_code"])]) + (heard and f", {heard}")


def last_heard(item: Mapping[str, Any]) -> str:
    """When a run whose recorder fell silent was heard of last; empty where that is long ago."""
    if item["status"] != Status.INTERRUPTED or item["heard"] is None:
        return ""
    ago_s = now_ms() / MS_PER_S - datetime.fromisoformat(item["heard"]).timestamp()
    if ago_s > _SHOWN_S:
        return ""
    return f"last heard {local_time(item['heard'])[11:16]} ({format_duration(ago_s)} ago)"


def _status_word(item: Mapping[str, Any]) -> str:
    return str(item["status"])


def _code(exit_code: int | None) -> list[str]:
    return [how_it_ended(exit_code).rpartition(" ")[2]] if exit_code else []

"""docs/scale.md: each number follows from the bytes that were measured, and from our defaults."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from carbontrack.ledger import KEEP
from carbontrack.ledger.batch import EVERY_S
from carbontrack.ledger.kept import parse_keep
from carbontrack.ledger.shipped_seconds import younger_ms
from carbontrack.units import MS_PER_DAY

PAGE = (Path(__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
DAY_S = 86_400
SECONDS_DAYS, MINUTES_DAYS = (age_ms // MS_PER_DAY for age_ms in parse_keep(KEEP).values())
GPUS_A_NODE = 8


def rows(heading: str) -> dict[str, list[str]]:
    """The first table below a heading: the cells of each row by its first one."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}


_BYTES = {what: float(value) for what, (value,) in rows("What one row takes").items()}
SECOND, MINUTE, HOUR, FILE, PARQUET, WAL = _BYTES.values()
ALL = SECOND + MINUTE / 60 + HOUR / 3600


def size(count: float) -> str:
    """Bytes with three digits, as the page has them."""
    for unit, of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= of:
            value = count / of
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            return f"{value:.{digits}f} {unit}"
    raise AssertionError(count)


def year(gpus: int, more_days_of_seconds: int = 0, more_days_of_minutes: int = 0) -> float:
    seconds = gpus * DAY_S * SECOND * (SECONDS_DAYS + more_days_of_seconds)
    return seconds + without_seconds(gpus, more_days_of_minutes)


def without_seconds(gpus: int, more_days: int = 0) -> float:
    return gpus * (1440 * MINUTE * (MINUTES_DAYS + more_days) + 24 * HOUR * 365)


_OF_GPUS: dict[str, Callable[[int], str]] = {
    "nodes": lambda gpus: f"{gpus / GPUS_A_NODE:,.0f}",
    f"requests a second, one each {EVERY_S:g} s a node": lambda gpus: (
        f"{gpus / GPUS_A_NODE / EVERY_S:,.0f}"
    ),
    "rows of seconds a second, and as many of minutes": lambda gpus: f"{gpus / 60:,.0f}",
    "seconds, a day": lambda gpus: size(gpus * DAY_S * SECOND),
    f"seconds, {SECONDS_DAYS} days": lambda gpus: size(gpus * DAY_S * SECOND * SECONDS_DAYS),
    "minutes, a day": lambda gpus: size(gpus * 1440 * MINUTE),
    f"minutes, {MINUTES_DAYS} days": lambda gpus: size(gpus * 1440 * MINUTE * MINUTES_DAYS),
    "hours, a day": lambda gpus: size(gpus * 24 * HOUR),
    "hours, a year": lambda gpus: size(gpus * 24 * HOUR * 365),
    "PostgreSQL after a year": lambda gpus: size(year(gpus)),
    "WAL, a day": lambda gpus: size(gpus * DAY_S * WAL),
    "Parquet, a day": lambda gpus: size(gpus * DAY_S * PARQUET),
    "a node's file, a day": lambda gpus: size(GPUS_A_NODE * DAY_S * FILE),
    "a month of hours, in rows": lambda gpus: (
        f"{gpus * 720 / 1e6:.1f} million" if gpus < 1e6 else f"{gpus * 720 / 1e9:.2f} billion"
    ),
}


@pytest.mark.parametrize(("column", "gpus"), [(0, 16_384), (1, 1_600_000)])
def test_the_table_of_fleets_follows_from_what_a_row_takes(column: int, gpus: int) -> None:
    found = {what: cells[column] for what, cells in rows("Two fleets").items()}
    assert found == {what: of(gpus) for what, of in _OF_GPUS.items()}
    assert f"| {gpus:,} GPUs" in PAGE


@pytest.mark.parametrize(
    "says",
    [
        f"takes {ALL:.1f} bytes: {SECOND:g} + {MINUTE:g} ÷ 60 + {HOUR:g} ÷ 3,600",
        f"seconds kept for {SECONDS_DAYS} days, minutes for {MINUTES_DAYS} and hours for ever",
        f"`ship_seconds`, {younger_ms(None) // MS_PER_DAY} days by default",
        f"seconds take up to {SECONDS_DAYS + 1} days, and minutes up to {MINUTES_DAYS + 31}"
        f": of 16,384 GPUs up to {size(year(16_384, 1, 31))} in all",
        f"{1_600_000 / 16_384:.0f} of 16,384",
        f"a month of minutes of 16,384 GPUs are {16_384 * 1440 * 30 / 1e6:.0f} million rows",
        f"after a year reads {size(year(16_384))}; without its seconds "
        f"{size(without_seconds(16_384))}",
        f"keeps {size(16_384 * DAY_S * WAL)} of WAL a day",
    ],
)
def test_what_the_text_says_follows_as_well(says: str) -> None:
    assert says in re.sub(r"\s+", " ", PAGE)

"""Reading a table of grid intensity over time. Pure: text in, intervals out, or one clear error.

Recognised by their columns: exports of Electricity Maps, WattTime's history, the files of Great
Britain's grid operator, and a plain table `time,zone,kg_per_kwh` (or `g_per_kwh`).
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

from carbontrack.account import catalog
from carbontrack.account.intensity import Interval
from carbontrack.errors import CarbontrackError
from carbontrack.units import MS_PER_S

MAX_KG_PER_KWH = 3.0  # the dirtiest grids are near 1.3
_KG_PER_G = 1e-3
_KG_PER_KWH_OF_LB_PER_MWH = 0.00045359237
_PLAIN = "time,zone,kg_per_kwh"


@dataclass(frozen=True, slots=True)
class Layout:
    """A known shape of file. Column names are compared without case."""

    name: str
    time: tuple[str, ...]
    value: tuple[str, ...]  # the first that the file has
    to_kg_per_kwh: float
    basis: str
    zone_column: tuple[str, ...] = ()
    zone: str | None = None
    utc: bool = False  # times without an offset are UTC


LAYOUTS = (
    Layout(
        "Electricity Maps",
        time=("datetime (utc)",),
        value=("carbon intensity gco₂eq/kwh (life cycle)", "carbon intensity gco₂eq/kwh (lca)"),
        to_kg_per_kwh=_KG_PER_G,
        basis="life-cycle average",
        zone_column=("zone id", "zone name"),
        utc=True,
    ),
    Layout(
        "WattTime",
        time=("timestamp", "point_time"),
        value=("moer",),
        to_kg_per_kwh=_KG_PER_KWH_OF_LB_PER_MWH,
        basis="direct marginal",
        zone_column=("ba", "region"),
        utc=True,
    ),
    Layout(
        "the GB grid operator",
        time=("from", "datetime"),
        value=("actual", "carbon_intensity"),
        to_kg_per_kwh=_KG_PER_G,
        basis="direct average",
        zone="GBR",
        utc=True,
    ),
    Layout(
        "plain table in kg",
        time=("time",),
        value=("kg_per_kwh",),
        to_kg_per_kwh=1.0,
        basis="as given",
        zone_column=("zone",),
    ),
    Layout(
        "plain table in g",
        time=("time",),
        value=("g_per_kwh",),
        to_kg_per_kwh=_KG_PER_G,
        basis="as given",
        zone_column=("zone",),
    ),
)


@dataclass(frozen=True, slots=True)
class IntensityFile:
    """What a file holds. `missing` are the gaps between its times: (zone, start, end) in ms."""

    layout: str
    intervals: tuple[Interval, ...]
    missing: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Value:
    row: int
    start_ms: int
    kg_per_kwh: float


def parse(
    text: str,
    name: str,
    *,
    version: str,
    zone: str | None = None,
    basis: str | None = None,
    bridge: bool = False,
) -> IntensityFile:
    """The intervals of a file. `name` is the file's, for messages; `zone` overrides its own.

    With `bridge`, gaps take the mean of their two neighbours. Raises CarbontrackError that names
    file, row and column for a missing column, a value that cannot be, a time without an offset, or
    overlapping times.
    """
    reader = csv.DictReader(text.removeprefix("\ufeff").splitlines())
    columns = {column.strip().casefold(): column for column in reader.fieldnames or ()}
    layout = _layout(columns, name)
    time, value = _first(layout.time, columns), _first(layout.value, columns)
    by_zone: dict[str, list[_Value]] = {}
    for number, row in enumerate(reader, start=2):
        if not (row[value] or "").strip():
            continue  # no value for this time: a gap
        found = _Value(
            number,
            _time_ms(row[time], layout, name, number, time),
            _kg(row, value, layout, name, number),
        )
        by_zone.setdefault(_zone(row, columns, layout, zone, name, number), []).append(found)
    if not by_zone:
        raise CarbontrackError(f"{name}: no value in it.", hint="Nothing was imported.")
    intervals: list[Interval] = []
    missing: list[tuple[str, int, int]] = []
    for code, values in by_zone.items():
        made = _intervals(values, name)
        gaps = [(a.end_ms, b.start_ms) for a, b in pairwise(made) if a.end_ms < b.start_ms]
        missing += [(code, start_ms, end_ms) for start_ms, end_ms in gaps]
        if bridge:
            made = list(_bridged(made))
        source = f"{layout.name}, {name}" + (
            f", {len(gaps)} gaps bridged" if bridge and gaps else ""
        )
        intervals += [
            replace(one, zone=code, basis=basis or layout.basis, source=source, version=version)
            for one in made
        ]
    return IntensityFile(layout.name, tuple(intervals), tuple(missing))


def _layout(columns: Mapping[str, str], name: str) -> Layout:
    for layout in LAYOUTS:
        if _has(layout.time, columns) and _has(layout.value, columns):
            return layout
    hint = f"Known: Electricity Maps, WattTime, the GB grid operator, or a table {_PLAIN}."
    given = ", ".join(columns.values()) or "nothing"
    raise CarbontrackError(f"{name}: no columns of time and intensity in {given}.", hint=hint)


def _has(names: Sequence[str], columns: Mapping[str, str]) -> bool:
    return any(one in columns for one in names)


def _first(names: Sequence[str], columns: Mapping[str, str]) -> str:
    return next(columns[one] for one in names if one in columns)


def _zone(
    row: Mapping[str, str],
    columns: Mapping[str, str],
    layout: Layout,
    given: str | None,
    name: str,
    number: int,
) -> str:
    text = given or layout.zone
    if text is None and _has(layout.zone_column, columns):
        text = row[_first(layout.zone_column, columns)]
    if not text:
        raise CarbontrackError(f"{name}, row {number}: no zone.", hint="Give --zone.")
    return catalog.zone_code(text) or text.strip()


def _kg(row: Mapping[str, str], column: str, layout: Layout, name: str, number: int) -> float:
    where = f"{name}, row {number}, column {column!r}: {row[column]}"
    try:
        value = float(row[column]) * layout.to_kg_per_kwh
    except ValueError:
        raise CarbontrackError(f"{where} is no number.") from None
    if not math.isfinite(value) or value < 0:
        raise CarbontrackError(f"{where} is negative or not finite.", hint="Nothing was imported.")
    if value > MAX_KG_PER_KWH:
        raise CarbontrackError(
            f"{where} is {value:g} kg/kWh, too much for any grid.", hint="Is it in g/kWh?"
        )
    return value


def _time_ms(text: str, layout: Layout, name: str, number: int, column: str) -> int:
    where = f"{name}, row {number}, column {column!r}: {text!r}"
    try:
        time = datetime.fromisoformat(text.strip())
    except (ValueError, AttributeError):
        raise CarbontrackError(f"{where} is no time.", hint="Example: 2026-01-31T14:00Z.") from None
    if time.tzinfo is None:
        if not layout.utc:
            raise CarbontrackError(
                f"{where} has no offset, so an hour of a clock change would be ambiguous.",
                hint="Write 2026-01-31T14:00Z or +01:00.",
            )
        time = time.replace(tzinfo=UTC)
    return round(time.timestamp() * MS_PER_S)


def _intervals(values: Sequence[_Value], name: str) -> list[Interval]:
    """In order of time, each as long as the file's usual step or up to the next."""
    ordered = sorted(values, key=lambda one: one.start_ms)
    for a, b in pairwise(ordered):
        if a.start_ms == b.start_ms:
            raise CarbontrackError(
                f"{name}, rows {a.row} and {b.row}: the same time twice.",
                hint="A clock change in local time? Give UTC. Nothing was imported.",
            )
    steps = Counter(b.start_ms - a.start_ms for a, b in pairwise(ordered))
    step_ms = min(steps, key=lambda ms: (-steps[ms], ms), default=3_600_000)
    for a, b in pairwise(ordered):
        if b.start_ms - a.start_ms < step_ms:
            raise CarbontrackError(
                f"{name}, rows {a.row} and {b.row}: overlapping times, "
                f"{(b.start_ms - a.start_ms) // 60_000} min apart instead of {step_ms // 60_000}.",
                hint="Nothing was imported.",
            )
    return [Interval("", one.start_ms, step_ms, one.kg_per_kwh, "", "", "") for one in ordered]


def _bridged(intervals: Sequence[Interval]) -> Iterator[Interval]:
    for a, b in pairwise(intervals):
        yield a
        if a.end_ms < b.start_ms:
            mean = (a.intensity_kg_per_kwh + b.intensity_kg_per_kwh) / 2
            yield replace(
                a,
                start_ms=a.end_ms,
                length_ms=b.start_ms - a.end_ms,
                intensity_kg_per_kwh=mean,
            )
    yield intervals[-1]

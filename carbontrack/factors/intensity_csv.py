"""Reading a table of grid intensity over time. Pure: text in, intervals out, or one clear error.

Recognised by their columns: exports of Electricity Maps, WattTime's history, the files of Great
Britain's grid operator, and a plain table `time,zone,kg_per_kwh` (or `g_per_kwh`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby, pairwise

from carbontrack.factors import catalog, strict_csv
from carbontrack.factors.series import Interval
from carbontrack.factors.strict_csv import Row, refused
from carbontrack.units import MS_PER_HOUR, MS_PER_S

MAX_KG_PER_KWH = 3.0  # the dirtiest grids are near 1.3
_STRETCH = 3  # so many equal steps in a row are a step of the file's own
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
    basis_column: str = ""
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
        "WattTime v3",
        time=("point_time",),
        value=("value",),
        to_kg_per_kwh=_KG_PER_KWH_OF_LB_PER_MWH,
        basis="direct marginal",
        zone_column=("region",),
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
        basis_column="basis",
    ),
    Layout(
        "plain table in g",
        time=("time",),
        value=("g_per_kwh",),
        to_kg_per_kwh=_KG_PER_G,
        basis="as given",
        zone_column=("zone",),
        basis_column="basis",
    ),
)


@dataclass(frozen=True, slots=True)
class IntensityFile:
    """What a file holds. `missing` are times without a value, `bridged` those that were filled.

    Both as (zone, start, end) in ms. `missing` may be at the ends of a file too, where a time is
    given without a value: nothing can bridge those.
    """

    layout: str
    intervals: tuple[Interval, ...]
    missing: tuple[tuple[str, int, int], ...]
    bridged: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Value:
    row: int
    start_ms: int
    kg_per_kwh: float | None  # None: the time is there, its value is not
    basis: str


def parse(
    text: str,
    name: str,
    *,
    version: str,
    zone: str | None = None,
    basis: str | None = None,
    bridge: bool = False,
) -> IntensityFile:
    """The intervals of a file. `name` is the file's, for messages; `zone` and `basis` override its.

    With `bridge`, gaps take the mean of their two neighbours. Raises CarbontrackError that names
    file, row and column for a missing column or cell, a value that cannot be, a time without an
    offset, overlapping times, or two bases of one zone.
    """
    given, rows = strict_csv.read(text, name)
    columns = {column.casefold(): column for column in given}
    layout = _layout(columns, name)
    time, value = _first(layout.time, columns), _first(layout.value, columns)
    told = columns.get(layout.basis_column) if basis is None else None
    by_zone: dict[str, list[_Value]] = {}
    for row in rows:
        found = _Value(
            row.number,
            _time_ms(row, time, layout),
            _kg(row, value, layout) if row[value] else None,
            (row[told] if told else "") or basis or layout.basis,
        )
        by_zone.setdefault(_zone(row, columns, layout, zone), []).append(found)
    _check_unit(by_zone, layout, name, value)
    intervals: list[Interval] = []
    missing: list[tuple[str, int, int]] = []
    bridged: list[tuple[str, int, int]] = []
    for code, values in by_zone.items():
        made, holes = _intervals(values, name)
        filled = list(_bridges(made)) if bridge else []
        source = f"{layout.name}, {name}" + (f", gaps bridged: {len(filled)}" if filled else "")
        intervals += [
            replace(one, zone=code, basis=_basis(values, name), source=source, version=version)
            for one in sorted([*made, *filled], key=lambda one: one.start_ms)
        ]
        bridged += [(code, one.start_ms, one.end_ms) for one in filled]
        missing += [(code, *hole) for hole in holes if (code, *hole) not in bridged]
    return IntensityFile(layout.name, tuple(intervals), tuple(missing), tuple(bridged))


def _layout(columns: Mapping[str, str], name: str) -> Layout:
    for layout in LAYOUTS:
        if _has(layout.time, columns) and _has(layout.value, columns):
            return layout
    hint = f"Known: Electricity Maps, WattTime, the GB grid operator, or a table {_PLAIN}."
    given = ", ".join(columns.values()) or "nothing"
    raise refused(name, f"row 1: no columns of time and intensity in {given}.", hint)


def _has(names: Sequence[str], columns: Mapping[str, str]) -> bool:
    return any(one in columns for one in names)


def _first(names: Sequence[str], columns: Mapping[str, str]) -> str:
    return next(columns[one] for one in names if one in columns)


def _zone(row: Row, columns: Mapping[str, str], layout: Layout, given: str | None) -> str:
    text = given or layout.zone
    if text is None and _has(layout.zone_column, columns):
        text = row[_first(layout.zone_column, columns)]
    if not text:
        raise refused(row.file, f"row {row.number}: no zone.", "Give --zone.")
    return catalog.zone_code(text) or text.strip()


def _kg(row: Row, column: str, layout: Layout) -> float:
    value = row.number_of(column) * layout.to_kg_per_kwh
    if value > MAX_KG_PER_KWH:
        why = f"is {value:g} kg/kWh, too much for any grid."
        raise row.refused(column, why, "Is it in g/kWh?")
    return value


def _check_unit(
    by_zone: Mapping[str, Sequence[_Value]], layout: Layout, name: str, column: str
) -> None:
    """Raises CarbontrackError where nothing is known, or where kg stand in a column of g."""
    known = [
        v.kg_per_kwh for values in by_zone.values() for v in values if v.kg_per_kwh is not None
    ]
    if not known:
        raise refused(name, f"column {column!r}: no value in it.")
    most = max(known) / layout.to_kg_per_kwh
    if layout.to_kg_per_kwh != 1.0 and min(known) > 0 and most < MAX_KG_PER_KWH:
        why = (
            f"column {column!r}: no value is above {most:g}, too little for any grid in this unit."
        )
        raise refused(name, why, f"Is it in kg/kWh? Then write {_PLAIN}.")


def _basis(values: Sequence[_Value], name: str) -> str:
    for a, b in pairwise(values):
        if a.basis != b.basis:
            why = f"rows {a.row} and {b.row}: {a.basis!r} and {b.basis!r} in one zone."
            raise refused(name, why, "Bases are never mixed: import a file for each.")
    return values[0].basis


def _time_ms(row: Row, column: str, layout: Layout) -> int:
    try:
        time = datetime.fromisoformat(row[column])
    except ValueError:
        raise row.refused(column, "is no time.", "Example: 2026-01-31T14:00Z.") from None
    if time.tzinfo is None:
        if not layout.utc:
            why = "has no offset, so an hour of a clock change would be ambiguous."
            raise row.refused(column, why, "Write 2026-01-31T14:00Z or +01:00.")
        time = time.replace(tzinfo=UTC)
    return round(time.timestamp() * MS_PER_S)


def _intervals(values: Sequence[_Value], name: str) -> tuple[list[Interval], list[tuple[int, int]]]:
    """What is known, in order of time, each as long as the step around it; and what is missing."""
    ordered = sorted(values, key=lambda one: one.start_ms)
    for a, b in pairwise(ordered):
        if a.start_ms == b.start_ms:
            raise refused(
                name,
                f"rows {a.row} and {b.row}: the same time twice.",
                "A clock change in local time? Give UTC.",
            )
    lengths_ms = _lengths_ms([b.start_ms - a.start_ms for a, b in pairwise(ordered)])
    for (a, b), length_ms in zip(pairwise(ordered), lengths_ms, strict=False):
        apart_ms = b.start_ms - a.start_ms
        if apart_ms < length_ms:
            raise refused(
                name,
                f"rows {a.row} and {b.row}: overlapping times, "
                f"{apart_ms // 60_000} min apart instead of {length_ms // 60_000}.",
            )
    known: list[Interval] = []
    holes: list[tuple[int, int]] = []
    until_ms = ordered[0].start_ms
    for one, length_ms in zip(ordered, lengths_ms, strict=True):
        if one.kg_per_kwh is None:
            continue
        if one.start_ms > until_ms:
            holes.append((until_ms, one.start_ms))
        until_ms = one.start_ms + length_ms
        known.append(Interval("", one.start_ms, length_ms, one.kg_per_kwh, "", "", ""))
    end_ms = ordered[-1].start_ms + lengths_ms[-1]
    if until_ms < end_ms:
        holes.append((until_ms, end_ms))
    return known, holes


def _lengths_ms(gaps_ms: Sequence[int]) -> list[int]:
    """How long each row holds, from the time between each two: one more than there are gaps.

    A file may change its step, from 60 to 15 minutes say: several equal steps in a row are its
    step there. Any other gap is a hole, and the row before it as long as the rows around it.
    """
    if not gaps_ms:
        return [MS_PER_HOUR]
    often = Counter(gaps_ms)
    usual_ms = min(often, key=lambda ms: (-often[ms], ms))
    steps_ms: list[int | None] = []
    for gap_ms, run in groupby(gaps_ms):
        count = len(list(run))
        steps_ms += [gap_ms if count >= _STRETCH else None] * count
    before = _carried(steps_ms)
    after = _carried(steps_ms[::-1])[::-1]
    lengths = []
    for gap_ms, left_ms, right_ms in zip(gaps_ms, before, after, strict=True):
        around = [ms for ms in (left_ms, right_ms) if ms is not None] or [usual_ms]
        lengths.append(next((ms for ms in around if ms <= gap_ms), around[0]))
    return [*lengths, lengths[-1]]


def _carried(steps_ms: Sequence[int | None]) -> list[int | None]:
    """Each step, or where there is none the last before it."""
    last: int | None = None
    return [last := last if ms is None else ms for ms in steps_ms]


def _bridges(known: Sequence[Interval]) -> Iterator[Interval]:
    """What fills the holes between what is known."""
    for a, b in pairwise(known):
        if a.end_ms < b.start_ms:
            mean = (a.intensity_kg_per_kwh + b.intensity_kg_per_kwh) / 2
            length_ms = b.start_ms - a.end_ms
            yield replace(a, start_ms=a.end_ms, length_ms=length_ms, intensity_kg_per_kwh=mean)

"""Reading a table of grid intensity over time. Pure: text in, intervals out, or one clear error.

Recognised by their columns (`layouts.py`): exports of Electricity Maps, WattTime's history, the
files of Great Britain's grid operator, a plain table `time,zone,kg_per_kwh` (or `g_per_kwh`), and
the JSON of their APIs; the columns of any other can be named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby, pairwise
from operator import itemgetter
from statistics import fmean

from carbontrack.errors import CarbontrackError
from carbontrack.factors import catalog, layouts, strict_csv, strict_json
from carbontrack.factors.layouts import PLAIN, Layout, first, folded, has
from carbontrack.factors.series import Interval
from carbontrack.factors.strict_csv import Row, refused
from carbontrack.units import MS_PER_HOUR, MS_PER_S

MAX_KG_PER_KWH = 3.0  # the dirtiest grids are near 1.3
_EPOCH_MS_PER = {10: MS_PER_S, 13: 1}  # by the number of digits: seconds or ms since 1970
_STRETCH = 3  # so many equal steps in a row are a step of the file's own
_LISTED = 3  # so many examples in a message
DUPLICATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": fmean,
    "first": itemgetter(0),
    "last": itemgetter(-1),
}
"""What `--duplicates` may say of a time that has several values, in the order of the file."""


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
    estimated: int = 0  # rows that say of themselves that they are
    repeated: int = 0  # rows whose time is another row's, too


@dataclass(frozen=True, slots=True)
class _Value:
    row: int
    start_ms: int
    kg_per_kwh: float | None  # None: the time is there, its value is not
    basis: str
    estimated: bool


def parse(
    text: str,
    name: str,
    *,
    version: str,
    zone: str | None = None,
    basis: str | None = None,
    bridge: bool = False,
    duplicates: str | None = None,
    layout: Layout | None = None,
) -> IntensityFile:
    """The intervals of a file. `name` is the file's, for messages; `zone` and `basis` override its.

    With `bridge`, gaps take the mean of their two neighbours; `duplicates` (a key of DUPLICATES)
    decides where one time has several values; `layout` names the columns, else they are
    recognised. Raises CarbontrackError that names file, row and column for a missing column or
    cell, a value that cannot be, a time without an offset, overlapping times, several values of one
    time, or two bases of one zone.
    """
    if duplicates is not None and duplicates not in DUPLICATES:
        known = ", ".join(DUPLICATES)
        raise CarbontrackError(f"--duplicates {duplicates!r} is unknown.", hint=f"Give {known}.")
    reader = strict_json if strict_json.is_json(text) else strict_csv
    given, rows = reader.read(text, name)
    columns = {folded(column): column for column in given}
    if layout is None:
        layout = layouts.recognised(columns, name)
    layouts.check_columns(layout, columns, name)
    by_zone: dict[str, list[_Value]] = {}
    for row in rows:
        _check_row_unit(row, columns, layout)
        code = _zone(row, columns, layout, zone)
        by_zone.setdefault(code, []).append(_value(row, columns, layout, basis))
    _check_unit(by_zone, layout, name, first(layout.value, columns))
    intervals: list[Interval] = []
    missing: list[tuple[str, int, int]] = []
    bridged: list[tuple[str, int, int]] = []
    repeated = 0
    for code, values in by_zone.items():
        single = _single(values, name, duplicates)
        repeated += len(values) - len(single)
        made, holes = _intervals(single, name)
        filled = list(_bridges(made)) if bridge else []
        source = f"{layout.name}, {name}" + (f", gaps bridged: {len(filled)}" if filled else "")
        intervals += [
            replace(one, zone=code, basis=_basis(values, name), source=source, version=version)
            for one in sorted([*made, *filled], key=lambda one: one.start_ms)
        ]
        bridged += [(code, one.start_ms, one.end_ms) for one in filled]
        missing += [(code, *hole) for hole in holes if (code, *hole) not in bridged]
    return IntensityFile(
        layout.name,
        tuple(intervals),
        tuple(missing),
        tuple(bridged),
        estimated=sum(value.estimated for values in by_zone.values() for value in values),
        repeated=repeated,
    )


def _value(row: Row, columns: Mapping[str, str], layout: Layout, basis: str | None) -> _Value:
    value = first(layout.value, columns)
    stated = row[columns[layout.basis_column]] if layout.basis_column in columns else ""
    estimated = has(layout.estimated_column, columns)
    return _Value(
        row.number,
        _time_ms(row, first(layout.time, columns), layout),
        _kg(row, value, layout) if row[value] else None,
        basis or layout.basis_names.get(stated, stated) or layout.basis,
        estimated and row[first(layout.estimated_column, columns)].casefold() in ("true", "1"),
    )


def _check_row_unit(row: Row, columns: Mapping[str, str], layout: Layout) -> None:
    column = columns.get(layout.unit_column)
    if column is not None and row[column] != layout.unit:
        raise row.refused(column, f"is not {layout.unit}.", "Give --value-column and --unit.")


def _zone(row: Row, columns: Mapping[str, str], layout: Layout, given: str | None) -> str:
    text = given or layout.zone
    if text is None and has(layout.zone_column, columns):
        text = row[first(layout.zone_column, columns)]
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
        raise refused(name, why, f"Is it in kg/kWh? Then write {PLAIN}.")


def _basis(values: Sequence[_Value], name: str) -> str:
    for a, b in pairwise(values):
        if a.basis != b.basis:
            why = f"rows {a.row} and {b.row}: {a.basis!r} and {b.basis!r} in one zone."
            raise refused(name, why, "Bases are never mixed: import a file for each.")
    return values[0].basis


def _time_ms(row: Row, column: str, layout: Layout) -> int:
    text = row[column]
    if text.isascii() and text.isdigit() and len(text) in _EPOCH_MS_PER:
        return int(text) * _EPOCH_MS_PER[len(text)]
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise row.refused(column, "is not a time.", "Example: 2026-01-31T14:00Z.") from None
    if time.tzinfo is None:
        if not layout.utc:
            why = "has no offset, so an hour of a clock change would be ambiguous."
            raise row.refused(column, why, "Write 2026-01-31T14:00Z or +01:00.")
        time = time.replace(tzinfo=UTC)
    return round(time.timestamp() * MS_PER_S)


def _single(values: Sequence[_Value], name: str, duplicates: str | None) -> list[_Value]:
    """One value a time, in order of time: rows that say the same are one.

    Raises CarbontrackError where rows of one time differ and nothing decides between them.
    """
    ordered = sorted(values, key=lambda one: one.start_ms)  # stable: in the order of the file
    single: list[_Value] = []
    differing: list[list[_Value]] = []
    for _, rows in groupby(ordered, key=lambda one: one.start_ms):
        group = list(rows)
        known = [one for one in group if one.kg_per_kwh is not None] or group[:1]
        found = {one.kg_per_kwh for one in known}
        if len(found) > 1 and duplicates is None:
            differing.append(known)
        elif len(found) > 1 and duplicates is not None:
            numbers = [one.kg_per_kwh for one in known if one.kg_per_kwh is not None]
            single.append(replace(known[0], kg_per_kwh=DUPLICATES[duplicates](numbers)))
        else:
            single.append(known[0])
    if differing:
        raise _ambiguous(differing, name)
    return single


def _ambiguous(differing: Sequence[Sequence[_Value]], name: str) -> CarbontrackError:
    """The error about times that have several values, with the first of them."""
    shown = [
        f"{datetime.fromtimestamp(group[0].start_ms / MS_PER_S, UTC):%Y-%m-%dT%H:%MZ} in rows "
        f"{', '.join(str(one.row) for one in group)} "
        f"({', '.join(f'{one.kg_per_kwh:g}' for one in group)} kg/kWh)"
        for group in differing[:_LISTED]
    ]
    more = len(differing) - len(shown)
    shown += [f"{more} more"] if more else []
    many = "a time has" if len(differing) == 1 else f"{len(differing)} times have"
    what = f"{many} several values: {'; '.join(shown)}."
    hint = "Give --duplicates mean, first or last (or UTC, if a clock change in local time did it)."
    return refused(name, what, hint)


def _intervals(
    ordered: Sequence[_Value], name: str
) -> tuple[list[Interval], list[tuple[int, int]]]:
    """What is known, in order of time, each as long as the step around it; and what is missing."""
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

"""The emissions table: estimates as columns of text for people, and as a data frame for programs.

Computed once here, rendered in any format by `render`. The first columns are those of Table 2 of
the Llama 2 report; ours follow. A column has one unit, which suits the largest of its rows and
stands in its head. Text for people has three significant digits, a document (`precise`) two
decimals or more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carbontrack.account.result import Estimate
from carbontrack.account.total import parts_of
from carbontrack.errors import CarbontrackError
from carbontrack.report import escape
from carbontrack.report.notes import BAND_NOTE, notes_of
from carbontrack.report.numbers import (
    COUNT,
    ENERGY,
    MASS,
    Units,
    amount_text,
    decimals_text,
    digits_text,
    format_share,
    hours_text,
    iso_time,
    mass_text,
    number_text,
    unit_of,
)
from carbontrack.report.paper import PaperNote, paper_notes
from carbontrack.vocabulary import MIXED, Method, Status

if TYPE_CHECKING:
    import pandas as pd

LIKE = ("llama2",)
_CAPTION = "Energy use and carbon emissions of training."
_NESTED = ("group", "factors", "gpu_hours_of", "subtotals")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of text, each cell on one line. A `spare` one is left out if the width is small."""

    head: str
    unit: str
    cells: tuple[str, ...]
    total: str = ""
    left: bool = False
    spare: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "head", escape.visible(self.head))
        object.__setattr__(self, "total", escape.visible(self.total))
        object.__setattr__(self, "cells", tuple(map(escape.visible, self.cells)))

    @property
    def title(self) -> str:
        """Head and unit on one line."""
        return f"{self.head} ({self.unit})" if self.unit else self.head


@dataclass(frozen=True, slots=True)
class Table:
    """What people see: the columns, whether there is a total, and the notes below.

    `subtotals` are the places of rows that sum up those above them.
    """

    columns: tuple[Column, ...]
    has_total: bool
    notes: tuple[str, ...]
    subtotals: frozenset[int] = frozenset()
    caption: str = ""
    keys: int = 1  # how many of the first columns say what a row is of
    paper: tuple[PaperNote, ...] = ()  # of a document, whose notes these are

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(map(escape.visible, self.notes)))

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The cells row by row, without the total."""
        return zip(*(column.cells for column in self.columns), strict=True)

    def total(self) -> tuple[str, ...]:
        return tuple(column.total for column in self.columns)

    def fitting(
        self, width: float, needed: Callable[[Table], float], *, note: bool = True
    ) -> Table:
        """Without the columns that others imply, as many as `width` asks for; a note names them."""
        columns, left_out = list(self.columns), list[str]()
        while needed(replace(self, columns=tuple(columns))) > width:
            spare = [column for column in columns if column.spare]
            if not spare:
                break
            columns.remove(spare[-1])
            left_out.insert(0, spare[-1].head)
        if not left_out:
            return self
        said = f"left out to fit the width: {', '.join(left_out)}; all columns: --format json"
        notes = (*self.notes, said) if note else self.notes
        return replace(self, columns=tuple(columns), notes=notes)


def table_of(
    rows: Sequence[Estimate],
    totals: Sequence[Estimate],
    *,
    like: str = "",
    runs: Sequence[Estimate] | None = None,
    subtotals: Sequence[Estimate] = (),
    lost: bool = False,
    units: Sequence[str] = (),
    precise: bool = False,
    band: bool = False,
) -> Table:
    """The table of estimates with their totals (one for each method; shown where rows add up).

    A group or a total of unlike things is shown as its parts: by quality, scope and currency.
    `like="llama2"` gives exactly the columns of that report's Table 2; the method is then in the
    labels where there are several. `runs` are what grouped rows are made of, for the notes, and
    `subtotals` the sums by the first of two keys, shown below rows of which there are several.
    `units` are those of columns for which others than the suiting ones are wanted. With `band`
    what follows from the energy has the band of its sensors.
    """
    notes = notes_of(runs or rows, totals if runs is None else [*rows, *totals])
    if not like and any((row.final_loss_steps or 0) > 1 for row in rows):
        notes.append("loss: the mean of the last 1 % of steps")
    banded = band and any(row.sensor_band is not None for row in rows)
    if banded:
        notes.append(f"±: {BAND_NOTE}")
    elif band and any(row.method != Method.REPORT for row in rows):
        notes.append("±: no band of these sensors is known; it is of NVML's readings alone")
    paper: list[PaperNote] = []
    if precise:
        paper = paper_notes(runs or rows, totals if runs is None else [*rows, *totals])
        if banded:
            paper.append(PaperNote(f"± is {BAND_NOTE}"))
    rows, totals = parts_of(rows), parts_of(totals)
    show_total = len(rows) > len(totals)
    total = totals[0] if show_total and len(totals) == 1 else None
    shown, summing = _with_subtotals(rows, parts_of(subtotals))
    if show_total and total is None:
        shown += totals
    make = _Columns(shown, total, units=units, precise=precise, band=band)
    several = len({row.method for row in rows}) > 1
    columns = (_llama2 if like == "llama2" else _ours)(make, several=several)
    if lost:
        place = next((at for at, c in enumerate(columns) if c.head == "energy"), len(columns))
        columns.insert(place + 1, _lost(make))
    heads = {"", *(column.head for column in columns)}
    paper = [note for note in paper if note.column in heads]
    notes = [note.plain for note in paper] if precise else notes
    return Table(
        tuple(columns),
        total is not None,
        tuple(notes),
        subtotals=summing,
        caption=_CAPTION,
        keys=max(1, len(shown[0].group)) if shown else 1,
        paper=tuple(paper),
    )


def _with_subtotals(
    rows: Sequence[Estimate], subtotals: Sequence[Estimate]
) -> tuple[list[Estimate], frozenset[int]]:
    """The rows, of each group of the first key with its sums below, and the places of sums."""
    shown: list[Estimate] = []
    summing: set[int] = set()
    for name in dict.fromkeys(map(_first, rows)):
        here = [row for row in rows if _first(row) == name]
        shown += here
        sums = [row for row in subtotals if _first(row) == name]
        if len(here) > len(sums):
            summing.update(range(len(shown), len(shown) + len(sums)))
            shown += sums
    return (shown, frozenset(summing)) if subtotals else (list(rows), frozenset())


def _first(row: Estimate) -> str:
    """The row's value of the first key that it is grouped by."""
    return next(iter(row.group.values()), "")


def frame(rows: Sequence[Estimate]) -> pd.DataFrame:
    """One line per estimate, of unlike things one for each part; lists become text joined by `;`,
    times ISO 8601.

    Grouped rows begin with a column for each key instead of their label. What has no place in a
    line, the factors and the hours by name of GPU, is in JSON only.
    """
    import pandas as pd

    lines = []
    for estimate in parts_of(rows):
        without = (*_NESTED, "label") if estimate.group else _NESTED
        line = {key: value for key, value in estimate.row().items() if key not in without}
        line = {"started" if key == "started_ms" else key: value for key, value in line.items()}
        line["started"] = iso_time(estimate.started_ms)
        texts = {k: ";".join(v) if isinstance(v, list) else v for k, v in line.items()}
        lines.append({**estimate.group, **texts, **estimate.group})
    return pd.DataFrame(lines)


class _Columns:
    """Makes columns out of the same rows."""

    def __init__(
        self,
        rows: Sequence[Estimate],
        total: Estimate | None,
        *,
        units: Sequence[str] = (),
        precise: bool = False,
        band: bool = False,
    ) -> None:
        self.band = band
        self.rows = rows
        self._total = total
        self._units = units
        self._precise = precise

    def number(self, value: float | None) -> str:
        """Three significant digits; of a document at least two decimals as well."""
        return decimals_text(value) if self._precise else digits_text(value)

    def text(self, head: str, unit: str, cell: Callable[[Estimate], str]) -> Column:
        total = "" if self._total is None else cell(self._total)
        return Column(head, unit, tuple(cell(row) for row in self.rows), total)

    def labels(self, *, with_method: bool = False) -> list[Column]:
        """What a row is of: its run, or its value of each key that rows are grouped by."""

        def label(row: Estimate) -> str:
            return f"{_label(row)} ({row.method})" if with_method else _label(row)

        keys = list(self.rows[0].group) if self.rows else []
        if len(keys) < 2:
            return [replace(self.text(keys[0] if keys else "run", "", label), left=True)]
        first, second = keys

        def outer(row: Estimate) -> str:
            return row.group[first] if row.group else label(row)

        def inner(row: Estimate) -> str:
            if not row.group:
                return ""
            return label(replace(row, label=row.group.get(second, "total")))

        columns = [self.text(first, "", outer), self.text(second, "", inner)]
        return [replace(column, left=True) for column in columns]

    def banded(self, text: str, value: float | None, row: Estimate) -> str:
        """A number with the band of its sensors, as fine as the number: 5.76 ± 0.29."""
        if not self.band or not value or row.sensor_band is None:
            return text
        off = abs(value) * row.sensor_band
        fine = f"{off:,.{len(text.partition('.')[2])}f}"
        return f"{text} ± {fine if float(fine.replace(',', '')) else digits_text(off, 1)}"

    def scaled(
        self,
        head: str,
        value: Callable[[Estimate], float | None],
        units: Units,
        *,
        beside: Callable[[Estimate], float | None] | None = None,
        measured: bool = True,
    ) -> Column:
        """The values in one unit: the one that is wanted, else the one that suits them, or those
        of the column `beside` it where these are all 0; `measured` ones have the sensors' band.
        """
        of = value if beside is None or any(map(value, self.rows)) else beside
        suiting = unit_of(map(of, self.rows), units)
        factor, unit = next((one for one in units if one[1] in self._units), suiting)

        def cell(row: Estimate) -> str:
            found = value(row)
            number = None if found is None else found * factor
            text = self.number(number)
            return self.banded(text, number, row) if measured else text

        return self.text(head, unit, cell)

    def differing(self, head: str, unit: str, cell: Callable[[Estimate], str]) -> list[Column]:
        """The column if the rows that have a value differ in it; else their notes say it once."""
        column = self.text(head, unit, cell)
        return [column] if len(set(column.cells) - {number_text(None, 0)}) > 1 else []

    def has(self, value: Callable[[Estimate], object]) -> bool:
        return any(value(row) is not None for row in self.rows)


def check_units(names: Sequence[str]) -> None:
    """Raises CarbontrackError for a unit that no column has, and for two of one quantity."""
    for units in (MASS, ENERGY):
        if len({name for _, name in units}.intersection(names)) > 1:
            raise CarbontrackError(f"--unit {', '.join(names)}: two units of one quantity.")
    known = [name for units in (ENERGY, MASS) for _, name in units]
    for name in names:
        if name not in known:
            like = [one for one in known if one.lower() == name.lower()] or known
            raise CarbontrackError(f"--unit {name}: unknown.", hint=f"Give {', '.join(like)}.")


def carbon_cell(estimate: Estimate) -> str:
    """The cell of CO2e with its unit, as the table of this row alone has it."""
    return mass_text(estimate.tco2e)


def _llama2(make: _Columns, *, several: bool) -> list[Column]:
    """Table 2 of arXiv:2307.09288: time in GPU hours, power in W, carbon in tCO2eq."""
    return [
        *make.labels(with_method=several),
        make.text("Time", "GPU hours", _gpu_hours),
        make.text("Power Consumption", "W", lambda row: number_text(row.power_w, 0)),
        make.text("Carbon Emitted", "tCO2eq", lambda row: number_text(row.tco2e, 2)),
    ]


def _lost(make: _Columns) -> Column:
    if not make.has(lambda row: row.lost_kwh):  # a column that was asked for stands all the same
        return make.text("lost", "", lambda row: number_text(row.lost_kwh, 2))
    return make.scaled("lost", lambda row: row.lost_kwh, ENERGY)


def _ours(make: _Columns, *, several: bool) -> list[Column]:
    columns = [
        make.text("GPU", "hours", _gpu_hours),
        make.text("power", "W", lambda row: digits_text(row.power_w)),
        make.scaled("CO₂e", _carbon, MASS),
    ]
    if make.has(lambda row: row.tco2e_market):
        columns.append(make.scaled("market", lambda row: row.tco2e_market, MASS, beside=_carbon))
    if make.has(lambda row: row.embodied_tco2e):
        columns.append(
            make.scaled(
                "embodied", lambda row: row.embodied_tco2e, MASS, beside=_carbon, measured=False
            )
        )
    if make.has(lambda row: row.sci_g_per_mtok):
        sci = make.text("SCI", "g/Mtok", lambda row: make.number(row.sci_g_per_mtok))
        columns.append(_spare(sci))
    columns.append(make.scaled("energy", lambda row: row.energy_kwh, ENERGY))
    columns += make.differing("PUE", "", lambda row: _four_digits(row.pue))
    columns.append(_spare(make.scaled("facility", lambda row: row.facility_kwh, ENERGY)))
    columns += make.differing(
        "intensity", "kg/kWh", lambda row: _four_digits(row.intensity_kg_per_kwh)
    )
    if make.has(lambda row: row.water_l):
        columns.append(make.text("water", "L", lambda row: make.number(row.water_l)))
    if make.has(lambda row: row.cost):
        columns.append(_cost(make))
    if make.has(lambda row: row.tokens):
        columns.append(_spare(make.scaled("tokens", lambda row: row.tokens, COUNT, measured=False)))
    if make.has(lambda row: row.final_loss):
        loss = make.text("loss", "final", lambda row: number_text(row.final_loss, 3))
        columns.append(_spare(loss))
    coverage = make.text("coverage", "", _coverage)
    columns.append(coverage if make.has(lambda row: row.coverage) else _spare(coverage))
    if several:
        ratio = make.text("rated ÷", "measured", lambda row: _four_digits(row.rated_over_measured))
        columns.insert(2, ratio)
        method = make.text("method", "", lambda row: row.method)
        columns.insert(0, replace(method, left=True))
    return [*make.labels(), *columns]


def _carbon(row: Estimate) -> float | None:
    return row.tco2e


def _spare(column: Column) -> Column:
    return replace(column, spare=True)


def _label(row: Estimate) -> str:
    plain = row.status in (None, Status.COMPLETED, MIXED, *row.group.values())
    return row.title if plain else f"{row.title} ({row.status})"


def _coverage(row: Estimate) -> str:
    """Of the device-seconds of runs that had a device: the others are counted, not covered."""
    share, runs = format_share(row.coverage), len(row.run_ids)
    if row.coverage is None or row.runs_watched >= runs:
        return share
    return f"{share} of {row.runs_watched} of {runs} runs"


def _four_digits(value: float | None) -> str:
    if value is None:
        return number_text(None, 0)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _gpu_hours(row: Estimate) -> str:
    return hours_text(row.gpu_hours or None)


def _cost(make: _Columns) -> Column:
    """As many decimals as the currency has; in several currencies each cell has its own."""
    names = {row.currency or "" for row in make.rows if row.cost is not None}

    def cell(row: Estimate) -> str:
        text = amount_text(row.cost, row.currency)
        if row.cost_of == "electricity" and not text.startswith("<"):
            text = make.banded(text, row.cost, row)
        return text if len(names) < 2 or row.cost is None else f"{text} {row.currency}"

    return make.text("cost", names.pop() if len(names) == 1 else "", cell)

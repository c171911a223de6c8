"""The emissions table: estimates as columns of text for people, and as a data frame for programs.

Computed once here, rendered in any format by `render`. The first columns are those of Table 2 of
the Llama 2 report; ours follow. A column has one unit, chosen by its largest value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carbontrack.account.result import Estimate
from carbontrack.report.listing import format_share
from carbontrack.report.notes import notes_of
from carbontrack.report.numbers import count_text, hours_text, number_text

if TYPE_CHECKING:
    import pandas as pd

LIKE = ("llama2",)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of text. A `spare` one goes first for want of width."""

    head: str
    unit: str
    cells: tuple[str, ...]
    total: str = ""
    left: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """What people see: the columns, whether there is a total, and the notes below."""

    columns: tuple[Column, ...]
    has_total: bool
    notes: tuple[str, ...]

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The cells row by row, without the total."""
        return zip(*(column.cells for column in self.columns), strict=True)

    def total(self) -> tuple[str, ...]:
        return tuple(column.total for column in self.columns)


def table_of(
    rows: Sequence[Estimate],
    totals: Sequence[Estimate],
    *,
    like: str = "",
    runs: Sequence[Estimate] | None = None,
) -> Table:
    """The table of estimates with their totals (one for each method; shown where rows add up).

    `like="llama2"` gives exactly the columns of that report's Table 2. `runs` are what grouped rows
    are made of, for the notes.
    """
    show_total = len(rows) > len(totals)
    shown = [*rows, *totals] if show_total and len(totals) > 1 else list(rows)
    total = totals[0] if show_total and len(totals) == 1 else None
    make = _Columns(shown, total)
    columns = _llama2(make) if like == "llama2" else _ours(make, several=len(totals) > 1)
    return Table(tuple(columns), total is not None, tuple(notes_of(runs or rows, totals)))


def frame(rows: Sequence[Estimate]) -> pd.DataFrame:
    """One line per estimate in full precision; lists become text joined by `;`."""
    import pandas as pd

    lines = []
    for estimate in rows:
        line = {key: value for key, value in estimate.row().items() if key != "factors"}
        lines.append({k: ";".join(v) if isinstance(v, list) else v for k, v in line.items()})
    return pd.DataFrame(lines)


class _Columns:
    """Makes columns out of the same rows."""

    def __init__(self, rows: Sequence[Estimate], total: Estimate | None) -> None:
        self.rows = rows
        self._total = total

    def text(self, head: str, unit: str, cell: Callable[[Estimate], str]) -> Column:
        total = "" if self._total is None else cell(self._total)
        return Column(head, unit, tuple(cell(row) for row in self.rows), total)

    def label(self) -> Column:
        total = "" if self._total is None else self._total.label
        return Column("run", "", tuple(_label(row) for row in self.rows), total, left=True)

    def scaled(
        self,
        head: str,
        value: Callable[[Estimate], float | None],
        units: Sequence[tuple[float, str]],
        digits: int = 2,
    ) -> Column:
        """A column in the largest of `units` in which its largest value is 1 or more."""
        known = [abs(v) for row in self.rows if (v := value(row)) is not None]
        largest = max(known, default=0.0)
        factor, unit = next((u for u in units if largest * u[0] >= 1), units[-1 if largest else 0])

        def cell(row: Estimate) -> str:
            found = value(row)
            return number_text(None if found is None else found * factor, digits)

        return self.text(head, unit, cell)

    def has(self, value: Callable[[Estimate], object]) -> bool:
        return any(value(row) is not None for row in self.rows)


_MASS = ((1.0, "t"), (1e3, "kg"), (1e6, "g"), (1e9, "mg"))
_ENERGY = ((1e-3, "MWh"), (1.0, "kWh"), (1e3, "Wh"), (1e6, "mWh"))


def _llama2(make: _Columns) -> list[Column]:
    """Table 2 of arXiv:2307.09288: time in GPU hours, power in W, carbon in tCO2eq."""
    return [
        make.label(),
        make.text("Time", "GPU hours", _gpu_hours),
        make.text("Power Consumption", "W", lambda row: number_text(row.power_w, 0)),
        make.text("Carbon Emitted", "tCO2eq", lambda row: number_text(row.tco2e, 2)),
    ]


def _ours(make: _Columns, *, several: bool) -> list[Column]:
    columns = [
        make.label(),
        make.text("GPU", "hours", _gpu_hours),
        make.text("power", "W", lambda row: number_text(row.power_w, 0)),
        make.scaled("CO₂e", lambda row: row.tco2e, _MASS),
    ]
    if make.has(lambda row: row.tco2e_market):
        unit = [mass for mass in _MASS if mass[1] == columns[-1].unit]  # side by side, one unit
        columns.append(make.scaled("market", lambda row: row.tco2e_market, unit))
    if make.has(lambda row: row.embodied_tco2e):
        columns.append(make.scaled("embodied", lambda row: row.embodied_tco2e, _MASS))
    columns.append(make.scaled("energy", lambda row: row.energy_kwh, _ENERGY))
    columns.append(_spare(make.scaled("facility", lambda row: row.facility_kwh, _ENERGY)))
    if make.has(lambda row: row.water_l):
        columns.append(make.text("water", "L", lambda row: number_text(row.water_l, 2)))
    if make.has(lambda row: row.cost):
        columns.append(_cost(make))
    if make.has(lambda row: row.tokens):
        columns.append(_spare(make.text("tokens", "", lambda row: count_text(row.tokens))))
    if make.has(lambda row: row.final_loss):
        columns.append(
            _spare(make.text("loss", "final", lambda row: number_text(row.final_loss, 3)))
        )
    columns.append(make.text("coverage", "", lambda row: format_share(row.coverage)))
    if several:
        method = make.text("method", "", lambda row: row.method)
        columns.insert(1, replace(method, left=True))
    return columns


def _spare(column: Column) -> Column:
    return replace(column, spare=True)


def _label(row: Estimate) -> str:
    plain = row.status in (None, "completed", "mixed", row.label)
    return row.label if plain else f"{row.label} ({row.status})"


def _gpu_hours(row: Estimate) -> str:
    return hours_text(row.gpu_hours or None)


def _currency(rows: Sequence[Estimate]) -> str:
    names = {row.currency for row in rows if row.cost is not None}
    return names.pop() or "" if len(names) == 1 else ""


def _cost(make: _Columns) -> Column:
    """Two decimals, or as many as the largest sum needs to show two digits."""
    largest = max((abs(row.cost) for row in make.rows if row.cost), default=1.0)
    digits = max(2, 1 - math.floor(math.log10(largest)))
    return make.text("cost", _currency(make.rows), lambda row: number_text(row.cost, digits))

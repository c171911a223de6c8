"""Published tables, recomputed from their own inputs: printed, recomputed, status.

No factor is bent to make a row fit. Each row says whether its factors are *stated* by the report,
*stated from memory*, *assumed* (another report's, which happen to reproduce it) or *fitted* to its
result; a fitted row is not evidence. A printed energy is before or after PUE; the row knows which.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from carbontrack.account import formulas
from carbontrack.errors import CarbontrackError
from carbontrack.factors import data
from carbontrack.units import KG_PER_T
from carbontrack.vocabulary import Reproduction

_KG_PER_LB = 0.45359237
_CLOSE = 0.005
_KWH_PER_MWH = 1000.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One printed number and what follows. `unit` is that of the last printed place."""

    printed: float
    unit: float
    recomputed: float | None
    low: float | None  # with every input at the edge of its rounding
    high: float | None

    @property
    def status(self) -> Reproduction:
        if self.recomputed is None or self.low is None or self.high is None:
            return Reproduction.NO_INPUTS
        # A hair wider than one unit: 31.3 - 31.2 is 0.1000000000000014 in binary.
        if abs(self.recomputed - self.printed) < self.unit * (1 + 1e-9):
            return Reproduction.REPRODUCES
        if self.low - self.unit / 2 <= self.printed <= self.high + self.unit / 2:
            return Reproduction.INPUT_ROUNDING
        if abs(self.recomputed - self.printed) <= _CLOSE * abs(self.printed):
            return Reproduction.CLOSE
        return Reproduction.DIFFERS


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A row of a published table beside its recomputation; energies in MWh, emissions in tCO2e."""

    report: str
    model: str
    hardware: str
    gpu_hours: float | None
    power_w: float | None
    pue: float | None
    kg_per_kwh: float | None
    energy: Figure | None
    tco2e: Figure | None
    energy_pue: (
        str  # whether the printed energy is "before" or "after" PUE; "" where none is printed
    )
    water_kl: float | None  # as printed; 1 kL is 1 m³
    accounting: str  # location-based, market-based, embodied, …; "" where no carbon is printed
    factors: str  # stated, stated from memory, assumed, fitted; "" where there are none
    expected: str  # the status that a person reviewed; the conformance suite compares
    parameters: float | None
    tokens: float | None
    source: str
    read: bool  # the source was read; else the row rests on memory
    note: str

    @property
    def status(self) -> Reproduction:
        """The worse of the figures that can be recomputed; no word on carbon if it cannot be."""
        order = list(Reproduction)
        found = [figure.status for figure in (self.energy, self.tco2e) if figure is not None]
        known = [status for status in found if status is not Reproduction.NO_INPUTS]
        worst = max(known, key=order.index, default=Reproduction.NO_INPUTS)
        blind = self.tco2e is not None and self.tco2e.status is Reproduction.NO_INPUTS
        if known and blind and worst is not Reproduction.DIFFERS:
            return Reproduction.ENERGY_ONLY
        return worst


def names() -> list[str]:
    """The reports, in the order of the table."""
    return list(dict.fromkeys(row.report for row in all_rows()))


def rows_of(name: str) -> list[PublishedRow]:
    """The rows of one report. Raises CarbontrackError with the nearest name for an unknown one."""
    known = {_folded(report): report for report in names()}
    report = known.get(_folded(name))
    if report is None:
        close = difflib.get_close_matches(_folded(name), list(known), n=1)
        hint = f"Did you mean {known[close[0]]!r}? " if close else ""
        raise CarbontrackError(
            f"no published table {name!r}.", hint=f"{hint}See: carbontrack table --published list"
        )
    return [row for row in all_rows() if row.report == report]


def _folded(name: str) -> str:
    """`llama2`, `Llama-2` and `Llama 2` are one name."""
    return "".join(name.casefold().replace("-", " ").split())


@lru_cache
def all_rows() -> tuple[PublishedRow, ...]:
    """Every row of published.csv, recomputed."""
    table = data.rows("published")
    return tuple(_row(row, table) for row in table)


def _row(row: Mapping[str, str], table: Sequence[Mapping[str, str]]) -> PublishedRow:
    return PublishedRow(
        report=row["report"],
        model=row["model"],
        hardware=row["hardware"],
        gpu_hours=_number(row["gpu_hours"]),
        power_w=_number(row["power_w"]),
        pue=_number(row["pue"]),
        kg_per_kwh=_number(row["kg_per_kwh"]),
        energy=_figure(row["energy_mwh"], _last_place(row["energy_mwh"]), _energy_mwh(row, table)),
        tco2e=_figure(row["tco2e"], _unit_t(row), _tco2e(row, table)),
        energy_pue=row["energy_pue"],
        water_kl=_number(row["water_kl"]),
        accounting=row["accounting"],
        factors=row["factors"],
        expected=row["status"],
        parameters=_billions(row["params_b"]),
        tokens=_billions(row["tokens_b"]),
        source=row["source"],
        read=row["read"] == "yes",
        note=row["note"],
    )


@dataclass(frozen=True, slots=True)
class _Range:
    """An amount, and its ends if what it is made of was rounded before it was printed."""

    value: float
    low: float
    high: float

    def __add__(self, other: _Range) -> _Range:
        return _Range(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> _Range:
        return _Range(self.value * factor, self.low * factor, self.high * factor)


def _energy_mwh(row: Mapping[str, str], table: Sequence[Mapping[str, str]]) -> _Range | None:
    """Hours × W, times PUE where the printed energy is after PUE; of a sum, that of its rows."""
    if row["sum_of"]:
        return _sum_of(row, table, "energy_mwh")
    drawn = _drawn_mwh(row)
    if drawn is None:
        return None
    return drawn.times(_factor(row["pue"])) if row["energy_pue"] == "after" else drawn


def _tco2e(row: Mapping[str, str], table: Sequence[Mapping[str, str]]) -> _Range | None:
    if row["sum_of"]:
        return _sum_of(row, table, "tco2e")
    if row["embodied_kg"]:
        return _embodied(row)
    if not row["kg_per_kwh"]:
        return None
    pue = _factor(row["pue"])
    facility = _drawn_mwh(row)
    if facility is None and row["energy_mwh"]:
        facility = _printed(row["energy_mwh"])
        if row["energy_pue"] == "after":
            pue = 1.0
    return None if facility is None else facility.times(pue * float(row["kg_per_kwh"]))


def _drawn_mwh(row: Mapping[str, str]) -> _Range | None:
    if not (row["gpu_hours"] and row["power_w"]):
        return None
    mwh_per_hour = formulas.rated_energy_kwh(1.0, float(row["power_w"])) / _KWH_PER_MWH
    return _hours(row).times(mwh_per_hour)


def _embodied(row: Mapping[str, str]) -> _Range:
    per_hour_t = formulas.embodied_tco2e(
        1.0,
        float(row["embodied_kg"]),
        float(row["lifetime_years"]) * formulas.HOURS_PER_YEAR,
        float(row["utilisation"]),
    )
    return _hours(row).times(per_hour_t)


def _sum_of(
    row: Mapping[str, str], table: Sequence[Mapping[str, str]], column: str
) -> _Range | None:
    """The sum of the printed rows: those named, or by `*` all before this one in the report.

    None where one of them prints nothing in that column.
    """
    total = _Range(0.0, 0.0, 0.0)
    for other in table:
        if other is row:
            break
        if other["report"] != row["report"]:
            continue
        if row["sum_of"] == "*" or other["model"] in row["sum_of"].split(";"):
            if not other[column]:
                return None
            total += _printed(other[column])
    return total


def _figure(printed: str, unit: float, computed: _Range | None) -> Figure | None:
    if not printed:
        return None
    value = float(printed)
    if computed is None:
        return Figure(value, unit, None, None, None)
    return Figure(value, unit, computed.value, computed.low, computed.high)


def _hours(row: Mapping[str, str]) -> _Range:
    text = row["gpu_hours"]
    step = float(row["gpu_hours_step"]) if row["gpu_hours_step"] else _last_place(text)
    value = float(text)
    return _Range(value, value - step / 2, value + step / 2)


def _printed(text: str) -> _Range:
    """A printed amount with half a unit of its last place on each side."""
    value, half = float(text), _last_place(text) / 2
    return _Range(value, value - half, value + half)


def _factor(text: str) -> float:
    """A PUE as the report multiplied it: exact, and 1 where there is none."""
    return float(text) if text else 1.0


def _unit_t(row: Mapping[str, str]) -> float:
    """The last printed place in tonnes; a figure printed in whole pounds has one pound.

    `tco2e_step` is that of a sum of printed rows, whose last zero is not rounded.
    """
    if row["unit"] == "lb":
        return _KG_PER_LB / KG_PER_T
    return float(row["tco2e_step"]) if row["tco2e_step"] else _last_place(row["tco2e"])


def _last_place(text: str) -> float:
    """The unit of the last printed place: 0.01 for 31.22, 1 for 449, 10 for 130, 100 for 1300."""
    if not text:
        return 0.0
    if "." in text:
        return 10.0 ** -len(text.partition(".")[2])
    zeros = len(text) - len(text.rstrip("0"))
    return 10.0 ** max(0, min(zeros, len(text) - 2))


def _number(text: str) -> float | None:
    return float(text) if text else None


def _billions(text: str) -> float | None:
    try:
        return float(text) * 1e9
    except ValueError:  # none, or "3000;6000" for a family
        return None

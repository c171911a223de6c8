"""The known layouts of intensity files: which columns hold time, value, zone and basis. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from carbontrack.errors import CarbontrackError
from carbontrack.factors.strict_csv import refused

PLAIN = "time,zone,kg_per_kwh"
_KG_PER_G = 1e-3
_KG_PER_KWH_OF_LB_PER_MWH = 0.00045359237
UNITS: Mapping[str, float] = {
    "kg/kWh": 1.0,
    "g/kWh": _KG_PER_G,
    "lb/MWh": _KG_PER_KWH_OF_LB_PER_MWH,
}
"""What `--unit` may name, and how many kg/kWh one of it is."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A known shape of file. Column names are compared as `folded` makes them."""

    name: str
    time: tuple[str, ...]
    value: tuple[str, ...]  # the first that the file has
    to_kg_per_kwh: float
    basis: str
    zone_column: tuple[str, ...] = ()
    zone: str | None = None
    basis_column: str = ""
    basis_names: Mapping[str, str] = field(default_factory=dict)  # what the file calls each
    estimated_column: tuple[str, ...] = ()
    unit_column: str = ""
    unit: str = ""  # what the unit column has to say
    utc: bool = False  # times without an offset are UTC


_ELECTRICITY_MAPS = "carbon intensity gco2eq/kwh"
_MAPS_ZONE = ("zone id", "zone name")
_MAPS_ESTIMATED = ("data estimated",)

LAYOUTS = (
    Layout(
        "Electricity Maps",
        time=("datetime (utc)",),
        value=(f"{_ELECTRICITY_MAPS} (life cycle)", f"{_ELECTRICITY_MAPS} (lca)"),
        to_kg_per_kwh=_KG_PER_G,
        basis="life-cycle average",
        zone_column=_MAPS_ZONE,
        estimated_column=_MAPS_ESTIMATED,
        utc=True,
    ),
    Layout(
        "Electricity Maps, direct",
        time=("datetime (utc)",),
        value=(f"{_ELECTRICITY_MAPS} (direct)",),
        to_kg_per_kwh=_KG_PER_G,
        basis="direct average",
        zone_column=_MAPS_ZONE,
        estimated_column=_MAPS_ESTIMATED,
        utc=True,
    ),
    Layout(
        "Electricity Maps' API",
        time=("datetime",),
        value=("carbonintensity",),
        to_kg_per_kwh=_KG_PER_G,
        basis="life-cycle average",
        zone_column=("zone",),
        basis_column="emissionfactortype",
        basis_names={"lifecycle": "life-cycle average", "direct": "direct average"},
        estimated_column=("isestimated",),
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
        unit_column="units",
        unit="lbs_co2_per_mwh",
        utc=True,
    ),
    Layout(
        "the GB grid operator",
        time=("from", "datetime"),
        value=("actual", "intensity.actual", "carbon_intensity"),
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


def folded(column: str) -> str:
    """A column's name without case, and with the subscript of CO₂ and its like as a digit."""
    return column.casefold().replace("₂", "2")


def named(time: str, value: str, unit: str) -> Layout:
    """The layout of a file whose columns are named by the user.

    Raises CarbontrackError for an unknown unit.
    """
    if unit not in UNITS:
        raise CarbontrackError(f"--unit {unit!r} is unknown.", hint=f"Give {', '.join(UNITS)}.")
    return Layout(
        f"column {value} in {unit}",
        time=(folded(time),),
        value=(folded(value),),
        to_kg_per_kwh=UNITS[unit],
        basis="as given",
        zone_column=("zone", "zone id", "region"),
        basis_column="basis",
    )


def recognised(columns: Mapping[str, str], file: str) -> Layout:
    """The layout that has its columns of time and value among these (folded → as written).

    Raises CarbontrackError if there is none.
    """
    for layout in LAYOUTS:
        if has(layout.time, columns) and has(layout.value, columns):
            return layout
    given = ", ".join(columns.values()) or "nothing"
    raise refused(
        file,
        f"row 1: no known columns of time and intensity in {given}.",
        "Name them with --time-column, --value-column and --unit. Known without: Electricity Maps, "
        f"WattTime, the GB grid operator, or a table {PLAIN} (or g_per_kwh).",
    )


def check_columns(layout: Layout, columns: Mapping[str, str], file: str) -> None:
    """Raises CarbontrackError where a file lacks the column of time or of value."""
    for names in (layout.time, layout.value):
        if not has(names, columns):
            given = ", ".join(columns.values()) or "none"
            raise refused(file, f"row 1: no column {names[0]!r}.", f"Its columns: {given}.")


def has(names: Sequence[str], columns: Mapping[str, str]) -> bool:
    return any(one in columns for one in names)


def first(names: Sequence[str], columns: Mapping[str, str]) -> str:
    """The first of these columns that the file has, as the file writes it."""
    return next(columns[one] for one in names if one in columns)

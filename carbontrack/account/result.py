"""An estimate: a row of the table, made of what was used and of what factors make of it.

Each field is declared once, with how it adds up: totals, JSON, an estimate without factors and one
without an overlap derive from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from carbontrack.account import adding, formulas
from carbontrack.account.adding import Rule, sum_of, unique
from carbontrack.account.uncertainty import sensor_band
from carbontrack.factors.resolve import Factors
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import ENTERED, MIXED, DeviceKind

__all__ = [
    "Estimate",
    "Price",
    "Used",
    "bases_of",
    "currencies_of",
    "sci_g_per_mtok",
    "sum_of",
    "tokens_of_carbon",
    "unique",
]


def _adds(rule: Rule, default: Any = None, *, key: str = "", shrinks: bool = False) -> Any:
    """A field with its rule, its name in JSON, and whether it shrinks with the hours."""
    return field(default=default, metadata={"adds": rule, "key": key, "shrinks": shrinks})


def currencies_of(rows: Sequence[Price]) -> list[str]:
    return unique(row.currency for row in rows if row.cost is not None)


def bases_of(rows: Sequence[Price]) -> list[str]:
    """The bases of intensities; a bare number has one of its own, *as given*."""
    factors = [row.factors for row in rows if row.factors is not None and row.tco2e is not None]
    return unique(f.intensity.basis for f in factors if f.intensity.basis)


def _device_kinds(rows: Sequence[Used]) -> list[str]:
    """GPUs have no mean power with CPUs."""
    return unique(
        DeviceKind.GPU if row.gpu_hours_of else "other"
        for row in rows
        if row.energy_kwh is not None
    )


def _count_devices(rows: Sequence[Used], name: str) -> int | None:
    """Each once, whatever its runs; None if a row's number is unknown."""
    uuids: frozenset[str] = adding.union(rows, "uuids")
    others = [row.devices for row in rows if not row.uuids]
    counted = [count for count in others if count is not None]
    return len(uuids) + sum(counted) if len(counted) == len(others) else None


def _one_status(rows: Sequence[Estimate], name: str) -> str | None:
    statuses = unique(row.status for row in rows)
    return MIXED if len(statuses) > 1 else next(iter(statuses), None)


_WITH_ENERGY = adding.of_rows_with("energy_kwh", adding.complete)


def tokens_of_carbon(rows: Sequence[Estimate]) -> list[int | None]:
    """Of each row that has carbon; None where its runs logged none, or, of several, not all did."""
    logged = {run for row in rows if row.tokens for run in row.run_ids}
    return [
        (row.tokens or 0)
        if logged.issuperset(row.run_ids)
        and (len(row.run_ids) < 2 or row.sci_g_per_mtok is not None)
        else None
        for row in rows
        if row.tco2e is not None
    ]


def _sci(rows: Sequence[Estimate], name: str) -> float | None:
    """Of all carbon or of none: that of a run without tokens is not of the others' tokens."""
    if None in tokens_of_carbon(rows):
        return None
    tco2e = adding.if_one(bases_of, adding.known)(rows, "tco2e")
    embodied_tco2e = adding.complete(rows, "embodied_tco2e")
    return sci_g_per_mtok(tco2e, embodied_tco2e, adding.known(rows, "tokens"))


def sci_g_per_mtok(
    tco2e: float | None, embodied_tco2e: float | None, tokens: int | None
) -> float | None:
    """Software carbon intensity, gCO2e per million tokens (ISO/IEC 21031).

    None without embodied carbon (`--embodied`): the standard's sum is of both.
    """
    if tco2e is None or embodied_tco2e is None or not tokens:
        return None
    return formulas.sci_g_per_million_tokens(tco2e, embodied_tco2e, tokens)


@dataclass(frozen=True, kw_only=True)
class Used:
    """What a run used, before any factor. None if unknown.

    `energy_kwh` is of all metered devices before PUE (for `report`: rated power × hours).
    `lost_kwh` is what of it was spent on work that a later attempt did again.
    `devices`, `device_hours` and `power_w` are of the primary kind: GPUs where there are any. Hours
    are those that were recorded: a node or device that one attempt had has those of that attempt.
    `active_s` is for how long any device was recorded, `primary_expected_s` device-seconds: for how
    long each of the primary kind was.
    `metered_kwh` and `metered_rated_kwh` are of `report` alone: what the primary devices drew while
    they were metered, and what rated power would have drawn.
    """

    nodes: int = _adds(adding.most, 0)
    devices: int | None = _adds(_count_devices)
    uuids: frozenset[str] = _adds(adding.union, frozenset(), key="device_uuids")
    device_names: tuple[str, ...] = _adds(adding.merged, (), key="device_name")
    duration_s: float | None = _adds(adding.known)
    gpu_hours_of: Mapping[str, float] = field(  # by the GPU's name
        default_factory=dict, metadata={"adds": adding.by_key, "key": "", "shrinks": True}
    )
    device_hours: float = _adds(adding.total, 0.0, shrinks=True)
    node_hours: float = _adds(adding.total, 0.0, shrinks=True)
    active_s: float = _adds(adding.total, 0.0)
    primary_kwh: float | None = _adds(adding.if_one(_device_kinds, adding.known))
    # Device-seconds of `primary_kwh`; past `expected_s` by ms of rounding.
    primary_s: float = _adds(adding.total, 0.0)
    primary_expected_s: float = _adds(adding.total, 0.0)
    metered_kwh: float | None = _adds(adding.known, shrinks=True)
    metered_rated_kwh: float | None = _adds(adding.known, shrinks=True)
    energy_kwh: float | None = _adds(adding.known)
    lost_kwh: float | None = _adds(adding.known)
    sampled_s: float = _adds(adding.total, 0.0)
    expected_s: float = _adds(adding.total, 0.0)
    runs_watched: int = _adds(adding.total, 0)  # runs that had a device
    scope: str = _adds(adding.joined, "")
    meter: str = _adds(adding.joined, "")
    quality: str = _adds(adding.joined, "")
    tokens: int | None = _adds(adding.known)
    final_loss: float | None = None  # mean of the last 1 % of steps, which are so many:
    final_loss_steps: int | None = None

    @property
    def gpu_hours(self) -> float | None:
        """Of all GPUs; one GPU for one hour, a MIG instance as its share. None where they were
        entered without hours.
        """
        if self.meter == ENTERED and not self.gpu_hours_of:
            return None
        return sum(self.gpu_hours_of.values())

    @property
    def rated_over_measured(self) -> float | None:
        """Rated ÷ measured energy of the same devices in the same seconds; of `report` alone."""
        return _ratio(self.metered_rated_kwh, self.metered_kwh)

    @property
    def power_w(self) -> float | None:
        """Mean W of one device over the time its energy accounts for; rated W for `report`."""
        if self.primary_kwh is None or self.primary_s <= 0:
            return None
        return self.primary_kwh * J_PER_KWH / self.primary_s

    @property
    def coverage(self) -> float | None:
        """Share of device-seconds that were watched by samples."""
        return min(1.0, self.sampled_s / self.expected_s) if self.expected_s > 0 else None


@dataclass(frozen=True, kw_only=True)
class Price:
    """What factors make of it: facility energy, carbon, water and money.

    All of it None where the factors are unknown; of a total also where they differ.
    """

    node_kwh: float = _adds(adding.total, 0.0)  # modelled, for what no meter sees
    unpriced_kwh: float = _adds(adding.total, 0.0)  # of the energy, what has no factors
    facility_kwh: float | None = _adds(adding.known)  # after PUE
    tco2e: float | None = _adds(adding.if_one(bases_of, adding.known))
    tco2e_market: float | None = _adds(_WITH_ENERGY)
    embodied_tco2e: float | None = _adds(adding.complete)
    sci_g_per_mtok: float | None = _adds(_sci)
    water_l: float | None = _adds(_WITH_ENERGY)
    cost: float | None = _adds(adding.if_one(currencies_of, adding.known))
    cost_of: str = _adds(adding.joined, "")  # electricity, electricity + hardware, or rent
    currency: str | None = _adds(adding.the_one(currencies_of))
    assumed: tuple[str, ...] = _adds(adding.merged, ())
    factors: Factors | None = field(default=None, metadata={"adds": adding.same})


@dataclass(frozen=True, kw_only=True)
class Estimate(Used, Price):
    """One row of the table, unrounded.

    `parts` are the sub-totals of a total whose rows are unlike (see `account.total`), each with its
    `kind` in words, and a row of watches has the kind *unattributed*; `group` has the value of each
    key that rows were grouped by. The parts of a row are base classes, and no members, so that it
    reads as flat as the table's row.
    """

    label: str
    group: Mapping[str, str] = field(default_factory=dict)
    method: str
    kind: str = ""
    run_ids: tuple[str, ...] = _adds(adding.merged, ())
    status: str | None = _adds(_one_status)
    started_ms: int | None = _adds(adding.earliest)
    notes: tuple[str, ...] = ()
    parts: tuple[Estimate, ...] = field(default=(), metadata={"key": "subtotals"})

    def with_price(self, price: Price, notes: Sequence[str] = ()) -> Estimate:
        """The same use at this price, its notes followed by these."""
        parts = {one.name: getattr(price, one.name) for one in fields(Price)}
        return replace(self, **parts, notes=tuple(unique([*self.notes, *notes])))

    @property
    def title(self) -> str:
        """The label, with the kind where that is no part of it: `node7: unattributed`."""
        own = self.kind and self.kind not in self.group.values()
        return f"{self.label}: {self.kind}" if own else self.label

    @property
    def sensor_band(self) -> float | None:
        """Share of the energy by which its sensors may be off; None if unknown."""
        return sensor_band(method=self.method, meter=self.meter, quality=self.quality)

    @property
    def pue(self) -> float | None:
        """The factor; of a total, the ratio of its energies, as far as they have factors."""
        if self.factors is not None:
            return self.factors.pue.value
        if self.energy_kwh is None:
            return None
        return _ratio(self.facility_kwh, self.energy_kwh - self.unpriced_kwh + self.node_kwh)

    @property
    def intensity_kg_per_kwh(self) -> float | None:
        """The factor; of a total, the mean over its energy."""
        if self.factors is not None:
            return self.factors.intensity.value
        return _ratio(None if self.tco2e is None else self.tco2e * 1000.0, self.facility_kwh)

    def row(self) -> dict[str, Any]:
        """The keys of `table --format json`, in full precision: who, what was used, its price."""
        found: dict[str, Any] = {}
        for one in _COLUMNS:
            found[one.metadata.get("key") or one.name] = _plain(getattr(self, one.name))
            found |= {name: getattr(self, name) for name in _DERIVED.get(one.name, ())}
        found["device_name"] = ", ".join(self.device_names) or None
        found["factors"] = [asdict(factor) for factor in self.factors or ()]
        return found


_OWN = [one for one in fields(Estimate) if one.name in Estimate.__annotations__]
_LAST = ("notes", "parts")
_COLUMNS = (
    *(one for one in _OWN if one.name not in _LAST),
    *fields(Used),
    *fields(Price),
    *(one for one in _OWN if one.name in _LAST),
)
_DERIVED = {  # each after the field it is made of
    "duration_s": ("gpu_hours",),
    "primary_s": ("power_w",),
    "metered_rated_kwh": ("rated_over_measured",),
    "expected_s": ("coverage",),
    "quality": ("sensor_band",),
    "facility_kwh": ("pue", "intensity_kg_per_kwh"),
}


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [one.row() if isinstance(one, Estimate) else one for one in value]
    return value


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None

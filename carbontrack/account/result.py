"""The result of the accounting: one row of the table, with all that led to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from carbontrack.account import formulas
from carbontrack.factors.resolve import Factors
from carbontrack.units import J_PER_KWH


@dataclass(frozen=True, slots=True)
class Estimate:
    """One row of the table, unrounded. What is not known is None.

    `energy_kwh` is of all metered devices before PUE (for `report`: rated power × hours),
    `facility_kwh` after. `devices`, `device_hours` and `power_w` are of the primary kind: GPUs
    where there are any. `metered_kwh` and `metered_rated_kwh` are of `report` alone: what the
    primary devices drew while they were metered, and what rated power would have drawn.
    """

    label: str
    method: str
    factors: Factors | None  # None: of rows with different factors, or some cannot be found
    run_ids: tuple[str, ...] = ()
    status: str | None = None
    started_ms: int | None = None
    duration_s: float | None = None
    uuids: frozenset[str] = frozenset()  # of the primary kind
    devices: int = 0
    nodes: int = 0
    device_names: tuple[str, ...] = ()
    gpu_hours_of: Mapping[str, float] = field(default_factory=dict)  # by the GPU's name
    device_hours: float = 0.0
    primary_kwh: float | None = None
    primary_s: float = 0.0  # device-seconds of `primary_kwh`; past `expected_s` by ms of rounding
    energy_kwh: float | None = None
    metered_kwh: float | None = None
    metered_rated_kwh: float | None = None
    node_kwh: float = 0.0  # modelled, for what no meter sees
    facility_kwh: float | None = None
    tco2e: float | None = None
    tco2e_market: float | None = None
    embodied_tco2e: float | None = None
    water_l: float | None = None
    cost: float | None = None
    currency: str | None = None
    sampled_s: float = 0.0
    expected_s: float = 0.0
    scope: str = ""
    meter: str = ""
    quality: str = ""
    tokens: int | None = None
    final_loss: float | None = None
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def gpu_hours(self) -> float:
        """Of all GPUs; one GPU for one hour, a MIG instance as its share."""
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

    @property
    def pue(self) -> float | None:
        """The factor; of a total, the ratio of its energies."""
        if self.factors is not None:
            return self.factors.pue.value
        return _ratio(self.facility_kwh, sum_of((self.energy_kwh, self.node_kwh)))

    @property
    def intensity_kg_per_kwh(self) -> float | None:
        """The factor; of a total, the mean over its energy."""
        if self.factors is not None:
            return self.factors.intensity.value
        return _ratio(None if self.tco2e is None else self.tco2e * 1000.0, self.facility_kwh)

    @property
    def sci_g_per_mtok(self) -> float | None:
        """Software carbon intensity, gCO2e per million tokens (ISO/IEC 21031).

        None without embodied carbon (`--embodied`): the standard's sum is of both.
        """
        if self.tco2e is None or self.embodied_tco2e is None or not self.tokens:
            return None
        return formulas.sci_g_per_million_tokens(self.tco2e, self.embodied_tco2e, self.tokens)

    def row(self) -> dict[str, Any]:
        """The keys of `table --format json`, in full precision."""
        return {
            "label": self.label,
            "run_ids": list(self.run_ids),
            "status": self.status,
            "started_ms": self.started_ms,
            "nodes": self.nodes,
            "devices": self.devices if self.run_ids else None,  # of hours nobody knows
            "device_uuids": sorted(self.uuids),
            "device_name": ", ".join(self.device_names) or None,
            "duration_s": self.duration_s,
            "gpu_hours": self.gpu_hours,
            "gpu_hours_of": dict(self.gpu_hours_of),
            "device_hours": self.device_hours,
            "power_w": self.power_w,
            "primary_kwh": self.primary_kwh,
            "primary_s": self.primary_s,
            "rated_over_measured": self.rated_over_measured,
            "metered_kwh": self.metered_kwh,
            "metered_rated_kwh": self.metered_rated_kwh,
            "energy_kwh": self.energy_kwh,
            "node_kwh": self.node_kwh,
            "facility_kwh": self.facility_kwh,
            "pue": self.pue,
            "intensity_kg_per_kwh": self.intensity_kg_per_kwh,
            "tco2e": self.tco2e,
            "tco2e_market": self.tco2e_market,
            "embodied_tco2e": self.embodied_tco2e,
            "sci_g_per_mtok": self.sci_g_per_mtok,
            "water_l": self.water_l,
            "cost": self.cost,
            "currency": self.currency,
            "sampled_s": self.sampled_s,
            "expected_s": self.expected_s,
            "coverage": self.coverage,
            "scope": self.scope,
            "meter": self.meter,
            "quality": self.quality,
            "method": self.method,
            "tokens": self.tokens,
            "final_loss": self.final_loss,
            "assumed": list(self.assumed),
            "factors": [asdict(factor) for factor in self.factors] if self.factors else [],
            "notes": list(self.notes),
        }


def sum_of(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def unique(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None

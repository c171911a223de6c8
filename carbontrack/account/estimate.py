"""From what was measured to an estimate of energy, carbon and money, with all that led to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from carbontrack.account import catalog
from carbontrack.account import method as formula
from carbontrack.account.catalog import Factor
from carbontrack.account.factors import Factors
from carbontrack.ledger.rows import Run, Sensor, StepTotals, Usage
from carbontrack.units import J_PER_KWH, MS_PER_S, S_PER_HOUR

_KINDS = ("gpu", "cpu", "dram")


@dataclass(frozen=True, slots=True)
class Estimate:
    """One row of the table, unrounded. What is not known is None.

    `energy_kwh` is of all metered devices before PUE (for `report`: rated power × hours),
    `facility_kwh` after. `devices`, `device_hours` and `power_w` are of the primary kind: GPUs
    where there are any.
    """

    label: str
    method: str
    factors: Factors | None  # None: a total of rows with different factors
    run_ids: tuple[str, ...] = ()
    status: str | None = None
    started_ms: int | None = None
    duration_s: float | None = None
    uuids: frozenset[str] = frozenset()  # of the primary kind
    devices: int = 0
    device_names: tuple[str, ...] = ()
    gpu_hours: float = 0.0
    device_hours: float = 0.0
    primary_kwh: float | None = None
    primary_s: float = 0.0  # device-seconds that `primary_kwh` accounts for
    energy_kwh: float | None = None
    band: float | None = None  # relative error of the sensors, where it is known
    node_kwh: float = 0.0  # modelled, for what no meter sees
    facility_kwh: float | None = None
    tco2e: float | None = None
    tco2e_low: float | None = None
    tco2e_high: float | None = None
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
        """Software carbon intensity, gCO2e per million tokens (ISO/IEC 21031)."""
        if self.tco2e is None or not self.tokens:
            return None
        return formula.sci_g_per_million_tokens(self.tco2e, self.embodied_tco2e or 0.0, self.tokens)

    def row(self) -> dict[str, Any]:
        """The keys of `table --format json`, in full precision."""
        return {
            "label": self.label,
            "run_ids": list(self.run_ids),
            "status": self.status,
            "devices": self.devices,
            "device_name": ", ".join(self.device_names) or None,
            "duration_s": self.duration_s,
            "gpu_hours": self.gpu_hours,
            "device_hours": self.device_hours,
            "power_w": self.power_w,
            "energy_kwh": self.energy_kwh,
            "node_kwh": self.node_kwh,
            "facility_kwh": self.facility_kwh,
            "pue": self.pue,
            "intensity_kg_per_kwh": self.intensity_kg_per_kwh,
            "tco2e": self.tco2e,
            "tco2e_low": self.tco2e_low,
            "tco2e_high": self.tco2e_high,
            "tco2e_market": self.tco2e_market,
            "embodied_tco2e": self.embodied_tco2e,
            "sci_g_per_mtok": self.sci_g_per_mtok,
            "water_l": self.water_l,
            "cost": self.cost,
            "currency": self.currency,
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


def duration_s(run: Run) -> float:
    """Seconds from start to end, or to the last sign of life where the end was not seen (yet)."""
    end_ms = run.ended_ms or run.heartbeat_ms or run.started_ms
    return max(0, end_ms - run.started_ms) / MS_PER_S


def estimate_run(
    run: Run,
    sensors: Sequence[Sensor],
    usages: Sequence[Usage],
    steps: StepTotals,
    factors: Factors,
    *,
    method: str = "measured",
    embodied: bool = False,
) -> Estimate:
    """One run by one method. `usages` are sums of windows that add up to the run: totals or
    hours.
    """
    length_s = duration_s(run)
    primary = _primary(sensors)
    base = Estimate(
        label=run.name,
        method=method,
        factors=factors,
        run_ids=(run.id,),
        status=run.status,
        started_ms=run.started_ms,
        duration_s=length_s,
        uuids=frozenset(sensor.uuid for sensor in primary),
        devices=len(primary),
        device_names=tuple(dict.fromkeys(sensor.name for sensor in primary)),
        gpu_hours=_hours(length_s, [s for s in primary if s.kind == "gpu"]),
        device_hours=_hours(length_s, primary),
        sampled_s=sum(usage.sampled_s for usage in usages),
        expected_s=length_s * len(sensors),
        meter=_meters(sensors),
        tokens=steps.tokens,
        final_loss=steps.final_loss,
    )
    metered = _rated(base, primary) if method == "report" else _measured(base, sensors, usages)
    nodes = len({sensor.host for sensor in sensors})
    return _priced(metered, factors, nodes=nodes, embodied=embodied)


def estimate_rated(
    label: str,
    gpu_hours: float,
    power_w: float,
    factors: Factors,
    *,
    gpu: str | None = None,
    embodied: bool = False,
) -> Estimate:
    """GPU-hours × W without a run, as in the Llama 2 report. `gpu` names the device."""
    energy_kwh = formula.rated_energy_kwh(gpu_hours, power_w)
    base = Estimate(
        label=label,
        method="report",
        factors=factors,
        device_names=(gpu,) if gpu else (),
        gpu_hours=gpu_hours,
        device_hours=gpu_hours,
        primary_kwh=energy_kwh,
        primary_s=gpu_hours * S_PER_HOUR,
        energy_kwh=energy_kwh,
        scope="gpu",
        meter="none",
        quality="rated power",
    )
    return _priced(base, factors, nodes=0, embodied=embodied)


def _measured(base: Estimate, sensors: Sequence[Sensor], usages: Sequence[Usage]) -> Estimate:
    primary = {s.device_key for s in sensors if s.uuid in base.uuids}
    energy_kwh = sum_of(_kwh(usage) for usage in usages)
    return replace(
        base,
        primary_kwh=sum_of(_kwh(usage) for usage in usages if usage.device_key in primary),
        primary_s=sum(usage.energy_s for usage in usages if usage.device_key in primary),
        energy_kwh=energy_kwh,
        band=_band(sensors),
        scope="+".join(each(s.scope for s in sorted(sensors, key=_kind_order))),
        quality=" + ".join(each(sensor.quality for sensor in sensors)),
        notes=() if energy_kwh is not None else ("no energy was measured",),
    )


def _rated(base: Estimate, primary: Sequence[Sensor]) -> Estimate:
    """Hours × rated W; rated as the table of hardware has it, else as the driver told."""
    ratings = [_rated_w(sensor) for sensor in primary]
    if not ratings or None in ratings:
        note = f"no rated power is known for {', '.join(base.device_names) or 'any device'}"
        return replace(base, scope=_scope_of(primary), quality="rated power", notes=(note,))
    hours = (base.duration_s or 0.0) / S_PER_HOUR
    energy_kwh = sum(
        formula.rated_energy_kwh(hours * sensor.share, rated_w or 0.0)
        for sensor, rated_w in zip(primary, ratings, strict=True)
    )
    return replace(
        base,
        primary_kwh=energy_kwh,
        primary_s=base.device_hours * S_PER_HOUR,
        energy_kwh=energy_kwh,
        scope=_scope_of(primary),
        quality="rated power",
    )


def _priced(base: Estimate, factors: Factors, *, nodes: int, embodied: bool) -> Estimate:
    """Apply the factors to an energy."""
    writing_off = _embodied(base, factors) if embodied else None
    used = [factors.pue, factors.intensity]
    base = replace(base, embodied_tco2e=writing_off, currency=factors.currency)
    if base.energy_kwh is None:
        return replace(base, assumed=_assumed(used))
    hours = (base.duration_s or 0.0) / S_PER_HOUR
    node_kwh = formula.node_energy_kwh(
        hours, base.devices, nodes, _value(factors.node_w_per_device), _value(factors.node_w)
    )
    energy_kwh = base.energy_kwh + node_kwh
    facility_kwh = formula.facility_energy_kwh(energy_kwh, factors.pue.value)
    tco2e = formula.emissions_tco2e(facility_kwh, factors.intensity.value)
    metered_share = base.energy_kwh / energy_kwh if energy_kwh else 1.0
    band_t = None if base.band is None else tco2e * metered_share * base.band
    cost, money = _cost(base, factors, facility_kwh)
    if embodied:
        money += [f for f in (factors.lifetime_years, factors.utilisation) if f is not None]
    contract, wue = factors.contract_intensity, factors.wue
    return replace(
        base,
        node_kwh=node_kwh,
        facility_kwh=facility_kwh,
        tco2e=tco2e,
        tco2e_low=None if band_t is None else tco2e - band_t,
        tco2e_high=None if band_t is None else tco2e + band_t,
        tco2e_market=None
        if contract is None
        else formula.emissions_tco2e(facility_kwh, contract.value),
        water_l=None if wue is None else formula.water_l(energy_kwh, wue.value),
        cost=cost,
        assumed=_assumed([*used, *money]),
    )


def _cost(
    base: Estimate, factors: Factors, facility_kwh: float
) -> tuple[float | None, list[Factor]]:
    """Rent where GPUs have a price, else electricity and written-off hardware; the factors used.

    A GPU-hour price says nothing of a run without GPUs.
    """
    rent, tariff = factors.price_per_gpu_hour, factors.tariff
    if rent is not None:
        if base.gpu_hours <= 0:
            return None, []
        return formula.rental_cost(base.gpu_hours, rent.value), [rent]
    if tariff is None:
        return None, []
    cost, used = formula.electricity_cost(facility_kwh, tariff.value), [tariff]
    price, years, utilisation = factors.gpu_price, factors.lifetime_years, factors.utilisation
    if price is not None and years is not None and utilisation is not None:
        hours = years.value * formula.HOURS_PER_YEAR
        cost += formula.amortised_cost(base.gpu_hours, price.value, hours, utilisation.value)
        used += [price, years, utilisation]
    return cost, used


def _embodied(base: Estimate, factors: Factors) -> float | None:
    """The share of making the GPUs; None where no figure is known for one of them."""
    kg = _value(factors.embodied_kg) or _embodied_kg(base.device_names)
    if kg is None or factors.lifetime_years is None or factors.utilisation is None:
        return None
    lifetime_hours = factors.lifetime_years.value * formula.HOURS_PER_YEAR
    return formula.embodied_tco2e(base.gpu_hours, kg, lifetime_hours, factors.utilisation.value)


def _embodied_kg(names: Sequence[str]) -> float | None:
    """Of one kind of GPU: a mixed run needs `embodied_kg` given."""
    item = catalog.hardware(names[0]) if len(names) == 1 else None
    return item.embodied_kg if item else None


def _primary(sensors: Sequence[Sensor]) -> list[Sensor]:
    """The sensors of the first kind that the run has: GPUs, else CPUs, else memory."""
    for kind in _KINDS:
        if found := [sensor for sensor in sensors if sensor.kind == kind]:
            return found
    return []


def _hours(length_s: float, sensors: Sequence[Sensor]) -> float:
    """Device-hours; a MIG instance counts as its share of the GPU."""
    return length_s / S_PER_HOUR * sum(sensor.share for sensor in sensors)


def _rated_w(sensor: Sensor) -> float | None:
    item = catalog.hardware(sensor.name)
    return item.rated_w if item and item.rated_w else sensor.rated_power_w


def _band(sensors: Sequence[Sensor]) -> float | None:
    """Known only where NVML read every device."""
    known = sensors and all(
        s.meter == "nvml" and s.quality in ("counter", "power") for s in sensors
    )
    return formula.SENSOR_BAND if known else None


def _meters(sensors: Sequence[Sensor]) -> str:
    said = {"estimate": " (estimate)", "simulated": " (simulated)"}
    return " + ".join(each(s.meter + said.get(s.quality, "") for s in sensors))


def _scope_of(primary: Sequence[Sensor]) -> str:
    return "+".join(each(sensor.kind for sensor in primary))


def _kind_order(sensor: Sensor) -> int:
    return _KINDS.index(sensor.kind) if sensor.kind in _KINDS else len(_KINDS)


def _assumed(factors: Iterable[Factor]) -> tuple[str, ...]:
    return tuple(each(factor.name for factor in factors if factor.assumed))


def _kwh(usage: Usage) -> float | None:
    return None if usage.energy_j is None else usage.energy_j / J_PER_KWH


def _value(factor: Factor | None) -> float:
    return 0.0 if factor is None else factor.value


def sum_of(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def each(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))

"""The derivation of an estimate, a line a step: from device-hours to the cell of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from carbontrack.account.catalog import Factor
from carbontrack.account.result import Estimate
from carbontrack.report.listing import format_duration, format_share
from carbontrack.report.notes import notes_of, provenance, quantity
from carbontrack.report.table import table_of
from carbontrack.units import S_PER_HOUR


@dataclass(frozen=True, slots=True)
class Line:
    """One step: what is found, how, and from where."""

    name: str
    value: float | None
    unit: str
    how: str

    @property
    def text(self) -> str:
        value = "–" if self.value is None else f"{self.value:.10g}"
        return f"{self.name:<14}{value:>16} {self.unit:<8} {self.how}".rstrip()


def explain(estimate: Estimate, *, hours: int) -> list[Line]:
    """The steps of an estimate of a run. `hours` is the number of hourly rows it is made of."""
    e = estimate
    names = ", ".join(e.device_names) or "no device"
    lines = [
        Line("duration", e.duration_s, "s", f"{e.status}, {format_duration(e.duration_s or 0)}"),
        Line("devices", e.devices, "", f"{names}; {e.meter}, {e.quality}"),
        Line("device-hours", e.device_hours, "h", "duration × devices ÷ 3600"),
        Line("GPU-hours", e.gpu_hours, "h", "those of GPUs"),
        Line("power", e.power_w, "W", _power(e)),
        Line("energy", e.energy_kwh, "kWh", _energy(e, hours)),
        Line("coverage", e.coverage, "", _coverage(e)),
    ]
    if e.node_kwh:
        lines.append(Line("node", e.node_kwh, "kWh", "modelled: what no meter sees"))
    if e.factors is not None:
        lines += _carbon(e, e.factors.pue, e.factors.intensity)
    return lines


def explain_text(estimate: Estimate, *, hours: int) -> str:
    """For people; the last line is the table's cell, to the digit."""
    head = f"{estimate.label}  {', '.join(estimate.run_ids)}  method {estimate.method}"
    lines = [head, *(line.text for line in explain(estimate, hours=hours))]
    lines += ["", *(f"• {note}" for note in notes_of([estimate]))]
    lines += ["", f"CO₂e {_cell(estimate)}"]
    return "\n".join(lines) + "\n"


def explain_data(estimate: Estimate, *, hours: int) -> dict[str, Any]:
    """For programs: the steps and the row they lead to."""
    steps = [
        {"name": line.name, "value": line.value, "unit": line.unit, "how": line.how}
        for line in explain(estimate, hours=hours)
    ]
    return {
        "method": estimate.method,
        "steps": steps,
        "row": estimate.row(),
        "cell": _cell(estimate),
    }


def _carbon(e: Estimate, pue: Factor, intensity: Factor) -> Sequence[Line]:
    energy = "(energy + node)" if e.node_kwh else "energy"
    lines = [
        Line("PUE", pue.value, pue.unit, _sourced(pue)),
        Line("facility", e.facility_kwh, "kWh", f"{energy} × PUE"),
        Line("intensity", intensity.value, intensity.unit, _sourced(intensity)),
        Line("tCO₂e", e.tco2e, "t", "facility × intensity ÷ 1000"),
    ]
    if e.tco2e_low is not None:
        lines.append(Line("  at least", e.tco2e_low, "t", "if the sensors read 5 % too much"))
        lines.append(Line("  at most", e.tco2e_high, "t", "if the sensors read 5 % too little"))
    if e.tco2e_market is not None and e.factors and e.factors.contract_intensity:
        contract = e.factors.contract_intensity
        how = f"facility × {contract.value:g} kg/kWh of the contract ÷ 1000, beside, not instead"
        lines.append(Line("market-based", e.tco2e_market, "t", how))
    if e.embodied_tco2e is not None:
        how = "GPU-hours × kg ÷ (lifetime × utilisation) ÷ 1000"
        lines.append(Line("embodied", e.embodied_tco2e, "t", how))
    if e.sci_g_per_mtok is not None:
        how = "(tCO₂e + embodied) ÷ million tokens, ISO/IEC 21031"
        lines.append(Line("SCI", e.sci_g_per_mtok, "g/Mtok", how))
    lines.append(Line("cost", e.cost, e.currency or "", _cost(e)))
    return lines


def _power(e: Estimate) -> str:
    if e.method == "report":
        return "rated power of one device"
    return f"energy of those devices ÷ {e.primary_s / S_PER_HOUR:.6g} h that it accounts for"


def _energy(e: Estimate, hours: int) -> str:
    if e.energy_kwh is None:
        return "; ".join(e.notes) or "not known"
    if e.method == "report":
        return "device-hours × rated power ÷ 1000, before PUE"
    return f"sum of {hours} hourly rows of windows, scope {e.scope}, before PUE"


def _coverage(e: Estimate) -> str:
    share = format_share(e.coverage)
    return f"{e.sampled_s:.6g} of {e.expected_s:.6g} device-seconds were sampled: {share}"


def _sourced(factor: Factor) -> str:
    assumed = "assumed: " if factor.assumed else ""
    version = f", version {factor.version}" if factor.version else ""
    return f"{assumed}{provenance(factor)}{version}"


def _cost(e: Estimate) -> str:
    factors = e.factors
    if factors is None or e.cost is None:
        return "no tariff or price in this currency is known"
    if factors.price_per_gpu_hour is not None:
        return f"GPU-hours × {_priced(factors.price_per_gpu_hour)}"
    hardware = " + written-off hardware" if factors.gpu_price is not None else ""
    tariff = factors.tariff
    return f"facility × {_priced(tariff)}{hardware}" if tariff else ""


def _priced(factor: Factor) -> str:
    return f"{quantity(factor)}, {_sourced(factor)}"


def _cell(estimate: Estimate) -> str:
    column = next(c for c in table_of([estimate], []).columns if c.head == "CO₂e")
    return f"{column.cells[0]} {column.unit}"

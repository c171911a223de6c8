"""The derivation of an estimate, a line a step: from device-hours to the cell of the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from carbontrack.account.result import Estimate
from carbontrack.factors.catalog import Factor
from carbontrack.factors.resolve import Factors
from carbontrack.ledger.recorded_rows import Recording, Run, Usage
from carbontrack.ledger.rows import Import, Stated
from carbontrack.report import escape
from carbontrack.report.amendments import amendment_texts
from carbontrack.report.clocks import corrected_text
from carbontrack.report.notes import BAND_NOTE, notes_of, provenance, quantity
from carbontrack.report.numbers import NO_VALUE, counted, format_duration, format_share
from carbontrack.report.stated import stated_text
from carbontrack.report.table import carbon_cell
from carbontrack.units import MS_PER_HOUR, MS_PER_S, S_PER_HOUR
from carbontrack.vocabulary import ENTERED, Method, Status

_ROUNDED = 1.01  # times are in ms, and a run may be short


@dataclass(frozen=True, slots=True)
class Line:
    """One step: what is found, how, and from where."""

    name: str
    value: float | None
    unit: str
    how: str

    @property
    def text(self) -> str:
        value = NO_VALUE if self.value is None else f"{self.value:.10g}"
        return f"{self.name:<14}{value:>16} {self.unit:<8} {self.how}".rstrip()


Origin = tuple[str, str]
"""*imported*, *stated*, *amended* or *corrected*, and from where, what, or the change."""


def origins_of(
    run: Run,
    imports: Sequence[Import],
    stated: Sequence[Stated] = (),
    recordings: Sequence[Recording] = (),
) -> list[Origin]:
    """What a run was made of beside what was recorded, and what was changed of that."""
    corrected = corrected_text(recordings)
    return [
        *(("imported", source.provenance) for source in imports),
        *(("stated", stated_text(row)) for row in stated),
        *(("amended", text) for text in amendment_texts(run.amended)),
        *([("corrected", corrected)] if corrected else []),
    ]


def explain(
    estimate: Estimate, hours: Sequence[Usage], origins: Sequence[Origin] = ()
) -> list[Line]:
    """The steps of an estimate of a run. `hours` are the rows of the ledger that it is made of."""
    e, f = estimate, estimate.factors
    lines = [
        *(Line(how, None, "", what) for how, what in origins),
        Line("duration", e.duration_s, "s", _duration(e)),
        Line("devices", e.devices, "", _devices(e)),
        Line("device-hours", e.device_hours, "h", _device_hours(e)),
        Line("GPU-hours", e.gpu_hours, "h", _gpu_hours(e)),
        *(_rated(f) if f is not None else ()),
        Line("power", e.power_w, "W", _power(e)),
        *_rated_over_measured(e),
        Line("energy", e.energy_kwh, "kWh", _energy(e, hours)),
        *_band(e),
        Line("coverage", e.coverage, "", _coverage(e)),
    ]
    if f is not None:
        lines += [*_node(e, f), *_carbon(e, f), *_embodied(e, f), *_water(e, f), *_cost(e, f)]
    return lines


def explain_text(estimate: Estimate, hours: Sequence[Usage], origins: Sequence[Origin] = ()) -> str:
    """For people; the last line is the table's cell, to the digit."""
    head = f"{estimate.label}  {', '.join(estimate.run_ids)}  method {estimate.method}"
    lines = [head, *(line.text for line in explain(estimate, hours, origins))]
    lines += ["", *(f"• {note}" for note in notes_of([estimate]))]
    lines += ["", f"CO₂e {carbon_cell(estimate)}"]
    return "\n".join(map(escape.visible, lines)) + "\n"


def explain_data(
    estimate: Estimate, hours: Sequence[Usage], origins: Sequence[Origin] = ()
) -> dict[str, Any]:
    """For programs: the steps and the row they lead to."""
    steps = [
        {"name": line.name, "value": line.value, "unit": line.unit, "how": line.how}
        for line in explain(estimate, hours, origins)
    ]
    return {
        "method": estimate.method,
        "steps": steps,
        "row": estimate.row(),
        "cell": carbon_cell(estimate),
    }


def _duration(e: Estimate) -> str:
    if e.duration_s is None:
        return "when it ran is not stated"
    length_s = e.duration_s or 0.0
    if e.started_ms is None:
        return format_duration(length_s)
    begun, ended = _time(e.started_ms), _time(e.started_ms + round(length_s * MS_PER_S))
    last = "to the last heartbeat " if e.status in (Status.RUNNING, Status.INTERRUPTED) else "to "
    return f"{e.status}, {format_duration(length_s)}, from {begun} {last}{ended}"


def _devices(e: Estimate) -> str:
    if e.devices == 0:
        return "no device was recorded"
    if e.devices is None:
        return f"{', '.join(e.device_names)}; how many is not stated"
    read = ", ".join(part for part in (e.meter, e.quality) if part)
    return f"{', '.join(e.device_names)}; {read}"


def _mig(e: Estimate) -> bool:
    """Whether devices count as less than one: they were read for longer than their hours are."""
    return e.meter != ENTERED and e.primary_s > _ROUNDED * e.device_hours * S_PER_HOUR


def _device_hours(e: Estimate) -> str:
    if e.meter == ENTERED:
        return "as stated" if e.gpu_hours_of else "devices × duration ÷ 3600: none are stated"
    share = " × the share of a GPU that each MIG instance is" if _mig(e) else ""
    whole_h = (e.duration_s or 0.0) / S_PER_HOUR * (e.devices or 0)
    if share or abs(e.device_hours - whole_h) <= 1e-9 * whole_h:
        return f"duration × devices{share} ÷ 3600: of the run, not of what was sampled"
    # In attempts with time between them, say, or where a device came later.
    return "how long each device's recordings lasted, added up ÷ 3600: not only what was sampled"


def _gpu_hours(e: Estimate) -> str:
    if e.gpu_hours is None:
        return "none are stated"
    if not e.gpu_hours_of:
        return "no GPU among the devices"
    each = ", ".join(f"{hours:.6g} h of {name}" for name, hours in e.gpu_hours_of.items())
    return f"those of GPUs: {each}"


def _rated(f: Factors) -> Iterator[Line]:
    for factor in dict.fromkeys(f.rated_w.values()):
        yield Line("rated power", factor.value, factor.unit, _sourced(factor))


def _rated_over_measured(e: Estimate) -> Iterator[Line]:
    if e.rated_over_measured is not None:
        how = "rated ÷ mean measured power, of the same devices in the seconds that were measured"
        yield Line("÷ measured", e.rated_over_measured, "", how)


def _power(e: Estimate) -> str:
    if e.power_w is None:
        return "; ".join(e.notes) or "not known"
    if e.method == Method.REPORT:
        return "rated power of one device" + (
            "" if len(e.device_names) < 2 else ", mean over hours"
        )
    share = ", a MIG instance being one" if _mig(e) else ""
    return f"energy of those devices ÷ {e.primary_s / S_PER_HOUR:.6g} h it accounts for{share}"


def _energy(e: Estimate, hours: Sequence[Usage]) -> str:
    if e.energy_kwh is None:
        return "; ".join(e.notes) or "not known"
    if e.method == Method.REPORT:
        return "device-hours × rated power ÷ 1000, before PUE"
    if e.meter == ENTERED:
        return f"as stated; scope {e.scope}, before PUE"
    first, last = min(h.start_ms for h in hours), max(h.start_ms for h in hours)
    devices = len({hour.device_key for hour in hours})
    return (
        f"sum of {counted(len(hours), 'hourly window')} of {counted(devices, 'device')}, "
        f"{_time(first)} to {_time(last + MS_PER_HOUR)}; scope {e.scope}, before PUE"
    )


def _band(e: Estimate) -> Iterator[Line]:
    if e.sensor_band is not None and e.energy_kwh is not None:
        how = f"± {e.energy_kwh * e.sensor_band:.4g} kWh: {BAND_NOTE}"
        yield Line("sensor band", 100 * e.sensor_band, "%", how)


def _coverage(e: Estimate) -> str:
    if e.coverage is None:
        return "nothing to sample"
    sampled = (
        f"{min(e.sampled_s, e.expected_s):.6g} of {e.expected_s:.6g} device-seconds were sampled: "
        f"{format_share(e.coverage)}"
    )
    if e.method == Method.REPORT:
        return f"{sampled}; rated power does not depend on it"
    if e.energy_kwh is None or e.coverage == 0:
        return f"{sampled}; nothing is guessed in its place"
    if e.coverage >= 1:
        return f"{sampled}; nothing is missing"
    return f"{sampled}; what a counter did not span in the rest is missing from the energy"


def _node(e: Estimate, f: Factors) -> Iterator[Line]:
    if not e.node_kwh:
        return
    parts = []
    if f.node_w_per_device is not None:
        parts.append(f"{quantity(f.node_w_per_device)} × {e.device_hours:.6g} device-hours")
    if f.node_w is not None:
        parts.append(f"{quantity(f.node_w)} × {e.node_hours:.6g} node-hours")
    given = ", ".join(dict.fromkeys(x.source for x in (f.node_w_per_device, f.node_w) if x))
    how = f"modelled, what no meter sees: ({' + '.join(parts)}) ÷ 1000; {given}"
    yield Line("node", e.node_kwh, "kWh", how)


def _carbon(e: Estimate, f: Factors) -> Iterator[Line]:
    energy = "(energy + node)" if e.node_kwh else "energy"
    yield Line("PUE", f.pue.value, f.pue.unit, _sourced(f.pue))
    yield Line("facility", e.facility_kwh, "kWh", f"{energy} × PUE")
    yield Line("intensity", f.intensity.value, f.intensity.unit, _sourced(f.intensity))
    yield Line("tCO₂e", e.tco2e, "t", "facility × intensity ÷ 1000, location-based")
    if f.contract_intensity is not None:
        contract = f.contract_intensity
        yield Line("contract", contract.value, contract.unit, _sourced(contract))
        how = "facility × contract ÷ 1000, beside tCO₂e and not instead"
        yield Line("market-based", e.tco2e_market, "t", how)


def _embodied(e: Estimate, f: Factors) -> Iterator[Line]:
    for factor in dict.fromkeys(f.embodied_kg.values()):
        yield Line("embodied kg", factor.value, "kg/GPU", _sourced(factor))
    if e.embodied_tco2e is not None or (f.gpu_price is not None and e.cost is not None):
        yield from _written_off(f)
    if e.embodied_tco2e is not None:
        how = "GPU-hours × embodied kg ÷ (lifetime × 8760 h × utilisation) ÷ 1000"
        yield Line("embodied", e.embodied_tco2e, "t", how)
    if e.sci_g_per_mtok is not None:
        how = f"(tCO₂e + embodied) ÷ {e.tokens:,} tokens, ISO/IEC 21031"
        yield Line("SCI", e.sci_g_per_mtok, "g/Mtok", how)


def _written_off(f: Factors) -> Iterator[Line]:
    if f.lifetime_years is not None and f.utilisation is not None:
        yield Line("lifetime", f.lifetime_years.value, "years", _sourced(f.lifetime_years))
        yield Line("utilisation", f.utilisation.value, "", _sourced(f.utilisation))


def _water(e: Estimate, f: Factors) -> Iterator[Line]:
    if f.wue is not None:
        energy = "(energy + node)" if e.node_kwh else "energy"
        how = f"{energy} × WUE {quantity(f.wue)}, on site: {_sourced(f.wue)}"
        yield Line("water", e.water_l, "L", how)


def _cost(e: Estimate, f: Factors) -> Iterator[Line]:
    rent, tariff, price = f.price_per_gpu_hour, f.tariff, f.gpu_price
    unit = e.currency or ""
    if rent is not None:
        yield Line("rent", rent.value, rent.unit, _sourced(rent))
        how = "GPU-hours × rent, electricity included" if e.gpu_hours else "no GPU-hours to pay for"
        yield Line("cost", e.cost, unit, how)
        return
    if tariff is None:
        why = f"no tariff or price in {f.currency} is known"
        yield Line("cost", None, unit, why)
        return
    yield Line("tariff", tariff.value, tariff.unit, _sourced(tariff))
    hardware = ""
    if price is not None:
        yield Line("GPU's price", price.value, price.unit, _sourced(price))
        hardware = " + GPU-hours × GPU's price ÷ (lifetime × 8760 h × utilisation)"
    if e.cost is None:
        unknown = "energy to pay for is" if e.facility_kwh is None else "GPU-hours to pay for are"
        yield Line("cost", None, unit, f"no {unknown} known")
    else:
        yield Line("cost", e.cost, unit, f"facility × tariff{hardware}")


def _sourced(factor: Factor) -> str:
    assumed = "assumed: " if factor.assumed else ""
    version = f", version {factor.version}" if factor.version else ""
    note = f"; {factor.note}" if factor.note else ""
    return f"{assumed}{provenance(factor)}{version}{note}"


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / MS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

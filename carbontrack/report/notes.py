"""The notes below a table: what was assumed, what the energy holds, what is no measurement."""

from __future__ import annotations

from collections.abc import Sequence

from carbontrack.account.catalog import Factor
from carbontrack.account.result import Estimate, each
from carbontrack.report.numbers import mass_text

_KINDS = (("GPUs", "gpu"), ("CPUs", "cpu"), ("memory", "dram"))


def notes_of(rows: Sequence[Estimate], totals: Sequence[Estimate] = ()) -> list[str]:
    """One sentence each, without what does not apply."""
    notes = [*_methods(rows), *_scopes(rows), *_quality(rows), *_band(rows), *_factors(rows)]
    notes += _unfinished(rows)
    for estimate in (*rows, *totals):
        notes += [f"{estimate.label}: {note}" for note in estimate.notes]
    return each(notes)


def factor_text(factor: Factor) -> str:
    """A factor as a sentence: name, value, unit, whether it is assumed, source and basis."""
    name = "PUE" if factor.name == "pue" else factor.name.replace("_", " ")
    assumed = " assumed" if factor.assumed else ""
    return f"{name} {quantity(factor)}{assumed}: {provenance(factor)}"


def quantity(factor: Factor) -> str:
    """0.385 kg/kWh."""
    return f"{factor.value:g} {factor.unit}".rstrip()


def provenance(factor: Factor) -> str:
    """Source, year and basis."""
    year = f", {factor.year}" if factor.year else ""
    basis = f", {factor.basis}" if factor.basis else ""
    return f"{factor.source}{year}{basis}"


def _methods(rows: Sequence[Estimate]) -> list[str]:
    notes = []
    if any(row.method == "report" for row in rows):
        notes.append("report: rated power × hours, as in the Llama 2 report, not measured")
    measured = {row.run_ids: row for row in rows if row.method == "measured"}
    for row in rows:
        other = measured.get(row.run_ids)
        if row.method == "report" and other and row.energy_kwh and other.energy_kwh:
            ratio = row.energy_kwh / other.energy_kwh
            notes.append(f"{row.label}: rated power gives {ratio:.3g} × the measured energy")
    return notes


def _scopes(rows: Sequence[Estimate]) -> list[str]:
    notes = []
    for scope in each(part for row in rows for part in row.scope.split(", ")):
        inside = set(scope.split("+"))
        without = [name for name, kind in _KINDS if not inside & {kind, "module"}]
        missing = ", ".join([*without, "network, storage, fans"])
        notes.append(f"scope {scope}: without {missing} (PUE stands for cooling and losses only)")
    return notes


def _quality(rows: Sequence[Estimate]) -> list[str]:
    notes = []
    for word, meaning in (
        ("simulated", "no real device was read"),
        ("estimate", "energy by a model, TDP × utilisation; nothing was measured"),
    ):
        labels = each(row.label for row in rows if f"({word})" in row.meter)
        if labels:
            notes.append(f"{word}: {meaning}{_of(labels, rows)}")
    return notes


def _band(rows: Sequence[Estimate]) -> list[str]:
    """As a range for one row; for several in words, as it is the same share of each."""
    known = [row for row in rows if row.tco2e_low is not None]
    if not known:
        return []
    band = f"±{(known[0].band or 0.0) * 100:g} %"
    if len(known) == 1:
        low, high = mass_text(known[0].tco2e_low), mass_text(known[0].tco2e_high)
        return [
            f"the sensors' band of {band} makes CO₂e {low} to {high}{_of([known[0].label], rows)}"
        ]
    return [f"sensors read by NVML are good to about {band}{_of([r.label for r in known], rows)}"]


def _factors(rows: Sequence[Estimate]) -> list[str]:
    """Each factor that was used, once, the assumed ones first."""
    notes = []
    factors = dict.fromkeys(f for row in rows if row.factors for f in row.factors)
    for factor in sorted(factors, key=lambda f: not f.assumed):
        used = [
            row.label
            for row in rows
            if row.factors and factor in row.factors and _counts(factor, row)
        ]
        if used:
            notes.append(factor_text(factor) + _of(used, rows))
    return notes


def _counts(factor: Factor, row: Estimate) -> bool:
    return not factor.assumed or factor.name in row.assumed


def _of(labels: Sequence[str], rows: Sequence[Estimate]) -> str:
    """For which rows, where it is not for all."""
    all_of_them = set(labels) == {row.label for row in rows}
    return "" if all_of_them else f" ({', '.join(each(labels))})"


def _unfinished(rows: Sequence[Estimate]) -> list[str]:
    notes = []
    for status, meaning in (
        ("failed", "its energy was spent too"),
        ("interrupted", "counted up to its last sign of life"),
        ("running", "counted up to now"),
    ):
        labels = each(row.label for row in rows if row.status == status)
        if labels:
            notes.append(f"{status}: {meaning} ({', '.join(labels)})")
    return notes

"""The notes below a table: what was assumed, what the energy holds, what was not measured."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from carbontrack import keys
from carbontrack.account.result import Estimate, unique
from carbontrack.account.uncertainty import NVML_BAND
from carbontrack.factors.catalog import Factor
from carbontrack.report.numbers import counted
from carbontrack.report.scopes import left_out
from carbontrack.vocabulary import UNATTRIBUTED, Method, Quality, Status

_TITLES = {key.name: key.title for key in keys.KEYS} | {"rated_w": "rated power"}
BAND_NOTE = f"a band of {100 * NVML_BAND:g} % of the sensors, assumed: NVIDIA gives it up to Kepler"
_SHOWN = 4
_NUMBER = re.compile(r"\d[\d.,]*")
_PAID = {
    "electricity": "electricity only, neither hardware nor rent",
    "rent": "rent of GPU-hours, electricity included",
}


def notes_of(rows: Sequence[Estimate], totals: Sequence[Estimate] = ()) -> list[str]:
    """One sentence each, without what does not apply. `totals` are sums of the rows."""
    notes = [
        *_methods(rows),
        *_watched(rows),
        *_scopes(rows),
        *_quality(rows),
        *_factors(rows),
        *_costs(rows),
    ]
    notes += [*_node_model(rows), *_unfinished(rows), *_own(rows), *_own(totals)]
    return unique(notes)


def factor_text(factor: Factor) -> str:
    """A factor as a sentence: name, value, unit, whether it is assumed, source and basis."""
    name = factor_title(factor.name)
    assumed = " assumed" if factor.assumed else ""
    note = f" ({factor.note})" if factor.note else ""
    return f"{name} {quantity(factor)}{assumed}: {provenance(factor)}{note}"


def factor_title(name: str) -> str:
    """PUE, intensity, tariff: a factor as notes name it."""
    return _TITLES.get(name) or name.replace("_", " ")


def quantity(factor: Factor) -> str:
    """0.385 kg/kWh."""
    return f"{factor.value:g} {factor.unit}".rstrip()


def provenance(factor: Factor) -> str:
    """Source, year and basis."""
    year = f", {factor.year}" if factor.year else ""
    basis = f", {factor.basis}" if factor.basis and factor.basis != "as given" else ""
    return f"{factor.source}{year}{basis}"


def _methods(rows: Sequence[Estimate]) -> list[str]:
    if not any(row.method == Method.REPORT for row in rows):
        return []
    notes = ["report: rated power × hours, as in the Llama 2 report, not measured"]
    if any(row.method != Method.REPORT for row in rows):
        notes.append(
            "rated ÷ measured: rated power over the mean measured one, of the same devices in the "
            "seconds that were measured"
        )
    return notes


def _watched(rows: Sequence[Estimate]) -> list[str]:
    if not any(row.kind == UNATTRIBUTED for row in rows):
        return []
    return [f"{UNATTRIBUTED}: what the watched nodes used and no other run of this table did"]


def _scopes(rows: Sequence[Estimate]) -> list[str]:
    notes = []
    for scope in unique(part for row in rows for part in row.scope.split(", ")):
        missing = ", ".join([*left_out(scope), "network, storage, fans"])
        notes.append(f"scope {scope}: without {missing} (PUE stands for cooling and losses only)")
    return notes


def _quality(rows: Sequence[Estimate]) -> list[str]:
    notes = []
    for word, meaning in (
        (Quality.SIMULATED, "no real device was read"),
        (Quality.ESTIMATE, "energy by a model, TDP × utilisation; nothing was measured"),
    ):
        labels = unique(row.label for row in rows if f"({word})" in row.meter)
        if labels:
            notes.append(f"{word}: {meaning}{_of(labels, rows)}")
    if stated := unique(row.label for row in rows if Quality.STATED in row.quality.split(" + ")):
        notes.append(f"stated: as another tool or its user says, not read here{_of(stated, rows)}")
    return notes


def _factors(rows: Sequence[Estimate]) -> list[str]:
    """Each factor that was used, once, the assumed ones first."""
    methods, labels = Counter(row.method for row in rows), {row.label for row in rows}
    used = rows_by_factor(rows).items()
    return [
        factor_text(factor) + _of_rows(having, methods, labels)
        for factor, having in sorted(used, key=lambda one: not one[0].assumed)
    ]


def rows_by_factor(rows: Sequence[Estimate]) -> dict[Factor, list[Estimate]]:
    """Each factor that was used, and in which rows. By the hour each of many runs has its own."""
    found: dict[Factor, list[Estimate]] = {}
    for row in rows:
        for factor in dict.fromkeys(row.factors or ()):
            if counts(factor, row):
                found.setdefault(factor, []).append(row)
    return found


def _costs(rows: Sequence[Estimate]) -> list[str]:
    """What the money is paid for."""
    notes = []
    for what in unique(row.cost_of for row in rows):
        labels = unique(row.label for row in rows if row.cost_of == what)
        notes.append(f"cost: {_PAID.get(what, what)}{_of(labels, rows)}")
    return notes


def counts(factor: Factor, row: Estimate) -> bool:
    return not factor.assumed or factor.name in row.assumed


def _node_model(rows: Sequence[Estimate]) -> list[str]:
    labels = unique(row.label for row in rows if row.node_kwh)
    if not labels:
        return []
    return [
        "modelled: what no meter sees of the nodes is in facility energy and CO₂e, not in energy"
        + _of(labels, rows)
    ]


def _of_rows(used: Sequence[Estimate], methods: Counter[str], labels: set[str]) -> str:
    """For which rows, where it is not for all: by their methods, if all rows of those are meant.
    `methods` and `labels` are those of all rows.
    """
    if len(used) == methods.total():
        return ""
    of_used = unique(row.method for row in used)
    if len(used) == sum(methods[method] for method in of_used):
        return f" ({', '.join(of_used)})"
    several = len(methods) > 1
    names = [f"{row.label} by {row.method}" if several else row.label for row in used]
    return "" if set(names) == labels else f" ({some(names)})"


def _of(labels: Sequence[str], rows: Sequence[Estimate]) -> str:
    """For which rows, where it is not for all."""
    all_of_them = set(labels) == {row.label for row in rows}
    return "" if all_of_them else f" ({some(labels)})"


def _unfinished(rows: Sequence[Estimate]) -> list[str]:
    notes = []
    for status, meaning in (
        (Status.FAILED, "its energy was spent too"),
        (Status.INTERRUPTED, "counted up to its last heartbeat"),
        (Status.RUNNING, "counted up to its last heartbeat"),
    ):
        labels = unique(row.label for row in rows if row.status == status)
        if labels:
            notes.append(f"{status}: {meaning} ({some(labels)})")
    return notes


def _own(rows: Sequence[Estimate]) -> list[str]:
    """Notes of single rows, once for all that have the same; of those that differ in their numbers
    alone, the first.
    """
    labels: dict[str, list[str]] = {}
    alike: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            kind = _NUMBER.sub("0", note)
            labels.setdefault(kind, []).append(row.label)
            alike.setdefault(kind, []).append(note)
    return [f"{some(labels[kind])}: {_first(notes)}" for kind, notes in alike.items()]


def _first(notes: Sequence[str]) -> str:
    others = len(unique(notes)) - 1
    return f"{notes[0]} (and {others} more with other numbers)" if others else notes[0]


def untimed_text(names: Sequence[str]) -> str:
    """That these runs are in no range of time; empty where there are none."""
    if not names:
        return ""
    return f"{counted(len(names), 'run')} left out, entered without a time: {some(names)}"


def some(labels: Sequence[str]) -> str:
    """The first few names of many."""
    names = unique(labels)
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: _SHOWN - 1])} and {len(names) - _SHOWN + 1} more"

"""The settings of the facility as a table: value, origin, and what is assumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from carbontrack import config, keys
from carbontrack.errors import CarbontrackError
from carbontrack.factors.catalog import Factor
from carbontrack.factors.resolve import resolve
from carbontrack.quotas import UNITS, quotas_of
from carbontrack.report.numbers import NO_VALUE
from carbontrack.report.table import Column, Table
from carbontrack.vocabulary import Method


def settings_table() -> tuple[Table, dict[str, Any]]:
    """Every key, and the quotas; a note says why a zone, provider or day cannot be used.

    Raises CarbontrackError for a bad file or environment.
    """
    around = config.surroundings()
    settings = config.resolve(around)
    used, notes = _factors(settings)
    rows: list[tuple[str, Any, str, str]] = []
    for key in keys.KEYS:
        setting, factor = settings.get(key.name), used.get(key.name)
        if setting is not None:
            rows.append((key.name, setting.value, key.unit, setting.origin))
        elif factor is not None:
            origin = "assumed" if factor.assumed else "follows"
            year = f", {factor.year}" if factor.year else ""
            rows.append((key.name, factor.value, factor.unit, f"{origin}: {factor.source}{year}"))
        else:
            rows.append((key.name, None, key.unit, "not set"))
    rows += _quotas(around)
    table = Table(
        (
            Column("setting", "", tuple(row[0] for row in rows), left=True),
            Column("value", "", tuple(_text(row[1]) for row in rows), left=True),
            Column("unit", "", tuple(row[2] for row in rows), left=True),
            Column("from", "", tuple(row[3] for row in rows), left=True),
        ),
        has_total=False,
        notes=tuple(notes),
    )
    data = {
        "settings": [{"name": n, "value": v, "unit": u, "origin": o} for n, v, u, o in rows],
        "notes": notes,
    }
    return table, data


def _quotas(around: Sequence[config.Layer]) -> Iterator[tuple[str, Any, str, str]]:
    for quota in quotas_of(around).values():
        for name, unit in UNITS.items():
            if (limit := getattr(quota, name)) is not None:
                said = f"{unit or quota.currency} per {quota.per}"
                yield f"{config.QUOTA}.{quota.project}.{name}", limit, said, quota.origin


_FOLLOWS = {
    "factors_as_of": ("pue", "intensity", "tariff"),
    "zone": ("intensity",),
    "provider": ("pue",),
}


def _factors(settings: config.Settings) -> tuple[dict[str, Factor], list[str]]:
    """The factors that follow from the settings, and why some do not.

    A zone may still be one that was imported: the ledger is not opened here.
    """
    left = {name: value for name, value in settings.items() if name not in _FOLLOWS}
    notes: list[str] = []
    unknown: set[str] = set()
    for name, follows in _FOLLOWS.items():
        if name not in settings:
            continue
        try:
            resolve({**left, name: settings[name]}, method=Method.MEASURED)
            left[name] = settings[name]
        except CarbontrackError as error:
            imported = " It may be one that was imported." if name == "zone" else ""
            notes.append(f"{error.what}{imported} {error.hint}".rstrip())
            unknown.update(follows)
    used = {factor.name: factor for factor in resolve(left, method=Method.MEASURED)}
    return {name: factor for name, factor in used.items() if name not in unknown}, notes


def _text(value: Any) -> str:
    if value is None:
        return NO_VALUE
    return f"{value:g}" if isinstance(value, float) else str(value)

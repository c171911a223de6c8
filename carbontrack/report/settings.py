"""The settings of the facility as a table: value, origin, and what is assumed."""

from __future__ import annotations

from typing import Any

from carbontrack import config
from carbontrack.account.factors import resolve
from carbontrack.report.table import Column, Table


def settings_table() -> tuple[Table, dict[str, Any]]:
    """Every key. Raises CarbontrackError for a bad file, environment, zone or provider."""
    settings = config.resolve(config.surroundings())
    used = {factor.name: factor for factor in resolve(settings, method="measured")}
    rows: list[tuple[str, Any, str, str]] = []
    for key in config.KEYS:
        setting, factor = settings.get(key.name), used.get(key.name)
        if setting is not None:
            rows.append((key.name, setting.value, key.unit, setting.origin))
        elif factor is not None:
            origin = "assumed" if factor.assumed else "follows"
            year = f", {factor.year}" if factor.year else ""
            rows.append((key.name, factor.value, factor.unit, f"{origin}: {factor.source}{year}"))
        else:
            rows.append((key.name, None, key.unit, "not set"))
    table = Table(
        (
            Column("setting", "", tuple(row[0] for row in rows), left=True),
            Column("value", "", tuple(_text(row[1]) for row in rows), left=True),
            Column("unit", "", tuple(row[2] for row in rows), left=True),
            Column("from", "", tuple(row[3] for row in rows), left=True),
        ),
        has_total=False,
        notes=(),
    )
    data = {"settings": [{"name": n, "value": v, "unit": u, "origin": o} for n, v, u, o in rows]}
    return table, data


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)

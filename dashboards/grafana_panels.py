"""The JSON of Grafana's boards and panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SOURCE = {"type": "grafana-postgresql-datasource", "uid": "carbontrack"}


def choice(name: str, label: str, sql: str, *, sort: int = 0) -> dict[str, Any]:
    """A variable of the board: one of what the query finds."""
    own = {"name": name, "label": label, "type": "query", "datasource": _SOURCE}
    return {**own, "refresh": 2, "sort": sort, "query": sql}


def board(
    uid: str,
    title: str,
    panels: Sequence[dict[str, Any]],
    variables: Sequence[dict[str, Any]],
    since: str,
    *,
    refresh: str = "1m",
    timezone: str = "utc",
) -> dict[str, Any]:
    """The panels row by row, each with a number."""
    x = y = high = 0
    for number, panel in enumerate(panels, start=1):
        width, height = panel["gridPos"]["w"], panel["gridPos"]["h"]
        if x + width > 24:
            x, y, high = 0, y + high, 0
        panel["id"] = number
        panel["gridPos"] |= {"x": x, "y": y}
        x, high = x + width, max(high, height)
    return {
        "uid": uid,
        "title": title,
        "tags": ["carbontrack"],
        "schemaVersion": 39,
        "timezone": timezone,
        "refresh": refresh,
        "time": {"from": since, "to": "now"},
        "templating": {"list": [*variables, *_factors()]},
        "panels": list(panels),
    }


def with_events(shown: dict[str, Any], sql: str) -> dict[str, Any]:
    """The board, with what the query finds marked in its panels."""
    own = {"name": "Events", "enable": True, "datasource": _SOURCE, "iconColor": "#6b6b6b"}
    return shown | {"annotations": {"list": [own | {"target": _query(sql, "table")}]}}


def _factors() -> list[dict[str, Any]]:
    """Those that every table assumes, to be typed over."""
    from carbontrack.factors import catalog

    pue, intensity = catalog.pue("industry").value, catalog.intensity("WORLD").value
    return [
        {
            "name": name,
            "label": label,
            "type": "textbox",
            "query": value,
            "current": {"text": value, "value": value},
        }
        for name, label, value in (
            ("pue", "PUE", f"{pue:g}"),
            ("intensity", "kgCO₂e/kWh", f"{intensity:g}"),
        )
    ]


def _panel(
    kind: str, title: str, sql: str, size: tuple[int, int], format: str, **more: Any
) -> dict[str, Any]:
    grid = {"w": size[0], "h": size[1]}
    own = {"type": kind, "title": title, "datasource": _SOURCE, "gridPos": grid}
    return {**own, "targets": [_query(sql, format)], **more}


def _query(sql: str, format: str) -> dict[str, Any]:
    own = {"refId": "A", "datasource": _SOURCE}
    return {**own, "format": format, "rawQuery": True, "rawSql": sql}


def stat(title: str, sql: str, unit: str, *, width: int = 4, **reduced: Any) -> dict[str, Any]:
    reduce = {"calcs": ["lastNotNull"], **reduced}
    options = {"reduceOptions": reduce, "colorMode": "none"}
    return _panel("stat", title, sql, (width, 4), "table", fieldConfig=_unit(unit), options=options)


def series(title: str, sql: str, unit: str, *, bars: bool = False) -> dict[str, Any]:
    """What adds up, over the whole width."""
    drawn = {"drawStyle": "bars", "fillOpacity": 80} if bars else {"fillOpacity": 40}
    custom = {**drawn, "lineWidth": 1, "stacking": {"mode": "normal"}}
    return _timeseries(title, sql, unit, 24, custom, {"mode": "multi", "sort": "desc"})


def lines(title: str, sql: str, unit: str) -> dict[str, Any]:
    """What does not add up, two beside each other."""
    return _timeseries(title, sql, unit, 12, {}, {"mode": "multi"})


def _timeseries(
    title: str, sql: str, unit: str, width: int, custom: dict[str, Any], tooltip: dict[str, Any]
) -> dict[str, Any]:
    config = _unit(unit, {**custom, "spanNulls": False})
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": tooltip}
    return _panel(
        "timeseries", title, sql, (width, 9), "time_series", fieldConfig=config, options=options
    )


def table(title: str, sql: str) -> dict[str, Any]:
    overrides = [
        {
            "matcher": {"id": "byRegexp", "options": pattern},
            "properties": [{"id": "unit", "value": unit}],
        }
        for pattern, unit in ((".*kwh", "kwatth"), ("kg", "masskg"), ("gpu_hours", "h"))
    ]
    config = {"defaults": {}, "overrides": overrides}
    return _panel("table", title, sql, (12, 9), "table", fieldConfig=config)


def _unit(unit: str, custom: Any = None) -> dict[str, Any]:
    defaults = {"unit": unit} if custom is None else {"unit": unit, "custom": custom}
    return {"defaults": defaults, "overrides": []}

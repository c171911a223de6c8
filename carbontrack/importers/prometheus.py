"""Prometheus' answer to a range query, of the DCGM exporter or of any other of powers.

Source: prometheus.io/docs/prometheus/latest/querying/api, "Range queries"; github.com/NVIDIA/
dcgm-exporter: energies are in mJ, and 4.5.3 renamed the label Hostname to hostname.
"""

from __future__ import annotations

import json
import math
from typing import Any

from carbontrack.decimals import decimal
from carbontrack.importers.clock import plausible_ns
from carbontrack.importers.metrics import Metrics
from carbontrack.importers.model import FileOptions, FoundRun, Refused, Rejected, Tally
from carbontrack.importers.source import Source
from carbontrack.units import MS_PER_S, NS_PER_MS
from carbontrack.vocabulary import ImportKind

KIND = ImportKind.PROMETHEUS
_USE = "Use /api/v1/query_range with start, end and step."


def matches(head: str) -> bool:
    """Whether it is an answer of the API, or a scrape of an exporter."""
    is_json = head.lstrip().startswith("{")
    is_answer = '"resultType"' in head or ('"metric"' in head and '"values"' in head)
    return (is_json and is_answer) or _is_scrape(head)


def _is_scrape(head: str) -> bool:
    return "DCGM_FI_DEV_" in head and any(
        line.startswith(("DCGM_FI_DEV_", "# TYPE DCGM_FI_DEV_")) for line in head.split("\n")
    )


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """All its devices as one run. Raises Refused for what is of one moment."""
    if _is_scrape(source.head):
        raise Refused(f"{source.name} is one scrape: no time lies between two samples.", _USE)
    data = _answer(source)
    kind = data.get("resultType")
    if kind is None:
        raise Refused(f"{source.name} is no answer to a query.", _USE)
    if kind != "matrix":
        raise Refused(
            f"{source.name} is a {kind}, of one moment: no time lies between two samples.", _USE
        )
    metrics = Metrics(source.name, tally, options.unit, options.device_column)
    series = _series(source, data)
    for number, (labels, values) in enumerate(series, start=1):
        if not metrics.is_read(labels.get("__name__", "")):
            continue
        for at, text in values:
            try:
                time_ns = plausible_ns(round(decimal(at) * MS_PER_S) * NS_PER_MS, at)
                value = decimal(text)
            except Rejected as error:
                tally.reject(number, str(error))
                continue
            except (TypeError, ValueError, OverflowError):
                tally.reject(number, f"{text!r} is not a number")
                continue
            tally.taken += 1
            metrics.add(labels, time_ns, value if math.isfinite(value) else float("nan"))
    return [run_of(KIND, source, metrics, tally, len(series))]


def run_of(kind: ImportKind, source: Source, metrics: Metrics, tally: Tally, rows: int) -> FoundRun:
    """The run of these metrics."""
    if not tally.taken:
        names = ", ".join(metrics.passed) or "nothing"
        raise Refused(
            f"{source.name} has no metric of a power or an energy: it has {names}.",
            "Name the unit of any other with --unit.",
        )
    metrics.check()
    started_ns, ended_ns = metrics.readings.times_ns
    devices = metrics.readings.devices(metrics.device)
    first = min(device.key for device in devices)
    return FoundRun(
        identity=(kind, str(started_ns), first),
        name=None,
        started_ns=started_ns,
        ended_ns=ended_ns,
        devices=devices,
        rows=(1, rows),
        host=next((device.host for device in devices if device.host), None),
    )


def _series(
    source: Source, data: dict[str, Any]
) -> list[tuple[dict[str, str], list[tuple[Any, Any]]]]:
    """The labels and the values of each series. Raises Refused for an answer of another shape."""
    try:
        return [
            (dict(series["metric"]), [(at, value) for at, value in series["values"]])
            for series in data.get("result", [])
        ]
    except (KeyError, TypeError, ValueError):
        raise Refused(f"{source.name} has no series with their labels and values.", _USE) from None


def _answer(source: Source) -> dict[str, Any]:
    try:
        answer = json.loads(source.text())
    except ValueError as error:
        raise Refused(f"{source.name} is not valid JSON: {error}.") from None
    data = answer.get("data", answer) if isinstance(answer, dict) else {}
    return data if isinstance(data, dict) else {}

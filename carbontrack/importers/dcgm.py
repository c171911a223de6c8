"""DCGM's metrics as a long table: a row a time, device and metric."""

from __future__ import annotations

from collections.abc import Sequence

from carbontrack.importers.clock import Clock
from carbontrack.importers.metrics import Metrics
from carbontrack.importers.model import FileOptions, FoundRun, Refused, Rejected, Tally
from carbontrack.importers.prometheus import run_of
from carbontrack.importers.rows import names_of, rows
from carbontrack.importers.source import Source
from carbontrack.vocabulary import ImportKind

KIND = ImportKind.DCGM
_TIMES = ("timestamp", "Timestamp", "time", "Time", "_time", "datetime")
_METRICS = ("metric", "Metric", "metric_name", "field", "Field", "field_name", "__name__", "name")
_VALUES = ("value", "Value", "_value")


def matches(head: str) -> bool:
    """Whether its columns are a time, a metric and a value."""
    names = set(names_of(head))
    return all(names & set(known) for known in (_TIMES, _METRICS, _VALUES))


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """All its devices as one run. Raises Refused for a table without the columns of one."""
    names = names_of(source.head)
    time = options.time_column or _column(source, names, "time", _TIMES)
    metric = _column(source, names, "metric", _METRICS)
    value = _column(source, names, "value", _VALUES)
    clock = Clock(source.name, options.tz)
    metrics = Metrics(source.name, tally, options.unit, options.device_column)
    last = 1
    for row in rows(source, tally, (time, metric, value)):
        last = row.number
        name = row.text(metric)
        if not metrics.is_read(name):
            continue
        try:
            power = row.value(value)
            labels = {**row.cells, "__name__": name, "name": ""}
            labels["name"] = "" if metric == "name" else row.text("name")
            at_ns = clock.read(row.text(time))
        except Rejected as error:
            tally.reject(row.number, str(error))
            continue
        tally.taken += 1
        metrics.add(labels, at_ns, float("nan") if power is None else power)
    return [run_of(KIND, source, metrics, tally, last)]


def _column(source: Source, names: Sequence[str], what: str, known: Sequence[str]) -> str:
    found = next((name for name in known if name in names), None)
    if found is None:
        raise Refused(f"{source.name} has no column of a {what}: it has {', '.join(names)}.")
    return found

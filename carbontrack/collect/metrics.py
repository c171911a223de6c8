"""How a collector is doing, for Prometheus; no project, run or host is named."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_PREFIX = "carbontrack_collector"
_ANSWER_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Of one collector, whose queue has so many batches `waiting`."""

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._batches = Counter(
            f"{_PREFIX}_batches",
            "Batches by the status of their answer.",
            ["status"],
            registry=self._registry,
        )
        self._rows = self._counter("rows", "Rows written.")
        self._late = self._counter("late_rows", "Rows too old to be kept.")
        self._received = self._counter("received_bytes", "Compressed bytes.")
        self._dropped = self._counter("dropped_partitions", "Dropped as too old.")
        self._undropped = self._counter("retention_failures", "Could not be dropped.")
        self._answers = Histogram(
            f"{_PREFIX}_answer_seconds",
            "Time from a request to its answer, after the commit.",
            buckets=_ANSWER_S,
            registry=self._registry,
        )
        queue = Gauge(f"{_PREFIX}_waiting_batches", "Batches that wait.", registry=self._registry)
        queue.set_function(waiting)

    def _counter(self, name: str, help: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", help, registry=self._registry)

    def written(self, rows: int, late_rows: int, received_bytes: int) -> None:
        """Count a batch that is in the ledger, without its rows that are too late."""
        self._rows.inc(rows)
        self._late.inc(late_rows)
        self._received.inc(received_bytes)

    def dropped(self) -> None:
        """Count a partition that was too old."""
        self._dropped.inc()

    def not_dropped(self) -> None:
        """Count that dropping failed."""
        self._undropped.inc()

    def answered(self, status: int, took_s: float) -> None:
        """Count an answer."""
        self._batches.labels(status).inc()
        self._answers.observe(took_s)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self._registry)

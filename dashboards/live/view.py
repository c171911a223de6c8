"""What the pages ask of the ledger, read at most once a second however many pages ask."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carbontrack import config
from carbontrack.account.result import Estimate
from carbontrack.errors import CarbontrackError
from carbontrack.ledger import engine, read
from carbontrack.ledger.rows import Run
from carbontrack.ledger.url import sqlite_path
from carbontrack.report import gather, listing, render
from carbontrack.report.table import table_of
from dashboards.live import columns, goals

if TYPE_CHECKING:
    from sqlalchemy import Connection

TICK_S = 1.0
MAX_POINTS = 2000
_SETTLED_S = 60.0  # an ended run changes only by new factors, or by what is recovered
_KEPT = 512
_METHODS = ("measured", "report")
_SPARK_POINTS = 40
_PLAN_S = 10.0
_MARKUP: Mapping[str, Callable[[list[Estimate]], str]] = {
    "markdown": lambda rows: render.markdown_of(table_of(rows, gather.totals(rows))),
    "latex": lambda rows: render.latex_of(table_of(rows, gather.totals(rows))),
    "csv": render.csv_of,
}


class Unavailable(CarbontrackError):
    """The ledger cannot be read now; it may be again later."""


@dataclass(frozen=True, slots=True)
class _Answer:
    value: Any
    good_until_s: float


class View:
    """Answers from a ledger that may come, go and be upgraded while we serve it."""

    def __init__(self, url: str, flags: config.Layer) -> None:
        self._url = url
        self._flags = flags
        self._connect: Callable[[], AbstractContextManager[Connection]] | None = None
        self._dispose: Callable[[], None] | None = None
        self._file: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self.queries = 0

    def runs(self, *, search: str = "", status: str = "", limit: int = 200) -> dict[str, Any]:
        """Runs, newest first, as `runs --format json` has them; `matching` counts all."""
        found: dict[str, Any] = self._answer(
            ("runs", search, status, limit), lambda c: self._runs(c, search, status, limit)
        )
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        """One run as `show --format json` has it, with its rows of `table --format json`."""
        found: dict[str, Any] = self._answer(("run", run_id), lambda c: self._detail(c, run_id))
        return found

    def table(self, run_id: str, *, method: str, format: str) -> str:
        """The run's row of `table --method METHOD --format FORMAT`, to be pasted."""
        if method not in _METHODS or format not in _MARKUP:
            known = ", ".join([*_METHODS, *_MARKUP])
            raise CarbontrackError(f"method={method}&format={format}: not known, take {known}.")
        key = ("table", run_id, method, format)
        found: str = self._answer(key, lambda c: self._table(c, run_id, method, format))
        return found

    def series(
        self, run_id: str, *, from_ms: int | None, to_ms: int | None, points: int
    ) -> dict[str, Any]:
        """Columns over time of every device, and the steps, with at most `points` each."""
        wanted = max(10, min(points, MAX_POINTS))
        key = ("series", run_id, from_ms, to_ms, wanted)
        found: dict[str, Any] = self._answer(
            key, lambda c: self._series(c, run_id, from_ms, to_ms, wanted)
        )
        return found

    def close(self) -> None:
        if self._dispose is not None:
            self._dispose()
        self._connect = self._dispose = None

    def _answer(self, key: Hashable, ask: Callable[[Connection], tuple[Any, bool]]) -> Any:
        """The same answer for all who ask within a tick, or longer if it is settled."""
        with self._lock:
            known = self._answers.get(key)
            if known is not None and known.good_until_s > time.monotonic():
                self._answers.move_to_end(key)
                return known.value
            value, settled = self._ask(ask)
            lasts_s = _SETTLED_S if settled else TICK_S * 0.9
            self._answers[key] = _Answer(value, time.monotonic() + lasts_s)
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
            return value

    def _ask(self, ask: Callable[[Connection], tuple[Any, bool]]) -> tuple[Any, bool]:
        self.queries += 1
        try:
            with self._open()() as connection:
                return ask(connection)
        except engine.NoLedger:
            self._forget()
            raise
        except CarbontrackError as error:
            if error.__cause__ is None:  # a question about what is not there
                raise
            self._forget()
            raise Unavailable(str(error)) from error

    def _open(self) -> Callable[[], AbstractContextManager[Connection]]:
        """A file that was replaced is opened anew: SQLite would go on reading the removed one."""
        path = sqlite_path(self._url)
        if path is not None:
            status = path.stat() if path.exists() else None
            file = (status.st_dev, status.st_ino) if status else None
            if file != self._file:
                self._forget()
                self._file = file
        if self._connect is None:
            reader = engine.open_reader(self._url)
            self._connect, self._dispose = reader.connect, reader.dispose
        return self._connect

    def _forget(self) -> None:
        self.close()
        self._answers.clear()

    def _runs(
        self, connection: Connection, search: str, status: str, limit: int
    ) -> tuple[Any, bool]:
        found, matching = read.find_runs(connection, search=search, status=status, limit=limit)
        return {"runs": [self._item(connection, run) for run in found], "matching": matching}, False

    def _item(self, connection: Connection, run: Run) -> dict[str, Any]:
        """A line of the list; of an ended run it is worked out once a while."""
        key = ("item", run.id)
        known = self._answers.get(key)
        if known is not None and known.good_until_s > time.monotonic():
            return dict(known.value)
        sensors, totals = read.sensors(connection, run), read.totals(connection, run)
        steps = read.step_totals(connection, run)
        (estimate,) = gather.estimates(connection, [run], self._flags, ["measured"])
        shape = read.steps(connection, run, points=_SPARK_POINTS)
        item = {
            **listing.run_item(run, sensors, totals),
            "final_loss": steps.final_loss,
            "losses": [step.loss for step in shape],
            "tco2e": estimate.tco2e,
            "cost": estimate.cost,
            "currency": estimate.currency,
        }
        if _ended(run):
            self._answers[key] = _Answer(item, time.monotonic() + _SETTLED_S)
        return item

    def _detail(self, connection: Connection, run_id: str) -> tuple[Any, bool]:
        run = read.resolve_run(connection, run_id)
        detail = listing.run_detail(
            run,
            read.sensors(connection, run),
            read.totals(connection, run),
            read.step_totals(connection, run),
            read.nodes(connection, run),
            read.events(connection, run),
        )
        rows = gather.estimates(connection, [run], self._flags, _METHODS)
        detail["rows"] = [row.row() for row in rows]
        detail["plan"] = self._plan(connection, run, rows[0])
        detail["budgets"] = goals.budgets(detail["nodes"], rows[0])
        detail["heartbeat_ms"] = run.heartbeat_ms
        return detail, _ended(run)

    def _plan(self, connection: Connection, run: Run, measured: Estimate) -> Any:
        """Totals at the planned tokens; they move slowly, and reading every step costs a while."""
        key = ("plan", run.id)
        known = self._answers.get(key)
        if known is None or known.good_until_s <= time.monotonic():
            plan = goals.plan(connection, run, measured)
            known = self._answers[key] = _Answer(plan, time.monotonic() + _PLAN_S)
        return known.value

    def _table(
        self, connection: Connection, run_id: str, method: str, format: str
    ) -> tuple[str, bool]:
        run = read.resolve_run(connection, run_id)
        rows = gather.estimates(connection, [run], self._flags, [method])
        return _MARKUP[format](rows), _ended(run)

    def _series(
        self,
        connection: Connection,
        run_id: str,
        from_ms: int | None,
        to_ms: int | None,
        points: int,
    ) -> tuple[Any, bool]:
        run = read.resolve_run(connection, run_id)
        series = read.series(connection, run, from_ms=from_ms, to_ms=to_ms, points=points)
        steps = read.steps(connection, run, from_ms=from_ms, to_ms=to_ms, points=points)
        drawn = columns.of_windows(series, read.sensors(connection, run))
        return {**drawn, "steps": columns.of_steps(steps)}, _ended(run)


def _ended(run: Run) -> bool:
    """An interrupted run may come back to life; these do not."""
    return run.status in ("completed", "failed")

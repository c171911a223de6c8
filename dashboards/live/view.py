"""What the pages ask of the ledger, as plain data. Every question is one connection."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from carbontrack import config, garbage
from carbontrack.account import over_time
from carbontrack.account.over_time import SpentCurve
from carbontrack.account.quota import QuotaUse
from carbontrack.account.result import Estimate
from carbontrack.account.split import RunRecord, reaches_beyond, whole_hours
from carbontrack.account.total import why_unknown
from carbontrack.errors import CarbontrackError
from carbontrack.ids import short_id
from carbontrack.ledger import latest, live, read
from carbontrack.ledger.held import Held, ManyHeld
from carbontrack.ledger.recorded_rows import Run, Span, Usage
from carbontrack.ledger.rows import Series
from carbontrack.ledger.sql import in_parts
from carbontrack.ledger.url import db_option
from carbontrack.query import group, price
from carbontrack.query.attempts import Tried, tried
from carbontrack.query.phases import Phases, phases_of
from carbontrack.query.quota import standing
from carbontrack.quotas import quotas_of
from carbontrack.report.document import document_of
from carbontrack.report.explain import explain_data, origins_of
from carbontrack.report.forms import form_of
from carbontrack.report.notes import notes_of
from carbontrack.report.quota import quota_lines
from carbontrack.report.runs import run_item
from carbontrack.report.show import run_detail
from carbontrack.units import MS_PER_DAY, month_of, now_ms
from carbontrack.vocabulary import Method, Status, TableFormat
from dashboards.live import columns, targets
from dashboards.live.cache import BUDGET_BYTES, Lasting, RunCache
from dashboards.live.curves import Curves
from dashboards.live.fleet import fleet_of
from dashboards.live.reader import LedgerReader
from dashboards.recorded import count_recorded

if TYPE_CHECKING:
    from sqlalchemy import Connection

MAX_POINTS = 2000
WIDTHS = (300, 600, 1200, MAX_POINTS)  # so that pages of different widths share their answers
MOST_SUMMED = 500
"""Runs that the first page adds up: each is priced once a while, and that takes some ms."""
_MAP_POINTS = 300  # of each of many devices
_SPARK_POINTS = 40
_PRICED_S = 600.0  # a run that ended is priced again only for new factors
_ITEM_S = 60.0  # a line of the list changes with its run, or by new factors
_PLAN_S = 10.0
_QUOTA_S = 60.0  # all runs of a month are added up, and that moves slowly
_QUOTAS = 50  # of so many months and choices of projects
_MINUTE_S = 60
_MINUTES = 60  # of an hour
_LINES_BYTES = _PLANS_BYTES = _PHASES_BYTES = _PRICED_BYTES = BUDGET_BYTES // 32
_PHASE_ROWS = 50_000  # windows that are read in a fifth of a second
_WHOLES_BYTES = BUDGET_BYTES // 4
_ROW_BYTES = 500  # of a device or an hour in Python
_SUMMED = (
    "label",
    "gpu_hours",
    "energy_kwh",
    "facility_kwh",
    "tco2e",
    "cost",
    "currency",
    "coverage",
    "quality",
    "assumed",
)  # of a row of the table
_PRICED = ("tco2e", "cost")
_PROJECT = "project"
_MARKUP = (TableFormat.MARKDOWN, TableFormat.LATEX, TableFormat.CSV)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What is asked of a run again and again."""

    record: RunRecord  # summed
    hours: Sequence[Usage]  # of all devices together
    estimates: Sequence[Estimate]  # by each method, the measured one first
    kwh_by_hour: Mapping[int, float]  # energy of all devices

    @property
    def estimate(self) -> Estimate:
        """As measured."""
        return self.estimates[0]

    @property
    def size_bytes(self) -> int:
        return _ROW_BYTES * (20 + 3 * len(self.record.usages) + 2 * len(self.hours))


class View:
    """Answers from a ledger that may come, go and be upgraded while we serve it."""

    def __init__(self, url: str, flags: config.Layer) -> None:
        self._url = url
        self._reader = LedgerReader(url)
        self._flags = flags
        self._items: RunCache[dict[str, Any]] = RunCache(_ITEM_S, max_bytes=_LINES_BYTES)
        self._plans: RunCache[Any] = RunCache(_PLAN_S, max_bytes=_PLANS_BYTES, until_changed=False)
        self._wholes: RunCache[_Whole] = RunCache(
            _ITEM_S, max_bytes=_WHOLES_BYTES, size_of=lambda whole: whole.size_bytes
        )
        self._phases: RunCache[Phases] = RunCache(
            _PLAN_S,
            max_bytes=_PHASES_BYTES,
            size_of=lambda phases: _ROW_BYTES * (1 + len(phases.each)),
            until_changed=False,
        )
        self._priced: RunCache[Estimate] = RunCache(_PRICED_S, max_bytes=_PRICED_BYTES)
        self._attempts: RunCache[list[Tried]] = RunCache(
            _PLAN_S,
            max_bytes=_PHASES_BYTES,
            size_of=lambda found: 10 * _ROW_BYTES * (1 + len(found)),
            until_changed=False,
        )
        self._standings: Lasting[Sequence[QuotaUse]] = Lasting(_QUOTA_S, _QUOTAS)
        self._curves = Curves()

    @property
    def queries(self) -> int:
        """How often the ledger was asked."""
        return self._reader.queries

    def close(self) -> None:
        self._reader.close()

    def find(self, reference: str) -> Run:
        """The run that is meant. It differs from an earlier answer if anything of it changed: each
        commit of its recorder moves the heartbeat.
        """
        with self._reader.connect() as connection:
            return read.resolve_run(connection, reference)

    def runs(
        self,
        *,
        search: str = "",
        status: str = "",
        project: str = "",
        user: str = "",
        since_ms: int | None = None,
        until_ms: int | None = None,
        sort: str = "started",
        down: bool = True,
        limit: int = 200,
    ) -> dict[str, Any]:
        """Runs as `runs --format json` has them; `matching` counts all, and `sorted` says whether
        all of them were sorted, or only the newest.

        Raises CarbontrackError for an unknown `sort`.
        """
        if sort not in columns.SORT_FIELDS:
            raise CarbontrackError(f"sort={sort}: unknown, use {', '.join(columns.SORT_FIELDS)}.")
        in_sql = sort in read.SORTS
        with self._reader.connect() as connection, garbage.paused():
            found, matching = read.find_runs(
                connection,
                search=search,
                status=status,
                project=project,
                user=user,
                since_ms=since_ms,
                until_ms=until_ms,
                sort=sort if in_sql else "started",
                down=down or not in_sql,
                limit=limit,
            )
            items = self._items.get_all(found, lambda runs: self._new_items(connection, runs))
            projects, users = read.projects(connection), read.users(connection)
        return {
            "runs": items if in_sql else columns.ordered(items, sort, down=down),
            "matching": matching,
            "sorted": "all" if in_sql or matching <= len(items) else "newest",
            "projects": projects,
            "users": users,
        }

    def totals(self, *, by: str = "", **wanted: Any) -> dict[str, Any]:
        """The sum of the newest `MOST_SUMMED` runs that match, as far as they are in the range of
        time, and of each group of them; `wanted` are the filters of `runs`, `by` a key of
        `table --by`, or empty. A project has its quotas, each in the period that is shown: they are
        of all its runs there.

        Raises CarbontrackError for an unknown `by`.
        """
        span_ms = whole_hours(wanted.get("since_ms"), wanted.get("until_ms"))
        if span_ms is not None:  # the runs are those of which something is counted
            wanted["since_ms"], wanted["until_ms"] = span_ms
        with self._reader.connect() as connection, garbage.paused():
            found, matching = read.find_runs(connection, limit=MOST_SUMMED, **wanted)
            rows = self._estimates(connection, found, span_ms)
            held = ManyHeld(connection, found, span_ms)
            twice = held.among.all([span_ms] if span_ms else [])
            groups = []
            if by:
                own: dict[str, Any] = {"span_ms": span_ms, "held": held}
                groups = group.grouped(connection, found, rows, [by], self._flags, **own)
            quotas = self._quotas(connection, by, groups, wanted.get("until_ms"))
        total = group.totals(rows, twice)[0] if rows else None
        return {
            "groups": [
                _sum_item(row) | {"quotas": quotas.get(row.group[by], [])} for row in groups
            ],
            "total": total and _sum_item(total),
            "unknown": [why for name in _PRICED if total and (why := why_unknown(total, name))],
            "summed": len(found),
            "matching": matching,
            "tags": sorted({key for run in found for key in run.tags}),
        }

    def _quotas(
        self, connection: Connection, by: str, groups: Sequence[Estimate], until_ms: int | None
    ) -> dict[str, list[dict[str, Any]]]:
        """Of each project that is shown and has a quota, the limits as `quota --format json` has
        them, in the period of the last day that is shown.
        """
        if by != _PROJECT:
            return {}
        shown = frozenset(row.group[by] for row in groups)
        quotas = quotas_of(config.surroundings())
        now = now_ms()
        # A range ends where a month does by the reader's clock, up to a day beside UTC.
        at_ms = now if until_ms is None else min(now, until_ms - MS_PER_DAY)
        found = self._standings.get(
            (shown, month_of(at_ms), *quotas.values()),
            lambda: (
                standing(
                    connection,
                    quotas,
                    self._flags,
                    at_ms=at_ms,
                    now_ms=now,
                    only=shown,
                    estimates=partial(self._estimates, connection),
                ).uses
            ),
        )
        lines = quota_lines(found)
        return {name: [line for line in lines if line["project"] == name] for name in shown}

    def fleet(self) -> dict[str, Any]:
        """Every device that is recorded now, or was until its node fell silent; see `fleet_of`."""
        with self._reader.connect() as connection:
            devices = live.newest(connection)
            limits_w = latest.limits_w(connection, {one.recording_id for one in devices})
            watches = read.watches(connection)
        return fleet_of(devices, limits_w, watches, now_ms=now_ms())

    def run(self, run: Run) -> dict[str, Any]:
        """One run as `show --format json` has it, its rows of `table --format json`, and what it
        does now.
        """
        with self._reader.connect() as connection:
            held = Held(connection, [run])
            whole = self._whole(connection, run)
            sensors, rows = whole.record.sensors, whole.estimates
            phases = self._phases.get(
                run,
                lambda _: phases_of(held, run, most_rows=_PHASE_ROWS, hours=whole.hours),
            )
            attempts = self._attempts.get(run, lambda _: tried(held, run, whole.hours))
            detail = run_detail(
                run,
                sensors,
                whole.record.usages,
                whole.record.steps,
                read.recordings(connection, run),
                read.clocks(connection, run),
                read.events(connection, run),
                phases,
                attempts,
                read.imports(connection, run),
                whole.record.stated,
            )
            running = run.status is Status.RUNNING
            power = latest.latest_power(connection, run, sensors) if running else None
            return {
                **detail,
                "rows": [row.row() for row in rows],
                "plan": self._plan(connection, run, rows[0]),
                "budgets": targets.budgets(detail["nodes"], rows[0]),
                "started_ms": run.started_ms,
                "ended_ms": run.ended_ms,
                "heartbeat_ms": run.heartbeat_ms,
                "power_now_w": power.power_w if power else None,
                "power_now_devices": power.devices if power else 0,
                "power_now_ms": power.time_ms if power else None,
                "devices_now": count_recorded(run, sensors, power.time_ms) if power else 0,
                "loss_not_finite_since": latest.not_finite_since(connection, run),
            }

    def explain(self, run: Run, *, method: str) -> dict[str, Any]:
        """The derivation of the run's estimate, as `explain --format json` has it, with the notes
        under it and the command that prints the same.
        """
        if method not in tuple(Method):
            raise CarbontrackError(f"method={method}: unknown, use {', '.join(Method)}.")
        with self._reader.connect() as connection:
            rows = self._whole(connection, run).estimates
            (row,) = (row for row in rows if row.method == method)
            imports, stated = read.imports(connection, run), read.stated(connection, run)
            origins = origins_of(run, imports, stated, read.recordings(connection, run))
            found = explain_data(row, read.hours(connection, run), origins)
        return {
            "method": method,
            "steps": found["steps"],
            "cell": found["cell"],
            "notes": notes_of([row]),
            "command": self._explain_command(run, method),
        }

    def _explain_command(self, run: Run, method: str) -> str:
        """By *report* it derives both, which then have the same factors, as on the page."""
        words = ["carbontrack", "explain", short_id(run.id)]
        if method != Method.MEASURED:
            words += ["--method", ",".join(Method)]
        for name, value in self._flags.values.items():
            words += [config.flag(name), str(value)]
        return shlex.join(words) + db_option(self._url)

    def table(self, run: Run, *, method: str, format: str) -> str:
        """The row of `table --method measured,report --format FORMAT` by one of the two, to be
        pasted: with the factors that both have on the page.
        """
        if method not in tuple(Method) or format not in _MARKUP:
            known = ", ".join([*Method, *_MARKUP])
            raise CarbontrackError(f"method={method}&format={format}: unknown, use {known}.")
        with self._reader.connect() as connection:
            rows = price.estimates(connection, [run], self._flags, list(Method))
        asked = [row for row in rows if row.method == method]
        return str(form_of(TableFormat(format)).render(document_of(asked, group.totals(asked))))

    def series(
        self, run: Run, *, from_ms: int | None = None, to_ms: int | None = None, points: int
    ) -> dict[str, Any]:
        """Columns over time of every device, what was spent, and the steps; at most `points` of
        each.
        """
        with self._reader.connect() as connection:
            whole = self._whole(connection, run)
            windows = _window_points(whole, points)
            series = read.series(connection, run, from_ms=from_ms, to_ms=to_ms, points=windows)
            spent = self._spent(connection, whole, series)
            steps = self._curves.steps(
                connection,
                run,
                count=whole.record.steps.steps,
                from_ms=from_ms,
                to_ms=to_ms,
                points=points,
            )
            return {
                **columns.of_windows(whole.record.run, series, whole.record.sensors),
                "spent": over_time.at_windows(whole.record.run, spent, series),
                "steps": columns.of_steps(steps),
            }

    def progress(self, run: Run, *, points: int) -> dict[str, Any]:
        """Columns over the run's steps, at most `points`: what was spent until each."""
        with self._reader.connect() as connection:
            whole = self._whole(connection, run)
            count = whole.record.steps.steps
            steps = self._curves.steps(connection, run, count=count, points=points)
            series = read.series(connection, run, points=_window_points(whole, points))
            spent = self._spent(connection, whole, series)
            times_ms = [step.time_ms for step in steps]
            return {
                **columns.of_steps(steps),
                "tokens": read.tokens_until(connection, run, [step.step for step in steps]),
                **spent.at(times_ms),
                "currency": whole.estimate.currency,
            }

    def _spent(self, connection: Connection, whole: _Whole, series: Series) -> SpentCurve:
        run = whole.record.run
        part = over_time.part_before(run, series)
        earlier = None
        if part is not None:
            # Where the series is of whole minutes, so is this part of an hour.
            rows = None if series.level_s % _MINUTE_S else _MINUTES * len(whole.record.sensors)
            earlier = read.series(
                connection, run, from_ms=part[0], to_ms=part[1], points=_MINUTES, most_rows=rows
            )
        return SpentCurve.of_part(run, whole.estimate, whole.kwh_by_hour, series, earlier)

    def _whole(self, connection: Connection, run: Run) -> _Whole:
        """What all that is asked of a run needs of the whole of it."""
        return self._wholes.get(run, partial(self._read, Held(connection, [run]), run, None))

    def _read(
        self, held: Held, run: Run, around: Sequence[config.Layer] | None, _: _Whole | None
    ) -> _Whole:
        record = price.summed_record_of(held, run)
        estimates = price.estimates_of(held, record, self._flags, list(Method), around)
        by_hour = record.by_hour() if record.by_hour else {}
        return _Whole(replace(record, by_hour=None), held.hours_of_all(run), estimates, by_hour)

    def _estimates(
        self, connection: Connection, runs: Sequence[Run], span_ms: Span | None
    ) -> list[Estimate]:
        """Of each run, or of what of it is in the span."""
        inside = [run for run in runs if not reaches_beyond(run, span_ms)]
        found = dict(
            zip(
                (run.id for run in inside),
                self._priced.get_all(
                    inside,
                    lambda some: price.estimates(connection, some, self._flags, [Method.MEASURED]),
                ),
                strict=True,
            )
        )
        beyond = [run for run in runs if run.id not in found]
        methods = [Method.MEASURED]
        parts = price.estimates(connection, beyond, self._flags, methods, span_ms=span_ms)
        found |= dict(zip((run.id for run in beyond), parts, strict=True))
        return [found[run.id] for run in runs]

    def _new_items(self, connection: Connection, runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
        """The lines of the list, worked out when their runs have changed, or once a while."""
        around = config.surroundings()
        for some in in_parts(runs):
            held = Held(connection, some)
            held.will_look_at(some)
            wholes = [self._wholes.get(run, partial(self._read, held, run, around)) for run in some]
            counts = [whole.record.steps.steps for whole in wholes]
            losses = self._curves.losses(held, some, counts, _SPARK_POINTS)
            odd = held.ends_odd((whole.record.run, whole.record.steps) for whole in wholes)
            for run, whole, shape in zip(some, wholes, losses, strict=True):
                since = latest.not_finite_since(connection, run) if run.key in odd else None
                yield {
                    **run_item(run, whole.record.sensors, whole.record.usages, whole.record.stated),
                    "final_loss": whole.record.steps.final_loss,
                    "loss_not_finite_since": since,
                    "losses": shape,
                    "tco2e": whole.estimate.tco2e,
                    "cost": whole.estimate.cost,
                    "currency": whole.estimate.currency,
                }

    def _plan(self, connection: Connection, run: Run, measured: Estimate) -> Any:
        """Totals at the planned tokens; they move slowly, and reading every step costs a while."""
        return self._plans.get(run, lambda _: targets.plan(connection, run, measured))


def _window_points(whole: _Whole, points: int) -> int:
    """How many windows of each device are read for a picture of so many points."""
    many = len(whole.record.sensors) > columns.MANY_DEVICES
    return min(points, _MAP_POINTS) if many else points


def _sum_item(row: Estimate) -> dict[str, Any]:
    """A group or the total of the first page: keys of `table --format json`, and how many runs."""
    item = row.row()
    found = {name: item[name] for name in _SUMMED}
    return {**found, "label": row.title, "runs": len(row.run_ids)}

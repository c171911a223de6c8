"""`carbontrack.Ledger`: what a ledger holds as pandas data frames, and what is done with its runs,
for scripts and notebooks.

Units are in the names of the columns (`energy_j`, `power_mean_w`, `tco2e`), every time is a UTC
timestamp, and a value that is not known is NaN, NaT or <NA>.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from carbontrack import config
from carbontrack.account.total import once, parts_of
from carbontrack.errors import CarbontrackError
from carbontrack.factors.resolve import parse_methods
from carbontrack.folders import absolute
from carbontrack.ledger import compact, engine, export, kept, merge, read, remove, verify
from carbontrack.ledger.compact import Compacted
from carbontrack.ledger.export import Exported
from carbontrack.ledger.held import ManyHeld
from carbontrack.ledger.ingest import Taken
from carbontrack.ledger.recorded_rows import Amendment, Event, Step
from carbontrack.ledger.url import ledger_url, redacted_url
from carbontrack.ledger.window import LEVELS_S, Window
from carbontrack.query import add, amend, group, price, select
from carbontrack.query.frames import frame_of_columns, frame_of_estimates, frame_of_rows
from carbontrack.query.runs import RunItem, list_items
from carbontrack.units import MS_PER_S
from carbontrack.vocabulary import UNATTRIBUTED, Method, Quality, Status

if TYPE_CHECKING:
    import pandas as pd

Time = datetime | str
"""A time; one without an offset is UTC. Text is ISO 8601: 2026-01-31, 2026-01-31T12:00+02:00."""


class Ledger:
    """A ledger: a SQLite file, or `postgresql://USER@HOST/DATABASE`.

    Without `url` it is that of the commands: $CARBONTRACK_DB, else the file in the user's data
    directory. Raises CarbontrackError if there is none, or it cannot be read. Nothing stays open
    between calls, and each reads what is committed by then, so a running run can be followed.
    """

    def __init__(self, url: str | None = None) -> None:
        self._url = ledger_url(url)
        self._engine = engine.open_reader(self._url)

    def __repr__(self) -> str:
        return f"Ledger({redacted_url(self._url)!r})"

    def runs(
        self,
        *,
        project: str | None = None,
        tags: Mapping[str, str] | None = None,
        since: Time | None = None,
        until: Time | None = None,
        user: str | None = None,
        host: str | None = None,
        status: str | None = None,
        quality: str | None = None,
        cluster: str | None = None,
        job: str | None = None,
        account: str | None = None,
        partition: str | None = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """A row per run, newest first, that matches all that is given: it ran at `since` or later,
        and before `until`.

        Columns: those of `runs --format json`, with `started`, `ended` and `heard` as timestamps.
        `energy_kwh` is of the devices, before PUE; `coverage` is the share of device-seconds that
        were measured.
        """
        _check("status", status, Status)
        _check("quality", quality, Quality)
        with self._engine.connect() as connection:
            wanted = select.Selection(
                project=project,
                tags=tuple((tags or {}).items()),
                since_ms=_ms(since),
                until_ms=_ms(until),
                user=user,
                host=host,
                status=status,
                quality=quality,
                cluster=cluster,
                job=job,
                account=account,
                partition=partition,
            )
            found = select.choose(connection, [], wanted, limit=limit)
            return frame_of_rows(RunItem, list(list_items(connection, found)))

    def table(
        self,
        runs: str | Iterable[str] | None = None,
        *,
        by: str | Sequence[str] | None = None,
        method: str = Method.MEASURED,
        embodied: bool = False,
        **factors: Any,
    ) -> pd.DataFrame:
        """A row per run and method, as `carbontrack table --format json` has it; with `by`, a row
        per group, or per pair of two: project, model, user, host, month, attempt, phase, name,
        status, account, partition, scheduler, cluster, job, array, tag:KEY. A group of unlike runs
        has a row for each `kind`: quality, scope and currency are never mixed in one.

        `runs` are ids, unique prefixes or names; without `runs` there are all, newest first, and
        of an empty selection there is no row. `method` is measured, report, or both joined by a
        comma. `factors` are the options of `table`: zone, pue, intensity, tariff, … Raises
        CarbontrackError where `carbontrack table` would.
        """
        flags = config.flags(**factors)
        # None asks for all runs, an empty selection for none of them; a Series has no truth.
        named = None if runs is None else [runs] if isinstance(runs, str) else list(runs)
        methods = parse_methods(method)
        with self._engine.connect() as connection:
            chosen = [] if named == [] else select.choose(connection, named or [])
            held = ManyHeld(connection, chosen)
            own: dict[str, Any] = {"embodied": embodied, "held": held}
            rows = price.estimates(connection, chosen, flags, methods, **own)
            if keys := [by] if isinstance(by, str) else list(by or []):
                rows = group.grouped(connection, chosen, rows, keys, flags, **own)
            elif any(row.kind == UNATTRIBUTED for row in rows):
                rows = once(rows, held.among.all())
        return frame_of_estimates(parts_of(rows))

    def windows(
        self,
        run: str = "last",
        *,
        level_s: int = 60,
        since: Time | None = None,
        until: Time | None = None,
    ) -> pd.DataFrame:
        """What each device did in aligned windows of 60 s, or of 1 s or 3600 s: a row per device
        and window, ordered by device and time. Windows that begin at `since` or later, and before
        `until`. Where a device has none so short any more, as old ones were compacted, its longer
        ones are there instead, also one that began before `since` and reaches beyond it.

        Columns: `device` (UUID), `host`, `start`, `level_s` (how long the window is), and its
        other fields: `energy_j`,
        `energy_s` (the time it accounts for), `sampled_s`, `samples`, `power_mean_w`,
        `power_min_w`, `power_max_w`, `vitals` (how many readings the next four are of),
        `util_pct`, `memory_max_bytes`, `temperature_max_c`, `sm_clock_mhz`, `throttle` and `flags`
        (bits). A stretch without any reading has no row, and what two recordings of the run both
        have is in the earlier one's. A device-day has 86,400 rows of 1 s.
        """
        if level_s not in LEVELS_S:
            levels = ", ".join(map(str, LEVELS_S))
            raise CarbontrackError(f"level_s {level_s}: unknown.", hint=f"Give one of {levels}.")
        with self._engine.connect() as connection:
            found = read.resolve_run(connection, run)
            sensors = {s.device_key: s for s in read.sensors(connection, found)}
            columns = read.finest_windows(
                connection, found, level_s, from_ms=_ms(since), to_ms=_ms(until)
            )
        keys = columns.pop("device_key")
        where: dict[str, list[Any]] = {
            "device": [sensors[key].uuid for key in keys],
            "host": [sensors[key].host for key in keys],
        }
        types = {"device": str, "host": str, "power_mean_w": float | None}
        return frame_of_columns({**where, **columns}, {**get_type_hints(Window), **types})

    def steps(self, run: str = "last") -> pd.DataFrame:
        """A row per training step, in order.

        Columns: `step`, `time`, `restart` (how often the launcher had restarted the job's
        processes), `rank`, `loss`, `lr`, `grad_norm`, `tokens` (of the step), `tokens_per_s`, and
        `extra`, a dict of what else was logged. A loss that was no finite number is NaN, and its
        text is in `extra`.
        """
        with self._engine.connect() as connection:
            return frame_of_rows(Step, read.steps(connection, read.resolve_run(connection, run)))

    def events(self, run: str = "last") -> pd.DataFrame:
        """A row per event, in order: `time`, `kind`, `message`, `host`, `device_uuid`, `data`."""
        with self._engine.connect() as connection:
            return frame_of_rows(Event, read.events(connection, read.resolve_run(connection, run)))

    def amendments(self, run: str = "last") -> pd.DataFrame:
        """A row per amendment of a run, in order: `id`, `run_id`, `time`, `user`, `field`, `before`
        and `after`. One of the field *undo* takes back the one whose id is its `after`.
        """
        with self._engine.connect() as connection:
            return frame_of_rows(Amendment, read.resolve_run(connection, run).amended)

    def amend(
        self,
        run: str,
        *,
        name: str | None = None,
        project: str | None = None,
        tags: Mapping[str, str] | None = None,
        tokens: int | str | None = None,
        planned_tokens: int | str | None = None,
        note: str | None = None,
        **factors: Any,
    ) -> pd.DataFrame:
        """Amend what is said of a run, as `carbontrack amend` does; the amendments that follow from
        it, as `amendments` has them.

        `factors` are those of the place where it ran: zone, pue, tariff, … An empty project, note
        or value of a tag takes away what there is. Raises CarbontrackError, and writes nothing, for
        an unknown run or field, and a value that cannot be.
        """
        _, changed = amend.amend(
            self._url,
            run,
            config.flags(**factors),
            name=name,
            project=project,
            tags=tags,
            tokens=tokens,
            planned_tokens=planned_tokens,
            note=note,
        )
        return frame_of_rows(Amendment, changed)

    def merge(self, *sources: str | Path, dry_run: bool = False) -> Taken:
        """Take other ledgers (files or URLs), journals and folders into this one, as `carbontrack
        db merge` does: in any order and as often as one likes. The ids of the runs that were
        `added`, that `grew`, that were `known`, and that were `removed` before and stay so; and of
        those that were here and are now removed, as there, by id the names (`deleted`).

        All of it is written, or nothing; with `dry_run` nothing. Raises CarbontrackError where
        something is no ledger, or contradicts what is here.
        """
        return merge.merge(self._url, [str(source) for source in sources], dry_run=dry_run)

    def export(self, folder: str | Path) -> Exported:
        """Write all of it as Parquet files into a new folder, as `carbontrack db export` does; how
        many `files` and `rows`, their `size_bytes`, and of these `window_bytes`.

        Raises CarbontrackError if the folder is not empty or cannot be written, or pyarrow is
        missing.
        """
        return export.export(self._url, Path(absolute(str(Path(folder).expanduser()))))

    def compact(self, keep: str, *, dry_run: bool = False) -> Compacted:
        """Drop old seconds and minutes, as `carbontrack db compact` does; every total stays. `keep`
        says how long which are kept: "1s:7d,60s:90d". How many `windows` went, by level in s, how
        many hours were left as their windows do not add up (`left_hours`), and `freed_bytes`.

        Raises CarbontrackError for another `keep`, and while journals wait.
        """
        return compact.compact(self._url, kept.parse_keep(keep), dry_run=dry_run)

    def verify(self) -> pd.DataFrame:
        """What is wrong with it, as `carbontrack db verify` finds it: a row per problem, `where` it
        is and `what` it is; no row where nothing is wrong.
        """
        return frame_of_rows(verify.Problem, verify.verify(self._url))

    def add(
        self,
        name: str,
        *,
        device: str,
        devices: int | None = None,
        gpu_hours: float | None = None,
        energy_kwh: float | None = None,
        power_w: float | None = None,
        tokens: int | str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        source: str | None = None,
        project: str | None = None,
        tags: Mapping[str, str] | None = None,
        **factors: Any,
    ) -> str:
        """Enter a run that was measured elsewhere, as `carbontrack add` does; its id.

        `energy_kwh` is of its devices, before PUE; `power_w` the rated power of one; `factors` are
        those of the place where it ran. Raises CarbontrackError, and writes nothing, for what is
        missing or cannot be.
        """
        run = add.add(
            self._url,
            config.flags(**factors),
            name=name,
            device=device,
            devices=devices,
            gpu_hours=gpu_hours,
            energy_kwh=energy_kwh,
            power_w=power_w,
            tokens=tokens,
            started_ms=_ms(start),
            ended_ms=_ms(end),
            source=source,
            project=project,
            tags=tags,
        )
        return run.id

    def undo(self, run: str) -> pd.DataFrame:
        """Take back what the newest call amended of a run; those amendments, as `amendments` has
        them. Raises CarbontrackError where there are none.
        """
        _, undone = amend.undo(self._url, run)
        return frame_of_rows(Amendment, undone)

    def remove(self, runs: str | Iterable[str]) -> None:
        """Remove runs with all that was recorded of them, as `carbontrack runs rm` does. It cannot
        be undone: nothing brings them back into this ledger.

        Raises CarbontrackError, and removes nothing, where one is not there or is being recorded.
        """
        references = [runs] if isinstance(runs, str) else list(runs)
        if not references:
            raise CarbontrackError("No run is named.", hint="Give ids, prefixes or names.")
        with self._engine.connect() as connection:
            found = select.choose(connection, references)
        remove.remove(self._url, found)


def _check(name: str, word: str | None, known: type[StrEnum]) -> None:
    if word is not None and word not in tuple(known):
        raise CarbontrackError(f"{name} {word!r}: unknown.", hint=f"Give {', '.join(known)}.")


def _ms(time: Time | None) -> int | None:
    """As milliseconds since the epoch. Raises CarbontrackError for text that is not a time."""
    import pandas as pd

    if time is None:
        return None
    try:
        stamp = pd.Timestamp(time)
    except ValueError as error:
        raise CarbontrackError(f"{time!r} is not a time.", hint="Example: 2026-01-31.") from error
    stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    return round(stamp.timestamp() * MS_PER_S)

"""A ledger as a folder of Parquet files, for DuckDB, Spark and archives; `merge` reads it back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import HEAD, find, parquet
from carbontrack.ledger.source import LedgerSource, open_source
from carbontrack.ledger.tables import CARRIED, RECORDINGS, WINDOWS, Table
from carbontrack.ledger.url import redacted_url
from carbontrack.units import MS_PER_HOUR, month_of, now_ms
from carbontrack.version import __version__

_ROWS_AT_ONCE = 200_000
_Row = tuple[Any, ...]
_Columns = Sequence[Sequence[Any]]
_LEVEL, _START_MS, _SENSOR = map(WINDOWS.columns.index, ("level", "start_ms", "sensor_key"))
_THOUSANDTHS = [WINDOWS.columns.index(name) for name in parquet.THOUSANDTHS]
_ADDED = [WINDOWS.columns.index(name) for name in parquet.ADDED]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    files: int
    rows: int
    size_bytes: int
    window_bytes: int  # of the seconds, minutes and hours


def export(
    url: str,
    folder: Path,
    *,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Exported:
    """Write all of the ledger at `url` into a folder, which is made and must not hold anything.

    Raises CarbontrackError if the ledger cannot be read or the folder not be written; then there is
    no folder.
    """
    parquet.arrow()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CarbontrackError(f"{folder} is there and not empty.", hint="Name a new folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise CarbontrackError(f"{folder} cannot be written: {error.strerror}.") from error
    try:
        with open_source(url) as source:
            writer = _Writer(made, progress, source)
            writer.write()
        facts = {"revision": HEAD, "version": __version__, "exported_ms": now_ms()}
        parquet.write_manifest(made, {**facts, "ledger": redacted_url(url)}, writer.rows)
        made.chmod(0o700)
        made.replace(folder)
    except OSError as error:
        raise CarbontrackError(f"{folder} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    sizes = {name: (folder / name).stat().st_size for name in writer.rows}
    of_windows = (size for name, size in sizes.items() if name.startswith(WINDOWS.name))
    total = sum(sizes.values())
    return Exported(len(sizes), sum(writer.rows.values()), total, sum(of_windows))


class _Writer:
    """Writes the tables of a ledger, the long ones project by project."""

    def __init__(
        self, folder: Path, progress: Callable[[str, int, int], None], source: LedgerSource
    ) -> None:
        self._folder = folder
        self._source = source
        self._progress = progress
        self._total = sum(map(source.count, CARRIED))
        self.rows: dict[str, int] = {}  # by file

    def write(self) -> None:
        for table in parquet.WHOLE:
            with ExitStack() as files:
                rows = [table.parsed(row) for row in self._source.rows(table)]
                stored = [{**row, **table.stored(row)} for row in rows]
                made = [[row[name] for row in stored] for name in table.carried]
                self._put(files, {}, table, f"{table.name}.parquet", made)
        projects = self._projects()
        for project in sorted(set(projects.values()), key=str):
            with ExitStack() as files:  # of one project only: a process may have so many open
                opened: dict[str, Any] = {}
                for key in (key for key, its in projects.items() if its == project):
                    for table in parquet.SPLIT:
                        for name, columns in self._parts(table, key, project):
                            self._put(files, opened, table, name, columns)

    def _projects(self) -> dict[int, str | None]:
        """The project of each recording, as amended."""
        of_run = {run.key: run.project for run in find.list_runs(self._source.connection)}
        at, run_at = (RECORDINGS.carried.index(name) for name in ("key", "run_key"))
        return {row[at]: of_run.get(row[run_at]) for row in self._source.rows(RECORDINGS)}

    def _put(
        self,
        files: ExitStack,
        opened: dict[str, Any],
        table: Table[Any],
        name: str,
        columns: _Columns,
    ) -> None:
        """Add rows, column by column, to the file of this name."""
        pyarrow, writers = parquet.arrow()
        schema = parquet.schema_of(table)
        if name not in opened:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            made = writers.ParquetWriter(path, schema, **parquet.writer_options(table))
            opened[name] = files.enter_context(made)
        arrays = [pyarrow.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
        opened[name].write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
        count = len(columns[0])
        self.rows[name] = self.rows.get(name, 0) + count
        self._progress(self._source.name, sum(self.rows.values()), self._total)

    def _parts(
        self, table: Table[Any], recording_key: int, project: str | None
    ) -> Iterator[tuple[str, _Columns]]:
        """The rows of a recording as columns, each part with the file that it belongs to."""
        time_at = table.carried.index("start_ms" if table is WINDOWS else "time_ms")
        level_at = table.carried.index("level") if table is WINDOWS else None

        def place(row: _Row) -> tuple[int | None, str]:
            level = None if level_at is None else row[level_at]
            return level, month_of(row[time_at])

        rows = self._source.of_recording(table, recording_key)
        for (level, month), found in groupby(rows, place):
            rounding = _Rounding()
            while part := list(islice(found, _ROWS_AT_ONCE)):
                name = parquet.file_of(table, project, month, level)
                yield name, _columns(table, part, rounding)


def _columns(table: Table[Any], rows: list[_Row], rounding: _Rounding) -> _Columns:
    if table is not WINDOWS:
        return list(zip(*rows, strict=True))
    rounded = [rounding.row(row) for row in rows]
    rounded.sort(key=itemgetter(_SENSOR, _START_MS))  # so that neighbours differ least
    columns: list[Sequence[Any]] = list(zip(*rounded, strict=True))
    del columns[_LEVEL]
    return columns


class _Rounding:
    """Windows in whole thousandths. What adds up is rounded as sums since the hour began, so that
    seconds, minutes and the hour still agree.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], tuple[int, float, int]] = {}  # by sensor and column

    def row(self, window: _Row) -> _Row:
        """A window; of a sensor they come in the order of time."""
        values = list(window)
        hour = window[_START_MS] // MS_PER_HOUR
        for at in _THOUSANDTHS:
            if values[at] is None:
                continue
            if at not in _ADDED:
                values[at] = round(values[at] * 1000)
                continue
            key = window[_SENSOR], at
            of_hour, exact, rounded = self._sums.get(key, (hour, 0.0, 0))
            if of_hour != hour:
                exact, rounded = 0.0, 0
            exact += values[at]
            values[at] = round(exact * 1000) - rounded
            self._sums[key] = hour, exact, rounded + values[at]
        return tuple(values)

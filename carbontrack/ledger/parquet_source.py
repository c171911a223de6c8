"""The rows of an export, for `merge`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.files import read_regular
from carbontrack.ledger import HEAD, parquet
from carbontrack.ledger.tables import CARRIED, WINDOWS, Table
from carbontrack.ledger.window import LEVELS_S

_MAX_MANIFEST_BYTES = 64 * 2**20
_ROWS_AT_ONCE = 50_000
_DIVISORS = [1000.0 if name in parquet.THOUSANDTHS else None for name in WINDOWS.columns]
_LEVEL = WINDOWS.columns.index("level")


class ParquetSource:
    """A folder that `export` wrote."""

    def __init__(self, folder: Path, rows: Mapping[str, int]) -> None:
        self.name = str(folder)
        self._folder = folder
        self._rows = rows  # by file

    def count(self, table: Table[Any]) -> int:
        return sum(self._rows[name] for name in self._files(table))

    def rows(self, table: Table[Any]) -> Iterator[tuple[Any, ...]]:
        for name in self._files(table):
            for columns in self._columns(table, name):
                yield from zip(*columns, strict=True)

    def check(self) -> None:
        """Raise CarbontrackError if a file is missing, cut off or not one of an export."""
        _, files = parquet.arrow()
        known = {name for table in CARRIED for name in self._files(table)}
        for name, rows in self._rows.items():
            if name not in known:
                raise _refused(self._folder, f"{name} is not a file of an export")
            with _readable(self._folder, name), files.ParquetFile(self._folder / name) as file:
                table = next(table for table in CARRIED if name in self._files(table))
                found = file.schema_arrow.remove_metadata()
                if file.metadata.num_rows != rows:
                    what = f"{name} has {file.metadata.num_rows:,} rows, not {rows:,}"
                    raise _refused(self._folder, what)
                if not found.equals(parquet.schema_of(table)):
                    raise _refused(self._folder, f"{name} has other columns than an export")

    def _files(self, table: Table[Any]) -> list[str]:
        """Those of a table; of windows the longer ones first."""
        if table not in parquet.SPLIT:
            return [name for name in self._rows if name == f"{table.name}.parquet"]
        if table is not WINDOWS:
            return [name for name in self._rows if _is_within(name, table.name)]
        folders = [f"{table.name}/level={level}" for level in reversed(LEVELS_S)]
        return [name for folder in folders for name in self._rows if _is_within(name, folder)]

    def _columns(self, table: Table[Any], name: str) -> Iterator[list[list[Any]]]:
        _, files = parquet.arrow()
        with _readable(self._folder, name), files.ParquetFile(self._folder / name) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                columns = [column.to_pylist() for column in batch.columns]
                yield _windows(columns, name) if table is WINDOWS else columns


def _windows(columns: list[list[Any]], name: str) -> list[list[Any]]:
    """As the ledger has them: in J, W and s, with their level."""
    level = int(name.split("/")[1].removeprefix("level="))
    columns.insert(_LEVEL, [level] * len(columns[0]))
    return [
        column if by is None else [None if value is None else value / by for value in column]
        for column, by in zip(columns, _DIVISORS, strict=True)
    ]


@contextmanager
def open_export(folder: Path) -> Iterator[ParquetSource]:
    """A folder that `export` wrote. Raises CarbontrackError if it is not whole, or of another
    schema or program.
    """
    try:
        manifest = json.loads(read_regular(folder / parquet.MANIFEST, _MAX_MANIFEST_BYTES))
        revision, rows = str(manifest["revision"]), dict(manifest["files"])
        is_ours = manifest["format"] == parquet.FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refused(folder, f"its {parquet.MANIFEST} cannot be read") from error
    if not is_ours or not all(isinstance(count, int) for count in rows.values()):
        raise _refused(folder, f"its {parquet.MANIFEST} is of another program")
    if revision != HEAD:
        raise CarbontrackError(
            f"{folder} was exported with schema {revision}, not {HEAD}.",
            hint="Export it again with this version of carbontrack.",
        )
    source = ParquetSource(folder, rows)
    source.check()
    yield source


@contextmanager
def _readable(folder: Path, name: str) -> Iterator[None]:
    pyarrow, _ = parquet.arrow()
    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _refused(folder, f"{name} cannot be read: {reason}") from error


def _refused(folder: Path, what: str) -> CarbontrackError:
    hint = "Export it again: carbontrack db export --parquet FOLDER"
    return CarbontrackError(f"{folder} is not a whole export: {what.rstrip('.')}.", hint=hint)


def _is_within(name: str, folder: str) -> bool:
    """Whether it is the name of a part below a folder, and leads nowhere else."""
    parts = name.removeprefix(f"{folder}/").split("/")
    is_below = name.startswith(f"{folder}/") and len(parts) == 3
    return is_below and ".." not in parts and parts[-1].endswith(".parquet")

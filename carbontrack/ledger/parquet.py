"""The files of an export: which there are, and the columns of each.

Small tables are one file each. Windows, steps and events are split by project and month in the way
that Spark and DuckDB know (`project=nlp/month=2026-05`), windows by level as well. Their energies
are whole mJ, powers mW and times ms: packed as differences they take a tenth of the ledger's room.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.models import Base
from carbontrack.ledger.tables import CARRIED, EVENTS, STEPS, WINDOWS, Table

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "carbontrack.json"
FORMAT = "carbontrack parquet"
SPLIT = (WINDOWS, STEPS, EVENTS)
WHOLE = tuple(table for table in CARRIED if table not in SPLIT)
NO_PROJECT = "__HIVE_DEFAULT_PARTITION__"  # what readers of such folders take for NULL

# Of a window's columns: the name in a file, and how many of that are one of the ledger's.
THOUSANDTHS: Mapping[str, str] = {
    "energy_j": "energy_mj",
    "energy_s": "energy_ms",
    "sampled_s": "sampled_ms",
    "power_min_w": "power_min_mw",
    "power_max_w": "power_max_mw",
    "util_pct": "util_mpct",
    "temperature_max_c": "temperature_max_mc",
    "sm_clock_mhz": "sm_clock_khz",
}
ADDED = ("energy_j", "energy_s", "sampled_s")  # rounded so that sums stay what they are
_AS_DIFFERENCES = ("start_ms", "energy_mj", "power_min_mw", "power_max_mw", "memory_max_bytes")
WINDOW_COLUMNS = tuple(THOUSANDTHS.get(name, name) for name in WINDOWS.columns if name != "level")


def arrow() -> Any:
    """The modules pyarrow and pyarrow.parquet. Raises CarbontrackError if they are missing."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise CarbontrackError(
            "Parquet needs pyarrow, which is not installed.",
            hint="pip install 'carbontrack[parquet]'",
        ) from error
    return pyarrow, parquet


def schema_of(table: Table[Any]) -> pa.Schema:
    """The columns of a table's files."""
    import pyarrow as pa

    if table is WINDOWS:
        return pa.schema([(name, pa.int64()) for name in WINDOW_COLUMNS])
    columns = Base.metadata.tables[table.name].columns
    return pa.schema([(name, _type_of(columns[name])) for name in table.carried])


def _type_of(column: Column[Any]) -> Any:
    import pyarrow as pa

    if isinstance(column.type, Boolean):
        return pa.bool_()
    if isinstance(column.type, (BigInteger, Integer)):
        return pa.int64()
    return pa.float64() if isinstance(column.type, Double) else pa.string()  # JSON is text


def writer_options(table: Table[Any]) -> dict[str, Any]:
    """How a table's columns are packed."""
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 9}
    if table is WINDOWS:
        options["use_dictionary"] = [n for n in WINDOW_COLUMNS if n not in _AS_DIFFERENCES]
        options["column_encoding"] = dict.fromkeys(_AS_DIFFERENCES, "DELTA_BINARY_PACKED")
    return options


def file_of(table: Table[Any], project: str | None, month: str, level: int | None = None) -> str:
    """The name of a file of a split table, relative to the folder of the export."""
    folders = [] if level is None else [f"level={level}"]
    named = NO_PROJECT if project is None else quote(project, safe=" ")
    return "/".join([table.name, *folders, f"project={named}", f"month={month}", "part-0.parquet"])


def write_manifest(folder: Path, facts: Mapping[str, Any], rows: Mapping[str, int]) -> None:
    """Say what the folder is, and how many rows each of its files has."""
    manifest = {"format": FORMAT, **facts, "files": dict(sorted(rows.items()))}
    text = json.dumps(manifest, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def is_export(folder: Path) -> bool:
    """Whether a folder says that it is an export."""
    return (folder / MANIFEST).exists()

"""Reading the JSON answer of an API as the rows of a table: each record a row. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from carbontrack.factors.strict_csv import Row, refused


def is_json(text: str) -> bool:
    """Whether this is JSON rather than a table with a line of columns."""
    return text.lstrip()[:1] in ("{", "[")


def read(text: str, file: str) -> tuple[tuple[str, ...], list[Row]]:
    """The columns and the rows: a list of objects, or the first such list inside an object.

    Names of nested values are joined by points (`intensity.actual`); single values beside the list,
    or in its `meta`, hold for every row. Numbers stay as they are written. Row N is the Nth record.
    Raises CarbontrackError for text that is not JSON, or JSON without such a list.
    """
    try:
        found = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise refused(file, f"not valid JSON: {error}.") from None
    around: Mapping[str, Any] = {}
    if isinstance(found, dict):
        around = found
        found = next((value for value in found.values() if _is_records(value)), None)
    if not _is_records(found):
        raise refused(
            file, "no list of records in this JSON.", "Give the answer of an API, or CSV."
        )
    meta = around.get("meta")
    shared = dict(_single(around)) | dict(_single(meta if isinstance(meta, dict) else {}))
    records = [shared | dict(_flat(record)) for record in found]
    columns = tuple(dict.fromkeys(name for record in records for name in record))
    rows = [
        Row(file, number, {name: record.get(name, "") for name in columns})
        for number, record in enumerate(records, start=1)
    ]
    return columns, rows


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _single(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if not isinstance(value, dict | list):
            yield name, _text(value)


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            yield f"{prefix}{name}", _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value).strip()

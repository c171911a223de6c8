"""Rows as pandas data frames: typed even where they are empty, with times as UTC timestamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np
import pandas as pd

from carbontrack.account.result import Estimate
from carbontrack.vocabulary import Method

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_TIMES = {
    "time_ms": "time",
    "start_ms": "start",
    "started_ms": "started",
    "ended_ms": "ended",
    "heard_ms": "heard",
}
_NOT_A_TIME = np.iinfo(np.int64).min  # NumPy's NaT


def frame_of_rows(kind: type[DataclassInstance], rows: Sequence[Any]) -> pd.DataFrame:
    """A column per field of the dataclass `kind`, of which `rows` are."""
    names = [field.name for field in fields(kind)]
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    return frame_of_columns(columns, get_type_hints(kind))


def frame_of_columns(
    columns: Mapping[str, Sequence[Any]], types: Mapping[str, Any]
) -> pd.DataFrame:
    """Columns whose values are of these types: `float | None`, say."""
    return pd.DataFrame(
        {
            _TIMES.get(name, name): _series(name, values, types[name])
            for name, values in columns.items()
        }
    )


def frame_of_estimates(rows: Sequence[Estimate]) -> pd.DataFrame:
    """A column per key of `table --format json`, nested ones as lists and dicts."""
    empty = Estimate(label="", method=Method.MEASURED, factors=None)
    lines = [row.row() for row in rows]
    columns = {name: [line[name] for line in lines] for name in empty.row()}
    return pd.DataFrame(
        {_TIMES.get(n, n): _series(n, values, _kind_of(values)) for n, values in columns.items()}
    )


def _series(name: str, values: Sequence[Any], hint: Any) -> pd.Series[Any]:
    if name in _TIMES:
        return _times(values)
    kinds = set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
    optional = NoneType in kinds
    (kind,) = kinds - {NoneType}
    if not isinstance(kind, type) or not issubclass(kind, (int, float, str)):
        return pd.Series(list(values), dtype="object")
    if issubclass(kind, str):
        return pd.Series([None if v is None else str(v) for v in values], dtype="string")
    if issubclass(kind, float):
        return pd.Series(list(values), dtype="float64")
    return pd.Series([None if v is None else int(v) for v in values], dtype=_int(optional))


def _int(optional: bool) -> Any:
    return "Int64" if optional else "int64"


def _times(values: Sequence[int | None]) -> pd.Series[Any]:
    stamps = np.array([_NOT_A_TIME if v is None else v for v in values], dtype=np.int64)
    return pd.Series(pd.DatetimeIndex(stamps.view("datetime64[ms]")).tz_localize("UTC"))


def _kind_of(values: Sequence[Any]) -> Any:
    """The type that a column's values have; of nothing but None a number's."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in known) and known:
        return str | None
    if all(isinstance(value, int) for value in known) and known:
        return int | None
    return float | None if all(isinstance(value, (int, float)) for value in known) else object

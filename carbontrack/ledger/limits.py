"""The largest integers that the columns of a ledger hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Integer

from carbontrack.ledger import models
from carbontrack.ledger.tables import TABLES, Table

INT16 = (1 << 15) - 1
INT32 = (1 << 31) - 1
INT64 = (1 << 63) - 1


def _largest(table: Table[Any]) -> Mapping[str, int]:
    columns = models.Base.metadata.tables[table.name].columns
    found = {}
    for name in table.fields:
        kind = columns[table.column_of.get(name, name)].type
        if isinstance(kind, Integer):
            found[name] = INT64 if isinstance(kind, BigInteger) else INT32
    return found


LARGEST = {table.name: _largest(table) for table in TABLES}
"""By the name of the table, of each of its integers by the name of its field."""

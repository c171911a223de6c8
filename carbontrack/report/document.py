"""What a format is made from: a table for people, and the same as data for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from carbontrack.account.result import Estimate
from carbontrack.report.origin import origin_of
from carbontrack.report.table import Table, frame, table_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Document:
    """One table in all its forms; what a form does not need is not made.

    `table` is for people, with more digits if it is called with True; `data` the JSON; `rows` the
    estimates that the table is made of, with their `totals` by method; None where it is made of
    something else, which has `lines` of the same keys if CSV and Parquet can hold it. `origin`
    says, a line each, how it was made; `to_file` is whether it is written to a file, where no
    terminal's colours are.
    """

    table: Callable[[bool], Table]
    data: Callable[[], dict[str, Any]]
    rows: Sequence[Estimate] | None = None
    origin: Sequence[str] = ()
    to_file: bool = False
    lines: Sequence[Mapping[str, Any]] | None = None
    totals: Sequence[Estimate] = ()

    def frame(self) -> pd.DataFrame:
        """A row per estimate, or per line, in full precision."""
        import pandas as pd

        return frame(self.rows or []) if self.lines is None else pd.DataFrame(self.lines)


def document_of(
    rows: Sequence[Estimate],
    totals: Sequence[Estimate],
    *,
    like: str = "",
    runs: Sequence[Estimate] | None = None,
    subtotals: Sequence[Estimate] = (),
    lost: bool = False,
    units: Sequence[str] = (),
    command: Sequence[str] = (),
    band: bool = False,
) -> Document:
    """The document of estimates; what the arguments mean says `table_of`. With the `command` that
    made it, its words without secrets, it knows its origin.
    """

    def table(precise: bool) -> Table:
        return table_of(
            rows,
            totals,
            like=like,
            runs=runs,
            subtotals=subtotals,
            lost=lost,
            units=units,
            precise=precise,
            band=band,
        )

    origin = origin_of(runs or rows, command) if command else ()
    data = partial(data_of, rows, totals, subtotals)
    return Document(table, data, rows, origin, totals=totals)


def data_of(
    rows: Sequence[Estimate], totals: Sequence[Estimate], subtotals: Sequence[Estimate] = ()
) -> dict[str, Any]:
    """The contract: rows, sub-totals by the first of two keys, the total (by the first method), and
    the totals by each method.
    """
    total = totals[0].row() if totals else None
    answer: dict[str, Any] = {"rows": [row.row() for row in rows]}
    if subtotals:
        answer["subtotals"] = [row.row() for row in subtotals]
    answer["total"] = total
    if len(totals) > 1:
        answer["totals"] = {total.method: total.row() for total in totals}
    return answer

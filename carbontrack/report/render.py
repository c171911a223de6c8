"""One table in any format, for people and for programs."""

from __future__ import annotations

import html
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontrack.account.result import Estimate
from carbontrack.errors import CarbontrackError
from carbontrack.report import escape
from carbontrack.report.latex import latex_of
from carbontrack.report.table import Table, frame, table_of
from carbontrack.report.terminal import text_of
from carbontrack.vocabulary import TableFormat

if TYPE_CHECKING:
    import pandas as pd


def show_table(
    table: Table, data: dict[str, Any], format: TableFormat, *, out: Path | None = None
) -> None:
    """Print a table that is not made of estimates. Raises CarbontrackError for CSV and Parquet."""
    if format is TableFormat.JSON:
        write(json_text(data), out)
    elif format not in (TableFormat.CSV, TableFormat.PARQUET):
        write(_for_people(table, format, out), out)
    else:
        raise CarbontrackError(f"--format {format} is for tables of runs.", hint="Take json.")


def show_rows(
    table: Table,
    data: dict[str, Any],
    rows: Sequence[Mapping[str, Any]],
    format: TableFormat,
    *,
    out: Path | None = None,
) -> None:
    """The same in every format: CSV and Parquet have the `rows`, all of the same keys."""
    import pandas as pd

    if format is TableFormat.CSV:
        write(_csv(pd.DataFrame(rows)), out)
    elif format is TableFormat.PARQUET:
        write(_parquet(pd.DataFrame(rows)), out)
    else:
        show_table(table, data, format, out=out)


def json_of(
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


def json_text(answer: Any) -> str:
    """Strict JSON, as every parser reads it."""
    text = json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False)
    return escape.json(text) + "\n"


def csv_of(rows: Sequence[Estimate]) -> str:
    """Every key in full precision, one line per row; no total, so that a sum stays right.

    Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    return _csv(frame(rows))


def _csv(lines: pd.DataFrame) -> str:
    safe = lines.map(lambda cell: escape.csv(cell) if isinstance(cell, str) else cell)
    return safe.to_csv(index=False)


def parquet_of(rows: Sequence[Estimate]) -> bytes:
    """The same as CSV, with types. Raises CarbontrackError without a Parquet engine."""
    return _parquet(frame(rows))


def _parquet(lines: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    try:
        lines.to_parquet(out, index=False)
    except ImportError:
        raise CarbontrackError(
            "Parquet needs pyarrow.", hint="Install it: pip install pyarrow", exit_code=1
        ) from None
    return out.getvalue()


def show(
    rows: Sequence[Estimate],
    totals: Sequence[Estimate],
    format: TableFormat,
    *,
    like: str = "",
    runs: Sequence[Estimate] | None = None,
    subtotals: Sequence[Estimate] = (),
    out: Path | None = None,
) -> None:
    """Print the table, or write it to `out`. `runs` are what grouped rows are made of, `subtotals`
    their sums by the first of two keys.

    Raises CarbontrackError for a format for programs in a report's columns (`like`).
    """
    if like and format in (TableFormat.CSV, TableFormat.PARQUET, TableFormat.JSON):
        raise CarbontrackError(
            f"--like {like} is for tables that people read, not for {format}.",
            hint="Take --format markdown, latex or html; without --like it has every column.",
        )
    if format is TableFormat.CSV:
        write(csv_of(rows), out)
    elif format is TableFormat.PARQUET:
        write(parquet_of(rows), out)
    elif format is TableFormat.JSON:
        write(json_text(json_of(rows, totals, subtotals)), out)
    else:
        table = table_of(rows, totals, like=like, runs=runs, subtotals=subtotals)
        write(_for_people(table, format, out), out)


def markdown_of(table: Table) -> str:
    """A pipe table; the notes as a list."""
    heads = [_one_line(c.head, c.unit) for c in table.columns]
    lines = [heads, *table.rows()]
    cells = [[escape.markdown(cell) for cell in line] for line in lines]
    for at in table.subtotals:
        cells[at + 1] = _strong(cells[at + 1])
    cells.insert(1, [":--" if c.left else "--:" for c in table.columns])
    if table.has_total:
        cells.append(_strong([escape.markdown(cell) for cell in table.total()]))
    text = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return text + "\n" + "".join(f"\n- {escape.markdown_block(n)}" for n in table.notes) + "\n"


def _strong(cells: Sequence[str]) -> list[str]:
    return [f"**{cell}**" if cell else "" for cell in cells]


def html_of(table: Table) -> str:
    """A bare HTML table with a list of notes, to paste into a page."""
    heads = "".join(f"<th>{html.escape(_one_line(c.head, c.unit))}</th>" for c in table.columns)
    body = "".join(
        _html_row(row, strong=at in table.subtotals) for at, row in enumerate(table.rows())
    )
    foot = f"<tfoot>{_html_row(table.total())}</tfoot>" if table.has_total else ""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return (
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody>\n{foot}</table>\n"
        f"<ul>{notes}</ul>\n"
    )


def write(text: str | bytes, out: Path | None) -> None:
    """To a file, or to standard output. Raises CarbontrackError if the file cannot be written."""
    data = text.encode() if isinstance(text, str) else text
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return
    try:
        out.write_bytes(data)
    except OSError as error:
        hint = f"Make the folder {out.parent}." if not out.parent.is_dir() else ""
        raise CarbontrackError(f"--out {out}: {error.strerror}.", hint=hint) from None


def _html_row(cells: Sequence[str], *, strong: bool = False) -> str:
    texts = [html.escape(cell) for cell in cells]
    texts = [f"<strong>{text}</strong>" if strong and text else text for text in texts]
    return "<tr>" + "".join(f"<td>{text}</td>" for text in texts) + "</tr>"


def _one_line(head: str, unit: str) -> str:
    return f"{head} ({unit})" if unit else head


_MARKUP = {
    TableFormat.MARKDOWN: markdown_of,
    TableFormat.LATEX: latex_of,
    TableFormat.HTML: html_of,
}


def _for_people(table: Table, format: TableFormat, out: Path | None) -> str:
    if format is TableFormat.TEXT:
        return text_of(table, plain=out is not None)
    return _MARKUP[format](table)

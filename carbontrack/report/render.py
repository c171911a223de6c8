"""One document in any format, to standard output or a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.report.document import Document
from carbontrack.report.forms import Form, form_of, format_of_suffix
from carbontrack.report.table import Table
from carbontrack.vocabulary import Format, TableFormat


def show(
    document: Document,
    format: TableFormat | None,
    *,
    out: Path | None = None,
    chosen_by: str = "",
) -> list[Path]:
    """Print the document, or write it to `out`: as `format`, else as the file's name says, as text.

    Returns the files that were written: a table for a paper has its sources beside it. `chosen_by`
    is an option that chooses columns of the table for people. Raises CarbontrackError for a format
    that the document or that option does not have, and for one that no terminal shows.
    """
    format = format or (TableFormat.TEXT if out is None else _by_suffix(out))
    form = form_of(format)
    if form.of_runs and document.rows is None and document.lines is None:
        raise CarbontrackError(f"--format {format} is for tables of runs.", hint="Take json.")
    if chosen_by and not form.for_people:
        people = ", ".join(one for one in TableFormat if form_of(one).for_people)
        raise CarbontrackError(
            f"{chosen_by} is for tables that people read, not for {format}.",
            hint=f"Take --format {people}; without it {format} has every column.",
        )
    if form.binary and out is None and _on_terminal():
        raise CarbontrackError(
            f"{format} is binary, and would not read well on a terminal.",
            hint=f"Write it to a file: --out table{form.suffixes[0]}",
        )
    whole, written = replace(document, to_file=out is not None), []
    if out is not None and form.beside is not None and document.rows is not None:
        written.append(_write_beside(form_of(form.beside), whole, out))
    write(form.render(whole), out)
    return written if out is None else [out, *written]


def _write_beside(form: Form, document: Document, out: Path) -> Path:
    """Returns its file. Raises CarbontrackError where one of that name is somebody else's."""
    text, path = form.render(document), out.with_suffix(form.suffixes[0])
    first = str(text).partition("\n")[0].encode()
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(first)):
        raise CarbontrackError(
            f"{path} is not by carbontrack, and would be overwritten.",
            hint=f"Give another name than {out}.",
        )
    write(text, path)
    return path


def show_table(
    table: Table, data: dict[str, Any], format: TableFormat | Format, *, out: Path | None = None
) -> list[Path]:
    """The same of a table that is not made of estimates."""
    return show(Document(lambda _: table, lambda: data), TableFormat(format), out=out)


def show_lines(
    table: Table,
    data: dict[str, Any],
    lines: Sequence[Mapping[str, Any]],
    format: TableFormat | None,
    *,
    out: Path | None = None,
) -> list[Path]:
    """The same in every format: CSV and Parquet have the `lines`, all of the same keys."""
    return show(Document(lambda _: table, lambda: data, lines=lines), format, out=out)


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


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def _by_suffix(out: Path) -> TableFormat:
    """Raises CarbontrackError for a name that says nothing."""
    format = format_of_suffix(out.suffix) if out.suffix else TableFormat.TEXT
    if format is None:
        known = " ".join(suffix for one in TableFormat for suffix in form_of(one).suffixes)
        raise CarbontrackError(
            f"--out {out}: no format has files that end in {out.suffix}.",
            hint=f"Give --format, or one of {known}",
        )
    return format

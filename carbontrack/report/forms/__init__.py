"""The formats of a table, a file each: `FORM` says what it is for and how it is made."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from carbontrack.report.document import Document
from carbontrack.vocabulary import TableFormat


@dataclass(frozen=True, slots=True)
class Form:
    """One format.

    `suffixes` are those of files that get it where no format is named. A form `for_people` shows
    the table, with its columns and units, any other the data; one `of_runs` only that of estimates.
    A file of it comes with one `beside` it.
    """

    render: Callable[[Document], str | bytes]
    suffixes: tuple[str, ...]
    for_people: bool = False
    of_runs: bool = False
    binary: bool = False
    beside: TableFormat | None = None


def form_of(format: TableFormat) -> Form:
    """The format of that name."""
    form: Form = importlib.import_module(f"{__name__}.{format}").FORM
    return form


def format_of_suffix(suffix: str) -> TableFormat | None:
    """The format of files that end so: .tex, .md; None if unknown."""
    found = (one for one in TableFormat if suffix.lower() in form_of(one).suffixes)
    return next(found, None)

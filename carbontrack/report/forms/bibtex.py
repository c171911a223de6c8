"""BibTeX: the sources of exactly the factors that the table is made with."""

from __future__ import annotations

import re

from carbontrack.account.result import unique
from carbontrack.factors import data
from carbontrack.report.document import Document
from carbontrack.report.forms import Form
from carbontrack.report.notes import counts
from carbontrack.report.tex import tex

_FIRST = "% Sources of the factors of a table by carbontrack.\n"
_YEAR, _MONTH = re.compile(r"\d{4}"), re.compile(r"\d{4}-(\d\d)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ARXIV = re.compile(r"arxiv\.org/abs/(\d{4}\.\d{4,5})")


def _render(document: Document) -> str:
    rows = document.rows or []
    used = unique(f.cite for row in rows for f in row.factors or () if counts(f, row))
    return _FIRST + "".join(_entry(source_id) for source_id in used)


def _entry(source_id: str) -> str:
    source = data.source(source_id)
    fields = {
        "author": source["author"],  # as BibTeX has them, organisations in braces
        "title": f"{{{tex(source['work'])}}}",
        "year": (_YEAR.match(source["version"]) or _YEAR.match(source["date"]) or [""])[0],
        "note": tex(f"{source['detail']}; version {source['version']}; {source['licence']}"),
    }
    if source["url"]:
        fields["url"] = source["url"]
    if (preprint := _ARXIV.search(source["url"])) is not None:
        fields |= {"eprint": preprint[1], "archiveprefix": "arXiv"}
    lines = "".join(f"  {name} = {{{text}}},\n" for name, text in fields.items())
    if (month := _MONTH.match(source["version"])) is not None:
        lines += f"  month = {_MONTHS[int(month[1]) - 1]},\n"  # a name that styles know
    return f"\n@misc{{{source_id},\n{lines}}}\n"


FORM = Form(_render, (".bib",), of_runs=True)

"""A table for a paper: siunitx, booktabs and threeparttable, with its notes below and citations of
its factors, laid on the pages of an article.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from carbontrack.report import escape
from carbontrack.report.document import Document
from carbontrack.report.forms import Form
from carbontrack.report.latex_pages import Layout, Size, format_of, layout_of
from carbontrack.report.numbers import number_text
from carbontrack.report.table import Column, Table
from carbontrack.report.tex import tex
from carbontrack.vocabulary import TableFormat

_CAPTION = "Energy use and carbon emissions."
_PACKAGES = "booktabs,siunitx,threeparttable"
_UNITS = {"t", "kg", "g", "mg", "MWh", "kWh", "Wh", "mWh", "W", "L"}
_INDENT = "\N{NO-BREAK SPACE}" * 2
_UNKNOWN = number_text(None, 0)


def latex_of(table: Table, origin: Sequence[str] = ()) -> str:
    """A `table` that compiles as it is inside a document that loads the packages it names.

    Comments say how it was made, and which columns that others imply were left out where they would
    run over the line. What no page holds is one `table` after the other, with the number of the
    first.
    """
    table, heads = _under_heads(table) if table.keys > 1 else (table, {})
    layout = layout_of(table)
    comments = [*origin, f"needs \\usepackage{{{_PACKAGES}{',rotating' * layout.sideways}}}"]
    if left_out := [column.head for column in table.columns if column.head not in layout.heads]:
        comments.append(f"left out to fit a line: {', '.join(left_out)}")
    notes = list(_notes(table, layout.heads))
    parts = layout.parts(heads, notes)
    floats = [_float(table, layout, heads, rows, parts, notes) for rows in parts]
    return "\n".join([*(f"% {escape.visible(line)}" for line in comments), *floats]) + "\n"


def _float(
    table: Table,
    layout: Layout,
    heads: Mapping[int, str],
    rows: range,
    parts: Sequence[range],
    notes: Sequence[str],
) -> str:
    """The rows of one page."""
    name, is_first, is_last = "table", rows == parts[0], rows == parts[-1]
    if layout.sideways:
        name = "sidewaystable"
    caption = tex(table.caption or _CAPTION)
    *above, last = layout.panels
    panels = [_tabular(panel, layout, heads, rows, with_total=is_last) for panel in above]
    return "\n".join(
        [
            f"\\begin{{{name}}}"
            + ("" if layout.sideways else "[tb]" if len(parts) == 1 else "[p]"),
            "\\centering",
            "\\sisetup{group-digits=integer,group-separator={,},group-minimum-digits=4}",
            *([] if is_first else ["\\addtocounter{table}{-1}"]),
            *([] if panels else ["\\begin{threeparttable}"]),
            f"\\caption{{{caption}}}" if is_first else f"\\caption[]{{{caption} (continued)}}",
            *(["\\label{tab:carbontrack}"] if is_first else []),
            f"\\{layout.size.name}\\setlength{{\\tabcolsep}}{{4pt}}",
            *(f"{panel}\\par\\medskip" for panel in panels),
            *(["\\begin{threeparttable}"] if panels else []),
            _tabular(last, layout, heads, rows, with_total=is_last),
            *(_tablenotes(notes, layout.size) if is_last and notes else []),
            "\\end{threeparttable}",
            f"\\end{{{name}}}",
        ]
    )


def _tabular(
    table: Table, layout: Layout, heads: Mapping[int, str], rows: range, *, with_total: bool
) -> str:
    columns = [_typeset(column) for column in table.columns]
    if layout.names_pt is not None:
        kind = f">{{\\raggedright\\arraybackslash}}p{{{layout.names_pt:.0f}pt}}"
        columns[0] = replace(columns[0], kind=kind)
    lines = [
        f"\\begin{{tabular}}{{{''.join(column.kind for column in columns)}}}",
        "\\toprule",
        _row([column.head for column in columns]),
        _row([column.unit for column in columns]),
        "\\midrule",
    ]
    for at in rows:
        head = heads.get(at, "")
        if at == rows.start and table.columns[0].cells[at].startswith(_INDENT):
            head = heads[max(n for n in heads if n <= at)]  # of a page that begins below it
        if head:
            lines.append(f"\\multicolumn{{{len(columns)}}}{{l}}{{\\emph{{{tex(head)}}}}} \\\\")
        row = _row([column.cells[at] for column in columns])
        lines.append(row + ("\\addlinespace" if at in table.subtotals else ""))
    if table.has_total and with_total:
        lines += ["\\midrule", _row([column.total for column in columns])]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def _tablenotes(notes: Sequence[str], size: Size) -> list[str]:
    begin = "\\begin{tablenotes}[flushleft]\\setlength{\\labelsep}{0pt}"
    items = (f"\\item {note}" for note in notes)
    return [begin, f"\\{size.name}", *items, "\\end{tablenotes}"]


def _under_heads(table: Table) -> tuple[Table, dict[int, str]]:
    """One column of names instead of two: the first is a line of its own above the rows that have
    it, which begin at the places given.
    """
    outer, inner, *columns = table.columns
    heads = {
        at: name
        for at, (name, under) in enumerate(zip(outer.cells, inner.cells, strict=True))
        if under and (at == 0 or name != outer.cells[at - 1])
    }
    names = tuple(
        f"{_INDENT}{under}" if under else name
        for name, under in zip(outer.cells, inner.cells, strict=True)
    )
    both = Column(f"{outer.head}, {inner.head}", "", names, outer.total, left=True)
    return replace(table, columns=(both, *columns), keys=1), heads


@dataclass(frozen=True, slots=True)
class _Typeset:
    """A column as TeX: its kind in the preamble, head, unit and cells."""

    kind: str
    head: str
    unit: str
    cells: tuple[str, ...]
    total: str


def _typeset(column: Column) -> _Typeset:
    cells, unit = (*column.cells, column.total), column.unit
    if any(cell.endswith(" %") for cell in cells) and all(
        cell.endswith(" %") or cell in ("", _UNKNOWN) for cell in cells
    ):
        cells, unit = tuple(cell.removesuffix(" %") for cell in cells), "%"
    kind, numeric = "l" if column.left else "r", format_of(cells)
    if numeric and not column.left:
        kind = f"S[table-format={numeric}]"
        cells = tuple(_number(cell) for cell in cells)
    else:
        cells = tuple(tex(cell) for cell in cells)
    braces = "{{{}}}" if kind.startswith("S") else "{}"
    said = f"\\unit{{{unit}}}" if unit in _UNITS else tex(unit)
    return _Typeset(
        kind=kind,
        head=braces.format(tex(column.head)),
        unit=braces.format(f"({said})" if unit else ""),
        cells=cells[:-1],
        total=cells[-1],
    )


def _number(cell: str) -> str:
    if cell in ("", _UNKNOWN) or cell.startswith("<"):
        return f"{{{tex(cell)}}}" if cell else "{}"
    return cell.replace(",", "")


def _notes(table: Table, heads: Collection[str]) -> Iterator[str]:
    """A sentence each; of a paper those of the columns that are shown, with their citations."""
    for note in table.paper:
        if note.column and note.column not in heads:
            continue
        cited = f"~\\cite{{{note.factor.cite}}}" if note.factor and note.factor.cite else ""
        yield f"{tex(note.cited if cited else note.plain)}{cited}."
    if not table.paper:
        yield from (f"{tex(note)}." for note in table.notes)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _render(document: Document) -> str:
    return latex_of(document.table(True), document.origin)


FORM = Form(_render, (".tex",), for_people=True, beside=TableFormat.BIBTEX)

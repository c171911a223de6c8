"""A table for a paper: siunitx, booktabs and threeparttable, within a line of an article, of signs
that every TeX knows, with its notes below and citations of its factors.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from carbontrack.report import escape
from carbontrack.report.document import Document
from carbontrack.report.forms import Form
from carbontrack.report.numbers import number_text
from carbontrack.report.table import Column, Table
from carbontrack.vocabulary import TableFormat

# A line of article is 345 pt, its page 550 pt high; a column adds 8 pt; a sign is in the mean at
# most about 4.6 pt wide at \footnotesize, 4.1 at \scriptsize.
_LINE_PT, _PAGE_PT, _BETWEEN_PT = 345.0, 550.0, 8.0
_FOOTNOTE_PT, _SCRIPT_PT = 4.6, 4.1
_LEAST_PT = 50.0  # of a column of names on several lines
_CAPTION = "Energy use and carbon emissions."
_SIGNS = {
    "\\": r"\textbackslash{}",
    "[": "{[}",  # after \\ a bare one begins its optional argument, and * its star
    "]": "{]}",
    "*": "{*}",
    "₂": r"\textsubscript{2}",
    "×": r"$\times$",
    "÷": r"$\div$",
    "±": r"$\pm$",
    "|": r"$|$",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "→": r"$\to$",
    "·": r"$\cdot$",
    "µ": r"$\mu$",
    "°": r"$^\circ$",
    "’": "'",
    "<": r"$<$",
    ">": r"$>$",
    "€": "EUR",
    "£": "GBP",
    '"': "''",
    "\N{NO-BREAK SPACE}": "~",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}
_LETTERS = frozenset(map(chr, range(0xC0, 0x100))) - set("ÐÞðþ×÷")  # in pdfTeX


_PACKAGES = "booktabs,siunitx,threeparttable"
_UNITS = {"t", "kg", "g", "mg", "MWh", "kWh", "Wh", "mWh", "W", "L"}
_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?")
_INDENT = "\N{NO-BREAK SPACE}" * 2
_UNKNOWN = number_text(None, 0)


def latex_of(table: Table, origin: Sequence[str] = ()) -> str:
    """A `table` that compiles as it is inside a document that loads the packages it names.

    Columns that others imply are left out where they would run over the line; a comment names them,
    as it says how the table was made.
    """
    table, heads = _under_heads(table) if table.keys > 1 else (table, {})
    shown = table.fitting(_LINE_PT, _width_pt, note=False)
    is_small = _width_pt(shown) > _LINE_PT
    columns = [_typeset(column) for column in shown.columns]
    packages, float_ = _PACKAGES, "table"
    if is_small:
        numbers_pt = _width_pt(shown, _SCRIPT_PT, after=1) + _BETWEEN_PT
        line_pt = _LINE_PT
        if numbers_pt + _LEAST_PT > _LINE_PT:
            packages, float_, line_pt = f"{_PACKAGES},rotating", "sidewaystable", _PAGE_PT
        names_pt = line_pt - numbers_pt
        if names_pt < _signs(shown.columns[0]) * _SCRIPT_PT:
            kind = f">{{\\raggedright\\arraybackslash}}p{{{max(names_pt, _LEAST_PT):.0f}pt}}"
            columns[0] = replace(columns[0], kind=kind)
    comments = [*origin, f"needs \\usepackage{{{packages}}}"]
    if left_out := [column.head for column in table.columns if column not in shown.columns]:
        comments.append(f"left out to fit a line: {', '.join(left_out)}")
    rows = list(zip(*(column.cells for column in columns), strict=True))
    lines = [
        *(f"% {escape.visible(line)}" for line in comments),
        f"\\begin{{{float_}}}[tb]" if float_ == "table" else f"\\begin{{{float_}}}",
        "\\centering",
        "\\sisetup{group-digits=integer,group-separator={,},group-minimum-digits=4}",
        "\\begin{threeparttable}",
        f"\\caption{{{tex(table.caption or _CAPTION)}}}",
        "\\label{tab:carbontrack}",
        f"\\{'scriptsize' if is_small else 'footnotesize'}\\setlength{{\\tabcolsep}}{{4pt}}",
        f"\\begin{{tabular}}{{{''.join(column.kind for column in columns)}}}",
        "\\toprule",
        _row([column.head for column in columns]),
        _row([column.unit for column in columns]),
        "\\midrule",
    ]
    for at, row in enumerate(rows):
        if at in heads:
            lines.append(f"\\multicolumn{{{len(row)}}}{{l}}{{\\emph{{{tex(heads[at])}}}}} \\\\")
        lines.append(_row(row) + ("\\addlinespace" if at in table.subtotals else ""))
    if table.has_total:
        lines += ["\\midrule", _row([column.total for column in columns])]
    lines += ["\\bottomrule", "\\end{tabular}"]
    if shown.notes:
        lines += ["\\begin{tablenotes}[flushleft]", "\\footnotesize"]
        lines += [f"\\item {note}" for note in _notes(shown)]
        lines.append("\\end{tablenotes}")
    return "\n".join([*lines, "\\end{threeparttable}", f"\\end{{{float_}}}"]) + "\n"


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
    kind, numeric = "l" if column.left else "r", _format(cells)
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


def _format(cells: Sequence[str]) -> str:
    """How many digits siunitx has to leave room for, before and after the point; empty where a cell
    is neither a number nor unknown.
    """
    numbers = [cell.removeprefix("<") for cell in cells if cell not in ("", _UNKNOWN)]
    if not numbers or not all(_NUMBER.fullmatch(number) for number in numbers):
        return ""
    parts = [number.replace(",", "").partition(".") for number in numbers]
    return f"{max(len(p[0]) for p in parts)}.{max(len(p[2]) for p in parts)}".removesuffix(".0")


def _number(cell: str) -> str:
    if cell in ("", _UNKNOWN) or cell.startswith("<"):
        return f"{{{tex(cell)}}}" if cell else "{}"
    return cell.replace(",", "")


def _notes(table: Table) -> Iterator[str]:
    """A sentence each; of a paper those of the columns that are shown, with their citations."""
    heads = {column.head for column in table.columns}
    for note in table.paper:
        if note.column and note.column not in heads:
            continue
        cited = f"~\\cite{{{note.factor.cite}}}" if note.factor and note.factor.cite else ""
        yield f"{tex(note.cited if cited else note.plain)}{cited}."
    if not table.paper:
        yield from (f"{tex(note)}." for note in table.notes)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _width_pt(table: Table, sign_pt: float = _FOOTNOTE_PT, *, after: int = 0) -> float:
    """Of the columns after the first few."""
    return sum(sign_pt * _signs(column) + _BETWEEN_PT for column in table.columns[after:])


def _signs(column: Column) -> int:
    """How many signs the column is wide; numbers stand with their points below each other."""
    texts = (*column.cells, column.total, column.head, f"({column.unit})")
    longest = max(sum(map(_width, text)) for text in texts)
    if column.left or not (format := _format((*column.cells, column.total))):
        return longest
    whole, _, decimals = format.partition(".")
    return max(longest, int(whole) + int(whole) // 4 + 1 + int(decimals or 0))


def _width(sign: str) -> int:
    """In signs."""
    return 7 if _sign(sign).startswith("U+") else 2 if sign == "±" else 1


def tex(text: str) -> str:
    """Text as TeX sets it."""
    return "".join(_sign(sign) for sign in text)


def _sign(sign: str) -> str:
    """As pdfTeX sets it with its own fonts; what it has no letter for as the letter's number."""
    if sign in _SIGNS:
        return _SIGNS[sign]
    if sign in _LETTERS or (sign.isascii() and sign.isprintable()):
        return sign
    if sign.isspace() or unicodedata.category(sign).startswith("C"):
        return " "
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return "".join(_SIGNS.get(one, one) for one in plain) or f"U+{ord(sign):04X}"


def _render(document: Document) -> str:
    return latex_of(document.table(True), document.origin)


FORM = Form(_render, (".tex",), for_people=True, beside=TableFormat.BIBTEX)

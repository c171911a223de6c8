"""A table for a paper: booktabs, as narrow as a column of text, of signs that every TeX knows."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from carbontrack.report.document import Document
from carbontrack.report.forms import Form
from carbontrack.report.table import Table

# A line of article, 345 pt; at \footnotesize a sign is at most about 4.6 pt wide in the mean, and a
# column adds 8 pt.
_LINE_PT, _SIGN_PT, _BETWEEN_PT = 345.0, 4.6, 8.0
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
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}
_LETTERS = frozenset(map(chr, range(0xC0, 0x100))) - set("ÐÞðþ×÷")  # in pdfTeX


def latex_of(table: Table) -> str:
    """A table that compiles as it is inside a document that loads booktabs.

    What it changes, the size of the type, ends with it. Columns that others imply are left out
    where they would run over the line, and named.
    """
    table = table.fitting(_LINE_PT, _width_pt)
    lines = [
        "% needs \\usepackage{booktabs}",
        "{\\footnotesize\\setlength{\\tabcolsep}{4pt}",
        f"\\begin{{tabular}}{{{''.join('l' if c.left else 'r' for c in table.columns)}}}",
        "\\toprule",
        _row([column.head for column in table.columns]),
        _row([f"({column.unit})" if column.unit else "" for column in table.columns]),
        "\\midrule",
        *(
            _row(row) + (" \\addlinespace" if at in table.subtotals else "")
            for at, row in enumerate(table.rows())
        ),
    ]
    if table.has_total:
        lines += ["\\midrule", _row(table.total())]
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [f"\\par {_tex(note)}." for note in table.notes]
    return "\n".join([*lines, "\\par}"]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(_tex(cell) for cell in cells) + " \\\\"


def _width_pt(table: Table) -> float:
    longest = (
        max(sum(7 if _sign(s).startswith("U+") else 1 for s in text) for text in texts)
        for texts in ((*c.cells, c.total, c.head, f"({c.unit})") for c in table.columns)
    )
    return sum(_SIGN_PT * signs + _BETWEEN_PT for signs in longest)


def _tex(text: str) -> str:
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
    return latex_of(document.table(True))


FORM = Form(_render, (".tex",), for_people=True)

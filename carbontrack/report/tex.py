"""Text as TeX sets it, of signs that every TeX knows, and how wide that is."""

from __future__ import annotations

import unicodedata

_SIGNS = {
    "\\": r"\textbackslash{}",
    "[": "{[}",  # after \\ a bare one begins its optional argument, and * its star
    "]": "{]}",
    "*": "{*}",
    "₂": r"\textsubscript{2}",
    "×": r"$\times$",
    "÷": r"$\div$",
    "±": r"$\pm$",
    "≥": r"$\ge$",
    "≈": r"$\approx$",
    "•": r"$\bullet$",
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
# Of Computer Modern, in widths of a digit; any other letter is at most as wide as _WIDEST.
_WIDTHS = {
    **dict.fromkeys("!',.:;[]_`ijl|", 0.57),
    **dict.fromkeys("-()fIrst ", 0.8),
    **dict.fromkeys("0123456789aceogz$*/?J–", 1.0),
    **dict.fromkeys("bdhnpuvxykqS", 1.12),
    **dict.fromkeys("ZLF", 1.31),
    **dict.fromkeys("m#%", 1.68),
    **dict.fromkeys("MW—…→", 2.1),
}
_WIDEST = 1.6


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


def digits_wide(text: str) -> float:
    """How wide it is in one of TeX's own fonts, in widths of a digit."""
    return sum(map(_digits_wide, text))


def _digits_wide(sign: str) -> float:
    if sign in _WIDTHS:
        return _WIDTHS[sign]
    made = _sign(sign)
    if made.startswith(("\\", "$")):
        return _WIDEST
    plain = unicodedata.normalize("NFKD", made).encode("ascii", "ignore").decode()
    return sum(_WIDTHS.get(one, _WIDEST) for one in plain) or _WIDEST

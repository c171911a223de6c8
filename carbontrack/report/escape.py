"""Text that others chose (names, tags, events, sources) made safe for each format it is put into.

A name is only a name: it neither moves a cursor, nor ends a row, nor is markup, link or formula.
"""

from __future__ import annotations

import json as dump_json
import re
import unicodedata
from collections.abc import Sequence

# What reverses the order of a line's signs, so that it reads as something else (CVE-2021-42574).
_BIDI = frozenset(
    map(chr, (0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)
_UNKNOWN = "�"
_MARKDOWN = re.compile(r"[\\`*<\[\]|~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LINKS = re.compile(r"(?=://)|(?<=www)(?=\.)", re.IGNORECASE)
_BLOCK = re.compile(r"^([#>+=-]|\d+(?=[.)]))")
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_NOT_IN_JSON = re.compile(f"[\x7f-\x9f\u2028\u2029{''.join(sorted(_BIDI))}]")


def visible(text: str, *, lines: bool = False) -> str:
    """On one line, with control characters as signs: ESC is ␛, a newline ␊.

    With `lines` newlines are as they are.
    """
    if text.isprintable():
        return text
    return "".join(sign if lines and sign == "\n" else _sign(sign) for sign in text)


def _sign(sign: str) -> str:
    code = ord(sign)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    kind = unicodedata.category(sign)
    if kind in ("Cc", "Cs") or sign in _BIDI:
        return _UNKNOWN
    return " " if kind in ("Zl", "Zp") else sign


def markdown(text: str) -> str:
    """Text of a cell, that GitHub's Markdown shows as it is: no emphasis, tag, link or image."""
    escaped = _MARKDOWN.sub(lambda match: f"\\{match[0]}", visible(text))
    return _LINKS.sub(r"\\", escaped)


def markdown_block(text: str) -> str:
    """The same where the text begins a block: no heading, list or rule."""
    return _BLOCK.sub(lambda m: f"{m[1]}\\" if m[1].isdigit() else f"\\{m[1]}", markdown(text))


def html_comment(lines: Sequence[str]) -> str:
    """Lines of a comment in HTML or Markdown, none of which ends it; empty of none."""
    text = "\n".join(visible(line).replace(">", "›") for line in lines)
    return f"\n<!--\n{text}\n-->\n" if lines else ""


def csv(text: str) -> str:
    """Text of a cell that a spreadsheet takes for text (OWASP, CSV injection): =cmd is '=cmd."""
    shown = visible(text, lines=True)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown


def json_text(answer: object) -> str:
    """Strict JSON, as every parser reads it."""
    text = dump_json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False)
    return json(text) + "\n"


def json(text: str) -> str:
    """JSON whose bytes move no terminal: what JSON lets stand raw is escaped, its meaning kept."""
    return _NOT_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)

"""Where a value in a text ends, as a shell, JSON or Python would read it."""

from __future__ import annotations

import re

NAME = r"[-+~#@]{0,3}[A-Za-z_][\w.-]*+"
_QUOTE = re.compile(r"\\.|[\"']", re.DOTALL)
# What comes after a value in a list, an object or a call.
_ENDS_FIELD = re.compile(
    rf""",(?:\s|$|["'\]}})]|{NAME}["']?[:=])|[\]}}][\])}}]{{0,20}}+(?=[\s,;"'&|]|$)"""
)
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def quotes_in(text: str) -> list[tuple[int, str]]:
    """From where which quote is open, "" for none."""
    changes, open_quote = [(-1, "")], ""
    for match in _QUOTE.finditer(text):
        if match[0] == open_quote:
            open_quote = ""
        elif not open_quote and len(match[0]) == 1:
            open_quote = match[0]
        else:
            continue
        changes.append((match.start(), open_quote))
    return changes


def end_of_word(text: str, at: int, quote: str) -> int:
    """Where a value ends that begins here within `quote`, as a shell, JSON or Python reads it."""
    if text[at] in _PAIRS:
        return _closing_bracket(text, at)
    if text[at : at + 2] in ('\\"', "\\'"):
        found = text.find(text[at : at + 2], at + 2)
        return len(text) if found < 0 else found + 2
    begin = at
    while at < len(text):
        c = text[at]
        if c == "\\":
            at += 2
        elif c == quote and at > begin:
            break
        elif c in "\"'`":
            at = closing_quote(text, at + 1, c) + 1
        elif text.startswith(("$(", "${"), at):
            at = _closing_bracket(text, at + 1)
        elif c.isspace() or c in ";&|)<>" or _ENDS_FIELD.match(text, at):
            break
        else:
            at += 1
    return min(at, len(text))


def closing_quote(text: str, at: int, quote: str) -> int:
    """Where the quote is closed; the end of the text if it is not."""
    while at < len(text) and text[at] != quote:
        if quote == '"' and text.startswith("$(", at):
            at = _closing_bracket(text, at + 1)
        else:
            at += 2 if text[at] == "\\" else 1
    return min(at, len(text))


def _closing_bracket(text: str, at: int) -> int:
    """After the bracket that closes the one here; the end of the text if none does."""
    opening, closing, depth = text[at], _PAIRS[text[at]], 0
    while at < len(text):
        depth += (text[at] == opening) - (text[at] == closing)
        at += 1
        if not depth:
            break
    return at

"""What the option parser says of a mistake, in the words in which all other mistakes are said."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from carbontrack.decimals import instead

if TYPE_CHECKING:
    from typer.exceptions import TyperException

_MOST_NAMED = 8  # commands of a group that are all named


def _not_a_number(found: re.Match[str]) -> str:
    return f"'{found[1]}' is not a number{instead(found[1])}"


_PATTERNS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"Invalid value for '([^']+)'(?: / '[^']+')*: ", r"\1: "),
    (r"'([^']*)' is not a valid float", _not_a_number),
    (r"is not a valid int(eger)?( range)?", "is not a whole number"),
    (r"is not in the range x>=(\S+)", r"is below \1"),
    (r"is not in the range x<=(\S+)", r"is above \1"),
    (r"is not in the range (\S+)<=x<=(\S+)", r"is not from \1 to \2"),
    (r"Got unexpected extra arguments?(?:\(s\))? \((.+)\)", r"too many arguments: \1"),
    (r" \(Possible options: (.+)\)", r". Did you mean \1?"),
)
_WORDS = [(re.compile(pattern), words) for pattern, words in _PATTERNS]


_NO_ARGUMENT = (
    "A token is never an argument, which everybody on the machine can read: set "
    "CARBONTRACK_SHIP_TOKEN, or CARBONTRACK_SHIP_TOKEN_FILE to a file with it."
)


def said(error: TyperException) -> str:
    """One line: what is wrong, and how to fix it. Empty if help was shown instead."""
    message = error.format_message().rstrip(".")
    if not message:
        return ""
    for pattern, words in _WORDS:
        message = pattern.sub(words, message)
    context = getattr(error, "ctx", None)
    if (named := re.match(r"No such command '(.*)'", message)) and context is not None:
        message += _commands_like(named[1], context)
    command = getattr(context, "command_path", "carbontrack")
    if "token" in getattr(error, "option_name", ""):
        return f"{message.partition('. Did you')[0]}. {_NO_ARGUMENT}"
    return f"{message}{'' if message.endswith('?') else '.'} See '{command} --help'."


def _commands_like(name: str, context: Any) -> str:
    known = context.command.list_commands(context)
    if like := get_close_matches(name, known, n=1):
        return f". Did you mean {like[0]}?"
    if len(known) > _MOST_NAMED:
        return ""
    return f". There {'is' if len(known) == 1 else 'are'} {', '.join(known)}"

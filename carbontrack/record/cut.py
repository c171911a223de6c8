"""How much of a command and a label is stored. Standard library only, and little of it."""

from __future__ import annotations

from collections.abc import Sequence

MAX_LABEL_CHARS = 256
MAX_COMMAND_CHARS = 32_768  # a glob over shards makes a command of megabytes


def cut_command(words: Sequence[str]) -> list[str]:
    """The command as it is stored: up to MAX_COMMAND_CHARS, then how many words more."""
    shown: list[str] = []
    left = MAX_COMMAND_CHARS
    for number, word in enumerate(words):
        if len(word) >= left:
            # At a space, so that half a secret does not pass for an ordinary word.
            part = word[:left].rpartition(" ")[0]
            more = len(words) - number - 1
            return [*shown, f"{part} … ({more:,} more words)" if more else f"{part} …"]
        left -= len(word) + 1
        shown.append(word)
    return shown


def cut_label(text: str) -> str:
    """A name, project or tag as it is stored: a table has no room for a file of it."""
    return text if len(text) <= MAX_LABEL_CHARS else f"{text[: MAX_LABEL_CHARS - 1]}…"

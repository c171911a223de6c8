"""The command line of `carbontrack run` where it is plain: read without the parser, which takes
0.1 s to import, before the job. What is not plain, help and mistakes too, is left to the parser.
"""

from __future__ import annotations

from collections.abc import Sequence

from carbontrack.cli.recording import DEFAULTS, FACILITY, OPTIONS, Option, facility_option

TYPE_CHECKING = False  # `typing` costs 15 ms
if TYPE_CHECKING:
    from typing import Any


def read(words: Sequence[str]) -> tuple[list[str], dict[str, Any]] | None:
    """The job's command and what `settings_of` takes; None where the parser has to decide."""
    given = dict(DEFAULTS)
    left = list(reversed(words))
    while left and left[-1].startswith("-"):
        word = left.pop()
        if word == "--":
            break
        flag, equals, value = word.partition("=")
        option = _option(flag)
        if option is None:
            return None
        if option.kind is bool:
            if equals:
                return None
            given[option.name] = True
            continue
        if not equals:
            if not left or left[-1].startswith("-"):
                return None
            value = left.pop()
        try:
            _take(option, value, given)
        except ValueError:
            return None
    return (left[::-1], given) if left else None


def _take(option: Option, value: str, given: dict[str, Any]) -> None:
    """Raises ValueError for a value that is not of its kind."""
    if option.kind is list:
        given[option.name] = [*(given[option.name] or []), value]
    else:
        given[option.name] = option.kind(value)


def _option(flag: str) -> Option | None:
    for option in OPTIONS:
        if flag in option.flags:
            return option
    for name in FACILITY:
        if flag == f"--{name.replace('_', '-')}":
            return facility_option(name)
    return None

"""Parse options: dates and ages, tags, choices, and options that exclude others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import typer

from carbontrack.errors import CarbontrackError
from carbontrack.units import MS_PER_S, now_ms

_AGE = re.compile(r"(\d+)([mhdw])")
_AGE_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def since_ms(text: str | None, option: str = "--since") -> int | None:
    """A date or time (local unless it has an offset) or an age (90m, 12h, 7d, 2w), as epoch ms.

    Raises CarbontrackError for anything else.
    """
    if text is None:
        return None
    if match := _AGE.fullmatch(text):
        return now_ms() - int(match[1]) * _AGE_S[match[2]] * MS_PER_S
    try:
        return round(datetime.fromisoformat(text).astimezone().timestamp() * MS_PER_S)
    except ValueError:
        raise CarbontrackError(
            f"{option} {text}: neither a date nor an age.", hint="Example: 2026-01-31, 12h, 7d."
        ) from None


def tag(text: str) -> tuple[str, str]:
    """KEY=VALUE. Raises CarbontrackError for anything else."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise CarbontrackError(f"--tag {text}: not KEY=VALUE.", hint="Example: --tag team=nlp.")
    return key, value


def check_choice(option: str, value: str | None, choices: Sequence[str | None]) -> None:
    """Raises CarbontrackError unless the value is one of the choices."""
    if value not in choices:
        known = ", ".join(choice for choice in choices if choice)
        raise CarbontrackError(f"{option} {value}: unknown.", hint=f"Give {known}.")


def check_alone(context: typer.Context, option: str, goes_with: Sequence[str]) -> None:
    """Raises CarbontrackError if anything was given that `option` does not use."""
    given = [
        parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
        for parameter in context.command.params
        if parameter.name
        and parameter.name not in goes_with
        and (source := context.get_parameter_source(parameter.name)) is not None
        and source.name == "COMMANDLINE"
    ]
    if given:
        raise CarbontrackError(
            f"{option} takes all from the published table: {', '.join(given)} would change nothing."
        )

"""Parse options: dates and ages, choices, and options that exclude others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import typer

from carbontrack.account.split import span_of_month
from carbontrack.decimals import grouped, instead
from carbontrack.errors import CarbontrackError
from carbontrack.units import MS_PER_S, age_ms, month_of, now_ms

_AMOUNT = re.compile(r"(\d[\d.,]*)\s*([A-Za-z]+)", re.ASCII)
_MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)
_YEAR = re.compile(r"\d{4}", re.ASCII)
_DAYS_AGO = {"today": 0, "yesterday": 1}


def range_ms(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """From a time in ms up to, and without, another; None where nothing is given.

    Each is a time, a day (2026-01-31, today, yesterday; both local unless they have an offset), a
    month or a year in UTC (2026-01, this-month, last-month, 2026), or an age (90m, 12h, 7d, 2w). A
    day, month or year is meant from its beginning on, and up to its end. Raises CarbontrackError
    for anything else, and for an end before the beginning.
    """
    since_ms = None if since is None else _stretch("--since", since)[0]
    until_ms = None if until is None else _stretch("--until", until)[1]
    if since_ms is not None and until_ms is not None and until_ms <= since_ms:
        raise CarbontrackError(f"--until {until} is not after --since {since}.")
    return since_ms, until_ms


def moment_ms(text: str | None, option: str) -> int | None:
    """The same of one time: of a day, month or year its beginning."""
    return None if text is None else _stretch(option, text)[0]


def _stretch(option: str, text: str) -> tuple[int, int]:
    """The first ms of what is meant, and that after its last; of a moment both are the same."""
    with suppress(ValueError):
        moment_ms = now_ms() - age_ms(text, minutes=True)
        return moment_ms, moment_ms
    this = month_of(now_ms())
    if text == "this-month" or text == "last-month":
        first_ms, _ = stretch = span_of_month(this)
        return stretch if text == "this-month" else span_of_month(month_of(first_ms - 1))
    if (days := _DAYS_AGO.get(text)) is not None:
        text = f"{datetime.now() - timedelta(days=days):%Y-%m-%d}"
    try:
        if _MONTH.fullmatch(text):
            return span_of_month(text)
        if _YEAR.fullmatch(text):
            return span_of_month(f"{text}-01")[0], span_of_month(f"{text}-12")[1]
        start = datetime.fromisoformat(text)
        end = start + timedelta(days=len(text) <= len("2026-01-31"))  # a day, not a time of it
        return _ms(start), _ms(end)
    except (ValueError, OverflowError):
        raise CarbontrackError(
            f"{option} {text}: neither a date nor an age.",
            hint="Example: 2026-01-31, yesterday, 2026-01, last-month, 2026, 12h, 7d.",
        ) from None


def _ms(time: datetime) -> int:
    return round(time.astimezone().timestamp() * MS_PER_S)


def energy_kwh(text: str | None, option: str) -> float | None:
    """An energy with its unit: 3 MWh, 1.2 kWh. Raises CarbontrackError for anything else."""
    from carbontrack.report.numbers import ENERGY

    if text is None:
        return None
    units = {name: factor for factor, name in ENERGY}
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match[2] not in units:
        raise CarbontrackError(
            f"{option} {text}: not an energy.", hint=f"Example: 1.2 kWh, in {', '.join(units)}."
        )
    try:
        return grouped(match[1]) / units[match[2]]
    except ValueError:
        raise CarbontrackError(
            f"{option} {text}: {match[1]!r} is not a number{instead(match[1])}."
        ) from None


def check_choice(option: str, value: str | None, choices: Sequence[str | None]) -> None:
    """Raises CarbontrackError unless the value is one of the choices."""
    if value not in choices:
        known = ", ".join(choice for choice in choices if choice)
        raise CarbontrackError(f"{option} {value}: unknown.", hint=f"Give {known}.")


def check_alone(context: typer.Context, option: str, goes_with: Sequence[str], *, why: str) -> None:
    """Raises CarbontrackError, which says `why`, if anything was given that `option` does not
    use.
    """
    given = [
        parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
        for parameter in context.command.params
        if parameter.name
        and parameter.name not in goes_with
        and (source := context.get_parameter_source(parameter.name)) is not None
        and source.name == "COMMANDLINE"
    ]
    if given:
        raise CarbontrackError(f"{option} {why}: {', '.join(given)} would change nothing.")

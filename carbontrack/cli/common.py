"""What the commands share: options, printing, and how an error reaches the user."""

from __future__ import annotations

import json
import math
import sys
from typing import Annotated, Any

import typer

from carbontrack.vocabulary import Format

DbOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        help="Ledger: a SQLAlchemy URL or a SQLite file. "
        "Default: $CARBONTRACK_DB, else a file in the user data directory.",
    ),
]


FormatOption = Annotated[
    Format,
    typer.Option(
        "--format", metavar="text|json", help="For people, or for programs (full precision)."
    ),
]


def tell_waiting(url: str) -> None:
    """Say on stderr if measurements wait that could not reach this ledger."""
    from carbontrack.ledger.recover import waiting
    from carbontrack.ledger.url import db_option

    if count := len(waiting(url)):
        wait = "waits" if count == 1 else "wait"
        command = f"carbontrack db recover{db_option(url)}"
        typer.echo(f"carbontrack: {counted(count, 'journal')} {wait}: {command}", err=True)


def counted(number: int | None, word: str) -> str:
    """1 run, 2 runs, 1,204 runs."""
    return f"{number or 0:,} {word}{'' if number == 1 else 's'}"


def print_json(value: Any) -> None:
    """Print JSON that every parser accepts: a number that is not finite becomes null."""
    from carbontrack.report import escape

    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(escape.json(text) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value

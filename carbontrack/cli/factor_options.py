"""The options that choose factors: one set, the same for every command that estimates."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from carbontrack import config
from carbontrack.vocabulary import TableFormat

Flags = config.Layer


_OPTIONS: dict[str, Any] = {
    key.name: Annotated[
        (float if key.is_number else str) | None,
        typer.Option(
            config.flag(key.name),
            help=key.help,
            metavar=key.form or None,
            rich_help_panel="Factors",
        ),
    ]
    for key in config.KEYS
    if key.is_option
}

EmbodiedOption = Annotated[
    bool, typer.Option("--embodied", help="Add what the making of the GPUs emitted.")
]
TableFormatOption = Annotated[
    TableFormat, typer.Option("--format", metavar="FORMAT", help=f"{', '.join(TableFormat)}.")
]
OutOption = Annotated[
    str | None, typer.Option("--out", "-o", metavar="FILE", help="Write to FILE.")
]


def takes_factors(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all of these options. It gets those that were given, checked, as `flags`."""
    own = inspect.signature(command, eval_str=True)
    parameters = [one for name, one in own.parameters.items() if name != "flags"]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _OPTIONS.items()
    ]

    @wraps(command)
    def called(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in _OPTIONS}
        command(**given, flags=config.flags(**chosen))

    called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called

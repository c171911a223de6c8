"""The options that choose factors: one set, the same for every command that estimates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from carbontrack import config, keys
from carbontrack.cli.common import option, takes
from carbontrack.vocabulary import TableFormat

Flags = config.Layer

_OPTIONS = {
    key.name: option(
        key.name,
        (float if key.is_number else str) | None,
        key.help,
        metavar=key.form or None,
        panel="Factors",
    )
    for key in keys.KEYS
    if key.is_option
}

EmbodiedOption = Annotated[
    bool, typer.Option("--embodied", help="Add what the making of the GPUs emitted.")
]
TableFormatOption = Annotated[
    TableFormat | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help=f"{', '.join(TableFormat)}. Default: by the name of --out, else text.",
    ),
]
UnitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unit", metavar="UNIT", help="kWh, MWh, kg, t, …: of a column; may be repeated."
    ),
]
OutOption = Annotated[
    str | None, typer.Option("--out", "-o", metavar="FILE", help="Write to FILE.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Do not say which file was written.")
]


def takes_factors(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all of these options. It gets those that were given, checked, as `flags`."""
    return takes(command, _OPTIONS, config.flags, "flags")

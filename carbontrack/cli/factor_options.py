"""The options that choose factors: one set, the same for every command that estimates."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carbontrack.vocabulary import TableFormat

if TYPE_CHECKING:
    from carbontrack.config import Layer

    Flags = Layer
else:
    Flags = object  # for the type checker only: importing it here would slow the start of a job


def _option(name: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(
        f"--{name.replace('_', '-')}", help=help, metavar=metavar, rich_help_panel="Factors"
    )


# By the names of config.KEYS.
_OPTIONS: dict[str, Any] = {
    name: Annotated[kind | None, _option(name, *said)]
    for name, kind, *said in (
        ("pue", float, "Facility energy ÷ IT energy, 1 or more."),
        ("provider", str, "Take the PUE of gcp, aws, azure, …"),
        ("intensity", float, "Grid intensity in kgCO2e/kWh (385 g is 0.385)."),
        ("zone", str, "Grid zone: FRA, FR, US-CAMX, aws:us-east-1; a year by FRA@2023."),
        ("contract_intensity", float, "Of the power contract, for the market-based figure."),
        ("factors_as_of", str, "Take the factors that were known on this day.", "YYYY-MM-DD"),
        ("tariff", float, "Price of a kWh."),
        ("price_per_gpu_hour", float, "Rent of a GPU-hour; replaces the tariff."),
        ("price", str, "An imported price; see factors list price --imported.", "BOOK:ITEM"),
        ("currency", str, "Of tariff and prices. Default: USD."),
        ("gpu_price", float, "What a GPU cost, written off over lifetime × utilisation."),
        ("lifetime_years", float, "Over which hardware is written off."),
        ("utilisation", float, "Share of its lifetime that hardware works, up to 1."),
        ("embodied_kg", float, "Carbon of making a GPU, instead of the table's."),
        ("wue", float, "Water in L per kWh of IT energy."),
        ("node_w_per_device", float, "Node model: watts that no meter sees, per device."),
        ("node_w", float, "Node model: watts that no meter sees, per node."),
    )
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
        from carbontrack import config

        chosen = {name: given.pop(name) for name in _OPTIONS}
        command(**given, flags=config.flags(**chosen))

    called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called

"""The options of recording, for the parser: of `run` and `attach`, and part of them of `watch`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from carbontrack.cli.common import option, takes
from carbontrack.cli.recording import (
    DEFAULTS,
    FACILITY,
    OPTIONS,
    Option,
    facility_option,
    settings_of,
)
from carbontrack.errors import CarbontrackError
from carbontrack.vocabulary import Devices, MeterName, OnBudget

Settings = dict[str, Any]
"""The settings of a plan, by the names of `record.messages.Plan`."""
_WORDS = {"devices": Devices, "on_budget": OnBudget}


def _parameter(
    said: Option, panel: str | None = None, *, help: str | None = None
) -> inspect.Parameter:
    kind: Any = list[str] if said.kind is list else said.kind
    return option(
        said.name,
        kind | None if said.default is None else kind,
        help or said.help,
        *said.flags[1:],
        default=said.default,
        metavar="|".join(_WORDS[said.name]) if said.name in _WORDS else said.metavar,
        panel=panel,
    )


_OPTIONS = {said.name: _parameter(said) for said in OPTIONS} | {
    name: _parameter(facility_option(name), "Facility, recorded with the run; else as configured")
    for name in FACILITY
}
RequireMeterOption = Annotated[
    bool,
    typer.Option(
        "--require-meter",
        help="Do not start the job if the meter cannot be opened or finds no device; with auto, if "
        "there is only an estimate.",
    ),
]
LiveOption = Annotated[
    bool, typer.Option("--live", help="Serve the run's page on loopback while it lasts.")
]


def takes_recording(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all of these options. It gets those settings, checked, as `settings`."""
    return takes(command, _OPTIONS, settings_of, "settings")


_OF_A_NODE = {
    "name": "Name of the run. Default: watch HOST.",
    "meter": "auto (NVML, else RAPL), nvml, rapl, sim:a100x8; several joined by commas.",
    "devices": "All devices of the node, or those that its environment leaves visible.",
}
"""What means something else where there is no job."""
_OF_A_JOB = (
    *("steps_from_log", "log", "budget_kg", "budget_usd", "budget_kwh"),
    *("on_budget", "budget_grace", "metrics_port", "metrics_address"),
)


def takes_watching(command: Callable[..., None]) -> Callable[..., None]:
    """The same without what a job alone has: a node has neither steps nor a budget."""
    options = {name: one for name, one in _OPTIONS.items() if name not in _OF_A_JOB}
    left_out = {name: DEFAULTS[name] for name in _OF_A_JOB}
    own = {
        said.name: _parameter(said, help=_OF_A_NODE[said.name])
        for said in OPTIONS
        if said.name in _OF_A_NODE
    }
    own["devices"] = own["devices"].replace(default=str(Devices.ALL))
    own["quiet"] = option("quiet", bool, "Only what is wrong.", "-q", default=False)

    def settings(**given: Any) -> Settings:
        _check_meter_of_node(given["meter"])
        return settings_of(**left_out, **given)

    return takes(command, {**options, **own}, settings, "settings")


def _check_meter_of_node(spec: str) -> None:
    if MeterName.CPU_MODEL in [part.strip().partition(":")[0] for part in spec.split(",")]:
        raise CarbontrackError(
            f"--meter {spec}: {MeterName.CPU_MODEL} is of a job's processes, not of a node.",
            hint="Give nvml, rapl or nvml,rapl.",
        )


def need_ledger(settings: Settings) -> None:
    """End the command where there is no place for a ledger, as was said with the settings."""
    if settings["db"] is None:
        raise typer.Exit(2)


def need_meter(settings: Settings) -> None:
    """Raises CarbontrackError, before anything is started, if nothing would be measured."""
    from carbontrack.meters.base import MeterContext
    from carbontrack.record.devices import require_meter

    visible = settings["devices"]
    context = MeterContext(job_pid=os.getpid(), environ=os.environ, visible=visible)
    require_meter(settings["meter"], context)


def need_live() -> None:
    """Raises CarbontrackError, before anything is started, if there is nothing to serve with."""
    missing = [
        name for name in ("starlette", "uvicorn", "orjson", "cachetools") if find_spec(name) is None
    ]
    if missing:
        raise CarbontrackError(
            f"--live needs the package {missing[0]}.", hint="pip install 'carbontrack[live]'"
        )

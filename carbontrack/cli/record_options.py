"""The options of recording, and what they must be: one set for `run` and `attach`, part of it for
`watch`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from carbontrack.cli.common import DbOption, option, parameter, takes
from carbontrack.errors import CarbontrackError
from carbontrack.keys import BY_NAME
from carbontrack.ledger.names import check_name
from carbontrack.record import labels, messages, ship_to
from carbontrack.vocabulary import Devices, MeterName, OnBudget


def _default(name: str) -> Any:
    """What a plan has where nothing is given."""
    return messages.Plan.__dataclass_fields__[name].default


_OPTIONS = {
    one.name: one
    for one in (
        option("name", str | None, "Name of the run. Default: the script's or program's."),
        option(
            "project",
            str | None,
            "Project that the run belongs to. Default: $CARBONTRACK_PROJECT.",
        ),
        option(
            "tag",
            list[str] | None,
            "A tag; may be repeated. It wins over the same of $CARBONTRACK_TAGS.",
            metavar="KEY=VALUE",
        ),
        parameter("db", DbOption),
        option(
            "meter",
            str,
            "auto (NVML, else RAPL, else the CPU model), nvml, rapl, cpu-model, sim:a100x8; "
            "several joined by commas.",
            default=_default("meter"),
        ),
        option(
            "devices",
            str,
            "Devices the job can see, or all of the node.",
            metavar="|".join(Devices),
            default=str(_default("devices")),
        ),
        option("hz", float, "Samples a second.", default=_default("hz")),
        option(
            "steps_from_log",
            str | None,
            "Read steps from --log: a pattern with named groups, (?P<step>…), (?P<loss>…), and as "
            "the log has them lr, grad_norm, tokens, tokens_total, tokens_per_s, rank, time; or a "
            "known one's name: torchtitan, megatron, huggingface, nanogpt, litgpt, llm.c, …",
            metavar="REGEX|NAME",
        ),
        option("log", str | None, "The log file that the job writes.", metavar="FILE"),
        option("budget_kg", float | None, "Limit of the run in kgCO2e."),
        option("budget_usd", float | None, "Limit of the run in USD."),
        option("budget_kwh", float | None, "Limit of the run in kWh, PUE included."),
        option(
            "on_budget",
            str,
            "What to do when a limit is spent: warn, or send the job SIGTERM as well. A warning "
            "comes at 80 % in any case.",
            metavar="|".join(OnBudget),
            default=str(_default("on_budget")),
        ),
        option(
            "budget_grace",
            float,
            "Seconds the job has after SIGTERM.",
            metavar="S",
            default=_default("budget_grace_s"),
        ),
        option(
            "metrics_port",
            int | None,
            "Serve Prometheus metrics of the run on this port while it lasts.",
            metavar="PORT",
        ),
        option(
            "metrics_address",
            str,
            "Where they are served: 0.0.0.0 for a Prometheus on another machine.",
            metavar="ADDRESS",
            default=_default("metrics_address"),
        ),
        option(
            "ship",
            str | None,
            "Ship the run to this collector while it lasts. Default: $CARBONTRACK_SHIP. The token "
            "comes from $CARBONTRACK_SHIP_TOKEN or the file named by $CARBONTRACK_SHIP_TOKEN_FILE.",
            metavar="URL",
        ),
        option("insecure", bool, "Ship by http to another host, too.", default=False),
        option("quiet", bool, "No summary at the end.", "-q", default=_default("quiet")),
    )
}
_FACILITY = {
    name: option(
        name,
        (float if BY_NAME[name].is_number else str) | None,
        BY_NAME[name].help,
        metavar=BY_NAME[name].form or None,
        panel="Facility, recorded with the run; else as configured",
    )
    for name in ("zone", "pue", "tariff", "price_per_gpu_hour", "price", "currency")
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
Settings = dict[str, Any]
"""The settings of a plan, by the names of `record.messages.Plan`."""


def takes_recording(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all of these options. It gets those settings, checked, as `settings`."""
    return takes(command, {**_OPTIONS, **_FACILITY}, _settings, "settings")


_OF_A_JOB = (
    *("steps_from_log", "log", "budget_kg", "budget_usd", "budget_kwh"),
    *("on_budget", "budget_grace", "metrics_port", "metrics_address"),
)


def takes_watching(command: Callable[..., None]) -> Callable[..., None]:
    """The same without what a job alone has: a node has neither steps nor a budget."""
    options = {**_OPTIONS, **_FACILITY}
    left_out = {name: options.pop(name).default for name in _OF_A_JOB}
    own = {
        "devices": options["devices"].replace(default=str(Devices.ALL)),
        "quiet": option("quiet", bool, "Only what is wrong.", "-q", default=False),
    }

    def settings(**given: Any) -> Settings:
        _check_meter_of_node(given["meter"])
        return _settings(**left_out, **given)

    return takes(command, {**options, **own}, settings, "settings")


def _check_meter_of_node(spec: str) -> None:
    if MeterName.CPU_MODEL in [part.strip().partition(":")[0] for part in spec.split(",")]:
        raise CarbontrackError(
            f"--meter {spec}: {MeterName.CPU_MODEL} is of a job's processes, not of a node.",
            hint="Give nvml, rapl or nvml,rapl.",
        )


def _settings(
    *,
    name: str | None,
    project: str | None,
    tag: list[str] | None,
    db: str | None,
    meter: str,
    devices: str,
    hz: float,
    steps_from_log: str | None,
    log: str | None,
    budget_kg: float | None,
    budget_usd: float | None,
    budget_kwh: float | None,
    on_budget: str,
    budget_grace: float,
    metrics_port: int | None,
    metrics_address: str,
    ship: str | None,
    insecure: bool,
    quiet: bool,
    **facility: Any,
) -> Settings:
    """Raises CarbontrackError before anything is started."""
    from carbontrack.ledger.url import ledger_url
    from carbontrack.meters.registry import check_spec

    messages.check(devices=devices, hz=hz)
    budget = {"--budget-kg": budget_kg, "--budget-usd": budget_usd, "--budget-kwh": budget_kwh}
    _check_budget(budget, on_budget, budget_grace)
    _check_metrics(metrics_port)
    check_name(name)
    check_spec(meter)
    return {
        "name": name,
        "project": labels.project_of(project),
        "tags": labels.tags_of(tags_of(tag or [])),
        "facility": _facility(facility),
        "db": ledger_url(db),
        "meter": meter,
        "devices": devices,
        "hz": hz,
        "steps_pattern": _pattern(steps_from_log, log),
        "log_path": log and os.path.abspath(log),  # noqa: PTH100 - pathlib costs 8 ms here
        "log_before": _state_before(log),
        "budget_kg": budget_kg,
        "budget_usd": budget_usd,
        "budget_kwh": budget_kwh,
        "on_budget": on_budget,
        "budget_grace_s": budget_grace,
        "metrics_port": metrics_port,
        "metrics_address": metrics_address,
        "quiet": quiet,
        **ship_to.settings_of(ship, insecure=insecure),
    }


def _facility(given: dict[str, Any]) -> dict[str, Any]:
    """Those that were given, checked; money with its currency."""
    if all(value is None for value in given.values()):
        return {}
    from carbontrack import config

    return config.values(config.resolve([config.flags(**given)]))


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


def _check_budget(limits: dict[str, float | None], on_budget: str, grace_s: float) -> None:
    for name, limit in limits.items():
        if limit is not None and not 0 < limit < math.inf:
            raise CarbontrackError(f"{name} {limit:g} must be a finite number above 0.")
    if on_budget not in tuple(OnBudget):
        raise CarbontrackError(f"--on-budget {on_budget}: unknown.", hint="Give warn or stop.")
    if on_budget == OnBudget.STOP and not any(limits.values()):
        raise CarbontrackError(
            "--on-budget stop without a limit.", hint=f"Give {', '.join(limits)}."
        )
    if not 0 <= grace_s < math.inf:
        raise CarbontrackError(
            f"--budget-grace {grace_s:g} is not a duration.", hint="Give seconds."
        )


def _check_metrics(port: int | None) -> None:
    if port is None:
        return
    if not 0 < port < 1 << 16:
        raise CarbontrackError(f"--metrics-port {port} is no port.", hint="Give 1 to 65535.")
    if find_spec("prometheus_client") is None:
        raise CarbontrackError(
            "--metrics-port needs the package prometheus-client.",
            hint="pip install 'carbontrack[metrics]'",
        )


def tags_of(words: list[str]) -> dict[str, str]:
    """Tags as KEY=VALUE. Raises CarbontrackError for what is not."""
    tags = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise CarbontrackError(f"--tag {word}: not KEY=VALUE.", hint="Example: --tag team=nlp.")
        tags[key] = value
    return tags


def _pattern(pattern: str | None, log: str | None) -> str | None:
    if (pattern is None) != (log is None):
        raise CarbontrackError(
            "--steps-from-log and --log go together.",
            hint=r"Example: --steps-from-log 'step (?P<step>\d+) loss (?P<loss>\S+)' --log a.log",
        )
    if pattern is not None:
        from carbontrack.record.log_lines import compiled

        compiled(pattern)
    return pattern


def _state_before(log: str | None) -> list[int] | None:
    """What the log is before the job is started: what it holds is of an earlier run."""
    from carbontrack.record.file_state import state_of

    state = state_of(log) if log else None
    return None if state is None else list(state)

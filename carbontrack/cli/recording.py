"""What can be said of a recording: the options, and the settings that they make.

Known here once: `plain_run` reads a command line by this, `record_options` makes what the parser
and its help take of it. The job waits for this, so that only what is given imports what checks it.
"""

from __future__ import annotations

from carbontrack.errors import CarbontrackError
from carbontrack.record import defaults

TYPE_CHECKING = False  # `typing` costs 15 ms
if TYPE_CHECKING:
    from typing import Any

_INFINITE = float("inf")


class Option:
    """An option: its flag is --NAME, with - for _. `kind` is bool for a flag alone, list for one
    that may be repeated, else what its value is.
    """

    def __init__(
        self,
        name: str,
        kind: type,
        help: str,
        *short: str,
        default: Any = None,
        metavar: str | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.flags = (f"--{name.replace('_', '-')}", *short)
        self.default = default
        self.metavar = metavar


DB = Option(
    "db",
    str,
    "Ledger: a SQLAlchemy URL or a SQLite file. "
    "Default: $CARBONTRACK_DB, else a file in the user data directory.",
    metavar="URL",
)
OPTIONS = (
    Option("name", str, "Name of the run. Default: the script's or program's."),
    Option(
        "project",
        str,
        "Project that the run belongs to. Default: $CARBONTRACK_PROJECT.",
    ),
    Option(
        "tag",
        list,
        "A tag; may be repeated. It wins over the same of $CARBONTRACK_TAGS.",
        metavar="KEY=VALUE",
    ),
    DB,
    Option(
        "meter",
        str,
        "auto (NVML, else RAPL, else the CPU model), nvml, rapl, cpu-model, sim:a100x8; "
        "several joined by commas.",
        default=defaults.METER,
    ),
    Option(
        "devices",
        str,
        "Devices the job can see, or all of the node.",
        default=defaults.DEVICES,
    ),
    Option("hz", float, "Samples a second.", default=defaults.HZ),
    Option(
        "steps_from_log",
        str,
        "Read steps from --log: a pattern with named groups, (?P<step>…), (?P<loss>…), and as "
        "the log has them lr, grad_norm, tokens, tokens_total, tokens_per_s, rank, time; or a "
        "known one's name: torchtitan, megatron, huggingface, nanogpt, litgpt, llm.c, …",
        metavar="REGEX|NAME",
    ),
    Option("log", str, "The log file that the job writes.", metavar="FILE"),
    Option("budget_kg", float, "Limit of the run in kgCO2e."),
    Option("budget_usd", float, "Limit of the run in USD."),
    Option("budget_kwh", float, "Limit of the run in kWh, PUE included."),
    Option(
        "on_budget",
        str,
        "What to do when a limit is spent: warn, or send the job SIGTERM as well. A warning "
        "comes at 80 % in any case.",
        default=defaults.ON_BUDGET,
    ),
    Option(
        "budget_grace",
        float,
        "Seconds the job has after SIGTERM.",
        metavar="S",
        default=defaults.BUDGET_GRACE_S,
    ),
    Option(
        "metrics_port",
        int,
        "Serve Prometheus metrics of the run on this port while it lasts.",
        metavar="PORT",
    ),
    Option(
        "metrics_address",
        str,
        "Where they are served: 0.0.0.0 for a Prometheus on another machine.",
        metavar="ADDRESS",
        default=defaults.METRICS_ADDRESS,
    ),
    Option(
        "ship",
        str,
        "Ship the run to this collector while it lasts. Default: $CARBONTRACK_SHIP. The token "
        "comes from $CARBONTRACK_SHIP_TOKEN or the file named by $CARBONTRACK_SHIP_TOKEN_FILE.",
        metavar="URL",
    ),
    Option("insecure", bool, "Ship by http to another host, too.", default=False),
    Option("quiet", bool, "No summary at the end.", "-q", default=defaults.QUIET),
)
FACILITY = ("zone", "pue", "tariff", "price_per_gpu_hour", "price", "currency")
"""Settings of `keys` that are options, too."""
DEFAULTS = {option.name: option.default for option in OPTIONS} | dict.fromkeys(FACILITY)


def facility_option(name: str) -> Option:
    """One of `FACILITY`."""
    from carbontrack.keys import BY_NAME

    key = BY_NAME[name]
    return Option(name, float if key.is_number else str, key.help, metavar=key.form or None)


def settings_of(
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
) -> dict[str, Any]:
    """Those of a plan, by the names of `record.messages.Plan`. Raises CarbontrackError before
    anything is started.
    """
    from carbontrack.ledger.names import check_name, check_project
    from carbontrack.record import labels, ship_to

    defaults.check(meter=meter, devices=devices, hz=hz)
    budget = {"--budget-kg": budget_kg, "--budget-usd": budget_usd, "--budget-kwh": budget_kwh}
    _check_budget(budget, on_budget, budget_grace)
    _check_metrics(metrics_port)
    check_name(name)
    check_project(project)
    pattern, log = _followed(steps_from_log, log)
    return {
        "name": name,
        "project": labels.project_of(project),
        "tags": labels.tags_of(dict(map(labels.tag_of, tag or []))),
        "facility": _facility(facility),
        "db": _ledger(db),
        "meter": meter,
        "devices": devices,
        "hz": hz,
        "steps_pattern": pattern,
        "log_path": log,
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


def _ledger(flag: str | None) -> str | None:
    """The ledger's URL; None, with a warning, where there is no place for one.

    A ledger that is not named on the command line must not keep the job from starting: the
    recorder tries it, and puts elsewhere what it cannot write.
    """
    from carbontrack.ledger.url import LedgerUnreachable, ledger_url

    try:
        return ledger_url(flag)
    except LedgerUnreachable as error:
        if flag is not None:
            raise
        if error.url is None:
            from carbontrack.record.warning import warn

            warn(f"nothing is recorded: {error}")
        return error.url


def _facility(given: dict[str, Any]) -> dict[str, Any]:
    """Those that were given, checked; money with its currency."""
    if all(value is None for value in given.values()):
        return {}
    from carbontrack import config

    return config.values(config.resolve([config.flags(**given)]))


def _check_budget(limits: dict[str, float | None], on_budget: str, grace_s: float) -> None:
    for name, limit in limits.items():
        if limit is not None and not 0 < limit < _INFINITE:
            raise CarbontrackError(f"{name} {limit:g} must be a finite number above 0.")
    if on_budget != defaults.ON_BUDGET:
        from carbontrack.vocabulary import OnBudget

        if on_budget not in tuple(OnBudget):
            raise CarbontrackError(f"--on-budget {on_budget}: unknown.", hint="Give warn or stop.")
        if on_budget == OnBudget.STOP and not any(limits.values()):
            raise CarbontrackError(
                "--on-budget stop without a limit.", hint=f"Give {', '.join(limits)}."
            )
    if not 0 <= grace_s < _INFINITE:
        raise CarbontrackError(
            f"--budget-grace {grace_s:g} is not a duration.", hint="Give seconds."
        )


def _check_metrics(port: int | None) -> None:
    if port is None:
        return
    if not 0 < port < 1 << 16:
        raise CarbontrackError(f"--metrics-port {port} is no port.", hint="Give 1 to 65535.")
    from importlib.util import find_spec

    if find_spec("prometheus_client") is None:
        raise CarbontrackError(
            "--metrics-port needs the package prometheus-client.",
            hint="pip install 'carbontrack[metrics]'",
        )


def _followed(pattern: str | None, log: str | None) -> tuple[str | None, str | None]:
    """The pattern and the log's path; none, with a warning, where that path leads nowhere: the run
    is recorded all the same.
    """
    if (pattern is None) != (log is None):
        raise CarbontrackError(
            "--steps-from-log and --log go together.",
            hint=r"Example: --steps-from-log 'step (?P<step>\d+) loss (?P<loss>\S+)' --log a.log",
        )
    if log == "":
        raise CarbontrackError("--log is empty: is a variable unset?")
    if pattern is not None:
        from carbontrack.record.log_lines import compiled

        compiled(pattern)
    if log is None:
        return None, None
    from carbontrack.folders import absolute

    try:
        return pattern, absolute(log)
    except CarbontrackError as error:
        from carbontrack.record.warning import warn

        warn(f"training steps will not be recorded: --log {error}")
        return None, None


def _state_before(log: str | None) -> list[int] | None:
    """What the log is before the job is started: what it holds is of an earlier run."""
    if not log:
        return None
    from carbontrack.record.file_state import state_of

    state = state_of(log)
    return None if state is None else list(state)

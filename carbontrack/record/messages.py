"""What the wrapper sends the recorder, as one line of JSON on its pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from carbontrack.record import defaults
from carbontrack.record.file_state import FileState
from carbontrack.vocabulary import RunKind


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record, and how. `started_ms` is wall clock, `started_ns` `units.monotonic_ns()`."""

    run_id: str
    recording_id: str
    command: tuple[str, ...]
    cwd: str
    job_pid: int
    started_ms: int
    started_ns: int
    db: str  # the ledger's URL
    kind: str = RunKind.JOB
    steps_path: str | None = None
    steps_fd: int | None = None  # the same file, open in the recorder
    rendezvous_fd: int | None = None  # where other wrappers of the run join
    is_shared: bool = False  # others can compute the run's id, and may join
    scheduler: str | None = None  # a `Scheduler`
    cluster: str | None = None
    job_id: str | None = None
    array_index: int | None = None
    account: str | None = None
    partition: str | None = None
    nodes_expected: int | None = None
    restart: int = 0  # how often the scheduler has restarted the job
    is_beside: bool = False  # record only devices that no other recorder of the run can see
    name: str | None = None
    project: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    facility: Mapping[str, Any] = field(default_factory=dict)  # settings given with the command
    meter: str = defaults.METER
    devices: str = defaults.DEVICES
    hz: float = defaults.HZ
    quiet: bool = defaults.QUIET
    visibility: Mapping[str, str] | None = None  # of another process; None: as in our environment
    log_path: str | None = None  # a log to read steps from, by `steps_pattern`
    steps_pattern: str | None = None
    log_before: FileState | None = None  # the log before the job was started
    budget_kg: float | None = None  # CO2e
    budget_usd: float | None = None
    budget_kwh: float | None = None  # of the facility
    on_budget: str = defaults.ON_BUDGET
    budget_grace_s: float = defaults.BUDGET_GRACE_S
    metrics_port: int | None = None  # of Prometheus metrics
    metrics_address: str = defaults.METRICS_ADDRESS
    ship: str | None = None  # the collector's URL, of --ship
    ship_insecure: bool = False  # http to another host, too
    ship_token: str | None = None
    ship_token_file: str | None = None

    @property
    def has_summary(self) -> bool:
        """Whether what was used is printed at the end."""
        return not self.quiet and self.kind == RunKind.JOB

    @property
    def budget(self) -> dict[str, float]:
        """The limits that are set, by the names of `account.budget.Budget`."""
        limits = {"kg": self.budget_kg, "money": self.budget_usd, "kwh": self.budget_kwh}
        return {name: limit for name, limit in limits.items() if limit is not None}

    @classmethod
    def from_json(cls, line: bytes) -> Plan:
        values = json.loads(line)
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in values.items() if key in known}
        before = values.get("log_before")
        return cls(
            **{
                **values,
                "command": tuple(values["command"]),
                "log_before": None if before is None else FileState(*before),
            }
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the job ended. `exit_code` is 128+n when signal n killed it, None if unknown. Its wrapper
    ends now; the recorder `ends_with_wrapper`, as a container does with its first process.
    """

    ended_ns: int
    exit_code: int | None
    ends_with_wrapper: bool = False

    @classmethod
    def from_json(cls, line: bytes) -> Outcome:
        values = json.loads(line)
        ends_with_wrapper = values.get("ends_with_wrapper", False)
        return cls(values["ended_ns"], values["exit_code"], ends_with_wrapper)


@dataclass(frozen=True, slots=True)
class Hello:
    """What another wrapper of the run says when it joins the recorder."""

    job_pid: int
    started_ns: int
    visibility: Mapping[str, str]
    steps_path: str | None
    quiet: bool

    @classmethod
    def from_json(cls, line: bytes) -> Hello:
        values = json.loads(line)
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def joint(outcomes: Sequence[Outcome | None]) -> Outcome | None:
    """How a recording ended whose wrappers ended so; None stands for one that was killed.

    It ends with the last of them. The first exit code that is not zero counts; without one, the
    code is unknown where one of them is, and the end where a wrapper did not say how its job ended.
    """
    known = sorted((one for one in outcomes if one is not None), key=lambda one: one.ended_ns)
    codes = [one.exit_code for one in known]
    failed = next(filter(None, codes), None)
    if not known or (failed is None and len(known) < len(outcomes)):
        return None
    last, code = known[-1], None if failed is None and None in codes else failed or 0
    return replace(last, exit_code=code)

"""What the wrapper sends the recorder, as one line of JSON on its pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from carbontrack.errors import CarbontrackError
from carbontrack.record.follow import FileState
from carbontrack.vocabulary import Devices, OnBudget

MAX_COMMAND_CHARS = 32_768  # a glob over shards makes a command of megabytes


def cut_command(words: Sequence[str]) -> list[str]:
    """The command as it is stored: up to MAX_COMMAND_CHARS, then how many words more."""
    shown: list[str] = []
    left = MAX_COMMAND_CHARS
    for number, word in enumerate(words):
        if len(word) >= left:
            # At a space, so that half a secret does not pass for an ordinary word.
            part = word[:left].rpartition(" ")[0]
            more = len(words) - number - 1
            return [*shown, f"{part} … ({more:,} more words)" if more else f"{part} …"]
        left -= len(word) + 1
        shown.append(word)
    return shown


def check(*, devices: str, hz: float) -> None:
    """Raise CarbontrackError for settings that mean nothing, before anything is started."""
    if not 0.1 <= hz <= 50:
        raise CarbontrackError(f"{hz:g} samples a second are out of range.", hint="Give 0.1 to 50.")
    if devices not in tuple(Devices):
        raise CarbontrackError(f"devices {devices}: unknown.", hint="Give job or all.")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record, and how. `started_ms` is wall clock, `started_ns` `units.monotonic_ns()`."""

    run_id: str
    command: tuple[str, ...]
    cwd: str
    job_pid: int
    started_ms: int
    started_ns: int
    db: str  # the ledger's URL
    steps_path: str | None = None
    steps_fd: int | None = None  # the same file, open in the recorder
    name: str | None = None
    project: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    meter: str = "auto"
    devices: str = Devices.JOB
    hz: float = 10.0
    quiet: bool = False
    visibility: Mapping[str, str] | None = None  # of another process; None: as in our environment
    log_path: str | None = None  # a log to read steps from, by `steps_pattern`
    steps_pattern: str | None = None
    log_before: FileState | None = None  # the log before the job was started
    budget_kg: float | None = None  # CO2e
    budget_usd: float | None = None
    budget_kwh: float | None = None  # of the facility
    on_budget: str = OnBudget.WARN
    budget_grace_s: float = 60.0

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
    """How the job ended. `exit_code` is 128+n when signal n killed it, None if unknown."""

    ended_ns: int
    exit_code: int | None

    @classmethod
    def from_json(cls, line: bytes) -> Outcome:
        values = json.loads(line)
        return cls(ended_ns=values["ended_ns"], exit_code=values["exit_code"])

"""Reading what the job says of itself: the steps file, as it grows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carbontrack.ledger.rows import Event, Step
from carbontrack.units import now_ms

_MAX_BYTES_A_READ = 4 << 20  # a job that floods the file must not flood our memory
_FLOATS = ("loss", "lr", "grad_norm", "tokens_per_s")


@dataclass(frozen=True, slots=True)
class Told:
    """What was read since the last time. `bad_lines` were not understood and are skipped."""

    steps: list[Step] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    bad_lines: int = 0


class StepsFile:
    """Follows one steps file. A line counts once it is complete."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> Told:
        if self._path is None:
            return Told()
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123
                file.seek(self._offset)
                block = file.read(_MAX_BYTES_A_READ)
        except OSError:
            return Told()
        complete = block[: block.rfind(b"\n") + 1]
        self._offset += len(complete)
        return parse(complete.splitlines())

    def remove(self) -> None:
        """Clean up after the run: the file and the folder that was made for it."""
        if self._path is None:
            return
        try:
            os.unlink(self._path)  # noqa: PTH108
            os.rmdir(os.path.dirname(self._path))  # noqa: PTH106, PTH120
        except OSError:
            pass


def parse(lines: list[bytes]) -> Told:
    """Sort the lines into steps, events and the model card."""
    steps: list[Step] = []
    events: list[Event] = []
    model: dict[str, Any] = {}
    bad_lines = 0
    for line in lines:
        try:
            told = json.loads(line)
            if "event" in told:  # before "step": an event may say at which step it was
                events.append(_event(told))
            elif "step" in told:
                steps.append(_step(told))
            elif "model" in told:
                model.update(told["model"])
            else:
                bad_lines += 1
        except (ValueError, TypeError, AttributeError):
            bad_lines += 1
    return Told(steps, events, model, bad_lines)


def _step(told: Mapping[str, Any]) -> Step:
    rest = dict(told)
    number = int(rest.pop("step"))
    time_ms = int(rest.pop("time_ms", 0)) or now_ms()
    tokens = rest.pop("tokens", None)
    known = {name: None if (v := rest.pop(name, None)) is None else float(v) for name in _FLOATS}
    tokens = None if tokens is None else int(tokens)
    return Step(step=number, time_ms=time_ms, tokens=tokens, extra=rest, **known)


def _event(told: Mapping[str, Any]) -> Event:
    rest = dict(told)
    kind = str(rest.pop("event"))
    time_ms = int(rest.pop("time_ms", 0)) or now_ms()
    return Event(time_ms=time_ms, kind=kind, message=str(rest.pop("message", "")), data=rest)

"""carbontrack: carbon and cost accounting for training runs.

What a training script may call. `track()` records a block of it; `log_step()` and its like append
one line to the file that the recorder names in CARBONTRACK_STEPS, and do nothing where there is no
recorder: they import nothing heavy, never block and never raise into a training loop.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carbontrack.record.watch import Track

__version__ = "0.1.0"
__all__ = ["__version__", "describe_model", "log_event", "log_step", "track"]


@contextmanager
def track(
    name: str | None = None,
    *,
    project: str | None = None,
    tags: Mapping[str, str] | None = None,
    db: str | None = None,
    meter: str = "auto",
    devices: str = "job",
    hz: float = 10.0,
    quiet: bool = False,
) -> Iterator[Track]:
    """Record this process while the block runs, for scripts and notebooks.

    The recorder is that of `carbontrack run`, a process of its own. Where somebody records already
    (a wrapper around us, or the node's first worker under torchrun), the block is part of that run.
    Raises CarbontrackError for settings that mean nothing.
    """
    from carbontrack.ledger.url import ledger_url
    from carbontrack.meters.choose import check_spec
    from carbontrack.record import plan
    from carbontrack.record.watch import Track

    plan.check(devices=devices, hz=hz)
    check_spec(meter)
    settings = {
        "name": name,
        "project": project,
        "tags": dict(tags or {}),
        "db": ledger_url(db),
        "meter": meter,
        "devices": devices,
        "hz": hz,
        "quiet": quiet,
    }
    with Track(settings) as run:
        _close_steps()  # log_step() shall find this run's file
        try:
            yield run
        finally:
            _close_steps()


def log_step(step: int, **values: Any) -> None:
    """Log one training step.

    Known values: `loss`, `lr`, `grad_norm`, `tokens` (of this step), `tokens_per_s`; any other is
    kept as extra. A tensor of one number is taken as that, which makes the GPU wait: pass floats.
    """
    _append({"step": step, "time_ms": time.time_ns() // 1_000_000, **values})


def log_event(kind: str, message: str = "", **data: Any) -> None:
    """Log something that happened, e.g. `log_event("eval", loss=3.09)`: a marker on the plots."""
    _append({"event": kind, "time_ms": time.time_ns() // 1_000_000, "message": message, **data})


def describe_model(**card: Any) -> None:
    """Say what is trained: `name`, `parameters`, `planned_tokens`."""
    _append({"model": card})


_steps_fd: int | None = None


def _close_steps() -> None:
    global _steps_fd
    if _steps_fd is not None and _steps_fd >= 0:
        os.close(_steps_fd)
    _steps_fd = None


def _append(line: dict[str, Any]) -> None:
    """One write() of one line: with O_APPEND, lines of several processes do not mix."""
    global _steps_fd
    try:
        if _steps_fd is None:
            path = os.environ.get("CARBONTRACK_STEPS")
            _steps_fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC) if path else -1
        if _steps_fd >= 0:
            os.write(_steps_fd, (json.dumps(line, default=float) + "\n").encode())
    except (OSError, TypeError, ValueError):
        _steps_fd = -1  # a log line is never worth a training run

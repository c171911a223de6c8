"""What a job says of itself: each call appends one line to the file named by CARBONTRACK_STEPS.

Without a recorder the calls do nothing. They import nothing heavy, never block and never raise into
a training loop.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any


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


def close_steps() -> None:
    """Close the file: the next call opens the one that is named then."""
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

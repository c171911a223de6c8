"""carbontrack: carbon and cost accounting for training runs.

What a training script may call. Each call appends one line to the file that `carbontrack run` names in
CARBONTRACK_STEPS, and does nothing where no recorder is there. Nothing heavy is imported, nothing
blocks, and nothing here ever raises into a training loop.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "describe_model", "log_event", "log_step"]


def log_step(step: int, **values: Any) -> None:
    """Log one training step.

    Known values: `loss`, `lr`, `grad_norm`, `tokens` (of this step), `tokens_per_s`; any other is kept
    as extra. Zero-dimensional tensors are taken as numbers, which makes the GPU wait: pass floats.
    """
    _append({"step": step, "time_ms": time.time_ns() // 1_000_000, **values})


def log_event(kind: str, message: str = "", **data: Any) -> None:
    """Log something that happened, e.g. `log_event("eval", loss=3.09)`: a marker on the plots."""
    _append({"event": kind, "time_ms": time.time_ns() // 1_000_000, "message": message, **data})


def describe_model(**card: Any) -> None:
    """Say what is trained: `name`, `parameters`, `planned_tokens`."""
    _append({"model": card})


_steps_fd: int | None = None


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

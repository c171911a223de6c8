"""A recorder that starts before it is known what to record.

It needs as long to import what it works with as the wrapper needs to read its command line. Side by
side, it is ready when a job of an instant ends, and reads the devices 0.1 s sooner. Standard
library only.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from carbontrack.record.recorder_process import (
    LockedSteps,
    RecorderProcess,
    is_recorded_already,
    make_steps_file,
    remove_steps_file,
    uuid7,
)


@dataclass(frozen=True, slots=True)
class Ahead:
    """A run that may come to be: its id, the file for its steps, its recorder."""

    run_id: str
    steps: LockedSteps | None
    recorder: RecorderProcess


_ready: Ahead | None = None


def prepare() -> None:
    """Start one, unless somebody records already or it would take the only CPU from the job."""
    global _ready
    if len(os.sched_getaffinity(0)) > 1 and not is_recorded_already():
        # Until it ignores the signals that are for the job, it must not get them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        _ready = _start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def take() -> Ahead | None:
    """The one that was started."""
    global _ready
    ready, _ready = _ready, None
    return ready


def discard() -> None:
    """End the one that was started, if nobody has taken it: there is nothing to record."""
    ready = take()
    if ready is not None:
        ready.recorder.discard()
        remove_steps_file(ready.steps.path if ready.steps else None)


def _start() -> Ahead:
    run_id = uuid7()
    steps = make_steps_file(run_id)
    return Ahead(run_id, steps, RecorderProcess(steps))

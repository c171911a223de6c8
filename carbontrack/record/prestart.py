"""A recorder that starts before it is known what to record.

It needs as long to import what it works with as the wrapper needs to read its command line. Side by
side, it is ready when a job of an instant ends, and reads the devices 0.1 s sooner. Standard
library only.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from carbontrack.record.recorder_process import RecorderProcess
from carbontrack.record.rendezvous import Rendezvous, open_rendezvous
from carbontrack.record.steps_file import (
    LockedSteps,
    is_recorded_already,
    make_steps_file,
    remove_steps_file,
)
from carbontrack.record.this_node import is_first_of_node
from carbontrack.record.uuids import uuid7
from carbontrack.record.warning import harmless


@dataclass(frozen=True, slots=True)
class Prestarted:
    """A recording that may come to be: its id, the file for its steps, its recorder, and where
    other wrappers of its run will find that.
    """

    id: str
    steps: LockedSteps | None
    rendezvous: Rendezvous | None
    recorder: RecorderProcess

    def discard(self) -> None:
        """End the recorder: there is nothing to record."""
        self.recorder.discard()
        if self.rendezvous is not None:
            self.rendezvous.close()
        remove_steps_file(self.steps.path if self.steps else None)


_ready: Prestarted | None = None


def prepare() -> None:
    """Start one, unless a recorder is there already, another process of this node is to have it,
    or it would take the only CPU from the job.
    """
    global _ready
    with harmless("the recorder does not start before the job"):
        alone = len(os.sched_getaffinity(0)) < 2
        if not (alone or is_recorded_already(os.environ)) and is_first_of_node(os.environ):
            # Until it ignores the signals that are for the job, it must not get them.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                _ready = start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def take() -> Prestarted | None:
    """The one that was started."""
    global _ready
    ready, _ready = _ready, None
    return ready


def discard() -> None:
    """End the one that was started, unless it was taken: there is nothing to record."""
    ready = take()
    if ready is not None:
        ready.discard()


def start() -> Prestarted:
    """A new recording with its recorder."""
    recording_id = uuid7()
    steps = make_steps_file(recording_id)
    rendezvous = open_rendezvous()
    return Prestarted(
        recording_id,
        steps,
        rendezvous,
        RecorderProcess(steps, rendezvous.descriptor if rendezvous else None),
    )

"""Recording a node, whatever runs on it: `carbontrack watch`.

A watch is a run of one calendar month (UTC), so that a month's table has whole runs, a node adds a
row a month to the list of runs, and none grows for ever. The run's id follows from node, project
and month: a service that is started again goes on with the run. Within it each start and each day
is a recording of its own: a day's seconds can be dropped once it is over, and its clock is set by
the wall clock of that day.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Set
from contextlib import suppress
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.files import read_regular
from carbontrack.folders import working_folder
from carbontrack.ids import uuid5, uuid7
from carbontrack.meters.base import MeterContext
from carbontrack.record.claims import Claims
from carbontrack.record.devices import require_meter
from carbontrack.record.grace import grace_s, outcome
from carbontrack.record.process_end import is_running
from carbontrack.record.recorder_process import RecorderProcess
from carbontrack.record.this_node import hostname
from carbontrack.record.warning import warn
from carbontrack.units import (
    MS_PER_DAY,
    MS_PER_S,
    NS_PER_MS,
    NS_PER_S,
    monotonic_ns,
    month_of,
    wall_ms,
)
from carbontrack.vocabulary import RunKind

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MACHINE_ID = "/etc/machine-id"
_LOOK_S = 30.0
_SAME_TIME_MS = MS_PER_S  # a wall clock that is less off was slewed, not set


def watch(settings: Mapping[str, Any]) -> None:
    """Record this node with these settings until SIGTERM, SIGINT or SIGHUP.

    Raises CarbontrackError where nothing can be measured, the node is watched already, or the
    recorder has failed.
    """
    stopping = {one for one in _STOPPING if signal.getsignal(one) is not signal.SIG_IGN}  # nohup
    signal.pthread_sigmask(signal.SIG_BLOCK, {*stopping, signal.SIGCHLD})
    claim = Claims(f"watch {settings['db']} {settings['project']}")
    if not claim.take(hostname()):
        raise CarbontrackError(
            "This node is watched already.", hint="Stop the other 'carbontrack watch' first."
        )
    context = MeterContext(job_pid=os.getpid(), environ=os.environ, visible=settings["devices"])
    require_meter(settings["meter"], context, "nothing to watch")
    if not settings["quiet"]:
        warn(f"watching {hostname()} until it is stopped.")
    day = _Day(settings, monotonic_ns())
    while not _stopped(day, stopping):
        if monotonic_ns() >= day.until_ns:
            # The next one begins before this one ends: what it cannot read yet is little.
            before, day = day, _Day(settings, day.until_ns)
            before.end(before.until_ns, at_exit=False)
    day.end(monotonic_ns(), at_exit=True)
    claim.release()


class _Day:
    """A recording from a moment of the monotonic clock to the end of its day in UTC."""

    def __init__(self, settings: Mapping[str, Any], from_ns: int) -> None:
        started_ms = _on_the_day(wall_ms(from_ns))
        self.until_ns = from_ns + (MS_PER_DAY - started_ms % MS_PER_DAY) * NS_PER_MS
        plan = {
            **settings,
            "kind": RunKind.WATCH,
            "run_id": _run_id(settings["project"], started_ms),
            "recording_id": uuid7(),
            "name": settings["name"] or f"watch {hostname()}",
            "command": ["carbontrack", *sys.argv[1:]],
            "cwd": working_folder(),
            "job_pid": os.getpid(),
            "started_ms": started_ms,
            "started_ns": from_ns,
        }
        self._recorder = RecorderProcess(None)
        self._recorder.begin(plan)
        self._recorder.flush(grace_s()[0])

    @property
    def is_recorded(self) -> bool:
        """Whether its recorder runs."""
        return self._recorder.pid is not None and is_running(self._recorder.pid)

    def end(self, at_ns: int, *, at_exit: bool) -> None:
        """It ends at this time, which is not to come; `at_exit` so does the watch."""
        self._recorder.end(outcome(at_ns, 0, at_exit=at_exit))


def _stopped(day: _Day, stopping: Set[signal.Signals]) -> bool:
    """Wait for a signal to stop, the end of the day or of its recorder, or a while; whether it was
    the first. Raises CarbontrackError where the recorder has ended.
    """
    left_s = max(0.0, (day.until_ns - monotonic_ns()) / NS_PER_S)
    found = signal.sigtimedwait({*stopping, signal.SIGCHLD}, min(left_s, _LOOK_S))
    if found is not None and found.si_signo != signal.SIGCHLD:
        return True
    if not day.is_recorded:
        raise CarbontrackError(
            "The recorder of the watch has ended.", hint="It says why above.", exit_code=1
        )
    with suppress(ChildProcessError):  # recorders of earlier days, which had something to ship
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return False


def _on_the_day(at_ms: int) -> int:
    """A time, or the beginning of the day that is no further from it than a clock is slewed."""
    begin_ms = (at_ms + _SAME_TIME_MS) // MS_PER_DAY * MS_PER_DAY
    return begin_ms if abs(at_ms - begin_ms) < _SAME_TIME_MS else at_ms


def _run_id(project: str | None, at_ms: int) -> str:
    """The watch of this node in the month of a time."""
    return uuid5(["watch", project, hostname(), _machine_id(), month_of(at_ms)])


def _machine_id() -> str:
    """Of this installation, by which nodes of one name differ; empty in a container without it."""
    try:
        return read_regular(_MACHINE_ID, 64).decode(errors="replace").strip()
    except OSError:
        return ""

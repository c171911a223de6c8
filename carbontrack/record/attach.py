"""Recording a process that runs already: this one (`carbontrack.track()`) or another (`attach`).

The recorder is the same process as under `carbontrack run`; only how the end is noticed differs.
Standard library only.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.folders import working_folder
from carbontrack.ids import uuid7
from carbontrack.record import defaults
from carbontrack.record.grace import grace_s, is_first_of_container, outcome
from carbontrack.record.labels import project_of, tag_of, tags_of
from carbontrack.record.process_end import ProcessEnd, is_running
from carbontrack.record.recorder_process import RecorderProcess
from carbontrack.record.rendezvous import Joined, open_rendezvous
from carbontrack.record.steps_file import LockedSteps, is_recorded_already, make_steps_file
from carbontrack.record.this_node import is_first_of_node, visibility
from carbontrack.record.this_run import MARK, ThisRun, mark_in, mark_of, this_run
from carbontrack.record.warning import harmless, warn
from carbontrack.units import monotonic_ns, wall_ms

_LOOK_S = 0.05


def settings_of(
    *,
    name: object = None,
    project: object = None,
    tags: Mapping[str, object] | Iterable[str] | None = None,
    db: str | os.PathLike[str] | None = None,
    meter: str = defaults.METER,
    devices: str = defaults.DEVICES,
    hz: float = defaults.HZ,
    quiet: bool = defaults.QUIET,
    **unknown: object,
) -> dict[str, Any]:
    """The settings of `carbontrack.track`. Raises CarbontrackError for one that is invalid or
    `unknown`.
    """
    from carbontrack.ledger.url import ledger_url
    from carbontrack.record import ship_to

    for setting in unknown:
        raise CarbontrackError(
            f"{setting}: no such setting.",
            hint="Give name, project, tags, db, meter, devices, hz or quiet by their names.",
        )
    defaults.check(meter=_text("meter", meter), devices=devices, hz=hz)
    return {
        "name": None if name is None or not str(name).strip() else str(name),
        "project": project_of(None if project is None else str(project)),
        "tags": tags_of(_tags(tags or {})),
        "db": ledger_url(None if db is None else _text("db", db)),
        "meter": meter,
        "devices": devices,
        "hz": hz,
        "quiet": bool(quiet),
        **ship_to.settings_of(None),
    }


def _text(name: str, value: object) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise CarbontrackError(f"{name} {text!r}: not a text.")
    return text


def _tags(tags: Mapping[str, object] | Iterable[str]) -> dict[str, str]:
    if isinstance(tags, Mapping):
        return {str(key): str(value) for key, value in tags.items()}
    words = [tags] if isinstance(tags, str) else tags
    return dict(tag_of(str(word), "tag", 'tags=["team=nlp"]') for word in words)


class BlockRecorder:
    """Records this process from `start` to `stop`; see `record.track`.

    `id` is the run's, or None where another recorder records already or this one cannot start.
    """

    def __init__(self, settings: Mapping[str, Any] | None) -> None:
        """None: nothing is recorded."""
        self._settings = settings
        self._recorder: RecorderProcess | Joined | None = None
        self._pid = 0
        self.id: str | None = None
        self.is_shared = False  # whether other blocks and jobs may be of the same run

    def start(self) -> None:
        """Begin to record."""
        with harmless("this block is not recorded"):
            if self._settings is not None:
                self._begin(self._settings)

    def stop(self, exit_code: int, *, at_exit: bool = False) -> None:
        """The block has ended, as a process with this exit code; `at_exit` so does the process."""
        with harmless("the end of this block is not recorded"):
            self._end(exit_code, at_exit=at_exit)

    def _begin(self, settings: Mapping[str, Any]) -> None:
        if is_recorded_already(os.environ):
            return
        given: tuple[Any, ...] = (
            sys.executable,
            *sys.argv,
        )  # a program may have put anything there
        command = [os.fsdecode(one) if isinstance(one, bytes) else str(one) for one in given]
        run = this_run(os.environ, command, settings)
        if not (run.is_shared or is_first_of_node(os.environ)):
            return
        recording_id = uuid7()
        self._pid = os.getpid()
        steps = make_steps_file(recording_id)
        plan = _plan(run, os.getpid(), settings, os.environ) | {
            "recording_id": recording_id,
            "command": command,
            "cwd": working_folder(),
            "steps_path": steps and steps.path,
        }
        self._recorder = _recorder_of(run, steps)
        if self._recorder is None:
            return
        self._recorder.begin(plan)
        self._recorder.flush(grace_s()[0])
        self.id, self.is_shared = run.id, run.is_shared
        # So that what we start counts as part of us.
        os.environ[MARK] = str(mark_of(run.id, settings["db"], os.environ))
        if steps:
            os.environ["CARBONTRACK_STEPS"] = steps.path

    def _end(self, exit_code: int, *, at_exit: bool) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None or self._pid != os.getpid():
            return  # a forked child leaves the block, too, and ends nothing
        if is_first_of_container() and not at_exit and recorder.pid is not None:
            atexit.register(_wait_for, recorder.pid)
        for name in (MARK, "CARBONTRACK_STEPS"):
            os.environ.pop(name, None)
        recorder.end(outcome(monotonic_ns(), exit_code, at_exit=at_exit))


def attach(pid: int, settings: Mapping[str, Any]) -> None:
    """Record the running process `pid` until it ends or we are interrupted (it then goes on): as
    part of the scheduler's job whose environment it has, beside the wrappers of that job here.

    Its exit code stays unknown. One that is recorded already is left to its recorder. Raises
    CarbontrackError if there is no such process.
    """
    try:
        end = ProcessEnd(pid)
        environ, command, cwd = _about(pid)
    except ProcessLookupError:
        raise CarbontrackError(f"There is no process {pid}.", hint="'ps' lists them.") from None
    except OSError as error:
        raise CarbontrackError(
            f"Process {pid} cannot be watched: {error.strerror}.", hint="It may be another user's."
        ) from error
    if is_recorded_already(environ):
        mark = mark_in(environ)
        if not settings.get("quiet"):
            warn(f"process {pid} is recorded already, in the run {mark and mark.run_id}.")
        return
    run = this_run(environ, command, settings, pid)
    plan = _plan(run, pid, settings, environ) | {
        "recording_id": uuid7(),
        "command": command,
        "cwd": cwd,
    }
    recorder = _recorder_of(run, None)
    if recorder is None:
        return
    recorder.begin(plan)
    _wait_unless_interrupted(recorder, end)
    recorder.end(outcome(monotonic_ns(), None))


def _wait_unless_interrupted(recorder: RecorderProcess | Joined, end: ProcessEnd) -> None:
    """Until the job has ended, or Ctrl-C or SIGTERM; a SIGTERM that comes later does nothing: a
    sidecar gets it once the job has ended, and the recorder is to have its time.
    """
    waits = True

    def interrupt(signo: int, frame: FrameType | None) -> None:
        nonlocal waits
        if waits:
            waits = False
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    with suppress(KeyboardInterrupt):
        recorder.flush(grace_s()[0])
        end.wait()
        waits = False


def _wait_for(pid: int) -> None:
    """Let a recorder ship the rest of its block before our end, which is that of the container."""
    until_s = time.monotonic() + grace_s(ends_with_wrapper=True)[0]
    while is_running(pid) and time.monotonic() < until_s:
        time.sleep(_LOOK_S)


def _recorder_of(run: ThisRun, steps: LockedSteps | None) -> RecorderProcess | Joined | None:
    """The recorder of a run on this node: a new one, or where another process of the run has one,
    that one. None if it cannot start.
    """
    rendezvous = open_rendezvous() if run.is_shared else None
    joined = rendezvous.joined(run.id) if rendezvous else None
    if joined is not None:
        joined.bring(steps)
        return joined
    recorder = RecorderProcess(steps, rendezvous.descriptor if rendezvous else None)
    if rendezvous is not None:
        rendezvous.close()
    return None if recorder.pid is None else recorder


def _plan(
    run: ThisRun,
    pid: int,
    settings: Mapping[str, Any],
    environ: Mapping[str, str],
) -> dict[str, Any]:
    started_ns = monotonic_ns()
    return {
        **settings,
        **run.job,
        "run_id": run.id,
        "job_pid": pid,
        "started_ms": wall_ms(started_ns),
        "started_ns": started_ns,
        "visibility": visibility(environ),
    }


def _about(pid: int) -> tuple[dict[str, str], list[str], str]:
    """(environment, command line, working directory) of another process. Raises OSError."""
    with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
        pairs = [line.partition("=") for line in os.fsdecode(file.read()).split("\0") if line]
    with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
        command = os.fsdecode(file.read()).rstrip("\0").split("\0")
    cwd = os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115 - "… (deleted)" where it was removed
    return {name: value for name, _, value in pairs}, command, cwd

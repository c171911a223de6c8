"""Recording a process that runs already: this one (`carbontrack.track()`) or another (`attach`).

The recorder is the same process as under `carbontrack run`; only how the end is noticed differs.
Standard library only.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from carbontrack.errors import CarbontrackError
from carbontrack.record.process_end import ProcessEnd
from carbontrack.record.recorder_process import GRACE_S, RecorderProcess
from carbontrack.record.steps_file import (
    is_recorded_already,
    make_steps_file,
    working_folder,
)
from carbontrack.record.uuids import uuid7
from carbontrack.record.warning import harmless
from carbontrack.units import monotonic_ns, now_ms

_VISIBILITY = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
# The number of a process on its node, as torchrun, Slurm, Open MPI and Intel MPI or MPICH give it.
_LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")


def settings_of(
    *,
    name: object,
    project: object,
    tags: Mapping[str, object] | None,
    db: str | None,
    meter: str,
    devices: str,
    hz: float,
    quiet: bool,
) -> dict[str, Any]:
    """The settings of `carbontrack.track`. Raises CarbontrackError for invalid ones."""
    from carbontrack.ledger.url import ledger_url
    from carbontrack.meters.registry import check_spec
    from carbontrack.record import messages

    messages.check(devices=devices, hz=hz)
    check_spec(meter)
    return {
        "name": None if name is None else str(name),
        "project": None if project is None else str(project),
        "tags": {str(key): str(value) for key, value in (tags or {}).items()},
        "db": ledger_url(db),
        "meter": meter,
        "devices": devices,
        "hz": hz,
        "quiet": bool(quiet),
    }


class Track:
    """Records this process from `__enter__` to `__exit__`; see `carbontrack.track`.

    `id` is the run's, or None where another recorder records already or this one cannot start.
    """

    def __init__(self, settings: Mapping[str, Any] | None) -> None:
        """None: nothing is recorded."""
        self._settings = settings
        self._recorder: RecorderProcess | None = None
        self._pid = 0
        self.id: str | None = None

    def __enter__(self) -> Self:
        with harmless("this block is not recorded"):
            if self._settings is not None:
                self._begin(self._settings)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with harmless("the end of this block is not recorded"):
            self._end(error)

    def _begin(self, settings: Mapping[str, Any]) -> None:
        if is_recorded_already() or not _is_first_of_node(os.environ):
            return
        run_id = uuid7()
        self._pid = os.getpid()
        steps = make_steps_file(run_id)
        plan = _plan(run_id, os.getpid(), settings, os.environ) | {
            "command": [sys.executable, *sys.argv],
            "cwd": working_folder(),
            "steps_path": steps and steps.path,
        }
        self._recorder = RecorderProcess(steps)
        if self._recorder.pid is None:
            return
        self._recorder.begin(plan)
        self._recorder.flush(GRACE_S)
        self.id = run_id
        os.environ["CARBONTRACK_RUN_ID"] = run_id  # so that what we start counts as part of us
        if steps:
            os.environ["CARBONTRACK_STEPS"] = steps.path

    def _end(self, error: BaseException | None) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None or self._pid != os.getpid():
            return  # a forked child leaves the block, too, and ends nothing
        for name in ("CARBONTRACK_RUN_ID", "CARBONTRACK_STEPS"):
            os.environ.pop(name, None)
        recorder.end({"ended_ns": monotonic_ns(), "exit_code": _exit_code(error)})


def attach(pid: int, settings: Mapping[str, Any]) -> None:
    """Record the running process `pid` until it ends or we are interrupted (it then goes on).

    Its exit code stays unknown. Raises CarbontrackError if there is no such process.
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
    plan = _plan(uuid7(), pid, settings, environ) | {"command": command, "cwd": cwd}
    recorder = RecorderProcess(None)
    recorder.begin(plan)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        recorder.flush(GRACE_S)
        end.wait()
    except KeyboardInterrupt:
        pass
    finally:
        recorder.end({"ended_ns": monotonic_ns(), "exit_code": None})


def _is_first_of_node(environ: Mapping[str, str]) -> bool:
    """Whether no launcher says that another process of this node comes before us."""
    ranks = [environ[name] for name in _LOCAL_RANKS if name in environ]
    return not ranks or ranks[0] == "0"


def _plan(
    run_id: str, pid: int, settings: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, Any]:
    return {
        **settings,
        "run_id": run_id,
        "job_pid": pid,
        "started_ms": now_ms(),
        "started_ns": monotonic_ns(),
        "visibility": {name: environ[name] for name in _VISIBILITY if name in environ},
    }


def _about(pid: int) -> tuple[dict[str, str], list[str], str]:
    """(environment, command line, working directory) of another process. Raises OSError."""
    with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
        pairs = [line.partition("=") for line in os.fsdecode(file.read()).split("\0") if line]
    with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
        command = os.fsdecode(file.read()).rstrip("\0").split("\0")
    cwd = os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115 - "… (deleted)" where it was removed
    return {name: value for name, _, value in pairs}, command, cwd


def _exit_code(error: BaseException | None) -> int:
    """The exit code that this exception would give the process."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 130 if isinstance(error, KeyboardInterrupt) else 1

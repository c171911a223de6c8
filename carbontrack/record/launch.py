"""The wrapper's manners: start the job, pass signals on, end as the job ended.

Standard library only, and little of it: the job starts before anything slow is imported, and what
goes on beside it (`accompany`) is imported after that. The job keeps our terminal, process group,
stdin, stdout and stderr; it must not notice that we are there. Recording is the work of another
process (`carbontrack.record.recorder`), so that neither a hung driver nor a full disk can reach the
job. The two are joined by one pipe: a first line says what to record, a second how the job ended;
the pipe closing without it means that we were killed.
"""

from __future__ import annotations

import _signal  # `signal` makes enumerations of it, which costs 7 ms
import os
from collections.abc import Collection, Mapping
from contextlib import suppress

from carbontrack.record.job_process import WATCHED, Job
from carbontrack.record.plain_job import (
    DEFAULTS,
    NOT_FOUND,
    hide_secrets,
    refuse,
    replace_us,
    script_of,
)
from carbontrack.record.recorded_job import RecordedJob
from carbontrack.record.steps_file import is_recorded_already
from carbontrack.record.warning import harmless, warn
from carbontrack.units import monotonic_ns, wall_ms

TYPE_CHECKING = False  # `typing` costs 15 ms
if TYPE_CHECKING:
    from typing import Any, NoReturn


def run(command: list[str], settings: dict[str, Any], *, live: bool = False) -> NoReturn:
    """Run `command` under the recorder and exit exactly as it exits.

    `settings` is passed on to the recorder; see `carbontrack.record.messages.Plan`. With `live` the
    run's page is served meanwhile.
    """
    if not command[0]:
        warn("the command is empty: is a variable unset? Nothing was recorded.")
        os._exit(NOT_FOUND)
    hide_secrets()  # `settings` has them
    recording = None
    with harmless("this run is not recorded"):
        if settings["db"] is None or is_recorded_already(os.environ):
            replace_us(command)
        recording = RecordedJob(command, settings)
    old_mask: Collection[int] | None = None
    with harmless("signals may not be passed on"):
        old_mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, WATCHED)
    started_ns = monotonic_ns()
    started_ms = wall_ms(started_ns)
    try:
        environ = os.environ if recording is None else recording.environ
        job = Job(_spawn_job(command, environ, old_mask or ()))
    except OSError as error:
        if recording is not None:
            recording.discard()
        refuse(command[0], error)
    plan = {
        **settings,
        "command": command,
        "job_pid": job.pid,
        "started_ms": started_ms,
        "started_ns": started_ns,
    }
    try:
        # Imported only now that the job runs, as is all that it does not wait for; the recorder
        # needs longer for that than we do.
        if recording is not None:
            with harmless("this run is not recorded"):
                recording.start_recorder()
        from carbontrack.record.accompany import accompany

        accompany(job, recording, plan, live=live, blocked=old_mask is not None)
    except Exception as error:
        warn(f"this run is not recorded to its end: {type(error).__name__}: {error}.")
        job.wait()
    end_as(job)


def _spawn_job(command: list[str], environ: Mapping[str, str], mask: Collection[int]) -> int:
    start = _spawn
    with harmless("the exit code of the job may be lost"):
        if _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN:
            # The kernel would throw its status away. It inherits that, but for us it ends here.
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            from carbontrack.record.fork_job import fork_job

            start = fork_job
    try:
        return start(command[0], command, environ, mask)
    except OSError as error:
        if (script := script_of(command, error)) is None:
            raise
        return start("/bin/sh", script, environ, mask)


def _spawn(program: str, argv: list[str], environ: Mapping[str, str], mask: Collection[int]) -> int:
    return os.posix_spawnp(program, argv, environ, setsigmask=mask, setsigdef=DEFAULTS)


def end_as(job: Job) -> NoReturn:
    """End as the job has ended; as a failure where that is unknown."""
    if job.signal is not None:
        _die_of(job.signal)
    if job.exit_code is None:
        warn("the exit code of the job is unknown: another process took it. This one's is 1.")
        os._exit(1)
    os._exit(job.exit_code)


def _die_of(signo: int) -> NoReturn:
    """Die of the signal that killed the job, so that make, Slurm and shells see the truth."""
    with suppress(OSError, ValueError, ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the core file is the job's, not ours
        if signo not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(signo, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [signo])
        os.kill(os.getpid(), signo)
    os._exit(128 + signo)  # as PID 1 of a container, a signal's default action does nothing

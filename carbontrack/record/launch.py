"""The wrapper's manners: start the job, pass signals on, end as the job ended.

Standard library only, and little of it: the job starts before anything slow is imported. The job
keeps our terminal, process group, stdin, stdout and stderr; it must not notice that we are there.
Recording is the work of another process (`carbontrack.record.recorder`), so that neither a hung
driver nor a full disk can reach the job. The two are joined by one pipe: a first line says what to
record, a second how the job ended; the pipe closing without it means that we were killed.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
from collections.abc import Collection
from contextlib import suppress
from typing import Any, NoReturn

from carbontrack.record import prestart
from carbontrack.record.recorder_process import (
    RecorderProcess,
    is_recorded_already,
    make_steps_file,
    remove_steps_file,
    start_live_page,
    uuid7,
    warn,
)
from carbontrack.record.signal_witness import Witness
from carbontrack.units import monotonic_ns, now_ms

NOT_EXECUTABLE = 126
NOT_FOUND = 127

_FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
    signal.SIGCONT,
)
_WATCHED = (*_FORWARDED, signal.SIGCHLD)


def run(command: list[str], settings: dict[str, Any], *, live: bool = False) -> NoReturn:
    """Run `command` under the recorder and exit exactly as it exits.

    `settings` is passed on to the recorder; see `carbontrack.record.messages.Plan`. With `live` the
    run's page is served meanwhile.
    """
    if not command[0]:
        prestart.discard()
        warn("the command is empty: is a variable unset? Nothing was recorded.")
        os._exit(NOT_FOUND)
    if is_recorded_already():
        _exec(command)
    ready = prestart.take()
    run_id = ready.run_id if ready else uuid7()
    steps = ready.steps if ready else make_steps_file(run_id)
    env = {**os.environ, "CARBONTRACK_RUN_ID": run_id}
    if steps:
        env["CARBONTRACK_STEPS"] = steps.path

    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    started_ms, started_ns = now_ms(), monotonic_ns()
    try:
        job = _spawn_job(command, env, old_mask)
    except OSError as error:
        if ready:
            ready.recorder.discard()
        remove_steps_file(steps.path if steps else None)
        _refuse(command[0], error)
    recorder = ready.recorder if ready else RecorderProcess(steps)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        # The job has inherited that; for us it would throw the job's status away.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    witness = Witness(_FORWARDED)
    plan = {
        **settings,
        "run_id": run_id,
        "command": command,
        "cwd": os.getcwd(),  # noqa: PTH109 - pathlib costs 8 ms here
        "job_pid": job,
        "steps_path": steps and steps.path,
        "started_ms": started_ms,
        "started_ns": started_ns,
    }
    recorder.begin(plan)
    if live:
        start_live_page(run_id, settings["db"])
    _watch(job, recorder, witness)
    ended_ns = monotonic_ns()
    killed, status = _status_of(job)
    # The job stays a zombie until the recorder has read its last CPU times from /proc.
    recorder.end({"ended_ns": ended_ns, "exit_code": 128 + status if killed else status})
    witness.dismiss()
    with suppress(ChildProcessError):
        os.waitpid(job, 0)
    if killed:
        _die_of(status)
    os._exit(status)


def _spawn_job(command: list[str], env: dict[str, str], mask: set[int | signal.Signals]) -> int:
    # Python ignores SIGPIPE and SIGXFSZ; the job gets the defaults that a shell would give it.
    reset = [signal.SIGPIPE, signal.SIGXFSZ]
    try:
        return os.posix_spawnp(command[0], command, env, setsigmask=mask, setsigdef=reset)
    except OSError as error:
        path = shutil.which(command[0])
        if error.errno != errno.ENOEXEC or path is None:
            raise
        # A script without "#!": shells, env and nohup give it to sh, and so do we.
        script = ["sh", path, *command[1:]]
        return os.posix_spawn("/bin/sh", script, env, setsigmask=mask, setsigdef=reset)


def _exec(command: list[str]) -> NoReturn:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        _refuse(command[0], error)


def _refuse(program: str, error: OSError) -> NoReturn:
    """The command cannot start: say why, with the exit codes of env(1) and nohup(1)."""
    if error.errno == errno.ENOENT:
        warn(f"{program}: command not found. Check its spelling and PATH; nothing was recorded.")
        os._exit(NOT_FOUND)
    warn(f"{program}: cannot be executed: {error.strerror}. Nothing was recorded.")
    os._exit(NOT_EXECUTABLE)


def _watch(job: int, recorder: RecorderProcess, witness: Witness) -> None:
    """Pass signals on until the job has ended, but none that it has got as well."""
    while not _has_ended(job):
        info = signal.sigwaitinfo(_WATCHED)
        if info.si_signo == signal.SIGCHLD:
            _reap_others({job, recorder.pid, witness.pid})
            continue
        if not witness.saw(info.si_signo) or _left_our_group(job):
            with suppress(ProcessLookupError):
                os.kill(job, info.si_signo)
        if info.si_signo == signal.SIGTSTP:
            _stop_as_asked()


def _has_ended(job: int) -> bool:
    """Whether it has, leaving it a zombie."""
    try:
        return os.waitid(os.P_PID, job, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:  # it ended while its status was still being thrown away
        return True


def _status_of(job: int) -> tuple[bool, int]:
    """(whether a signal killed it, the signal or the exit code), leaving it a zombie."""
    try:
        exited = os.waitid(os.P_PID, job, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        exited = None
    if exited is None:
        return False, 0
    return exited.si_code != os.CLD_EXITED, exited.si_status


def _reap_others(ours: Collection[int | None]) -> None:
    """As PID 1 of a container we inherit the job's orphans; our own have somebody waiting."""
    while os.getpid() == 1:
        child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if child is None or child.si_pid in ours:
            return
        os.waitpid(child.si_pid, 0)


def _left_our_group(job: int) -> bool:
    try:
        return os.getpgid(job) != os.getpgrp()
    except ProcessLookupError:
        return False


def _stop_as_asked() -> None:
    """Stop like any program on SIGTSTP, so that the shell sees the job stopped."""
    if signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL:
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])


def _die_of(signo: int) -> NoReturn:
    """Die of the signal that killed the job, so that make, Slurm and shells see the truth."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the core file is the job's, not ours
    if signo not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(signo, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signo])
    os.kill(os.getpid(), signo)
    os._exit(128 + signo)  # as PID 1 of a container, a signal's default action does nothing

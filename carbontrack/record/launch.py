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
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from carbontrack.record import prestart
from carbontrack.record.recorder_process import RecorderProcess, start_live_page
from carbontrack.record.rendezvous import Joined, open_rendezvous
from carbontrack.record.ship_to import TOKEN, TOKEN_FILE
from carbontrack.record.signal_witness import SignalWitness
from carbontrack.record.steps_file import (
    LockedSteps,
    is_recorded_already,
    make_steps_file,
    remove_steps_file,
    working_folder,
)
from carbontrack.record.this_run import MARK, mark_of, this_run
from carbontrack.record.uuids import uuid7
from carbontrack.record.warning import harmless, warn
from carbontrack.units import monotonic_ns, wall_ms

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
_PAUSE_S = 0.05


def run(command: list[str], settings: dict[str, Any], *, live: bool = False) -> NoReturn:
    """Run `command` under the recorder and exit exactly as it exits.

    `settings` is passed on to the recorder; see `carbontrack.record.messages.Plan`. With `live` the
    run's page is served meanwhile.
    """
    if not command[0]:
        prestart.discard()
        warn("the command is empty: is a variable unset? Nothing was recorded.")
        os._exit(NOT_FOUND)
    for name in (TOKEN, TOKEN_FILE):
        os.environ.pop(name, None)  # it is ours, and `settings` has it
    recording = None
    with harmless("this run is not recorded"):
        if is_recorded_already(os.environ):
            _exec(command)
        recording = _Recording(command, settings)
    old_mask: Collection[int] | None = None
    with harmless("signals may not be passed on"):
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    started_ns = monotonic_ns()
    started_ms = wall_ms(started_ns)
    try:
        environ = os.environ if recording is None else recording.environ
        job = _Job(_spawn_job(command, environ, old_mask or ()))
    except OSError as error:
        if recording is not None:
            recording.discard()
        _refuse(command[0], error)
    plan = {
        **settings,
        "command": command,
        "job_pid": job.pid,
        "started_ms": started_ms,
        "started_ns": started_ns,
    }
    try:
        _accompany(job, recording, plan, live=live, blocked=old_mask is not None)
    except Exception as error:
        warn(f"this run is not recorded to its end: {type(error).__name__}: {error}.")
        job.wait()
    if job.signal is not None:
        _die_of(job.signal)
    os._exit(job.exit_code)


def _accompany(
    job: _Job, recording: _Recording | None, plan: dict[str, Any], *, live: bool, blocked: bool
) -> None:
    """From the job's start to its end. What fails here is said; only its own end ends the job."""
    _count_children()
    if recording is not None:
        with harmless("this run is not recorded"):
            recording.begin(plan)
        if live:
            start_live_page(recording.run_id, plan["db"])
    witness = None
    with harmless("a signal to the process group may reach the job twice"):
        witness = SignalWitness(_FORWARDED)
    _watch(job, recording, witness, blocked=blocked)
    if recording is not None:
        # The job stays a zombie until the recorder has read its last CPU times from /proc.
        with harmless("the end of this run may not be recorded"):
            recording.end(job)
    if witness is not None:
        with suppress(OSError):
            witness.dismiss()
    job.reap()


class _Recording:
    """The run that is recorded: its id, its steps file, and the recorder once there is one: ours,
    or that of another wrapper of the run on this node.
    """

    def __init__(self, command: list[str], settings: dict[str, Any]) -> None:
        ready = prestart.take()
        self._id = ready.id if ready else uuid7()
        self._steps: LockedSteps | None = ready.steps if ready else make_steps_file(self._id)
        self._rendezvous = ready.rendezvous if ready else open_rendezvous()
        self._recorder: RecorderProcess | Joined | None = ready.recorder if ready else None
        run = this_run(os.environ, command, settings)
        self.run_id, self._job = run.id, run.job
        self.environ = {**os.environ, MARK: str(mark_of(self.run_id, os.environ))}
        if self._steps:
            self.environ["CARBONTRACK_STEPS"] = self._steps.path
        if run.is_shared:
            self._meet()

    def _meet(self) -> None:
        """Join the run's recorder on this node, if there is one; else ours is that from now on."""
        joined = self._rendezvous.joined(self.run_id) if self._rendezvous else None
        if joined is not None:
            if isinstance(self._recorder, RecorderProcess):
                self._recorder.discard()
            joined.bring(self._steps)
            self._recorder = joined

    @property
    def recorder_pid(self) -> int | None:
        return self._recorder.pid if self._recorder else None

    def begin(self, plan: dict[str, Any]) -> None:
        """Give the recorder its plan. Where there was one CPU only, it starts after the job."""
        if self._recorder is None:
            self._recorder = RecorderProcess(
                self._steps, self._rendezvous.descriptor if self._rendezvous else None
            )
        if self._rendezvous is not None:
            self._rendezvous.close()  # from now on the recorder alone has it
        plan |= {
            **self._job,
            "run_id": self.run_id,
            "recording_id": self._id,
            "cwd": working_folder(),
            "steps_path": self._steps and self._steps.path,
        }
        self._recorder.begin(plan)

    def flush(self) -> bool:
        """Send what the recorder's pipe has not taken yet; whether that is all."""
        return self._recorder is None or self._recorder.flush()

    def end(self, job: _Job) -> None:
        """Say how the job ended."""
        if self._recorder is not None:
            self._recorder.end({"ended_ns": job.ended_ns, "exit_code": job.exit_code})

    def discard(self) -> None:
        """There is nothing to record."""
        with harmless("the recorder cannot be ended"):
            if self._recorder is not None:
                self._recorder.discard()
            if self._rendezvous is not None:
                self._rendezvous.close()
        remove_steps_file(self._steps.path if self._steps else None)


class _Job:
    """The job as our child, left a zombie at its end until `reap`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.signal: int | None = None  # that killed it
        self.exit_code = 0  # 128+n if signal n killed it
        self.ended_ns = 0
        self._reaped = False

    def has_ended(self) -> bool:
        """Whether it has. Raises OSError in a sandbox where that cannot be asked."""
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:  # it ended while its status was still being thrown away
            self._reaped = True
        else:
            if ended is None:
                return False
            killed = ended.si_code != os.CLD_EXITED
            self._take(ended.si_status if killed else None, ended.si_status)
        self.ended_ns = monotonic_ns()
        return True

    def wait(self) -> None:
        """Until it has ended, reaping it: all that is left where `has_ended` fails."""
        if self._reaped:
            return
        _, status = os.waitpid(self.pid, 0)
        self._reaped = True
        code = os.waitstatus_to_exitcode(status)
        self._take(-code if code < 0 else None, code)
        self.ended_ns = monotonic_ns()

    def reap(self) -> None:
        """Let it go."""
        if not self._reaped:
            self._reaped = True
            with suppress(OSError):
                os.waitpid(self.pid, 0)

    def _take(self, signo: int | None, code: int) -> None:
        self.signal = signo
        self.exit_code = code if signo is None else 128 + signo


def _spawn_job(command: list[str], environ: Mapping[str, str], mask: Collection[int]) -> int:
    # Python ignores SIGPIPE and SIGXFSZ; the job gets the defaults that a shell would give it.
    reset = [signal.SIGPIPE, signal.SIGXFSZ]
    try:
        return os.posix_spawnp(command[0], command, environ, setsigmask=mask, setsigdef=reset)
    except OSError as error:
        path = shutil.which(command[0])
        if error.errno != errno.ENOEXEC or path is None:
            raise
        # A script without "#!": shells, env and nohup give it to sh, and so do we.
        script = ["sh", path, *command[1:]]
        return os.posix_spawn("/bin/sh", script, environ, setsigmask=mask, setsigdef=reset)


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


def _count_children() -> None:
    """Where SIGCHLD is ignored, the kernel would throw the job's status away. The job has inherited
    that; for us it ends here.
    """
    with suppress(OSError):
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _watch(
    job: _Job, recording: _Recording | None, witness: SignalWitness | None, *, blocked: bool
) -> None:
    """Pass signals on until the job has ended, but none that it has got as well. Signals that are
    not `blocked` may come between two looks.
    """
    ours = {job.pid}
    ours |= {recording.recorder_pid} if recording and recording.recorder_pid else set()
    ours |= {witness.pid} if witness else set()
    try:
        while not job.has_ended():
            all_sent = recording is None or recording.flush()
            signo = _next_signal(for_ever=all_sent and blocked)
            if signo == signal.SIGCHLD:
                _reap_others(ours)
            elif signo is not None:
                _pass_on(signo, job.pid, witness)
    except Exception as error:
        # Not seen on any Linux. The job still gets what its process group gets.
        warn(f"signals to this process are no longer passed on: {error}.")
        job.wait()


def _next_signal(*, for_ever: bool) -> int | None:
    """The next of the signals that we watch; None if none came for a moment."""
    if for_ever:
        return signal.sigwaitinfo(_WATCHED).si_signo
    info = signal.sigtimedwait(_WATCHED, _PAUSE_S)
    return None if info is None else info.si_signo


def _pass_on(signo: int, job: int, witness: SignalWitness | None) -> None:
    seen = False
    with suppress(OSError):
        seen = witness is not None and witness.saw(signo)
    if not seen or _left_our_group(job):
        with suppress(OSError):  # it has just ended, or runs as another user
            os.kill(job, signo)
    if signo == signal.SIGTSTP:
        _stop_as_asked()


def _reap_others(ours: set[int]) -> None:
    """As PID 1 of a container we inherit the job's orphans; our own are waited for elsewhere."""
    while os.getpid() == 1:
        child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if child is None or child.si_pid in ours:
            return
        os.waitpid(child.si_pid, 0)


def _left_our_group(job: int) -> bool:
    try:
        return os.getpgid(job) != os.getpgrp()
    except OSError:
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
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the core file is the job's, not ours
        if signo not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(signo, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signo])
        os.kill(os.getpid(), signo)
    os._exit(128 + signo)  # as PID 1 of a container, a signal's default action does nothing

"""From the job's start to its end: its recorder is started, and signals are passed on to it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

from carbontrack.record.job_process import FORWARDED, WATCHED, Job
from carbontrack.record.recorded_job import RecordedJob
from carbontrack.record.recorder_process import start_live_page
from carbontrack.record.signal_witness import SignalWitness
from carbontrack.record.warning import harmless, warn

_PAUSE_S = 0.05


def accompany(
    job: Job, recording: RecordedJob | None, plan: dict[str, Any], *, live: bool, blocked: bool
) -> None:
    """From the job's start to its end. What fails here is said; only its own end ends the job."""
    witness = None
    with harmless("a signal to the process group may reach the job twice"):
        witness = SignalWitness(FORWARDED)
    if recording is not None:
        with harmless("this run is not recorded"):
            recording.begin(plan)
        if live:
            start_live_page(recording.run_id, plan["db"])
    _watch(job, recording, witness, blocked=blocked)
    if recording is not None:
        # The job stays a zombie until the recorder has read its last CPU times from /proc.
        with harmless("the end of this run may not be recorded"):
            recording.end(job)
    if witness is not None:
        with suppress(OSError):
            witness.dismiss()
    job.reap()


def _watch(
    job: Job, recording: RecordedJob | None, witness: SignalWitness | None, *, blocked: bool
) -> None:
    """Pass signals on until the job has ended, but none that it has got as well. Signals that are
    not `blocked` may come between two looks.
    """
    try:
        while not job.has_ended():
            all_sent = recording is None or recording.flush()
            signo = _next_signal(for_ever=all_sent and blocked)
            if signo == signal.SIGCHLD:
                _reap_others(job, recording, witness)
            elif signo is not None:
                _pass_on(signo, job.pid, witness)
    except Exception as error:
        # Not seen on any Linux. The job still gets what its process group gets.
        warn(f"signals to this process are no longer passed on: {error}.")
        job.wait()


def _next_signal(*, for_ever: bool) -> int | None:
    """The next of the signals that we watch; None if none came for a moment."""
    if for_ever:
        return signal.sigwaitinfo(WATCHED).si_signo
    info = signal.sigtimedwait(WATCHED, _PAUSE_S)
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


def _reap_others(job: Job, recording: RecordedJob | None, witness: SignalWitness | None) -> None:
    """As PID 1 of a container we inherit the job's orphans. Only the job is waited for elsewhere: a
    recorder that has ended early would hide all that ended after it.
    """
    while os.getpid() == 1:
        child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if child is None or child.si_pid == job.pid:
            return
        pid, status = os.waitpid(child.si_pid, 0)
        if recording is not None:
            recording.reaped(pid, status)
        if witness is not None:
            witness.reaped(pid)


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

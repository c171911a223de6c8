"""The wrapper's manners: start the job, pass signals on, end as the job ended.

Standard library only, and little of it: the job starts before anything slow is imported. The job
keeps our terminal, process group, stdin, stdout and stderr; it must not notice that we are there.
Recording is the work of another process (`carbontrack.record.recorder`), so that neither a hung
driver nor a full disk can reach the job. The two are joined by one pipe: a first line says what to
record, a second how the job ended; the pipe closing without it means that we were killed.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from carbontrack.units import monotonic_ns, now_ms

# Long enough for a busy machine to write the last windows; the recorder's own limits are shorter.
RECORDER_GRACE_S = 5.0

NOT_EXECUTABLE = 126
NOT_FOUND = 127

_SI_KERNEL = (
    0x80  # siginfo.si_code of a signal that the terminal sent to the whole foreground group
)
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


def run(command: list[str], settings: dict[str, Any]) -> NoReturn:
    """Run `command` under the recorder and exit exactly as it exits.

    `settings` is passed on to the recorder; see `carbontrack.record.plan.Plan`.
    """
    if _already_recorded():
        _exec(command)
    run_id = uuid7()
    steps_path = _make_steps_file(run_id)
    env = {**os.environ, "CARBONTRACK_RUN_ID": run_id}
    if steps_path:
        env["CARBONTRACK_STEPS"] = steps_path

    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    started_ms, started_ns = now_ms(), monotonic_ns()
    try:
        job = _spawn_job(command, env, old_mask)
    except OSError as error:
        if steps_path:
            shutil.rmtree(os.path.dirname(steps_path), ignore_errors=True)  # noqa: PTH120
        _refuse(command[0], error)
    plan = {
        **settings,
        "run_id": run_id,
        "command": command,
        "cwd": os.getcwd(),  # noqa: PTH109 - pathlib costs 8 ms here
        "job_pid": job,
        "steps_path": steps_path,
        "started_ms": started_ms,
        "started_ns": started_ns,
    }
    recorder = _Recorder(plan)
    _watch(job, recorder)
    # The job stays a zombie until the recorder has read its last CPU times from /proc.
    exited = os.waitid(os.P_PID, job, os.WEXITED | os.WNOWAIT)
    ended_ns = monotonic_ns()
    killed = exited is not None and exited.si_code != os.CLD_EXITED
    status = exited.si_status if exited is not None else 0
    recorder.end({"ended_ns": ended_ns, "exit_code": 128 + status if killed else status})
    os.waitpid(job, 0)
    if killed:
        _die_of(status)
    os._exit(status)


def uuid7() -> str:
    """A UUID version 7 (RFC 9562): sorts by time, unique without a server."""
    value = now_ms() << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def warn(message: str) -> None:
    """One line on stderr; a closed stderr is nobody's problem."""
    with suppress(OSError):
        os.write(2, f"carbontrack: {message}\n".encode())


def _already_recorded() -> bool:
    """Whether a recorder above us already counts this node's devices: one run, not two."""
    steps_path = os.environ.get("CARBONTRACK_STEPS", "")
    return "CARBONTRACK_RUN_ID" in os.environ and os.path.exists(steps_path)  # noqa: PTH110


def _make_steps_file(run_id: str) -> str | None:
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"
    folder = f"{base}/carbontrack-{run_id}"
    path = f"{folder}/steps.jsonl"
    try:
        os.mkdir(folder, 0o700)  # noqa: PTH102
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        warn(f"training steps will not be recorded: cannot create {path}: {error.strerror}.")
        return None
    return path


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


class _Recorder:
    """Our end of the recorder process. Nothing here may fail or block."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.pid: int | None = None
        self._pipe = -1
        try:
            read_end, self._pipe = os.pipe()
            null = os.open(os.devnull, os.O_WRONLY)
            self.pid = os.posix_spawn(
                sys.executable,
                # -P: a file of the job's folder must not pass for a module of ours.
                [sys.executable, "-P", "-m", "carbontrack.record"],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, read_end, 0),
                    (
                        os.POSIX_SPAWN_DUP2,
                        null,
                        1,
                    ),  # whoever reads the job's stdout must see its end
                ],
                # Out of reach of Ctrl-C and Ctrl-Z. Until it is, our blocked signals shield it.
                setsid=True,
                setsigdef=[signal.SIGPIPE],
            )
            os.close(read_end)
            os.close(null)
            os.set_blocking(self._pipe, False)
        except OSError as error:
            warn(f"this run is not recorded: the recorder cannot start: {error.strerror}.")
            return
        self._send(plan)

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # it has died; `end` says so
            os.write(self._pipe, json.dumps(message).encode() + b"\n")

    def end(self, outcome: dict[str, Any]) -> None:
        """Tell it how the job ended and give it a moment to write that down."""
        if self.pid is None:
            return
        self._send(outcome)
        os.close(self._pipe)
        deadline = time.monotonic() + RECORDER_GRACE_S
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return
            if pid:
                if status:
                    warn("the recorder failed; what it had committed is in the ledger.")
                return
            # Only this: the Ctrl-C that ended the job may reach us after its end.
            signal.sigtimedwait([signal.SIGCHLD], left_s)
        warn("the recorder is slow to finish and goes on in the background.")


def _watch(job: int, recorder: _Recorder) -> None:
    """Pass signals on until the job has ended."""
    while True:
        info = signal.sigwaitinfo(_WATCHED)
        if info.si_signo == signal.SIGCHLD:
            if os.waitid(os.P_PID, job, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return
            _reap_others(job, recorder)
            continue
        if info.si_code != _SI_KERNEL or _left_our_group(job):
            with suppress(ProcessLookupError):
                os.kill(job, info.si_signo)
        if info.si_signo == signal.SIGTSTP:
            _stop_as_asked()


def _reap_others(job: int, recorder: _Recorder) -> None:
    """As PID 1 of a container we inherit the job's orphans; the recorder's end is seen in `end`."""
    while os.getpid() == 1:
        child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if child is None or child.si_pid in (job, recorder.pid):
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

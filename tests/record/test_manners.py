"""The job must not notice: exit codes, signals, the terminal and files are as without us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.terminal import Terminal
from tests.fixtures.wrap import PATIENCE_S, Wrapper, processes_of, wait_until

Until = Callable[[Callable[[], Any]], Any]
PYTHON = sys.executable


def bare(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def read_until(stream: Any, word: str) -> str:
    """Lines up to the one that holds `word`."""
    lines = ""
    for line in iter(stream.readline, ""):
        lines += line
        if word in line:
            return lines
    raise AssertionError(f"{word!r} never came: {lines!r}")


@pytest.mark.parametrize(
    "command",
    [
        ["true"],
        ["false"],
        ["sh", "-c", "exit 7"],
        ["sh", "-c", "echo out; echo err >&2; exit 126"],
        [PYTHON, "-c", "import sys; sys.exit('no')"],
        ["sh", "-c", "kill -9 $$"],
        ["sh", "-c", "kill -TERM $$"],
        ["sh", "-c", "kill -INT $$"],
        [
            PYTHON,
            "-c",
            "import sys; print(sys.argv)",
            "--output",
            "x",
            "--help",
            "--",
            "-q",
            "--db",
        ],
    ],
    ids=lambda command: " ".join(command[-2:])[:30],
)
def test_output_and_exit_status_are_the_jobs(wrapper: Wrapper, command: list[str]) -> None:
    expected = bare(*command)
    done = wrapper.run(*command)
    assert (done.returncode, done.stdout, done.stderr) == (
        expected.returncode,
        expected.stdout,
        expected.stderr,
    )


def test_command_not_found_is_127_and_records_nothing(wrapper: Wrapper) -> None:
    done = wrapper.run("no-such-program")
    assert done.returncode == 127
    assert done.stderr.count("\n") == 1
    assert "no-such-program: command not found" in done.stderr
    assert sorted(wrapper.folder.iterdir()) == []


def test_an_empty_command_is_127_and_records_nothing(wrapper: Wrapper) -> None:
    done = wrapper.run("")
    assert (done.returncode, done.stderr.count("\n")) == (127, 1)
    assert "the command is empty" in done.stderr
    assert sorted(wrapper.folder.iterdir()) == []


def test_command_not_executable_is_126_and_records_nothing(
    wrapper: Wrapper, tmp_path: Path
) -> None:
    script = tmp_path / "plain.txt"
    script.write_text("echo hello\n")
    done = wrapper.run(str(script))
    assert done.returncode == 126
    assert done.stderr.count("\n") == 1
    assert "cannot be executed: Permission denied" in done.stderr
    assert sorted(wrapper.folder.iterdir()) == [script]


def test_script_without_interpreter_line_runs_under_sh(wrapper: Wrapper, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0" "$1"\n')
    script.chmod(0o755)
    assert wrapper.run(str(script), "a b").stdout == f"{script} a b\n"


def test_missing_command_is_a_usage_error(wrapper: Wrapper) -> None:
    done = wrapper.carbontrack("run", "--name", "x")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "COMMAND" in done.stderr


PRINT_STATE = """
import os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
ordinary = 2**31 - 1  # the C library keeps signals 32 and 33 to itself
print({key: int(status[key], 16) & ordinary for key in ("SigBlk", "SigIgn", "SigCgt")})
print(sorted(os.listdir("/proc/self/fd"))[:-1], os.getcwd())
print(os.getpgrp() == os.getpgid(os.getppid()))
"""


def test_signal_mask_dispositions_and_files_are_inherited_unchanged(wrapper: Wrapper) -> None:
    command = (PYTHON, "-c", PRINT_STATE)
    assert wrapper.run(*command).stdout == bare(*command).stdout


COUNT_SIGNALS = """
import signal, sys
def count(signo, frame): print(signal.Signals(signo).name, flush=True)
for name in sys.argv[1:]: signal.signal(getattr(signal, name), count)
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("signo", ["TERM", "HUP", "USR1", "USR2", "INT", "QUIT"])
def test_a_signal_to_the_wrapper_reaches_the_job_once(wrapper: Wrapper, signo: str) -> None:
    name = f"SIG{signo}"
    job = wrapper.start(PYTHON, "-c", COUNT_SIGNALS, name, stdin=subprocess.PIPE)
    assert job.stdout is not None
    read_until(job.stdout, "ready")
    job.send_signal(getattr(signal, name))
    assert read_until(job.stdout, "SIG") == f"{name}\n"
    time.sleep(0.3)  # for it to come twice
    out, err = job.communicate("\n", timeout=PATIENCE_S)
    assert (job.returncode, out, err) == (0, "", "")


def until_witnessed(wrapper_pid: int) -> None:
    """Before that, a signal to the group is passed on to the job as well."""

    def is_witnessed() -> bool:
        # The witness is a copy of the wrapper, as the recorder is until it runs a program.
        return bool(children_of(wrapper_pid, "carbontrack.record")) and bool(
            children_of(wrapper_pid, "run")
        )

    wait_until(is_witnessed)


def test_a_signal_to_the_whole_group_reaches_the_job_once_too(wrapper: Wrapper) -> None:
    """As `kill %1`, `fg`, `kill 0` in the job or a Slurm step send it; then one to us alone."""
    names = ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT", "SIGQUIT", "SIGCONT"]
    job = wrapper.start(PYTHON, "-c", COUNT_SIGNALS, *names, stdin=subprocess.PIPE, process_group=0)
    assert job.stdin is not None
    assert job.stdout is not None
    assert job.stderr is not None
    with job:
        read_until(job.stdout, "ready")
        until_witnessed(job.pid)
        told = ""
        for name in names:
            for send in (os.killpg, os.kill):
                send(job.pid, getattr(signal, name))
                told += read_until(job.stdout, name)
                time.sleep(0.15)  # for it to come twice
        job.stdin.write("\n")
        job.stdin.flush()
        told += job.stdout.read()
        assert (job.wait(30), job.stderr.read()) == (0, "")
    assert told.split() == [name for name in names for _ in range(2)]


def test_a_signal_reaches_a_job_whose_witness_was_killed(wrapper: Wrapper) -> None:
    job = wrapper.start(PYTHON, "-c", COUNT_SIGNALS, "SIGTERM", stdin=subprocess.PIPE)
    assert job.stdout is not None
    read_until(job.stdout, "ready")
    until_witnessed(job.pid)
    (witness,) = children_of(job.pid, "run")
    os.kill(witness, signal.SIGKILL)
    wait_until(lambda: not children_of(job.pid, "run"))
    job.terminate()
    assert read_until(job.stdout, "SIG") == "SIGTERM\n"
    out, err = job.communicate("\n", timeout=PATIENCE_S)
    assert (job.returncode, out, err) == (0, "", "")


def test_sigterm_ends_a_job_that_does_not_catch_it(wrapper: Wrapper) -> None:
    job = wrapper.start("sh", "-c", "echo ready; exec sleep 600")
    assert job.stdout is not None
    read_until(job.stdout, "ready")
    job.terminate()
    job.communicate(timeout=PATIENCE_S)
    assert job.returncode == -signal.SIGTERM
    (run,) = wrapper.json("runs")["runs"]
    assert (run["status"], run["exit_code"]) == ("failed", 143)


def test_stop_and_continue(wrapper: Wrapper, until: Until) -> None:
    # In a group of its own, as a shell starts it: the kernel stops no orphaned group, and ours may
    # be one where the tests run in the background.
    job = wrapper.start("sh", "-c", "echo $$; exec sleep 600", process_group=0)
    assert job.stdout is not None
    child = int(job.stdout.readline())

    def state(pid: int) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    job.send_signal(signal.SIGTSTP)
    until(lambda: state(child) == state(job.pid) == "T")
    job.send_signal(signal.SIGCONT)
    until(lambda: state(child) == "S" and state(job.pid) == "S")
    job.terminate()
    job.communicate(timeout=PATIENCE_S)


INTERACTIVE = """
import signal, sys, os
got = []
signal.signal(signal.SIGINT, lambda *a: (got.append(1), print("interrupt", len(got), flush=True)))
print("tty", sys.stdin.isatty(), sys.stdout.isatty(), os.get_terminal_size().columns, flush=True)
for line in sys.stdin:
    print("line", line.strip(), flush=True)
    if line.strip() == "quit":
        sys.exit(len(got))
"""


def test_an_interactive_program_keeps_its_terminal_and_ctrl_c_arrives_once(
    wrapper: Wrapper,
) -> None:
    terminal = Terminal(wrapper.argv(PYTHON, "-c", INTERACTIVE), wrapper.env)
    terminal.wait_for("tty True True")
    terminal.type("hello\n")
    terminal.wait_for("line hello")
    until_witnessed(terminal.pid)
    terminal.type("\x03")
    terminal.wait_for("interrupt 1")
    terminal.type("\x03")
    terminal.wait_for("interrupt 2")
    terminal.type("quit\n")
    terminal.wait_for("line quit")
    assert terminal.end() == 2, "two Ctrl-C are two signals, not three or four"


def test_ctrl_c_ends_a_plain_job_as_it_would_without_us(wrapper: Wrapper) -> None:
    terminal = Terminal(wrapper.argv("sh", "-c", "echo ready; exec sleep 600"), wrapper.env)
    terminal.wait_for("ready")
    terminal.type("\x03")
    assert terminal.end() == -signal.SIGINT
    (run,) = wrapper.json("runs")["runs"]
    assert (run["status"], run["exit_code"]) == ("failed", 130)


def test_ctrl_z_and_fg_in_a_shell_continue_the_job_once(wrapper: Wrapper) -> None:
    terminal = Terminal(["bash", "--norc", "-i"], {**wrapper.env, "PS1": "> "})
    terminal.wait_for("> ")
    job = subprocess.list2cmdline(wrapper.argv(PYTHON, "-c", COUNT_SIGNALS, "SIGCONT"))
    script = wrapper.folder / "job"
    script.write_text(f"exec {job}\n")
    terminal.type(f"bash {script}; echo ended $?\n")
    terminal.wait_for("ready")
    terminal.type("\x1a")
    terminal.wait_for("> ", after="ended 148\r\n")
    terminal.enter("fg; echo back $?")
    terminal.wait_for("SIGCONT")
    time.sleep(0.3)
    terminal.type("\n")
    terminal.wait_for("back 0")
    assert terminal.seen.count("SIGCONT\r\n") == 1
    terminal.type("exit\n")
    terminal.end()


# SIGCHLD ignored is inherited, and then the kernel throws the status of children away.
IGNORING = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["false"], 1),
        (["sh", "-c", "exit 6"], 6),
        (["sh", "-c", "kill -9 $$"], -9),
        (["sh", "-c", "kill -INT $$"], -2),
        (["./script"], 7),
        (["no-such-program"], 127),
    ],
)
def test_a_parent_that_ignores_its_children_gets_its_exit_code(
    wrapper: Wrapper, command: list[str], code: int
) -> None:
    script = wrapper.folder / "script"
    script.write_text("exit 7\n")  # sh's, as it has no #!
    script.chmod(0o755)
    argv = [PYTHON, "-c", IGNORING, *wrapper.argv(*command)]
    done = subprocess.run(
        argv, env=wrapper.env, cwd=wrapper.folder, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == code
    if code == 127:
        assert wrapper.json("runs")["runs"] == []
        return
    (run,) = wrapper.json("runs")["runs"]
    assert (run["status"], run["exit_code"]) == ("failed", code if code > 0 else 128 - code)


def test_a_job_inherits_that_its_children_are_ignored(wrapper: Wrapper) -> None:
    """Else those that it starts and never waits for would pile up as zombies."""
    job = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]
    argv = [PYTHON, "-c", IGNORING, *wrapper.argv(*job)]
    found = subprocess.check_output(argv, env=wrapper.env, text=True, timeout=PATIENCE_S)
    blocked, ignored = (int(line.split()[1], 16) for line in found.splitlines())
    assert ignored & 1 << (signal.SIGCHLD - 1)
    assert not ignored & 1 << (signal.SIGPIPE - 1)
    assert not blocked & 1 << (signal.SIGTERM - 1)


def test_a_job_whose_exit_code_somebody_else_took_is_no_success() -> None:
    ends = (
        "from carbontrack.record.launch import Job, end_as; job = Job(1); "  # no child of its
        "print(job.has_ended(), job.exit_code, flush=True); end_as(job)"
    )
    done = bare(PYTHON, "-c", ends)
    assert (done.returncode, done.stdout) == (1, "True None\n")
    assert done.stderr == (
        "carbontrack: the exit code of the job is unknown: another process took it. "
        "This one's is 1.\n"
    )


def test_output_to_a_closed_pipe_ends_the_job_quietly(wrapper: Wrapper) -> None:
    command = subprocess.list2cmdline(wrapper.argv("yes"))
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 2; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env=wrapper.env,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout == "y\ny\n141\n"
    assert done.stderr == ""


def test_wrapper_with_stdin_closed(wrapper: Wrapper) -> None:
    command = subprocess.list2cmdline(
        wrapper.argv("sh", "-c", "ls /proc/self/fd | head -c 1; exit 3")
    )
    done = subprocess.run(
        ["bash", "-c", f"{command} <&-"],
        capture_output=True,
        text=True,
        env=wrapper.env,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    (run,) = wrapper.json("runs")["runs"]
    assert run["status"] == "failed"


def test_nested_runs_are_one_run(wrapper: Wrapper) -> None:
    inner = wrapper.argv("sh", "-c", "exit 4")
    assert wrapper.run(*inner).returncode == 4
    (run,) = wrapper.json("runs")["runs"]
    assert run["exit_code"] == 4


# Opens its steps file anew for every line, as a shell script does.
LOG_STEPS = """
echo $$; n=0
while echo '{"step": '$n'}' >> "$CARBONTRACK_STEPS"
do n=$((n + 1)); echo $n > "$0"; sleep 0.1
done
"""


def test_killing_the_wrapper_leaves_the_job_and_the_data(wrapper: Wrapper, until: Until) -> None:
    counted = wrapper.folder / "counted"
    job = wrapper.start("sh", "-c", LOG_STEPS, str(counted), stderr=subprocess.DEVNULL)
    assert job.stdout is not None
    child = int(job.stdout.readline())
    until(lambda: min(map(len, wrapper.seconds().values()), default=0) >= 2)
    job.kill()
    job.wait()
    try:
        job.stdout.close()
        (run,) = until(
            lambda: [r for r in wrapper.json("runs")["runs"] if r["status"] == "interrupted"]
        )
        steps = int(counted.read_text() or 0)
        until(lambda: int(counted.read_text() or 0) > steps + 2)  # it goes on, and so its file
    finally:
        os.kill(child, signal.SIGKILL)
    assert run["exit_code"] is None
    assert run["energy_kwh"] > 0


def test_a_job_whose_recorder_was_killed_is_recorded_by_the_next(
    wrapper: Wrapper, until: Until
) -> None:
    """What is left of a dead recorder must not make the next one believe that it lives."""
    inner = subprocess.list2cmdline(wrapper.argv("sleep", "0.1", options=("-q", "--name", "inner")))
    job = wrapper.start(
        "sh", "-c", f"echo $PPID; read line; {inner}; exit 4", stdin=subprocess.PIPE
    )
    assert job.stdout is not None
    parent = int(job.stdout.readline())
    recorder = until(lambda: children_of(parent, "carbontrack.record"))[0]
    until(wrapper.seconds)
    os.kill(recorder, signal.SIGKILL)
    _, err = job.communicate("\n", timeout=PATIENCE_S)
    assert job.returncode == 4
    assert err == "carbontrack: the recorder failed; what it had committed is in the ledger.\n"
    assert "inner" in [run["name"] for run in wrapper.json("runs")["runs"]]
    assert not list(wrapper.folder.glob("carbontrack-*"))


def test_a_job_that_daemonises_ends_the_run_and_its_daemon_lives(wrapper: Wrapper) -> None:
    done = wrapper.run(
        "sh",
        "-c",
        "setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $!; exit 6",
        timeout=PATIENCE_S,
    )
    daemon = int(done.stdout)
    try:
        assert (done.returncode, done.stderr) == (6, "")
        os.kill(daemon, 0)  # raises if it is gone
        (run,) = wrapper.json("runs")["runs"]
        assert (run["status"], run["exit_code"]) == ("failed", 6)
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_many_short_jobs_leave_nothing_behind(wrapper: Wrapper, until: Until) -> None:
    """Two at a time, so that they also meet in the ledger."""
    loop = f"for _ in $(seq 12); do {subprocess.list2cmdline(wrapper.argv('true'))} || exit; done"
    shells = [subprocess.Popen(["bash", "-c", loop], env=wrapper.env) for _ in range(2)]
    assert [shell.wait(timeout=PATIENCE_S) for shell in shells] == [0, 0]
    until(lambda: not processes_of(wrapper.folder))
    wrapper.ask("db", "recover")  # of an end that found the ledger locked for long
    assert not list(wrapper.folder.glob("ledger.db-journals/*"))
    left = {path.name for path in wrapper.folder.iterdir()} - {"ledger.db-journals"}
    assert left <= {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    runs = wrapper.json("runs", "--limit", "99")["runs"]
    assert [run["status"] for run in runs] == ["completed"] * 24


def children_of(parent: int, word: str) -> list[int]:
    """Children whose command line holds `word`."""
    found = []
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with suppress(OSError):  # it may have ended meanwhile
            if word in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
                found.append(int(child))
    return found


@pytest.mark.parametrize(
    "locale",
    [
        {},
        {"LANG": "C"},
        {"LC_CTYPE": "POSIX"},
        {"LC_ALL": "C"},
        {"LANG": "C", "LC_CTYPE": "C.UTF-8"},
        {"LANG": "C.UTF-8"},
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [("--quiet",), ("--quiet", "--require-meter")])
def test_the_job_has_the_environment_that_the_wrapper_was_given(
    wrapper: Wrapper, locale: dict[str, str], options: tuple[str, ...]
) -> None:
    """Python sets LC_CTYPE where the locale is C."""
    base = {name: wrapper.env[name] for name in ("PATH", "CARBONTRACK_DB", "XDG_RUNTIME_DIR")}
    env = {**base, **locale, "ODD": "a=b\n\udcff"}
    bare = subprocess.run(["env", "-0"], env=env, capture_output=True, check=True)
    argv = wrapper.argv("env", "-0", options=options)
    done = subprocess.run(argv, env=env, capture_output=True, timeout=PATIENCE_S, check=True)
    ours = (b"CARBONTRACK_STEPS=", b"CARBONTRACK_RECORDING=")
    found = [one for one in done.stdout.split(b"\0") if not one.startswith(ours)]
    assert sorted(found) == sorted(bare.stdout.split(b"\0"))
    assert done.stdout.count(b"CARBONTRACK_") == bare.stdout.count(b"CARBONTRACK_") + len(ours)

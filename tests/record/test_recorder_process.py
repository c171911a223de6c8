"""The recorder's process: its plan arrives whole, and it neither outlives nor holds up the job."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from carbontrack.ids import uuid7
from carbontrack.record import process_end
from carbontrack.record.cut import MAX_COMMAND_CHARS, MAX_LABEL_CHARS, cut_command
from carbontrack.record.process_end import ProcessEnd
from carbontrack.record.recorder_process import RecorderProcess
from carbontrack.units import monotonic_ns, now_ms
from tests.collect.test_collect import Collector, shown
from tests.fixtures.tools import OF_THE_MACHINE
from tests.fixtures.wrap import (
    CARBONTRACK,
    PATIENCE_S,
    Wrapper,
    kill_recorders,
    processes_of,
    stop,
)
from tests.record.test_manners import children_of

Until = Callable[[Callable[[], Any]], Any]
PYTHON = sys.executable


def test_a_command_of_any_length_is_recorded_and_cut_where_it_says_so(wrapper: Wrapper) -> None:
    shards = [f"shard-{number:06}.jsonl" for number in range(40_000)]
    assert wrapper.run(PYTHON, "-c", "import sys; sys.exit(7)", *shards).returncode == 7
    run = wrapper.json("show")
    *kept, last = run["command"]
    assert run["exit_code"] == 7
    assert kept[3:] == shards[: len(kept) - 3]
    assert last == f" … ({40_002 - len(kept):,} more words)"
    assert sum(map(len, kept)) < MAX_COMMAND_CHARS


def test_code_on_the_command_line_is_cut_too(wrapper: Wrapper) -> None:
    code = "x = 1 #" + "🎉 letters" * 6_000
    assert wrapper.run(PYTHON, "-c", code).returncode == 0
    (*_, stored) = wrapper.json("show")["command"]
    assert stored.startswith("x = 1 #🎉")
    assert stored.endswith(" …")


def test_a_file_that_was_given_as_a_name_is_cut(wrapper: Wrapper) -> None:
    options = ("-q", "--name", "n" * 100_000, "--tag", f"k={'v' * 100_000}", "--project", "p" * 999)
    assert wrapper.run("true", options=options).returncode == 0
    run = wrapper.json("show")
    assert run["name"] == "n" * (MAX_LABEL_CHARS - 1) + "…"
    assert [len(run["tags"]["k"]), len(run["project"])] == [MAX_LABEL_CHARS] * 2


def test_an_ordinary_command_is_not_cut() -> None:
    assert cut_command(["a", "b c"]) == ["a", "b c"]


def test_what_the_pipe_does_not_take_at_once_is_sent_as_it_is_read(tmp_path: Path) -> None:
    recorder = RecorderProcess(None)
    assert recorder.pid is not None
    stop(recorder.pid)
    plan = {"command": ["true"], "tags": {"long": "x" * 300_000}}
    recorder.begin(plan)
    assert not recorder.flush()
    os.kill(recorder.pid, signal.SIGCONT)
    try:
        assert recorder.flush(timeout_s=PATIENCE_S)
    finally:
        recorder.discard()


def test_a_stopped_recorder_holds_up_neither_the_exit_nor_whoever_reads_its_stderr(
    wrapper: Wrapper, until: Until
) -> None:
    wrapper.grace_s = 0.1
    job = wrapper.start("sh", "-c", "read line; exit 7", options=(), stdin=subprocess.PIPE)
    (recorder,) = until(lambda: children_of(job.pid, "carbontrack.record"))
    until(lambda: wrapper.ledger.exists() and wrapper.json("runs")["runs"])
    stop(recorder)
    _, said = job.communicate("on\n", timeout=PATIENCE_S)  # until nobody holds its stderr any more
    assert job.returncode == 7
    assert "goes on in the background for a minute at most" in said
    until(lambda: not processes_of(wrapper.folder))
    run = wrapper.json("show")
    assert run["exit_code"] == 7
    # There is no summary; one line says where it is.
    assert said.count("\n") == 1
    assert said.endswith(f"carbontrack show {run['id'][:13]}.\n")


AS_PID_1 = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
# Leaves an orphan, which ends as a child of PID 1, and ends itself once that has been waited for.
ORPHAN = """
import os, sys, time
sys.stdin.readline()
reading, writing = os.pipe()
if os.fork() == 0:
    orphan = os.fork()
    if orphan:
        os.write(writing, b"%d" % orphan)
    while not orphan and os.getppid() != 1: time.sleep(0.01)
    os._exit(0)
os.wait()
orphan = int(os.read(reading, 16))
while os.path.exists(f"/proc/{orphan}"): time.sleep(0.01)
sys.exit(3)
"""


@pytest.fixture
def as_pid_1() -> list[str]:
    """The words before a command that make it the first process of a namespace of its own."""
    if subprocess.run([*AS_PID_1, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"{OF_THE_MACHINE}: namespaces are not allowed")
    return AS_PID_1


PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}


def test_as_pid_1_orphans_are_reaped_when_our_own_processes_have_died_first(
    wrapper: Wrapper, until: Until, as_pid_1: list[str]
) -> None:
    argv = [*as_pid_1, *wrapper.argv(PYTHON, "-c", ORPHAN)]
    with subprocess.Popen(argv, env=wrapper.env, text=True, **PIPES) as container:
        try:
            until(lambda: min(map(len, wrapper.seconds().values()), default=0) >= 1)
            (us,) = children_of(container.pid, "run")
            (witness,) = children_of(us, "run")
            kill_recorders(wrapper)
            os.kill(witness, signal.SIGKILL)
            _, said = container.communicate("on\n", timeout=PATIENCE_S)
        finally:
            container.kill()
    assert container.returncode == 3
    assert said == "carbontrack: the recorder failed; what it had committed is in the ledger.\n"


@pytest.mark.parametrize("then", ["there", "back", "away"])
def test_as_pid_1_it_ends_once_the_collector_has_the_end_of_the_run(
    wrapper: Wrapper, until: Until, as_pid_1: list[str], then: str
) -> None:
    """Its end is that of its recorder, in a container: what fails is tried again in its time."""
    if then == "away":
        wrapper.grace_s = 3.0
    collector = Collector(wrapper, str(wrapper.folder / "team.db"))
    collector.start()
    given = {"CARBONTRACK_SHIP": collector.url, "CARBONTRACK_SHIP_TOKEN": collector.token("nlp")}
    argv = [*as_pid_1, *wrapper.argv("sh", "-c", "read line; exit 3", options=())]
    with subprocess.Popen(argv, env=wrapper.env | given, text=True, **PIPES) as container:
        try:
            until(lambda: min(map(len, wrapper.seconds().values()), default=0) >= 1)
            if then != "there":
                collector.stop()
            if then == "back":
                assert container.stdin is not None and container.stderr is not None
                container.stdin.write("on\n")
                container.stdin.flush()
                while "it is kept here and sent later" not in container.stderr.readline():
                    pass
                collector.start()
            _, said = container.communicate("on\n", timeout=PATIENCE_S)
        finally:
            container.kill()
            if collector.process is not None and collector.process.poll() is None:
                collector.stop()
    assert container.returncode == 3
    assert ("the collector does not have all of this run" in said) is (then == "away")
    if then != "away":
        there = shown(wrapper, "--db", collector.ledger)
        assert there == shown(wrapper)
        assert (there["status"], there["exit_code"]) == ("failed", 3)
        assert there["energy_kwh"] > 0


def test_as_pid_1_a_process_ends_once_the_collector_has_its_blocks(
    wrapper: Wrapper, as_pid_1: list[str]
) -> None:
    """A block's own end waits for no collector."""
    collector = Collector(wrapper, str(wrapper.folder / "team.db"))
    collector.start()
    given = {"CARBONTRACK_SHIP": collector.url, "CARBONTRACK_SHIP_TOKEN": collector.token("nlp")}
    script = (
        "import carbontrack\n"
        "for name in ('first', 'second'):\n"
        "    with carbontrack.track(name=name, meter='sim:a100x2', quiet=True): pass\n"
    )
    command = [*as_pid_1, PYTHON, "-c", script]
    try:
        subprocess.run(command, env=wrapper.env | given, timeout=PATIENCE_S, check=True)
    finally:
        collector.stop()
    runs = wrapper.json("runs", "--db", collector.ledger)["runs"]
    assert {(run["name"], run["status"]) for run in runs} == {
        ("first", "completed"),
        ("second", "completed"),
    }


def test_the_first_process_of_a_container_is_known_in_a_pod_that_shares_its_processes_too(
    as_pid_1: list[str], until: Until
) -> None:
    """As those of a sidecar: another container's is PID 1."""
    pod = subprocess.Popen([*as_pid_1, "sleep", "600"])
    try:
        (first,) = until(lambda: children_of(pod.pid, "sleep"))
        enter = ["nsenter", "--preserve-credentials", "-U", "-p", "-t", str(first)]
        ask = "from carbontrack.record.grace import is_first_of_container as i; print(i())"
        command = [PYTHON, "-c", ask]
        said = [
            subprocess.check_output([*words, *command], text=True)
            for words in (enter, [*enter, "sh", "-c", '"$@"; true', "sh"], [])
        ]
    finally:
        pod.kill()
        pod.wait()
    assert said == ["True\n", "False\n", "False\n"]


def holds_a_socket(pid: int) -> bool:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if str(descriptor.readlink()).startswith("socket"):
                return True
    return False


def test_a_recorder_that_nobody_can_join_has_no_socket_left_to_watch(
    wrapper: Wrapper, until: Until
) -> None:
    # One that was never named hangs up at once whenever it is watched: a loop without a wait.
    job = wrapper.start("sh", "-c", "read line", stdin=subprocess.PIPE)
    (recorder,) = until(lambda: children_of(job.pid, "carbontrack.record"))
    until(lambda: not holds_a_socket(recorder))
    job.communicate("on\n", timeout=PATIENCE_S)
    assert job.returncode == 0


STUCK = """
import os, signal, sys, threading
from carbontrack.record import control
control.LEAVE_STDERR_S, control.DEADLINE_S = 0.2, 1.0
watched = control.Control(0)
watched.start()
os.write(1, b"started\\n")
os.close(1)
{stuck}
"""


@pytest.mark.parametrize(
    "stuck",
    [
        "open(sys.argv[1])",  # a FIFO that nobody writes
        "import sqlite3; sqlite3.connect(':memory:').execute('with recursive n(i) as "
        "(select 1 union all select i + 1 from n) select max(i) from n')",
        "while True: pass",
        "threading.Lock().acquire(); threading.Event().wait()",
    ],
)
def test_whatever_it_is_stuck_in_it_leaves_the_jobs_stderr_and_then_ends(
    tmp_path: Path, stuck: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    process = subprocess.Popen(
        [PYTHON, "-c", STUCK.format(stuck=stuck), str(tmp_path / "fifo")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert process.stdout.readline() == b"started\n"
        process.stdin.close()  # as where the wrapper was killed
        assert process.stderr.read() == b""  # its end
        assert process.wait(timeout=PATIENCE_S) == -signal.SIGALRM


STUCK_RECORDER = """
import os, threading
from carbontrack.record import control, recorder
control.LEAVE_STDERR_S, control.DEADLINE_S = 0.2, 10.0
def never(self, *_): threading.Event().wait()
recorder.Sampler.finish = never  # a driver that does not come back
recorder.main()
"""


def test_what_a_recorder_holds_that_never_ends_is_in_the_journal(
    wrapper: Wrapper, until: Until
) -> None:
    """The ledger is locked before the job ends: what came since is in the journal."""
    program = wrapper.folder / "stuck.py"
    program.write_text(STUCK_RECORDER)
    read_end, write_end = os.pipe()
    plan = {
        "command": ["train"], "job_pid": os.getpid(), "run_id": uuid7(), "recording_id": uuid7(),
        "started_ms": now_ms(), "started_ns": monotonic_ns(), "db": f"sqlite:///{wrapper.ledger}",
        "meter": wrapper.meter, "cwd": str(wrapper.folder), "steps_path": None,
    }  # fmt: skip
    recorder = subprocess.Popen(
        [PYTHON, str(program)],
        env=wrapper.env,
        stdin=read_end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as pipe, recorder:
        pipe.write(json.dumps(plan).encode() + b"\n")
        had = until(lambda: (s := wrapper.seconds()) and min(map(len, s.values())) >= 2 and s)
        with closing(sqlite3.connect(wrapper.ledger)) as lock:
            lock.execute("begin exclusive")
            assert recorder.stderr is not None
            said = iter(recorder.stderr.readline, "")
            assert any("cannot be written now" in line for line in said)  # what came since waits
            ended_ns = monotonic_ns()
            pipe.write(json.dumps({"ended_ns": ended_ns, "exit_code": 7}).encode() + b"\n")
            assert recorder.wait(timeout=PATIENCE_S) == -signal.SIGALRM
        lock.close()
    assert wrapper.ask("db", "recover").returncode == 0
    run = wrapper.json("show")
    assert (run["status"], run["exit_code"]) == ("failed", 7)
    found = wrapper.seconds()
    for uuid, starts_ms in had.items():
        assert set(starts_ms) < set(found[uuid])


@pytest.mark.parametrize("place", ["log", "ledger"])
def test_a_fifo_where_a_file_should_be_is_a_warning(wrapper: Wrapper, place: str) -> None:
    fifo = wrapper.folder / "fifo"
    os.mkfifo(fifo)
    options: tuple[str, ...] = ("--steps-from-log", r"(?P<step>\d+)", "--log", str(fifo))
    if place == "ledger":
        options = ("--db", str(fifo))
    job = wrapper.hold("sh", "-c", "exit 7", options=options)
    job.until_said(f"{fifo} is not a regular file")
    done = job.end()
    assert done.returncode == 7
    assert "the recorder" not in done.stderr


def test_steps_are_read_when_their_folder_is_gone(wrapper: Wrapper) -> None:
    """As at a logout, which clears XDG_RUNTIME_DIR."""
    job = """
import os, shutil, time, carbontrack
carbontrack.log_step(1, loss=3.0)
shutil.rmtree(os.path.dirname(os.environ["CARBONTRACK_STEPS"]))
for step in range(2, 6):
    carbontrack.log_step(step, loss=3.0)
"""
    assert wrapper.run(PYTHON, "-c", job).returncode == 0
    assert wrapper.json("show")["steps"] == 5


def test_a_runtime_folder_of_another_machine_is_passed_over(wrapper: Wrapper) -> None:
    job = "import carbontrack; carbontrack.log_step(1, loss=3.0)"
    environ = {**wrapper.env, "XDG_RUNTIME_DIR": "/run/user/123456", "TMPDIR": str(wrapper.folder)}
    done = wrapper.run(PYTHON, "-c", job, env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert wrapper.json("show")["steps"] == 1
    assert not list(wrapper.folder.glob("carbontrack-*"))


def test_no_secret_of_ours_is_on_a_command_line_or_in_the_jobs_environment(
    wrapper: Wrapper, until: Until
) -> None:
    """The job has the ledger's password where the user put it, and nowhere else."""
    environ = {**wrapper.env, "CARBONTRACK_DB": "postgresql://ada:TopSecret@127.0.0.1:9/x"}
    job = wrapper.start(
        "sh", "-c", "env; read line", options=("--live",), stdin=subprocess.PIPE, env=environ
    )
    page, recorder = until(
        lambda: (
            [
                found[0]
                for word in ("dashboards.live", "carbontrack.record")
                if (found := children_of(job.pid, word))
            ][:2]
            if children_of(job.pid, "dashboards.live")
            and children_of(job.pid, "carbontrack.record")
            else None
        )
    )
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (job.pid, page, recorder)]
    out, err = job.communicate("\n", timeout=PATIENCE_S)
    assert not any(b"TopSecret" in line for line in lines)
    assert "TopSecret" not in err
    assert re.findall(r"^(\w+)=.*TopSecret", out, re.M) == ["CARBONTRACK_DB"]


@pytest.mark.parametrize("pidfd", [True, False])
def test_the_end_of_a_process_is_noticed_without_pidfd_too(
    monkeypatch: pytest.MonkeyPatch, pidfd: bool
) -> None:
    if not pidfd:
        monkeypatch.delattr(process_end.os, "pidfd_open", raising=False)
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    end = ProcessEnd(process.pid)
    assert not end.wait(0.05)
    assert process.stdin is not None
    process.stdin.close()
    assert end.wait(PATIENCE_S)  # a zombie has ended
    process.wait()
    assert end.wait(PATIENCE_S)
    end.close()
    with pytest.raises(ProcessLookupError):
        ProcessEnd(process.pid)


def test_who_waits_for_a_process_sees_at_once_that_it_needs_us_no_longer() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        end = ProcessEnd(process.pid)
        read_end, write_end = os.pipe()
        os.close(read_end)
        assert not end.wait(pipe=write_end)  # and not for ever
        os.close(write_end)
        end.close()


def test_attach_works_where_python_has_no_pidfd(wrapper: Wrapper, until: Until) -> None:
    """conda's Python is built for a C library that does not know it."""
    job = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    code = "import os; del os.pidfd_open; from carbontrack.__main__ import main; main()"
    argv = [*CARBONTRACK[:2], "-c", code, "attach", str(job.pid), "--meter", "sim:a100x1", "-q"]
    attached = subprocess.Popen(argv, env=wrapper.env, stderr=subprocess.PIPE, text=True)
    until(lambda: wrapper.ledger.exists() and wrapper.json("runs")["runs"])
    job.communicate()
    assert attached.communicate(timeout=PATIENCE_S)[1] == ""
    assert attached.returncode == 0
    assert wrapper.json("show")["status"] == "completed"

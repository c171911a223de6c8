"""`carbontrack.track()` and `attach`: the same recorder for what is not wrapped."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

import carbontrack
from carbontrack.ids import uuid5
from carbontrack.record.this_node import boot_id, hostname
from tests.fixtures.nodes import slurm
from tests.fixtures.wrap import CARBONTRACK, PATIENCE_S, Wrapper, processes_of, stop, wait_until
from tests.record.test_manners import children_of

PYTHON = sys.executable
# The block ends once the file `go` is there.
TRACKED = """
import os, sys, time, carbontrack
with carbontrack.track("block", meter="sim:a100x2", tags={"team": "nlp"}, quiet=True) as run:
    print(run.id, flush=True)
    for step in (1, 2, 3):
        carbontrack.log_step(step, loss=3.0 / step, tokens=64)
    while not os.path.exists(sys.argv[2]): time.sleep(0.05)
    exec(sys.argv[1])
carbontrack.log_step(4, loss=9.0)
"""


def go(wrapper: Wrapper) -> Path:
    return wrapper.folder / "go"


def start_tracked(wrapper: Wrapper, ending: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PYTHON, "-c", TRACKED, ending, str(go(wrapper))],
        env={**wrapper.env, **environ},
        stdout=subprocess.PIPE,
        text=True,
    )


def let_go_once_recorded(wrapper: Wrapper, seconds: int = 1) -> None:
    """Let the blocks end when all devices have so many seconds in the ledger."""
    wait_until(lambda: min(map(len, wrapper.seconds().values()), default=0) >= seconds)
    go(wrapper).touch()


def run_python(wrapper: Wrapper, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-c", *arguments],
        capture_output=True,
        text=True,
        env=wrapper.env,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("ending", "code", "status", "recorded"),
    [
        ("pass", 0, "completed", 0),
        ("sys.exit(7)", 7, "failed", 7),
        ("1 / 0", 1, "failed", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, "interrupted", None),
    ],
)
def test_a_block_is_recorded_however_it_ends(
    wrapper: Wrapper, ending: str, code: int, status: str, recorded: int | None
) -> None:
    began_s = time.monotonic()
    job = start_tracked(wrapper, ending)
    let_go_once_recorded(wrapper, seconds=2)
    run_id, _ = job.communicate()
    assert job.returncode == code
    if code == -9:  # nobody waited for that recorder
        wait_until(lambda: wrapper.json("show", "block")["status"] == status)
    run = wrapper.json("show", "block")
    assert (run["status"], run["exit_code"], run["id"]) == (status, recorded, run_id.strip())
    assert (run["steps"], run["tokens"], run["final_loss"]) == (3, 192, 1.0)
    assert len(run["devices"]) == 2
    assert run["energy_kwh"] > 0
    assert 1 < run["duration_s"] < time.monotonic() - began_s


def test_a_block_inside_a_wrapped_run_is_part_of_that_run(wrapper: Wrapper) -> None:
    go(wrapper).touch()
    done = wrapper.run(PYTHON, "-c", TRACKED, "pass", str(go(wrapper)))
    assert (done.returncode, done.stdout) == (0, "None\n")
    (run,) = wrapper.json("runs")["runs"]
    assert wrapper.json("show", run["id"])["steps"] == 4


def test_workers_of_one_node_have_one_recorder(wrapper: Wrapper) -> None:
    workers = [start_tracked(wrapper, "pass", LOCAL_RANK=str(rank)) for rank in range(3)]
    let_go_once_recorded(wrapper)
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    (run,) = wrapper.json("runs")["runs"]
    assert run["devices"] == 2


def test_torchruns_workers_have_one_recorder(wrapper: Wrapper, tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(TRACKED)
    launcher = [PYTHON, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun = [*launcher, str(script), "pass", str(go(wrapper))]
    with subprocess.Popen(torchrun, env=wrapper.env, stdout=subprocess.DEVNULL) as job:
        let_go_once_recorded(wrapper)
    assert job.returncode == 0
    (run,) = wrapper.json("runs")["runs"]
    assert (run["name"], run["status"], run["devices"]) == ("block", "completed", 2)

    assert wrapper.run(*torchrun, options=("--quiet", "--name", "wrapped")).returncode == 0
    assert {r["name"] for r in wrapper.json("runs")["runs"]} == {"block", "wrapped"}
    assert len(wrapper.json("runs")["runs"]) == 2


def attach(wrapper: Wrapper, job: subprocess.Popen[bytes]) -> subprocess.Popen[str]:
    """Attached to the job, of which the first second is in the ledger."""
    watcher = subprocess.Popen(
        [*CARBONTRACK, "attach", str(job.pid), "--meter", "sim:a100x2", "--quiet"],
        env=wrapper.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: min(map(len, wrapper.seconds().values()), default=0) >= 1)
    return watcher


def test_attach_records_a_running_process_until_it_ends(wrapper: Wrapper) -> None:
    with subprocess.Popen(["sleep", "100000"]) as job:
        watcher = attach(wrapper, job)
        job.kill()
    out, err = watcher.communicate()
    assert (watcher.returncode, out, err) == (0, "", "")
    run = wrapper.json("show")
    assert (run["name"], run["status"], run["exit_code"]) == ("sleep", "completed", None)
    assert run["energy_kwh"] > 0
    assert run["command"] == ["sleep", "100000"]


def test_interrupting_attach_ends_the_recording_and_not_the_job(wrapper: Wrapper) -> None:
    with subprocess.Popen(["sleep", "100000"]) as job:
        watcher = attach(wrapper, job)
        watcher.send_signal(2)
        try:
            watcher.communicate()
            assert watcher.returncode == 0
            assert job.poll() is None
        finally:
            job.kill()
    (run,) = wrapper.json("runs")["runs"]
    assert run["status"] == "completed"


def test_sigterm_after_the_end_of_the_job_leaves_the_recorder_its_time(wrapper: Wrapper) -> None:
    """A sidecar gets it when the container of the job has ended."""
    with subprocess.Popen(["sleep", "100000"]) as job:
        watcher = attach(wrapper, job)
        (recorder,) = children_of(watcher.pid, "carbontrack.record")
        stop(recorder)
        job.kill()
    with open(f"/proc/{recorder}/fd/0", "rb") as pipe:  # noqa: PTH123 - of the outcome
        wait_until(lambda: any(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))))
    watcher.send_signal(signal.SIGTERM)
    os.kill(recorder, signal.SIGCONT)
    _, said = watcher.communicate()
    assert (watcher.returncode, said) == (0, "")
    assert wrapper.json("show")["status"] == "completed"


def runs_and_recorders(wrapper: Wrapper) -> tuple[int, int]:
    runs = wrapper.json("runs")["runs"] if wrapper.ledger.exists() else []
    found = processes_of(wrapper.folder).values()
    recorders = [one for one in found if "carbontrack.record" in one]
    return len(runs), len(recorders)


def has_guest(wrapper: Wrapper) -> bool:
    """Whether somebody has joined the recorder of the only run: the kernel lists its sockets."""
    (run,) = wrapper.json("runs")["runs"]
    address = f"@carbontrack-{uuid5([os.getuid(), run['id'], boot_id(), hostname()])}"
    sockets = Path("/proc/net/unix").read_text().splitlines()
    return sum(line.endswith(address) for line in sockets) > 1


def test_attach_joins_the_recorder_of_its_job(wrapper: Wrapper) -> None:
    """A rank that was not wrapped is of the run that the wrapped ones of its job are."""
    env = {**wrapper.env, **slurm(), "CARBONTRACK_RUN_ID": str(wrapper.folder)}
    code = (*CARBONTRACK, "attach", "--meter", "sim:a100x2", "--quiet")
    wrapped = wrapper.hold("sh", "-c", "exit 3", env=env)
    with subprocess.Popen(["sleep", "100000"], env=env) as job:
        wrapped.until_recorded()
        watcher = subprocess.Popen([*code, str(job.pid)], env=wrapper.env)
        wait_until(lambda: has_guest(wrapper))
        assert runs_and_recorders(wrapper) == (1, 1)
        assert wrapped.end().returncode == 3
        assert wrapper.json("show")["status"] == "running"  # the other one goes on
        job.kill()
    assert watcher.wait() == 0
    wait_until(lambda: processes_of(wrapper.folder) == {})
    (run,) = wrapper.json("runs")["runs"]
    assert (run["status"], run["exit_code"], run["devices"]) == ("failed", 3, 2)
    assert len(wrapper.json("show")["attempts"]) == 1


def test_wrappers_join_what_attach_records(wrapper: Wrapper) -> None:
    env = {**wrapper.env, **slurm(), "CARBONTRACK_RUN_ID": str(wrapper.folder)}
    with subprocess.Popen(["sleep", "100000"], env=env) as job:
        watcher = attach(wrapper, job)
        assert wrapper.run("true", env=env).returncode == 0
        assert runs_and_recorders(wrapper) == (1, 1)
        watcher.send_signal(signal.SIGINT)
        watcher.communicate()
        job.kill()
    run = wrapper.json("show")
    # How the attached process ended is nobody's to know.
    assert (run["status"], run["exit_code"], len(run["attempts"])) == ("completed", None, 1)


def test_attach_leaves_a_recorded_process_to_its_recorder(wrapper: Wrapper) -> None:
    held = wrapper.hold("sh", "-c", "echo $$; exec sleep 100000")
    assert held.process.stdout is not None
    job = int(held.process.stdout.readline())
    held.until_recorded()
    done = wrapper.carbontrack("attach", str(job), "--meter", "sim:a100x2")
    (run,) = wrapper.json("runs")["runs"]
    said = f"carbontrack: process {job} is recorded already, in the run {run['id']}.\n"
    assert (done.returncode, done.stderr) == (0, said)
    os.kill(job, signal.SIGKILL)
    held.end()
    assert len(wrapper.json("show", run["id"])["attempts"]) == 1


def test_attach_to_nothing_is_a_clear_line(wrapper: Wrapper) -> None:
    done = wrapper.carbontrack("attach", "4194304")
    assert done.returncode == 2
    assert done.stderr == "carbontrack: There is no process 4194304. 'ps' lists them.\n"


LOGGING = """
read line
for i in 1 2 3; do printf '\\r%s' "it $i/3 | loss 2.$i | 1,024 tokens"; done >> "$0"
"""


def test_steps_are_read_from_a_log_that_the_job_writes(wrapper: Wrapper, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("it 99/99 | loss 0.1 | 1,024 tokens\n")  # of an earlier run
    long_ago_s = log.stat().st_mtime - 3600
    os.utime(log, (long_ago_s, long_ago_s))
    pattern = r"it (?P<step>\d+)/\d+ \| loss (?P<loss>\S+) \| (?P<tokens>[\d,]+) tokens"
    options = ("--quiet", "--steps-from-log", pattern, "--log", str(log))
    job = wrapper.start("sh", "-c", LOGGING, str(log), options=options, stdin=subprocess.PIPE)
    wait_until(wrapper.seconds)  # the log is followed
    job.communicate("\n")
    assert job.returncode == 0
    run = wrapper.json("show")
    assert (run["steps"], run["tokens"], run["final_loss"]) == (3, 3072, 2.3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--steps-from-log", "(?P<step>x)"], "go together"),
        (["--log", "a.log"], "go together"),
        (["--steps-from-log", "(", "--log", "a.log"], "not a pattern"),
        (["--steps-from-log", r"loss (\d+)", "--log", "a.log"], "no named group"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_before_the_job(
    wrapper: Wrapper, options: list[str], says: str
) -> None:
    done = wrapper.carbontrack("run", *options, "--", "touch", "started")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert list(wrapper.folder.iterdir()) == []


FORKING = """
import os, signal, sys, time, carbontrack
with carbontrack.track("parent", meter="sim:a100x2", quiet=True):
    if os.fork() == 0:
        {child}
    time.sleep(1.0)
    {parent}
"""


def test_a_forked_child_that_leaves_the_block_ends_nothing(wrapper: Wrapper) -> None:
    done = run_python(wrapper, FORKING.format(child="sys.exit(3)", parent="os.wait()"))
    assert done.returncode == 0, done.stderr
    run = wrapper.json("show", "parent")
    assert (run["status"], run["exit_code"]) == ("completed", 0)
    assert run["duration_s"] > 0.9  # the parent slept for a second


def test_a_forked_child_does_not_keep_a_dead_parents_run_alive(wrapper: Wrapper) -> None:
    parent = "os.kill(os.getpid(), signal.SIGKILL)"
    child = "print(os.getpid(), flush=True); os.closerange(0, 3); time.sleep(100000)"
    done = run_python(wrapper, FORKING.format(child=child, parent=parent))
    forked = int(done.stdout)
    try:
        wait_until(lambda: wrapper.status("parent") == "interrupted")
        os.kill(forked, 0)  # raises if it is gone
    finally:
        os.kill(forked, signal.SIGKILL)


@pytest.mark.parametrize("name", ["SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK"])
def test_only_the_first_process_of_a_node_records(wrapper: Wrapper, name: str) -> None:
    """torchrun is tried for real above; these launchers are told apart by their variables."""
    tracked = "import carbontrack\nwith carbontrack.track(meter='sim:a100x2', quiet=True) as run: "
    for rank in ("0", "1"):
        wrapper.environ[name] = rank
        done = run_python(wrapper, tracked + "print(run.id is None)")
        assert (done.stdout, done.stderr) == (f"{rank == '1'}\n", "")
    assert len(wrapper.json("runs")["runs"]) == 1


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "setting",
    [
        {"devices": "foo"},
        {"hz": -3},
        {"hz": "many"},
        {"hz": None},
        {"meter": "gauge"},
        {"meter": 7},
        {"db": "mysql://x"},
        {"db": ""},
        {"tags": 5},
        {"tags": {"a": Unprintable()}},
        {"name": Unprintable()},
    ],
)
def test_a_block_with_invalid_settings_runs_unrecorded_and_says_so(
    setting: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with carbontrack.track(**setting) as run:
        ran = True
    assert (ran, run.id) == (True, None)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("carbontrack: this block is not recorded: ")


@pytest.mark.parametrize(
    "broken",
    [
        "sys.executable = None",
        "sys.executable = '/nowhere/python'",
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
        "os.urandom = None",
        "sys.argv = [b'\\xff', 3]",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))",
    ],
)
def test_track_never_raises_into_the_script(wrapper: Wrapper, broken: str) -> None:
    code = (
        "import os, resource, sys, carbontrack, carbontrack.record.attach, carbontrack.ledger.url\n"
        "import carbontrack.record.messages, carbontrack.meters.simulated\n"
        f"{broken}\n"
        "with carbontrack.track('block', meter='sim:a100x1', quiet=True) as run: print('in')\n"
        "print('out')"
    )
    done = subprocess.run(
        [PYTHON, "-c", code],
        capture_output=True,
        text=True,
        env=wrapper.env,
        cwd=wrapper.folder,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "in\nout\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert wrapper.ledger.exists() or "carbontrack: " in done.stderr

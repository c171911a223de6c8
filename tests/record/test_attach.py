"""`carbontrack.track()` and `attach`: the same recorder for what is not wrapped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import carbontrack
from carbontrack.errors import CarbontrackError
from tests.fixtures.wrap import CARBONTRACK, PATIENCE_S, Wrapper, wait_until

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
        (["--steps-from-log", r"loss (\d+)", "--log", "a.log"], "has no named group"),
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
        wait_until(lambda: wrapper.json("show", "parent")["status"] == "interrupted")
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


@pytest.mark.parametrize("setting", [{"devices": "foo"}, {"hz": -3}, {"meter": "gauge"}])
def test_settings_that_mean_nothing_are_refused_before_the_block(setting: dict[str, Any]) -> None:
    with pytest.raises(CarbontrackError), carbontrack.track(**setting):
        raise AssertionError("the block must not be entered")

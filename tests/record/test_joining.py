"""The wrappers of one run on one node have one recorder, however many ranks call it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from carbontrack.meters.base import MeterContext
from carbontrack.meters.cpu import read_cpuinfo
from carbontrack.meters.registry import find_meters
from carbontrack.record.arrivals import Arrivals
from carbontrack.record.claims import Claims
from carbontrack.record.messages import Hello, Outcome, Plan, joint
from carbontrack.report.numbers import format_energy
from carbontrack.units import monotonic_ns
from tests.fixtures.nodes import Node, slurm
from tests.fixtures.nvml import NvmlStub
from tests.fixtures.wrap import PATIENCE_S, Held, Wrapper, processes_of, wait_until
from tests.record.test_manners import children_of
from tests.record.test_truth import fast_waves

RECORDER = "carbontrack.record"
# Logs a step, by default that of its rank, waits for a line, and ends with its rank.
RANK = """
step=${STEP:-$SLURM_PROCID}
echo "{\\"step\\": $step, \\"rank\\": $SLURM_PROCID, \\"loss\\": 1.5}" >> $CARBONTRACK_STEPS
read line
exit $SLURM_PROCID
"""


@pytest.fixture
def rank_script(tmp_path: Path) -> str:
    script = tmp_path / "rank.sh"
    script.write_text(RANK)
    return str(script)


def start(
    wrapper: Wrapper,
    environ: dict[str, str],
    *command: str,
    options: tuple[str, ...] = ("--quiet",),
) -> Held:
    env = {**wrapper.env, **environ}
    return Held(wrapper, wrapper.start(*command, options=options, env=env, stdin=subprocess.PIPE))


def recorders(wrapper: Wrapper) -> list[str]:
    return [command for command in processes_of(wrapper.folder).values() if RECORDER in command]


def steps_of(wrapper: Wrapper) -> int:
    """How many steps are in the ledger, without the cost of a command."""
    try:
        with closing(sqlite3.connect(f"file:{wrapper.ledger}?mode=ro", uri=True)) as ledger:
            ((count,),) = ledger.execute("select count(*) from steps").fetchall()
    except sqlite3.OperationalError:  # it is just being made, or is not there
        return 0
    return int(count)


def test_ranks_of_a_node_have_one_recorder_which_ends_with_the_last(
    wrapper: Wrapper, rank_script: str
) -> None:
    wrapper.environ["TMPDIR"] = str(wrapper.folder)
    ranks = [
        start(wrapper, slurm(rank, local=rank), "sh", rank_script, options=()) for rank in (0, 1, 2)
    ]
    wait_until(lambda: steps_of(wrapper) == 3)
    wait_until(lambda: len(recorders(wrapper)) == 1)
    codes = []
    for number in (0, 2, 1):
        assert len(recorders(wrapper)) == 1
        done = ranks[number].end()
        codes.append(done.returncode)
        # The summary is said once, by the last.
        assert ("energy" in done.stderr) == (number == 1), done.stderr
    assert codes == [0, 2, 1]
    (run,) = wrapper.json("runs")["runs"]
    assert (run["status"], run["exit_code"], run["devices"]) == ("failed", 2, 2)
    wait_until(lambda: processes_of(wrapper.folder) == {})
    assert not list(wrapper.folder.glob("carbontrack-*"))  # the steps files


def test_steps_and_another_job_are_other_runs(wrapper: Wrapper) -> None:
    for command, job in (("true", 1), ("false", 1), ("true", 2)):
        wrapper.run(command, env={**wrapper.env, **slurm(job=job)})
    assert len(wrapper.json("runs")["runs"]) == 3


def test_a_wrapper_that_is_killed_leaves_the_others_recorded(
    wrapper: Wrapper, rank_script: str
) -> None:
    ranks = [start(wrapper, slurm(STEP=str(step)), "sh", rank_script) for step in range(2)]
    wait_until(lambda: len(recorders(wrapper)) == 1 and steps_of(wrapper) == 2)  # both have joined
    owner, guest = sorted(ranks, key=lambda rank: not children_of(rank.process.pid, RECORDER))
    owner.process.kill()
    owner.process.wait()
    assert guest.end().returncode == 0
    owner.end()  # its job, which went on
    wait_until(lambda: processes_of(wrapper.folder) == {})
    (run,) = wrapper.json("runs")["runs"]
    assert run["status"] == "interrupted"


def test_each_rank_may_see_a_gpu_of_its_own(
    wrapper: Wrapper, nvml_stub: NvmlStub, rank_script: str
) -> None:
    """However many come at once, each counts once: in the ledger, the budget and the summary."""
    node = nvml_stub.start(waves=fast_waves(4))
    wrapper.meter = "nvml"
    wrapper.environ.update(node.env)
    ranks = [
        start(
            wrapper,
            slurm(rank, local=rank, CUDA_VISIBLE_DEVICES=str(rank)),
            *("sh", rank_script),
            options=("--pue", "1", "--budget-kwh", "1000"),
        )
        for rank in range(4)
    ]

    def all_of_them() -> bool:
        seconds = wrapper.seconds()
        return len(seconds) == 4 and min(map(len, seconds.values())) >= 2

    wait_until(all_of_them)
    *_, last = [rank.end() for rank in ranks]
    (run,) = wrapper.json("runs")["runs"]
    assert (run["status"], run["exit_code"]) == ("failed", 1)
    devices = wrapper.json("show", run["id"])["devices"]
    assert {device["uuid"] for device in devices} == set(node.uuids)
    assert all(device["energy_kwh"] > 0 for device in devices)
    assert format_energy(run["energy_kwh"]) in last.stderr
    assert f"{run['energy_kwh']:.4g} of 1,000 kWh: within" in last.stderr


def test_nodes_that_share_their_folders_record_each_for_itself(
    wrapper: Wrapper, nodes: Sequence[Node]
) -> None:
    """A wrapper around srun, too, makes one run with those inside on the other nodes."""
    first, second, _ = nodes
    inner = second.argv(*wrapper.argv("true"))
    env = {**wrapper.env, **slurm(nodes=2)}
    outer = first.argv(*wrapper.argv(*inner))
    done = subprocess.run(
        outer, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = wrapper.json("runs")["runs"]
    hosts = {device["host"] for device in wrapper.json("show", run["id"])["devices"]}
    assert hosts == {"nid001", "nid002"}


def test_what_runs_record_at_one_time_is_decided_when_they_end(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    wrapper.meter = "nvml"
    wrapper.environ.update(nvml_stub.start(waves=fast_waves(2)).env)
    first, second = wrapper.hold(), wrapper.hold()
    wait_until(lambda: len(wrapper.json("runs")["runs"]) == 2 if wrapper.seconds() else False)

    def both() -> bool:
        with closing(sqlite3.connect(f"file:{wrapper.ledger}?mode=ro", uri=True)) as ledger:
            counts = ledger.execute(
                "select count(*) from windows where level = 1 group by recording_key"
            ).fetchall()
        return len(counts) == 2 and min(counts)[0] >= 6

    wait_until(both)
    for held in (first, second):
        held.end()
    wait_until(lambda: processes_of(wrapper.folder) == {})
    before = wrapper.json("table")
    total = before["total"]
    assert total["energy_kwh"] < sum(row["energy_kwh"] for row in before["rows"])
    with closing(sqlite3.connect(wrapper.ledger)) as ledger, ledger:
        assert ledger.execute("select sum(seconds) from overlaps").fetchone()[0] > 0
        ledger.execute("delete from windows where level = 1")
    after = wrapper.json("table")["total"]
    assert after["energy_kwh"] == pytest.approx(total["energy_kwh"], rel=1e-9)


TRACKED = """
import sys, carbontrack
with carbontrack.track(meter="sim:a100x2", quiet=True) as run:
    print(run.id, flush=True)
    carbontrack.log_step(int(sys.argv[1]), loss=1.0)
    sys.stdin.readline()
"""


def test_tracked_blocks_join_too(wrapper: Wrapper) -> None:
    def block(rank: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", TRACKED, str(rank)],
            env={
                **wrapper.env,
                **slurm(rank, local=rank),
                "CARBONTRACK_RUN_ID": str(wrapper.folder),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    blocks = [block(rank) for rank in (1, 2)]
    wait_until(lambda: steps_of(wrapper) == 2)
    ids = {one.communicate("\n")[0] for one in blocks}
    assert len(ids) == 1
    (run,) = wrapper.json("runs")["runs"]
    assert (f"{run['id']}\n", run["status"]) == (ids.pop(), "completed")


# Says when it has used so much CPU time, and then waits.
BURNT = """
import sys, time
while time.process_time() < 0.5: pass
print(flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("is_started_by_us", [True, False])
def test_the_cpu_time_of_a_job_that_joins_counts_since_it_is_recorded(
    is_started_by_us: bool,
) -> None:
    """The wrapper of a job is faster than its recorder; what one attaches to may be old."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        subprocess.Popen(["cat"], **pipes) as first,
        subprocess.Popen([sys.executable, "-c", BURNT], **pipes) as other,
    ):
        assert other.stdout is not None
        plan = Plan("run", "recording", ("cat",), "/", first.pid, 0, 0, "sqlite://")
        (meter,) = find_meters("cpu-model:100", MeterContext(job_pid=first.pid)).meters
        (source,) = meter.sources
        assert other.stdout.readline()
        before = source.read()
        started_ns = 0 if is_started_by_us else 2 * monotonic_ns()
        Arrivals(plan, {}, [source], Claims("run")).add(
            Hello(other.pid, started_ns, visibility={}, steps_path=None, quiet=True)
        )
        after = wait_until(lambda: (now := source.read()).time_ns > before.time_ns and now)
        for job in (first, other):
            assert job.stdin is not None
            job.stdin.close()
    assert source.device.rated_power_w and after.energy_j is not None
    assert before.energy_j is not None
    watts = source.device.rated_power_w / read_cpuinfo(Path("/proc")).threads
    used_s = (after.energy_j - before.energy_j) / watts
    assert used_s >= 0.5 - 0.02 if is_started_by_us else used_s <= 0.05


UNKNOWN = None


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([Outcome(5, 0)], Outcome(5, 0)),
        ([Outcome(5, None)], Outcome(5, None)),
        ([Outcome(5, 0), Outcome(9, 0)], Outcome(9, 0)),
        ([Outcome(9, 0), Outcome(7, 3), Outcome(8, 4)], Outcome(9, 3)),
        ([Outcome(5, None), Outcome(9, 0)], Outcome(9, None)),  # one was attached to
        ([Outcome(5, 0), Outcome(9, None), Outcome(7, 2)], Outcome(9, 2)),
        ([Outcome(9, 0), UNKNOWN], None),
        ([Outcome(9, 2), UNKNOWN], Outcome(9, 2)),
        ([UNKNOWN], None),
        ([], None),
    ],
)
def test_the_first_code_that_is_not_zero_counts(
    outcomes: list[Outcome | None], expected: Any
) -> None:
    assert joint(outcomes) == expected

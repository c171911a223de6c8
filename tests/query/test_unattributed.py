"""What nodes used beside the jobs: a watch's energy without the jobs', each joule once."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack import Ledger
from carbontrack.ledger import kept_overlaps
from carbontrack.ledger.merge import merge
from carbontrack.ledger.transaction import open_ledger
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import UNATTRIBUTED, RunKind
from tests.cli.test_factors import hourly_file
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded
from tests.ledger.test_overlaps import POWER_W, drop_seconds, put, recorded, run_at

MJ = 1e-3
NODES = {"a": ("GPU-0", "GPU-1"), "b": ("GPU-2", "GPU-3")}


@dataclass(frozen=True)
class Recorder:
    """A job on some devices of a node, or a watch of all of them, from one second to another."""

    is_watch: bool
    node: str
    devices: tuple[int, ...]
    start_s: int
    length_s: int

    @property
    def seconds(self) -> set[tuple[str, int]]:
        """(device, second) that it recorded."""
        uuids = [NODES[self.node][at] for at in self.devices]
        return {
            (uuid, at) for uuid in uuids for at in range(self.start_s, self.start_s + self.length_s)
        }


def write(path: Path, recorders: Sequence[Recorder]) -> None:
    """A ledger with a run of each of these; the jobs are of two projects and users."""
    with closing(open_ledger(f"sqlite:///{path}")) as ledger:
        for number, one in enumerate(recorders, start=1):
            kind = RunKind.WATCH if one.is_watch else RunKind.JOB
            whose = {"project": f"p{number % 2}", "user": f"u{number % 2}"}
            run = run_at(number, one.start_s, kind=kind, **({} if one.is_watch else whose))
            uuids = [NODES[one.node][at] for at in one.devices]
            recording = recorded(run, one.start_s, one.start_s + one.length_s, one.node)
            put(ledger, run, recording, uuids)


def energy_j(seconds: set[tuple[str, int]]) -> float:
    return len(seconds) * POWER_W


def j(row: Any) -> float:
    return float(row["energy_kwh"] or 0.0) * J_PER_KWH


def recorders(of: bool) -> st.SearchStrategy[Recorder]:
    return st.builds(
        Recorder,
        st.just(of),
        st.sampled_from(sorted(NODES)),
        st.just((0, 1)) if of else st.sampled_from([(0,), (1,), (0, 1)]),
        st.integers(0, 100),
        st.integers(1, 90),
    )


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """Names of ledgers that are not there."""
    return (tmp_path / f"{number}.db" for number in range(1000))


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    watches=st.lists(recorders(True), min_size=1, max_size=3),
    jobs=st.lists(recorders(False), max_size=3),
    coarse=st.booleans(),
)
def test_any_interleaving_adds_up_to_what_the_devices_used(
    command: Command,
    empty: Iterator[Path],
    watches: list[Recorder],
    jobs: list[Recorder],
    coarse: bool,
) -> None:
    path = next(empty)
    write(path, [*jobs, *watches])
    if coarse:  # as it was decided while the seconds were there
        with closing(open_ledger(f"sqlite:///{path}")) as ledger:
            kept_overlaps.keep(ledger, range(1, 1 + len(jobs) + len(watches)))
            drop_seconds(ledger)
    used = set().union(*(one.seconds for one in [*jobs, *watches]))
    by_jobs = set().union(*(one.seconds for one in jobs))
    for by in ((), ("project",), ("host",), ("month", "user")):
        keys = [word for name in by for word in ("--by", name)]
        answer = command("table", "--db", str(path), *keys, "--format", "json").json
        assert j(answer["total"]) == pytest.approx(energy_j(used), abs=MJ)
        rest = [row for row in answer["rows"] if row["kind"] == UNATTRIBUTED]
        assert sum(map(j, rest)) == pytest.approx(energy_j(used - by_jobs), abs=MJ), by


def test_a_watched_gpu_and_its_instances_count_once(
    ledger_url: str, tmp_path: Path, command: Command
) -> None:
    """Jobs on MIG instances, of which two share one; they and the watch met in the team's ledger,
    each with what it had decided alone.
    """
    jobs = {2: ("MIG-0-3", 10, 60), 3: ("MIG-0-3", 40, 70), 4: ("MIG-0-4", 40, 90)}
    files = [tmp_path / name for name in ("watch.db", "jobs.db")]
    for file, some in zip(files, ([1], jobs), strict=True):
        with closing(open_ledger(f"sqlite:///{file}")) as ledger:
            for number in some:
                kind = RunKind.JOB if number in jobs else RunKind.WATCH
                uuid, start_s, end_s = jobs.get(number, ("GPU-0", 0, 100))
                run = run_at(number, start_s, kind=kind, project=f"p{number % 2}")
                uuids = [uuid] if number in jobs else [uuid, "GPU-1"]
                put(ledger, run, recorded(run, start_s, end_s, "a"), uuids)
            kept_overlaps.keep(ledger, range(1, len(some) + 1))
    merge(ledger_url, list(map(str, files)))
    of_jobs_j = POWER_W * (60 * 3 / 7 + 50 * 4 / 7)
    for seconds_are_there in (True, False):
        for by in ("project", "host"):
            rows, answer = table(command, "--db", ledger_url, "--by", by)
            assert j(answer["total"]) == pytest.approx(200 * POWER_W, abs=0.1)
            rest = [row for row in rows if row["kind"] == UNATTRIBUTED]
            assert sum(map(j, rest)) == pytest.approx(200 * POWER_W - of_jobs_j, abs=0.1)
        if seconds_are_there:
            with closing(open_ledger(ledger_url)) as ledger:
                drop_seconds(ledger)


@pytest.fixture
def cluster(tmp_path: Path, command: Command) -> Command:
    """Two nodes that are watched for 100 s, of which jobs have some."""
    write(
        tmp_path / "ledger.db",
        [
            Recorder(False, "a", (0, 1), 10, 30),
            Recorder(False, "a", (0,), 60, 20),
            Recorder(False, "b", (1,), 0, 50),
            Recorder(True, "a", (0, 1), 0, 100),
            Recorder(True, "b", (0, 1), 0, 100),
        ],
    )
    return command


IDLE_S = {"a": 2 * 100 - 2 * 30 - 20, "b": 2 * 100 - 50}  # device-seconds without a job


def table(command: Command, *words: str) -> tuple[list[Any], Any]:
    answer = command("table", *words, "--format", "json").json
    return answer["rows"], answer


def test_a_row_unattributed_is_what_no_job_used(cluster: Command) -> None:
    rows, answer = table(cluster)
    rest = [row for row in rows if row["kind"]]
    assert [j(row) for row in rest] == pytest.approx([IDLE_S["b"] * POWER_W, IDLE_S["a"] * POWER_W])
    assert sum(map(j, rows)) == pytest.approx(j(answer["total"])) == pytest.approx(400 * POWER_W)
    assert rest[0]["gpu_hours"] == pytest.approx(IDLE_S["b"] / 3600)

    for by in ("project", "user"):
        rows, answer = table(cluster, "--by", by)
        assert [row["group"][by][1:] for row in rows] == ["0", "1", UNATTRIBUTED[1:]]
        assert j(rows[-1]) == pytest.approx(sum(IDLE_S.values()) * POWER_W)
        assert sum(map(j, rows)) == pytest.approx(j(answer["total"]))

    rows, answer = table(cluster, "--by", "host")
    assert {(row["group"]["host"], row["kind"]): j(row) for row in rows} == pytest.approx(
        {
            ("node1a", ""): 80 * POWER_W,
            ("node1a", UNATTRIBUTED): IDLE_S["a"] * POWER_W,
            ("node1b", ""): 50 * POWER_W,
            ("node1b", UNATTRIBUTED): IDLE_S["b"] * POWER_W,
        }
    )


def test_a_month_by_project_has_it_below_the_projects(cluster: Command) -> None:
    rows, answer = table(cluster, "--by", "month", "--by", "project")
    assert [row["group"]["project"] for row in rows] == ["p0", "p1", UNATTRIBUTED]
    (month,) = answer["subtotals"]
    assert j(month) == pytest.approx(sum(map(j, rows))) == pytest.approx(400 * POWER_W)
    text = cluster("table", "--by", "month").out
    assert "2026-05: unattributed" in text
    assert text.count("unattributed: what the watched nodes used") == 1
    assert "counts once in the total" not in text


def test_csv_and_python_say_the_same(cluster: Command, tmp_path: Path) -> None:
    said = cluster("table", "--by", "project", "--format", "csv").out
    lines = {line["project"]: line for line in csv.DictReader(io.StringIO(said))}
    frame = Ledger(str(tmp_path / "ledger.db")).table(by="project").set_index("label")
    plain = Ledger(str(tmp_path / "ledger.db")).table()
    for energy_kwh in (float(lines[UNATTRIBUTED]["energy_kwh"]), frame.energy_kwh[UNATTRIBUTED]):
        assert energy_kwh * J_PER_KWH == pytest.approx(sum(IDLE_S.values()) * POWER_W)
    assert plain[plain.kind == UNATTRIBUTED].energy_kwh.sum() == pytest.approx(energy_kwh)


def test_in_a_range_of_time_only_what_is_in_it_counts(cluster: Command, tmp_path: Path) -> None:
    """Two hours of a watch and a job over their border."""
    path = tmp_path / "hours.db"
    edge_s = 3600  # the start is a full hour
    write(
        path,
        [
            Recorder(False, "a", (0, 1), edge_s - 20, 50),
            Recorder(True, "a", (0, 1), edge_s - 100, 200),
        ],
    )
    found = defaultdict(list)
    for words in (("--until", "2026-05-28T21:00Z"), ("--since", "2026-05-28T21:00Z")):
        rows, answer = table(cluster, "--db", str(path), *words, "--by", "project")
        for row in rows:
            found[row["group"]["project"]].append(j(row) / POWER_W)
        assert sum(map(j, rows)) == pytest.approx(j(answer["total"]))
    assert found == {"p1": pytest.approx([40, 60]), UNATTRIBUTED: pytest.approx([160, 140])}


def test_by_the_hour_what_no_job_used_takes_the_intensity_of_its_own_hours(
    command: Command, tmp_path: Path
) -> None:
    """A job has most of the clean hour; the total is what the node used. The watch was started
    again within the job.
    """
    edge_s = 3600
    with closing(open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        job = run_at(1, edge_s - 90)
        put(ledger, job, recorded(job, edge_s - 90, edge_s + 10, "a"), NODES["a"])
        watch = run_at(2, edge_s - 100, kind=RunKind.WATCH)
        for number, (begin_s, end_s) in enumerate(((-100, 0), (0, 100))):
            one = recorded(watch, edge_s + begin_s, edge_s + end_s, "a")
            put(ledger, watch, replace(one, id=recorded(watch, 0, 1, f"{number}").id), NODES["a"])
    file = hourly_file(tmp_path / "fr.csv", Recorded(number=0), [0.1, 0.4])
    assert command("factors", "import", "intensity", file).code == 0
    factors = ("--zone", "FR", "--pue", "1")
    kwh = 2 * 100 * POWER_W / J_PER_KWH  # of the node in each hour
    rows, answer = table(command, *factors)
    (rest,) = (row for row in rows if row["kind"])
    assert rest["tco2e"] == pytest.approx(kwh * (0.1 * 0.1 + 0.9 * 0.4) / 1000)
    assert answer["total"]["tco2e"] == pytest.approx(kwh * (0.1 + 0.4) / 1000)
    assert sum(row["tco2e"] for row in rows) == pytest.approx(answer["total"]["tco2e"])

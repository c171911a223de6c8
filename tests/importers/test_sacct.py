"""Slurm's sacct: steps repeat what the allocation has, units differ, 0 is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbontrack.importers.model import FileOptions
from carbontrack.vocabulary import Quality, Status
from tests.importers.files import read, refusal

HEAD = (
    "JobID|Cluster|ConsumedEnergyRaw|ConsumedEnergy|AllocTRES|ElapsedRaw|Start|JobName|NNodes|"
    "NodeList|State"
)


def row(job: str, raw: str = "", short: str = "", tres: str = "", **more: str) -> str:
    cells = {
        "elapsed": "2102",
        "start": "2024-03-15T20:24:16",
        "nodes": "4",
        "list": "nid[001002,001004-001006]",
        "state": "COMPLETED",
        **more,
    }
    elapsed, start, nodes, hosts, state = cells.values()
    return f"{job}|c|{raw}|{short}|{tres}|{elapsed}|{start}|train.sh|{nodes}|{hosts}|{state}"


def table(*rows: str, end: str = "") -> str:
    return "\n".join(f"{line}{end}" for line in (HEAD, *rows)) + "\n"


@pytest.mark.parametrize("end", ["", "|"])
def test_the_allocation_alone_counts(tmp_path: Path, end: str) -> None:
    steps = [row(f"38.{step}", "20000000") for step in ("batch", "extern", "0")]
    cut = row("38", "19000000")  # a step whose number was cut
    found = read(tmp_path, table(row("38", "20543125"), *steps, cut, end=end))
    assert found.kind == "sacct"
    assert found.energy_j == 20_543_125
    assert found.duration_s == 2102
    (run,) = found.runs
    assert [d.host for d in run.devices] == ["nid001002", "nid001004", "nid001005", "nid001006"]
    assert {(d.quality, d.scope) for d in run.devices} == {(Quality.STATED, "node")}
    assert (run.name, run.facts["job"], run.status) == ("train.sh", "38", Status.COMPLETED)
    assert run.started_ns == 1710534256 * 10**9


@pytest.mark.parametrize(
    ("cells", "energy_j"),
    [
        ({"raw": "0", "short": "0"}, None),
        ({}, None),
        ({"raw": "4294967294"}, None),
        ({"raw": "4294967295", "tres": "energy=4294967294"}, None),
        ({"raw": "9223372036854775808"}, None),
        ({"raw": "6912000000", "elapsed": "604800"}, 6_912_000_000),
        ({"tres": "cpu=1,energy=6912000000", "elapsed": "604800"}, 6_912_000_000),
        ({"short": "6.91G", "elapsed": "604800"}, 6_910_000_000),
        ({"raw": "18446744073709551614", "short": "16384P"}, None),
        ({"short": "20.54M"}, 20_540_000),
        ({"short": "1.5K"}, 1500),
        ({"short": "1.2G"}, None),  # refused below: 571 kW
        ({"raw": "0", "tres": "billing=1,energy=77,node=4"}, 77),
        ({"tres": "billing=1,energy=0,node=4"}, None),
    ],
)
def test_units_and_what_is_unknown(
    tmp_path: Path, cells: dict[str, str], energy_j: float | None
) -> None:
    text = table(row("7", **cells))
    if cells == {"short": "1.2G"}:
        assert "570.9 kW, more than can be" in refusal(tmp_path, text)
    else:
        assert read(tmp_path, text).first.energy_j == energy_j


def test_jobs_that_go_on_or_did_not_start_are_named(tmp_path: Path) -> None:
    rows = [
        row("1", "5", state="RUNNING"),
        row("2", "", start="Unknown", state="PENDING"),
        row("3", "5", state="CANCELLED by 1000"),
        row("4", "5", elapsed=""),
    ]
    found = read(tmp_path, table(*rows))
    assert [number for number, _ in found.tally.first] == [2, 3, 5]
    assert [run.status for run in found.runs] == [Status.FAILED]


def test_a_job_that_was_requeued_is_two_runs(tmp_path: Path) -> None:
    again = row("1", "7", start="2024-03-16-20:24:16")
    assert read(tmp_path, table(row("1", "5"), again)).energy_j == 12


def test_a_padded_table(tmp_path: Path) -> None:
    text = (
        "JobID           Elapsed               Start ConsumedEnergy      State \n"
        "------------ ---------- ------------------- -------------- ---------- \n"
        "38113        1-00:35:02 2024-03-15T20:24:16         20.54M  COMPLETED \n"
        "38113.batch+   00:35:02 2024-03-15T20:24:16          5.09M  COMPLETED \n"
    )
    found = read(tmp_path, text)
    assert (found.energy_j, found.duration_s) == (20_540_000, 86_400 + 2102)


def test_its_times_are_local(tmp_path: Path) -> None:
    assert "Give --tz" in refusal(tmp_path, table(row("1", "5")), FileOptions())

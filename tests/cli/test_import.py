"""`carbontrack import`: files of other tools as runs that every other command works on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.fixtures.command import Command

HEAD = "timestamp, name, uuid, power.draw [W]\n"
UUIDS = [f"GPU-0000000{n}-1111-2222-3333-444444444444" for n in range(2)]


def log(seconds: int) -> str:
    """Two A100s for so long: 100 W and 200 W."""
    return HEAD + "".join(
        f"2024/03/01 10:{s // 60:02d}:{s % 60:02d}.000, NVIDIA A100-SXM4, {uuid}, {watts}.0 W\n"
        for s in range(seconds + 1)
        for uuid, watts in zip(UUIDS, (100, 200), strict=True)
    )


@pytest.fixture
def power(tmp_path: Path) -> Path:
    path = tmp_path / "power.csv"
    path.write_text(log(120))
    return path


def test_an_imported_run_works_with_every_command(command: Command, power: Path) -> None:
    done = command("import", "power.csv", "--tz", "UTC", "--project", "nlp", "--tag", "team=a")
    assert done.code == 0, done.err
    assert "power.csv: nvidia-smi, 1 run, 242 rows taken, 0 rejected" in done.out
    shown = command("show", "power", "--format", "json").json
    assert shown["energy_kwh"] == pytest.approx(300 * 120 / 3.6e6)
    assert shown["coverage"] == pytest.approx(1.0)
    assert shown["duration_s"] == 120
    assert (shown["project"], shown["tags"]) == ("nlp", {"team": "a"})
    assert [device["uuid"] for device in shown["devices"]] == UUIDS
    assert {device["meter"] for device in shown["devices"]} == {"imported from nvidia-smi"}
    assert {device["quality"] for device in shown["devices"]} == {"power"}
    (source,) = shown["imports"]
    digest = hashlib.sha256(power.read_bytes()).hexdigest()
    assert (source["file"], source["first_row"], source["last_row"]) == ("power.csv", 2, 243)
    assert source["sha256"] == digest
    assert source["provenance"] in " ".join(command("show", "power").out.split())
    explained = command("explain", "power").out
    assert f"power.csv, rows 2 to 243, nvidia-smi, SHA-256 {digest}" in explained
    assert "imported from nvidia-smi" in explained
    (row,) = command("table", "--format", "json").json["rows"]
    assert row["gpu_hours"] == pytest.approx(240 / 3600)
    for kind in ("power", "overview"):
        drawn = command("plot", "power", "--kind", kind, "-o", f"{kind}.png")
        assert drawn.code == 0, drawn.err


def test_importing_twice_adds_nothing_and_a_longer_file_what_is_new(
    command: Command, power: Path
) -> None:
    def energy_kwh() -> float:
        (run,) = command("runs", "--format", "json").json["runs"]
        return float(run["energy_kwh"])

    assert "; added" in command("import", "power.csv", "--tz", "UTC").out
    once = command("show", "--format", "json").json
    assert "; already there" in command("import", "power.csv", "--tz", "UTC").out
    assert command("show", "--format", "json").json == once
    power.write_text(log(300))
    assert "; grew" in command("import", "power.csv", "--tz", "UTC").out
    assert energy_kwh() == pytest.approx(300 * 300 / 3.6e6)
    power.write_text(log(60))
    assert "; already there" in command("import", "power.csv", "--tz", "UTC").out
    assert energy_kwh() == pytest.approx(300 * 300 / 3.6e6)
    assert command("show", "--format", "json").json["duration_s"] == 300


def test_a_dry_run_writes_nothing(command: Command, power: Path, tmp_path: Path) -> None:
    done = command("import", "power.csv", "--tz", "UTC", "--dry-run")
    assert "power: 10.0 Wh, 2 min 00 s, 2 devices; would be imported" in done.out
    assert not (tmp_path / "ledger.db").exists()


def test_a_log_too_long_for_seconds_has_minutes_and_the_same_total(
    command: Command, power: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("import", "power.csv", "--tz", "UTC")
    monkeypatch.setattr("carbontrack.importers.bins.MAX_BINS", 200)
    power.write_text(log(600))
    assert "; grew" in command("import", "power.csv", "--tz", "UTC").out
    shown = command("show", "--format", "json").json
    assert shown["energy_kwh"] == pytest.approx(300 * 600 / 3.6e6)
    assert command("plot", "power", "--kind", "power", "-o", "p.png").code == 0


def test_broken_rows_are_said_with_their_numbers(command: Command, power: Path) -> None:
    power.write_text(log(9) + "garbage\n" * 7)
    done = command("import", "power.csv", "--tz", "UTC")
    assert done.code == 0
    assert "20 rows taken, 7 rejected" in done.out
    assert "power.csv, row 22: 1 cells, not 4" in done.err
    assert "2 more rows not taken" in done.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["power.csv"], "Give --tz"),
        (["power.csv", "--kind", "nvidia"], "is not known. Known: "),
        (["missing.csv"], "No such file"),
        (["."], "is not a file"),
        (["power.csv", "--tz", "Mars"], "is not a time zone"),
        (["power.csv", "--power-column", "power.draw [W]"], "--time-column"),
        (["power.csv", "--name", "last"], "is reserved"),
    ],
)
def test_a_mistake_is_one_line(
    command: Command, power: Path, words: list[str], why: str, tmp_path: Path
) -> None:
    done = command("import", *words)
    assert done.code == 2
    assert why in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "ledger.db").exists()


def test_gpus_without_a_name_are_refused_until_a_column_is_named(
    command: Command, power: Path
) -> None:
    power.write_text(
        "timestamp, slot, power.draw [W]\n"
        + "".join(
            f"2024/03/01 10:00:{s:02d}.{3 * slot:03d}, {slot}, 600.0 W\n"
            for s in range(60)
            for slot in range(8)
        )
    )
    done = command("import", "power.csv", "--tz", "UTC")
    assert done.code == 2
    assert "as of 8 GPUs read in turn" in done.err
    assert done.err.count("\n") == 1
    done = command("import", "power.csv", "--tz", "UTC", "--device-column", "slot")
    assert done.code == 0, done.err
    shown = command("show", "--format", "json").json
    assert shown["energy_kwh"] == pytest.approx(8 * 600 * 59 / 3.6e6)


def test_another_table_by_the_names_of_its_columns(command: Command, tmp_path: Path) -> None:
    rows = "".join(f"{1709287200 + s};pdu{n};1.5\n" for s in range(11) for n in range(2))
    (tmp_path / "pdu.csv").write_text(f"when;outlet;kilowatts\n{rows}")
    columns = ("--time-column", "when", "--power-column", "kilowatts", "--unit", "kW")
    done = command("import", "pdu.csv", *columns, "--device-column", "outlet")
    assert done.code == 0, done.err
    shown = command("show", "--format", "json").json
    assert shown["energy_kwh"] == pytest.approx(2 * 1500 * 10 / 3.6e6)
    assert len(shown["devices"]) == 2


def test_a_run_that_is_flushed_again_grows(command: Command, tmp_path: Path) -> None:
    """CodeCarbon appends a row with the sums so far: one run, whichever file says more of it."""
    head = "timestamp,project_name,run_id,duration,energy_consumed,cpu_energy,pue\n"
    rows = [
        f"2024-05-31T10:{m}:01,nlp,abc,{m * 60}.7,{m / 1000},{m / 1000},1.0\n" for m in (10, 30)
    ]
    file = tmp_path / "emissions.csv"
    file.write_text(head + rows[0])
    assert "; added" in command("import", "emissions.csv", "--tz", "UTC").out
    file.write_text(head + "".join(rows))
    assert "; grew" in command("import", "emissions.csv", "--tz", "UTC").out
    (run,) = command("runs", "--format", "json").json["runs"]
    assert run["energy_kwh"] == pytest.approx(0.030)
    assert run["duration_s"] == pytest.approx(1800, abs=1)
    file.write_text(head + rows[0])
    assert "; already there" in command("import", "emissions.csv", "--tz", "UTC").out
    assert command("table", "--format", "json").json["rows"][0]["quality"] == "estimate"


def test_a_total_of_nodes_has_its_scope_and_hours(command: Command, tmp_path: Path) -> None:
    head = "JobID|Start|ElapsedRaw|ConsumedEnergyRaw|JobName|NNodes|NodeList|State\n"
    row = "7|2024-03-15T20:00:00|3600|{}|train|2|n[1-2]|COMPLETED\n"
    (tmp_path / "jobs.txt").write_text(
        head + row.format(7_200_000) + row.format(0).replace("7|", "8|", 1)
    )
    done = command("import", "jobs.txt", "--tz", "UTC")
    assert done.code == 0, done.err
    rows = {r["run_ids"][0]: r for r in command("table", "--format", "json").json["rows"]}
    energies = sorted((r["energy_kwh"] is not None, r["energy_kwh"]) for r in rows.values())
    assert energies[0] == (False, None)  # no plugin measured it
    assert energies[1][1] == pytest.approx(2.0)
    assert {(r["scope"], r["quality"], r["device_hours"]) for r in rows.values()} == {
        ("node", "stated", 2.0)
    }
    assert "without CPUs" not in command("table").out


def torchtitan(seconds: int) -> str:
    """A step every 4 s, an hour ahead of UTC."""
    return "".join(
        f"[titan] 2024-03-01 11:{s // 60:02d}:{s % 60:02d},500 - root - INFO - \x1b[31mstep: "
        f"{s // 4}  \x1b[32mloss: {9 - s / 100:.4f}  grad_norm:  8.2  tps: 945\n"
        for s in range(4, seconds, 4)
    )


def test_the_training_log_joins_as_steps_by_time(
    command: Command, power: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.log").write_text(torchtitan(160))
    local = power.read_text().replace(" 10:", " 11:")
    power.write_text(local)
    zone = ("--tz", "+01:00")
    done = command("import", "power.csv", "--steps", "train.log", *zone)
    assert done.code == 0, done.err
    assert (
        "train.log: 29 steps, a log of torchtitan; 10 of its steps were before or after" in done.err
    )
    shown = command("show", "--format", "json").json
    assert (shown["steps"], shown["final_loss"]) == (29, pytest.approx(9 - 1.16))
    again = command("import", "power.csv", "--steps", "train.log", *zone)
    assert "; already there" in again.out
    assert command("show", "--format", "json").json == shown
    assert command("plot", "power", "--kind", "loss", "-o", "loss.png").code == 0
    other = command("import", "power.csv", "--steps", "train.log", "--tz", "UTC")
    assert other.code == 0  # both an hour later
    away = command("import", "power.csv", "--steps", "away.log", *zone)
    assert "No such file" in away.err


def test_steps_with_tokens_can_be_projected(command: Command, power: Path, tmp_path: Path) -> None:
    lines = [
        f"{{'loss': {3 - n / 100}, 'learning_rate': 1e-4, 'num_tokens': {1000.0 * (n + 1)}}}"
        for n in range(60)
    ]
    (tmp_path / "sft.log").write_text("\n".join(lines))
    done = command("import", "power.csv", "--steps", "sft.log", "--tz", "UTC")
    assert "60 steps, a log of huggingface; it has no times" in done.err
    assert command("show", "--format", "json").json["tokens"] == 60_000
    ahead = command("project", "power", "--tokens", "1M", "--format", "json").json
    assert ahead["steady_state"]["j_per_token"] == pytest.approx(0.3 * 2, rel=0.05)


def test_steps_that_cannot_be_joined_are_an_error(
    command: Command, power: Path, tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    for text, why in (
        ("Dear diary\n", "no known training writes such a log"),
        (torchtitan(100).replace("2024-03-01", "2023-03-01"), "none of its 24 steps is within"),
    ):
        log.write_text(text)
        done = command("import", "power.csv", "--steps", "train.log", "--tz", "UTC")
        assert (done.code, why in done.err) == (2, True), done.err
    done = command("import", "power.csv", "power.csv", "--steps", "train.log", "--tz", "UTC")
    assert "--steps joins one log to one FILE" in done.err
    assert not (tmp_path / "ledger.db").exists()


def test_a_file_that_is_called_as_the_newest_run(command: Command, power: Path) -> None:
    power.rename("last.csv")
    assert "last of last.csv: 10.0 Wh" in command("import", "last.csv", "--tz", "UTC").out


def test_no_secret_in_the_labels_is_written(command: Command, power: Path) -> None:
    labels = ("--name", "HF_TOKEN=S11", "--project", "pwd=S11", "--tag", "token=S11")
    done = command("import", "power.csv", "--tz", "UTC", *labels, "--tag", "tokens=2T")
    assert done.code == 0, done.err
    shown = command("show", "HF_TOKEN=***", "--format", "json").json
    assert (shown["project"], shown["tags"]) == ("pwd=***", {"token": "***", "tokens": "2T"})
    assert "S11" not in done.out + str(shown)

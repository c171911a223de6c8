"""Found runs in both kinds of ledgers: whole or not at all, and each once."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from carbontrack.importers.identify import identify
from carbontrack.importers.model import FileOptions, Tally
from carbontrack.importers.source import Source
from carbontrack.importers.write import Imported, Labels, Outcome, run_id, write
from carbontrack.ledger import engine, read
from carbontrack.ledger.recorded_rows import Step
from carbontrack.ledger.window import Flag


def imported(folder: Path, seconds: int) -> Imported:
    path = folder / "power.csv"
    rows = "".join(
        f"{1_709_290_700 + s}.5,{100 + s % 2},GPU-00000000-1111\n" for s in range(seconds + 1)
    )
    path.write_text(f"timestamp,power.draw [W],uuid\n{rows}")
    source, tally = Source(path), Tally()
    reader = identify(source)
    return Imported(source, reader.KIND, reader.read(source, FileOptions(), tally), tally)


def test_a_run_is_written_once_and_grows(ledger_url: str, tmp_path: Path) -> None:
    steps = [Step(n, 1_709_290_710_000 + n, tokens=5) for n in range(10)]
    outcomes = []
    for seconds in (200, 200, 500, 100):
        file = imported(tmp_path, seconds)
        (found,) = file.runs
        outcomes += write(ledger_url, file, Labels(name="x"), {run_id(found): steps})
    assert outcomes == [Outcome.ADDED, Outcome.THERE, Outcome.GREW, Outcome.THERE]
    with engine.open_reader(ledger_url).connect() as connection:
        run = read.resolve_run(connection, "x")
        (usage,) = read.totals(connection, run)
        assert usage.energy_j == pytest.approx(500 * 100.5)
        assert usage.flags == Flag.INTEGRAL
        assert (run.started_ms, run.ended_ms) == (1_709_290_700_500, 1_709_291_200_500)
        assert read.step_totals(connection, run).tokens == 50
        assert [source.last_row for source in read.imports(connection, run)] == [202, 502]
        assert (run.kind, run.status) == ("imported", "completed")
        (hours,) = {len(read.hours(connection, run))}
        assert hours == 2  # it goes on over the full hour
        seconds = read.series(connection, run, points=2000)
        assert seconds.level_s == 1
        assert sum(seconds.columns["energy_j"]) == pytest.approx(usage.energy_j)


def test_levels_agree_to_the_mj_and_seconds_are_packed(ledger_url: str, tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    rows = "".join(
        f"{1_709_290_700 + s}.{s % 7}{number},{100 + s % 3 / 3:.4f},GPU-00000000-{number}\n"
        for s in range(400)
        for number in (1, 2)
    )
    path.write_text(f"timestamp,power.draw [W],uuid\n{rows}")
    source, tally = Source(path), Tally()
    reader = identify(source)
    runs = reader.read(source, FileOptions(), tally)
    write(ledger_url, Imported(source, reader.KIND, runs, tally), Labels(name="x"), {})
    with engine.open_reader(ledger_url).connect() as connection:
        found = connection.execute(text("select sensor_key, level, energy_j from windows")).all()
        sums_mj: dict[int, set[int]] = {}
        for sensor, level in {(sensor, level) for sensor, level, _ in found}:
            energies = [j for key, of, j in found if (key, of) == (sensor, level)]
            assert all(round(j * 1000) / 1000 == pytest.approx(j, abs=1e-9) for j in energies)
            sums_mj.setdefault(sensor, set()).add(sum(round(j * 1000) for j in energies))
        assert [len(sums) for sums in sums_mj.values()] == [1, 1]
        expected_mj = sum(device.energy_j for run in runs for device in run.devices.values()) * 1000
        assert sum(map(sum, sums_mj.values())) == pytest.approx(expected_mj, abs=2)
        if connection.dialect.name == "postgresql":
            assert connection.scalar(text("select count(*) from odd_seconds")) == 0


def test_what_fails_is_not_written_at_all(
    ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("carbontrack.importers.write._import", full)
    with pytest.raises(OSError, match="disk full"):
        write(ledger_url, imported(tmp_path, 20), Labels(), {})
    with engine.open_reader(ledger_url).connect() as connection:
        assert read.list_runs(connection) == []

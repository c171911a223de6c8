"""Found runs in both kinds of ledgers: whole or not at all, and each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbontrack.importers.identify import identify
from carbontrack.importers.model import FileOptions, Tally
from carbontrack.importers.source import Source
from carbontrack.importers.write import Imported, Labels, Outcome, run_id, write
from carbontrack.ledger import engine, read
from carbontrack.ledger.rows import Step
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

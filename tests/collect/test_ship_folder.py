"""What nodes without a network have written, shipped from a folder: ledgers and journals alike."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbontrack.ledger import engine, read
from carbontrack.ledger.remove import remove
from carbontrack.ledger.url import ledger_url as url_of
from tests.collect.test_collect import Collector
from tests.collect.test_trouble import sums_mj
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.wrap import CARBONTRACK, Wrapper
from tests.ledger.test_recover import Recorder

pytestmark = pytest.mark.usefixtures("patient")

NODES = [
    Recorded(name=name, number=number, count=2, project="nlp")
    for number, name in enumerate(("one", "two", "three"), start=1)
]


@pytest.fixture
def collector(wrapper: Wrapper, postgres_url: str) -> Iterator[Collector]:
    collector = Collector(wrapper, postgres_url)
    collector.options = ["--oldest-days", "9999", "--keep", "all"]
    collector.start()
    yield collector
    collector.stop()


def ship(wrapper: Wrapper, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [*CARBONTRACK, "db", "ship", *arguments]
    environ = {**wrapper.env, **env}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three ledgers, and the journal of a run that is in none."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "stick"
    folder.mkdir()
    for one in NODES:
        write_ledger(folder / f"{one.name}.db", one)
    journal = Recorder(url_of(str(tmp_path / "away.db")))
    journal.spill(0, 100, ended=True)
    shutil.copy(journal.path, folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """But for what SQLite puts beside a file that it reads."""
    found = (path for path in folder.iterdir() if path.suffix in (".db", ".jsonl"))
    return {path.name: path.read_bytes() for path in found}


def energy_of(url: str) -> dict[str, float]:
    with engine.open_reader(url_of(url)).connect() as connection:
        return {
            run.name: sum(usage.energy_j or 0 for usage in read.totals(connection, run))
            for run in read.list_runs(connection)
        }


def test_a_folder_is_shipped_as_it_is_and_again(
    wrapper: Wrapper, collector: Collector, folder: Path
) -> None:
    token = {"CARBONTRACK_SHIP_TOKEN": collector.token("nlp")}
    before = files(folder)
    for _ in range(2):
        done = ship(wrapper, str(folder), "--to", collector.url, **token)
        assert done.returncode == 0, done.stderr
        assert "Shipped" in done.stdout
    assert files(folder) == before
    expected = {one.name: 2 * one.seconds * one.power_w for one in NODES}
    expected["away"] = 2 * sum(100.0 + s for s in range(100))
    assert energy_of(collector.ledger) == pytest.approx(expected)
    seconds = ship(wrapper, str(folder), "--seconds", "away", "--to", collector.url, **token)
    assert seconds.returncode == 0, seconds.stderr
    assert len(sums_mj(collector.ledger, 1)) == 2 * 100
    two = url_of(str(folder / "two.db"))
    with engine.open_reader(two).connect() as connection:
        run = read.resolve_run(connection, "two")
    remove(two, [run])
    removed = ship(wrapper, str(folder), "--to", collector.url, **token)
    assert "Removed there, as here: 1 run." in removed.stdout
    del expected["two"]
    assert energy_of(collector.ledger) == pytest.approx(expected)


def test_a_folder_is_shipped_to_a_server_by_sql(
    wrapper: Wrapper, postgres_url: str, folder: Path
) -> None:
    one, journal = folder / "one.db", next(folder.glob("*.jsonl"))
    done = ship(wrapper, str(one), str(journal), "--db", postgres_url)
    assert done.returncode == 0, done.stderr
    assert energy_of(postgres_url).keys() == {"one", "away"}
    assert len(sums_mj(postgres_url, 1)) == 2 * 100, "with the seconds that there are"


def test_what_is_refused_of_a_folder_is_said(
    wrapper: Wrapper, collector: Collector, folder: Path
) -> None:
    token = {"CARBONTRACK_SHIP_TOKEN": collector.token("vision")}
    done = ship(wrapper, str(folder / "one.db"), "--to", collector.url, **token)
    assert done.returncode == 1
    assert "rows were refused: the token is of another project than the run" in done.stderr
    assert energy_of(collector.ledger) == {}


def test_a_mistake_is_one_line_and_nothing_is_shipped(
    wrapper: Wrapper, collector: Collector, folder: Path, tmp_path: Path
) -> None:
    token = {"CARBONTRACK_SHIP_TOKEN": collector.token("nlp")}
    empty, text = tmp_path / "empty", tmp_path / "notes.db"
    empty.mkdir()
    text.write_text("not a ledger, though it is called one\n")
    good, to = str(folder / "one.db"), ("--to", collector.url)
    for arguments, says in (
        ((good, str(empty), *to), "There is no other ledger and no journal in"),
        ((good, str(text), *to), "is not a ledger"),
        ((good, str(tmp_path / "nowhere.db"), *to), "nowhere.db"),
        ((good, str(tmp_path / "nowhere.jsonl"), *to), "cannot be read: No such file"),
        ((good, "--retry", *to), "--retry is about what the ledger here had refused"),
        ((good,), "no collector is named"),
        ((good, "--to", "collector"), "not an http or https address"),
    ):
        done = ship(wrapper, *arguments, **token)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert says in done.stderr
    assert energy_of(collector.ledger) == {}

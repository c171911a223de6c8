"""Parquet exports: small, read by others with plain SQL, and back in a ledger to the mJ."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import HEAD
from carbontrack.ledger.export import export
from carbontrack.ledger.merge import merge
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.ledger.verify import verify
from carbontrack.ledger.window import Window
from tests.fixtures.attempts import ONE, PARTS, Part
from tests.fixtures.command import Command
from tests.fixtures.content import content_of
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.tables import tables_of

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of three nodes and two attempts, and one of no project in another month."""
    folder = tmp_path_factory.mktemp("source")
    paths = [part.write(folder / f"{part.host}-{part.attempt}.db") for part in PARTS]
    other = Recorded(name="other", number=40, count=2, seconds=5400, tags={"é": 'a "quote"'})
    paths.append(write_ledger(folder / "other.db", other))
    url = url_of(str(folder / "all.db"))
    merge(url, [str(path) for path in paths])
    return url


@pytest.fixture(scope="module")
def exported(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "export"
    export(source, folder)
    return folder


def test_there_and_back_everything_is_the_same_to_the_mj(
    source: str, exported: Path, ledger_url: str
) -> None:
    taken = merge(ledger_url, [str(exported)])
    assert len(taken.added) == 2
    before, after = content_of(source), content_of(ledger_url)
    assert {name: rows for name, rows in after.items() if name != "windows"} == {
        name: rows for name, rows in before.items() if name != "windows"
    }
    assert [in_thousandths(row) for row in after["windows"]] == [
        in_thousandths(row) for row in before["windows"]
    ]
    assert tables_of(ledger_url) == tables_of(source)
    assert verify(ledger_url) == []
    assert merge(ledger_url, [str(exported)]).known == taken.added


def in_thousandths(row: dict[str, object]) -> dict[str, object]:
    return {k: round(v * 1000) if isinstance(v, float) else v for k, v in row.items()}


def test_an_export_changes_nothing_in_the_ledger_that_it_is_of(
    source: str, exported: Path, tmp_path: Path
) -> None:
    url = url_of(str(tmp_path / "ledger.db"))
    merge(url, [source])
    before = content_of(url)
    assert len(merge(url, [str(exported)]).known) == 2
    assert content_of(url) == before


def test_files_are_split_by_project_and_month(exported: Path) -> None:
    hours = exported / "windows" / "level=3600"
    assert {str(path.relative_to(hours)) for path in hours.rglob("*.parquet")} == {
        "project=nlp/month=2026-05/part-0.parquet",
        "project=__HIVE_DEFAULT_PARTITION__/month=2026-07/part-0.parquet",
    }
    manifest = json.loads((exported / "carbontrack.json").read_text())
    files = {str(path.relative_to(exported)) for path in exported.rglob("*.parquet")}
    assert manifest["files"].keys() == files
    assert manifest["revision"] == HEAD
    assert exported.stat().st_mode & 0o777 == 0o700


def test_duckdb_sums_what_the_tables_say(source: str, exported: Path) -> None:
    """With the statement of docs/ledger.md."""
    duckdb = pytest.importorskip("duckdb")
    page = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
    statement = page.partition("```sql\n-- DuckDB\n")[2].partition("```")[0]
    with duckdb.connect() as connection:
        found = connection.execute(statement.replace("archive/", f"{exported}/")).fetchall()
    expected = {row["label"]: row["energy_kwh"] for row in tables_of(source)[0]}
    assert {name: kwh for _, name, _, kwh in found} == expected
    assert {(project, month) for project, _, month, _ in found} == {
        ("nlp", "2026-05"),
        (None, "2026-07"),
    }


@dataclass(frozen=True)
class Noisy(Part):
    """Devices as drivers give them: power in mW without a pattern, the rest in whole units."""

    def windows(self, device: int, first: int, last: int) -> Iterator[Window]:
        dice = random.Random(f"{device} {first}")
        for window in super().windows(device, first, last):
            power_w = round(350 + dice.gauss(0, 15), 3)
            yield replace(
                window,
                energy_j=power_w,
                power_min_w=round(power_w - abs(dice.gauss(20, 5)), 3),
                power_max_w=round(power_w + abs(dice.gauss(20, 5)), 3),
                util_pct=float(dice.randint(95, 100)),
                memory_max_bytes=60 * 2**30,
                temperature_max_c=float(dice.randint(55, 57)),
                sm_clock_mhz=float(1410 - 15 * dice.randint(0, 2)),
            )


def test_a_device_second_takes_ten_bytes_at_most(tmp_path: Path) -> None:
    part = Noisy(0, 0, seconds=7200)
    url = url_of(str(part.write(tmp_path / "ledger.db")))
    done = export(url, tmp_path / "export")
    assert done.window_bytes / (7200 * ONE.count) <= 10
    back = url_of(str(tmp_path / "back.db"))
    merge(back, [str(tmp_path / "export")])
    assert [in_thousandths(row) for row in content_of(back)["windows"]] == [
        in_thousandths(row) for row in content_of(url)["windows"]
    ]


def test_energies_finer_than_a_mj_still_add_up(tmp_path: Path) -> None:
    """As a model estimates them: each window rounded by itself would be joules off an hour."""

    class Estimated(Part):
        def windows(self, device: int, first: int, last: int) -> Iterator[Window]:
            for window in super().windows(device, first, last):
                yield replace(window, energy_j=1 / 3, energy_s=0.9996, sampled_s=0.9996)

    url = url_of(str(Estimated(0, 0).write(tmp_path / "ledger.db")))
    export(url, tmp_path / "export")
    back = url_of(str(tmp_path / "back.db"))
    merge(back, [str(tmp_path / "export")])
    assert verify(back) == verify(url) == []
    energies = [tables_of(one)[0][0]["energy_kwh"] for one in (url, back)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)


def refusal(folder: Path) -> str:
    with pytest.raises(CarbontrackError) as raised:
        merge(url_of(str(folder.parent / "new.db")), [str(folder)])
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)
    assert not (folder.parent / "new.db").exists()
    return str(raised.value)


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def test_a_folder_that_is_not_whole_is_refused_in_one_line(copy: Path) -> None:
    hours = "windows/level=3600/project=nlp/month=2026-05/part-0.parquet"
    whole = (copy / hours).read_bytes()
    (copy / hours).write_bytes(whole[: len(whole) // 2])
    assert f"is not a whole export: {hours} cannot be read" in refusal(copy)
    (copy / hours).write_bytes((copy / "sensors.parquet").read_bytes())
    assert f"is not a whole export: {hours} has " in refusal(copy)
    (copy / hours).unlink()
    assert f"{hours} cannot be read" in refusal(copy)


def test_a_folder_of_another_program_or_schema_is_refused_in_one_line(copy: Path) -> None:
    manifest = json.loads((copy / "carbontrack.json").read_text())

    def write(**changes: object) -> None:
        (copy / "carbontrack.json").write_text(json.dumps({**manifest, **changes}))

    write(revision="1000")
    assert f"was exported with schema 1000, not {HEAD}" in refusal(copy)
    write(format="delta")
    assert "is of another program" in refusal(copy)
    write(files={"../x.parquet": 1})
    assert "../x.parquet is not a file of an export" in refusal(copy)
    write(files={"windows/level=1/../x/part-0.parquet": 1})
    assert "is not a file of an export" in refusal(copy)
    write(files=7)
    assert "its carbontrack.json cannot be read" in refusal(copy)
    (copy / "carbontrack.json").write_text("{")
    assert "its carbontrack.json cannot be read" in refusal(copy)


def test_other_columns_and_values_are_refused_in_one_line(copy: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    runs = parquet.read_table(copy / "runs.parquet")
    parquet.write_table(runs.drop_columns(["user"]), copy / "runs.parquet")
    assert "runs.parquet has other columns than an export" in refusal(copy)
    texts = pyarrow.array(["no JSON"] * len(runs))
    parquet.write_table(
        runs.set_column(runs.column_names.index("tags"), "tags", texts), copy / "runs.parquet"
    )
    with pytest.raises(CarbontrackError, match="values that it cannot have"):
        merge(url_of(str(copy.parent / "new.db")), [str(copy)])


def test_an_export_is_written_whole_into_a_new_folder(
    command: Command, source: str, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    done = command("db", "export", "--parquet", "full", "--db", source)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "full is there and not empty. Name a new folder." in done.err
    done = command("db", "export", "--parquet", "none", "--db", str(tmp_path / "none.db"))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"full"}
    done = command("db", "export", "--parquet", "new", "--db", source)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("new: ")
    assert command("db", "merge", "new").out == "2 runs added.\n"
    assert {path.name for path in tmp_path.iterdir()} == {"full", "new", "ledger.db"}

"""`verify` finds what is wrong with a ledger, and where; and nothing where nothing is."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import engine
from carbontrack.ledger.merge import merge
from carbontrack.ledger.url import db_option, sqlite_path
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.ledger.verify import verify
from tests.fixtures.attempts import ONE, PARTS
from tests.fixtures.command import Command
from tests.fixtures.stored import change_windows

PART = replace(PARTS[0], seconds=130)
FIRST_MS = PART.started_ms - PART.started_ms % 1000
RUN = f"run {ONE.run.id[:13]}"


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return PART.write(tmp_path_factory.mktemp("part") / "ledger.db")


@pytest.fixture
def url(ledger_url: str, part: Path) -> str:
    """A ledger of one recording of two devices."""
    merge(ledger_url, [str(part)])
    return ledger_url


def change(url: str, *statements: str) -> None:
    """As somebody might by hand, without a look at the keys."""
    if (path := sqlite_path(url)) is not None:
        with closing(sqlite3.connect(path)) as ledger, ledger:
            for statement in statements:
                ledger.execute(statement)
        return
    with engine.writing(url) as writer, writer.begin() as connection:
        for statement in statements:
            change_windows(connection, statement)


def test_a_ledger_as_it_is_recorded_is_sound(url: str) -> None:
    heard: list[tuple[int, int]] = []
    assert verify(url, progress=lambda name, done, total: heard.append((done, total))) == []
    assert heard == [(1, 1)]


def of_first(level: int) -> str:
    return f"level = {level} and sensor_key = 1 and start_ms = ({_first(level)})"


def _first(level: int) -> str:
    return f"select min(start_ms) from windows where level = {level}"


DAY = "2026-05-28"
AT = {1: f"{DAY}T20:58:20+00:00", 60: f"{DAY}T20:58:00+00:00", 3600: f"{DAY}T20:00:00+00:00"}
OF_MINUTE = "the seconds of this minute have energy_j"
OF_HOUR = "the seconds of this hour have energy_j"
WRONG = {
    "a joule too much in a second": (
        f"update windows set energy_j = energy_j + 0.002 where {of_first(1)}",
        [
            (AT[60], OF_MINUTE),
            (AT[3600], OF_HOUR),
        ],
    ),
    "a second that is gone": (
        f"delete from windows where {of_first(1)}",
        [
            (AT[60], OF_MINUTE),
            (AT[3600], OF_HOUR),
        ],
    ),
    "a minute that is gone, and the seconds": (
        f"delete from windows where level = 1 or {of_first(60)}",
        [(AT[3600], "the minutes of this hour have energy_j")],
    ),
    "an hour that is gone": (
        f"delete from windows where {of_first(3600)}",
        [(AT[3600], "shorter windows without the hour")],
    ),
    "a minute that begins where none does": (
        f"update windows set start_ms = start_ms + 1000 where {of_first(60)}",
        [("2026-05-28T20:58:01+00:00", "does not begin at a multiple of 60 s")],
    ),
    "a level that there is not": (
        f"update windows set level = 7 where {of_first(3600)}",
        [(AT[3600], "a window of 7 s"), (AT[3600], "shorter windows without the hour")],
    ),
    "more than all of a second": (
        f"update windows set sampled_s = sampled_s + 0.5 where {of_first(1)}",
        [
            (AT[1], "covers less than 0 s or more than 1 s: energy_s 1, sampled_s 1.5"),
            (AT[60], "the seconds of this minute have sampled_s"),
            (AT[3600], "the seconds of this hour have sampled_s"),
        ],
    ),
    "more than the recording": (
        "update recordings set ended_ms = started_ms + 100000",
        [(AT[1], "130.0 s are covered of the 100.0 s that were recorded")] * 2,
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_window_is_said_with_its_place(url: str, wrong: str) -> None:
    statement, expected = WRONG[wrong]
    if sqlite_path(url) is None and "level that there is not" in wrong:
        with pytest.raises(CarbontrackError, match="no windows of 7 s"):
            change(url, statement)
        return
    change(url, statement)
    found = verify(url)
    for problem, (time, what) in zip(found, expected, strict=True):
        assert problem.where.startswith(f"{RUN}, node0 GPU-node0-")
        assert problem.where.endswith(time)
        assert what in problem.what


def problems(url: str) -> list[str]:
    return [str(problem) for problem in verify(url)]


def test_keys_that_resolve_to_nothing_are_counted(part: Path, tmp_path: Path) -> None:
    url = url_of(str(tmp_path / "ledger.db"))
    merge(url, [str(part)])
    change(
        url,
        "update windows set sensor_key = 99 where level = 1 and sensor_key = 2",
        "update steps set recording_key = 77",
        "insert into stated values (55, 'H100', 1, 2, 3, 4, 'note', null, null)",
    )
    found = problems(url)
    assert "windows of recording 1, sensor 99: 130 refer to no sensor of that recording" in found
    assert "steps.recording_key: 7 refer to no row of recordings" in found
    assert "stated.run_key: 1 refer to no row of runs" in found


def test_a_run_that_was_removed_and_is_there_is_named(url: str) -> None:
    change(url, f"insert into tombstones values ('{ONE.run.id}', 5, 'ada', null)")
    assert problems(url) == [
        f"run {ONE.run.id}: was removed, and not to the end: see carbontrack db recover"
        f"{db_option(url)}"
    ]


def test_a_damaged_file_says_so(part: Path, tmp_path: Path) -> None:
    url = url_of(str(tmp_path / "ledger.db"))
    merge(url, [str(part)])
    change(url, "update windows set samples = 'many' where level = 3600")
    assert problems(url) == ["windows.samples: a value that it cannot have"]
    damaged = tmp_path / "damaged.db"
    content = bytearray((tmp_path / "ledger.db").read_bytes())
    for page in range(8, len(content) // 4096):
        content[page * 4096 : page * 4096 + 100] = bytes(100)
    damaged.write_bytes(content)
    try:
        found = problems(url_of(str(damaged)))
    except CarbontrackError as error:
        found = [str(error)]
    assert found and all("\n" not in line for line in found)


def test_the_command_exits_with_1_where_something_is_wrong(
    command: Command, part: Path, tmp_path: Path
) -> None:
    merge(url_of(str(tmp_path / "ledger.db")), [str(part)])
    done = command("db", "verify")
    assert (done.code, done.out, done.err) == (0, f"{tmp_path}/ledger.db: no problem.\n", "")
    assert command("db", "verify", "--format", "json").json["problems"] == []
    change(
        url_of(str(tmp_path / "ledger.db")), "update windows set energy_j = 0 where level = 3600"
    )
    done = command("db", "verify")
    assert (done.code, done.err) == (1, "")
    lines = done.out.splitlines()
    assert lines[-1] == f"{tmp_path}/ledger.db: 4 problems."
    assert lines[0].startswith(f"{RUN}, node0 GPU-node0-0, {AT[3600]}: the seconds of this hour")


def needs(asked: Sequence[str], command: Command, said: str) -> None:
    done = command("db", *asked)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
    assert said in done.err


def test_bad_use_of_the_commands_is_one_line(command: Command, tmp_path: Path) -> None:
    none = str(tmp_path / "none.db")
    for asked in (["verify"], ["compact", "--keep", "1s:7d"]):
        needs([*asked, "--db", none], command, "There is no ledger at")
    needs(["compact", "--keep", "soon"], command, "--keep soon: invalid")
    needs(["merge", none], command, "There is no ledger at")
    assert list(tmp_path.iterdir()) == []

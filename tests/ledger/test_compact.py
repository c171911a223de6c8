"""Old seconds and minutes go, totals stay, and what is still needed stays, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import engine
from carbontrack.ledger.compact import compact
from carbontrack.ledger.merge import merge
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.ledger.verify import verify
from carbontrack.ledger.window import LEVELS_S
from carbontrack.query.ledger import Ledger
from carbontrack.units import MS_PER_HOUR
from tests.fixtures.attempts import ONE, PARTS
from tests.fixtures.runs import START_MS
from tests.fixtures.stored import change_windows
from tests.fixtures.tables import tables_of
from tests.fixtures.wrap import Wrapper, warnings_in
from tests.ledger.test_recover import Recorder

HOUR_MS = MS_PER_HOUR
FIRST_END_MS = START_MS + HOUR_MS
SECOND_END_MS = START_MS + 2 * HOUR_MS
OF_DEAD = 200  # seconds of the first hour of the node that died: it may come back for a day
WHOLE = PARTS[0]  # 100 s of the first hour, 160 s of the second, on two devices


@pytest.fixture
def url(ledger_url: str, tmp_path: Path) -> str:
    """Three nodes and two attempts, of which node 1 died in the first."""
    paths = [part.write(tmp_path / f"{part.host}-{part.attempt}.db") for part in PARTS]
    merge(ledger_url, [str(path) for path in paths])
    return ledger_url


def counts(url: str) -> dict[tuple[int, int], int]:
    """How many windows there are, by level and hour since the start."""
    query = (
        f"select level, (start_ms - {START_MS}) / {HOUR_MS}, count(*) from windows group by 1, 2"
    )
    with engine.open_reader(url).connect() as connection:
        return {(level, hour): count for level, hour, count in connection.execute(text(query))}


def totals_of(url: str) -> Any:
    """The tables without lost work, whose begin and end lie within windows."""
    return [[{**row, "lost_kwh": None} for row in table] for table in tables_of(url)]


def energy_kwh(url: str) -> list[float]:
    return [row["energy_kwh"] for row in tables_of(url)[0]]


def test_old_hours_go_and_every_total_stays(url: str) -> None:
    tables, before = totals_of(url), counts(url)
    keep = {1: HOUR_MS, 60: 3 * HOUR_MS}
    first = FIRST_END_MS + HOUR_MS
    assert compact(url, keep, now=first - 1).windows == {1: 0, 60: 0}
    assert counts(url) == before
    dry = compact(url, keep, now=first, dry_run=True)
    assert dry.windows == {1: before[1, 0] - OF_DEAD, 60: 0}
    assert counts(url) == before
    assert compact(url, keep, now=first).windows == dry.windows
    assert counts(url) == {**before, (1, 0): OF_DEAD}
    much_later = compact(url, keep, now=first + 30 * HOUR_MS)
    assert much_later.windows == {
        1: OF_DEAD + before[1, 1],
        60: before[60, 0] + before[60, 1],
    }
    assert counts(url) == {key: n for key, n in before.items() if key[0] == 3600}
    assert totals_of(url) == tables
    assert verify(url) == []


@pytest.mark.parametrize("turned", [False, True])
def test_a_device_of_two_runs_counts_once_before_and_after(
    ledger_url: str, tmp_path: Path, turned: bool
) -> None:
    """Two jobs on one node that began a minute apart, each with a ledger of its own."""
    later = replace(WHOLE, one=replace(ONE, name="second", number=1))
    later = replace(later, begin_ms=WHOLE.begin_ms + 60_000)
    paths = [WHOLE.write(tmp_path / "first.db"), later.write(tmp_path / "second.db")]
    merge(ledger_url, [str(path) for path in (reversed(paths) if turned else paths)])
    before = Ledger(ledger_url).table(by="project")["energy_kwh"].sum()
    each = Ledger(ledger_url).table()["energy_kwh"]
    twice = [w.energy_j or 0 for n in range(2) for w in later.windows(n, 0, WHOLE.seconds - 60)]
    assert before == pytest.approx(each.sum() - sum(twice) / 3.6e6, abs=1e-9)
    compact(ledger_url, {1: 0, 60: 0})
    assert counts(ledger_url).keys() == {(3600, 0), (3600, 1)}
    after = Ledger(ledger_url).table(by="project")["energy_kwh"].sum()
    assert after == pytest.approx(before, abs=1e-9)
    assert list(Ledger(ledger_url).table()["energy_kwh"]) == pytest.approx(list(each), abs=1e-9)


def test_what_is_still_recorded_stays_until_it_cannot_change(
    ledger_url: str, tmp_path: Path
) -> None:
    """One without an end whose last sign is 10 minutes and a second after the first hour."""
    part = replace(WHOLE, dies=True, seconds=100 + 601, begin_ms=FIRST_END_MS - 100_000)
    merge(ledger_url, [str(part.write(tmp_path / "part.db"))])
    before = counts(ledger_url)
    heartbeat_ms = FIRST_END_MS + 601_000
    keep = {1: 0}
    assert compact(ledger_url, keep, now=heartbeat_ms).windows == {1: before[1, 0]}
    assert compact(ledger_url, keep, now=SECOND_END_MS + HOUR_MS).windows == {1: 0}
    dead = heartbeat_ms + 24 * HOUR_MS + 1
    assert compact(ledger_url, keep, now=dead).windows == {1: before[1, 1]}


def test_an_hour_that_its_seconds_do_not_add_up_to_is_left(url: str) -> None:
    with engine.writing(url) as writer, writer.begin() as connection:
        wrong = (
            "update windows set energy_j = energy_j + 0.1 where level = 1 and start_ms = "
            "(select min(start_ms) from windows where level = 1) and recording_key = 1 "
            "and sensor_key = (select min(sensor_key) from windows where recording_key = 1)"
        )
        change_windows(connection, wrong)
    done = compact(url, {1: 0}, now=SECOND_END_MS + 30 * HOUR_MS)
    left = 100
    assert done.left_hours == 1
    assert counts(url)[1, 0] == left
    (problem,) = [one for one in verify(url) if "hour" in one.what]
    assert "node0 GPU-node0-0" in problem.where
    assert "energy_j" in problem.what


def test_it_waits_for_journals(tmp_path: Path) -> None:
    url = url_of(str(WHOLE.write(tmp_path / "ledger.db")))
    Recorder(url).spill(0, 10)
    with pytest.raises(CarbontrackError, match=r"1 journal waits .* carbontrack db recover --db"):
        compact(url, {1: 0})
    assert counts(url)[1, 0]


def test_a_file_gets_smaller(tmp_path: Path) -> None:
    path = replace(WHOLE, seconds=2000, begin_ms=START_MS).write(tmp_path / "ledger.db")
    before = path.stat().st_size
    done = compact(url_of(str(path)), {1: 0, 60: 0})
    assert path.stat().st_size == before - done.freed_bytes < before / 2
    assert verify(url_of(str(path))) == []


def test_a_job_that_is_recorded_meanwhile_goes_on(wrapper: Wrapper) -> None:
    """Its recorder writes between the hours of an old run, and does not have to wait."""
    seconds = 4 * 3600
    replace(WHOLE, seconds=seconds, begin_ms=START_MS).write(wrapper.ledger)
    url = url_of(str(wrapper.ledger))
    held = wrapper.hold("sh", "-c", "exit 7")
    held.until_recorded(1)
    old, before = totals_of(url), held.wrapper.seconds()
    assert len(counts(url)) > len(LEVELS_S)
    done = wrapper.carbontrack("db", "compact", "--keep", "1s:0h,60s:0h")
    assert (done.returncode, done.stderr) == (0, "")
    written = held.until_recorded(min(map(len, before.values())) + 3)
    ended = held.end()
    assert (ended.returncode, warnings_in(ended.stderr)) == (7, [])
    for uuid, starts_ms in wrapper.seconds().items():
        assert starts_ms[: len(written[uuid])] == written[uuid]
        assert written[uuid][: len(before[uuid])] == before[uuid]
    by_level = counts(url)
    assert [by_level.get((level_s, 0), 0) for level_s in LEVELS_S] == [0, 0, 2]
    kwh = {row["label"]: row["energy_kwh"] for row in old[0]}
    after = {row["label"]: row["energy_kwh"] for row in tables_of(url)[0]}
    assert after[ONE.name] == pytest.approx(kwh[ONE.name], abs=1e-12)
    assert verify(url) == []


def test_late_seconds_of_an_hour_that_was_compacted_do_not_shrink_it(tmp_path: Path) -> None:
    """A journal that was on another disk has a part of what the hour has."""
    path = tmp_path / "ledger.db"
    url, elsewhere = url_of(str(path)), url_of(str(tmp_path / "elsewhere.db"))
    recorder = Recorder(url)
    recorder.spill(0, 100, ended=True)
    merge(elsewhere, [str(recorder.path)])
    compact(elsewhere, {1: 0})
    expected = counts(elsewhere), energy_kwh(elsewhere)
    recorder.path.unlink()
    recorder.spill(20, 60)
    merge(elsewhere, [str(recorder.path)])
    assert (counts(elsewhere), energy_kwh(elsewhere)) == expected

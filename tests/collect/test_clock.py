"""A node whose clock is hours off, and then is set: known on both sides, and over time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carbontrack import Ledger
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import ledger_url as url_of
from tests.collect.test_collect import Collector
from tests.fixtures.wrap import Held, Wrapper, wait_until
from tests.record.test_clock import clock_shim  # noqa: F401

pytestmark = pytest.mark.usefixtures("patient")

BEHIND_MS = 7_200_000
ERROR_MS = 5_000  # what an answer may take, and no more


@pytest.fixture(params=["http", "sql"])
def way(request: pytest.FixtureRequest) -> str:
    """How what is recorded gets to the team's ledger."""
    return str(request.param)


@pytest.fixture
def hold(
    way: str,
    wrapper: Wrapper,
    clock_shim: Path,  # noqa: F811
    postgres_url: str,
    tmp_path: Path,
) -> Iterator[Callable[[str], Held]]:
    """Start a job of a name that ships, on a node whose clock is off by the seconds in `shift`."""
    with ExitStack() as stack:

        def start(name: str) -> Held:
            env = dict(wrapper.env)
            options = ["--name", name]
            if way == "http":
                collector = Collector(wrapper, postgres_url)
                collector.start()
                stack.callback(collector.stop)
                env["CARBONTRACK_SHIP_TOKEN"] = collector.token("nlp")
                options += ["--ship", collector.url]
            else:
                options += ["--db", postgres_url]
            env |= {"LD_PRELOAD": str(clock_shim), "CLOCK_SHIM_FILE": str(tmp_path / "shift")}
            return wrapper.hold(options=tuple(options), env=env)

        yield start


def test_the_offset_of_a_nodes_clock_is_kept_over_time_and_shipped(
    wrapper: Wrapper, hold: Callable[[str], Held], postgres_url: str, tmp_path: Path, way: str
) -> None:
    shift = tmp_path / "shift"
    shift.write_text(str(-BEHIND_MS // 1000))
    began, began_s = datetime.now(UTC), time.monotonic()
    of_team = ("show", "late", "--db", postgres_url)
    job = hold("late")
    job.until_said("the clock here is 2.0 h behind the one of")
    wait_until(lambda: offsets(postgres_url))
    # It is heard of by the clock of the ledger, whatever its own says.
    wait_until(lambda: wrapper.json(*of_team)["status"] == "running")
    doctor = wrapper.ask("doctor", *(["--db", postgres_url] if way == "sql" else []))
    assert "behind the clock of what it ships to" in doctor.stdout
    shift.write_text("0")
    wait_until(lambda: len(offsets(postgres_url)) > 1)
    going = wrapper.json(*of_team)
    assert going["status"] == "running"
    assert going["duration_s"] <= time.monotonic() - began_s, "no longer for a clock that was set"
    (node,) = going["nodes"]
    assert node["status"] == "running"
    assert datetime.fromisoformat(node["heartbeat"]) <= datetime.now(UTC)
    done = job.end()
    assert done.returncode == 0
    assert done.stderr.count("the clock here is") == 1, "it is said once"
    wait_until(lambda: wrapper.json(*of_team)["status"] == "completed")
    first, *_, last = offsets(postgres_url)
    assert first == pytest.approx(BEHIND_MS, abs=ERROR_MS)
    assert last == pytest.approx(0, abs=ERROR_MS)
    shown = wrapper.json(*of_team)
    assert [node["clock_offset_ms"] for node in shown["nodes"]] == [last]
    (event,) = [one for one in shown["events"] if one["kind"] == "clock-off"]
    assert event["data"]["offset_ms"] == first
    assert "2.0 h behind" in event["message"]
    # What is read has true times, and the run is no longer for a clock that was set.
    (node,) = shown["nodes"]
    (shift,) = node["clock_shifts"]
    assert shift["shift_s"] == pytest.approx(BEHIND_MS / 1000, abs=ERROR_MS / 1000)
    started, ended = (datetime.fromisoformat(shown[name]) for name in ("started", "ended"))
    slack = timedelta(milliseconds=ERROR_MS)
    assert began - slack < started < ended < datetime.now(UTC) + slack
    assert shown["duration_s"] <= time.monotonic() - began_s
    seconds = Ledger(postgres_url).windows("late", level_s=1)["start"]
    assert len(seconds) > 2 * 2
    assert seconds.between(started - timedelta(seconds=1), ended).all()


def test_a_clock_that_is_hours_ahead_for_a_moment_keeps_nothing_out(
    wrapper: Wrapper, hold: Callable[[str], Held], postgres_url: str, tmp_path: Path
) -> None:
    shift = tmp_path / "shift"
    shift.write_text("0")
    job = hold("ahead")
    wait_until(lambda: offsets(postgres_url))
    shift.write_text("7200")
    job.until_said("the clock here is 2.0 h ahead of the one of")
    shift.write_text("0")
    wait_until(lambda: len(offsets(postgres_url)) > 2)
    done = job.end()
    assert done.returncode == 0
    assert "refused" not in done.stderr
    of_team = ("show", "ahead", "--db", postgres_url)
    wait_until(lambda: wrapper.json(*of_team)["status"] == "completed")
    shown = wrapper.json(*of_team)
    times = [event["time"] for event in shown["events"]]
    assert {"clock-set", "clock-off"} <= {event["kind"] for event in shown["events"]}
    assert shown["started"] <= min(times) <= max(times) <= shown["ended"]


def offsets(url: str) -> list[int]:
    """In the order of time."""
    with closing(open_ledger(url_of(url))) as ledger, ledger.reading() as transaction:
        asked = "select offset_ms from clocks order by time_ms + offset_ms"
        return [row["offset_ms"] for row in transaction.ask(asked, {})]

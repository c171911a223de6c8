"""What is now: of nodes that ship, and of recorders that write into this ledger themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from carbontrack.ledger import engine, url
from carbontrack.ledger.live import LiveDevice, newest
from carbontrack.ledger.outcome import POSTS_STALE_MS
from carbontrack.ledger.shipped import take
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.write import RunWriter
from carbontrack.units import MS_PER_HOUR, MS_PER_S, now_ms
from carbontrack.vocabulary import Status
from tests.collect.batches import RECORDED, batch
from tests.fixtures.pictures import all_levels, window_at
from tests.fixtures.runs import recording_of
from tests.fixtures.wrap import Wrapper

HERE = RECORDED.sensors


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[WritableLedger]:
    with closing(open_ledger(ledger_url)) as opened:
        yield opened


def now(url: str) -> list[LiveDevice]:
    with engine.open_reader(url).connect() as connection:
        return newest(connection)


def values(devices: list[LiveDevice]) -> list[tuple[str, int, float | None, float | None]]:
    return [(one.uuid, one.index, one.power_w, one.energy_j) for one in devices]


def test_the_newest_batch_of_a_node_says_what_is_now_until_the_recording_ends(
    ledger: WritableLedger, ledger_url: str
) -> None:
    for end in (20, 60, 40):  # the last comes late
        with ledger.begin() as transaction:
            take(transaction, [(batch(0, end), "nlp")])
    found = now(ledger_url)
    assert values(found) == [
        (HERE[0].uuid, 0, 300.0, 300.0 * 60),
        (HERE[1].uuid, 1, None, None),
    ]
    first = found[0]
    assert (first.run_id, first.project) == (RECORDED.run.id, "nlp")
    assert first.run_name == "llama2", "as it was amended"
    assert (first.host, first.name, first.kind) == ("node1", RECORDED.device, "gpu")
    assert first.util_pct == 50.0
    with ledger.begin() as transaction:
        take(transaction, [(batch(60, 100, ended=True), "nlp")])
        take(transaction, [(batch(0, 80), "nlp")])
    assert now(ledger_url) == []


def test_a_node_is_heard_of_by_the_ledgers_own_clock(
    ledger: WritableLedger, ledger_url: str, wrapper: Wrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeat is hours old by ours: it runs all the same, until it misses three posts."""
    monkeypatch.setenv("COLUMNS", "200")
    with ledger.begin() as transaction:
        take(transaction, [(batch(), "nlp")])
    for heard_ms, expected in (
        (now_ms() + MS_PER_HOUR, Status.RUNNING),  # however long we take to look
        (now_ms() - POSTS_STALE_MS - 1, Status.INTERRUPTED),
    ):
        with ledger.begin() as transaction:
            transaction.write("update live set heard_ms = :heard", [{"heard": heard_ms}])
        assert wrapper.json("show", "last", "--db", ledger_url)["status"] == expected
        assert {one.status for one in now(ledger_url)} == {expected}
    for command in ("runs", "show"):
        said = " ".join(wrapper.ask(command, "--db", ledger_url).stdout.split())
        assert re.search(r"interrupted, last heard \d\d:\d\d \([\d.]+ \w+.* ago\)", said), said
    with ledger.begin() as transaction:
        transaction.write("update live set heard_ms = :heard", [{"heard": 0}])
    assert now(ledger_url) == [], "it does not come back"


def test_on_a_server_it_is_updated_in_place_and_sql_can_take_it_apart(postgres_url: str) -> None:
    """No index is touched."""
    ledger = open_ledger(url.ledger_url(postgres_url))
    with ledger.begin() as transaction:
        take(transaction, [(batch(0, 1), "nlp")])
    with ledger.begin() as transaction:
        for end in range(2, 10):
            take(transaction, [(batch(0, end), "nlp")])
        asked = "select n_tup_upd as n, n_tup_hot_upd as hot from pg_stat_xact_user_tables"
        (found,) = transaction.ask(f"{asked} where relname = :name", {"name": "live"})
        assert found == {"n": 8, "hot": 8}
        (total,) = transaction.ask(
            "select sum(power) as power_w, count(*) as n from live, unnest(power_w) as power", {}
        )
        assert total == {"power_w": 300.0, "n": 2}
    ledger.close()


def test_a_recorder_that_writes_into_the_file_itself_is_shown_by_its_newest_seconds(
    tmp_path: Path,
) -> None:
    ledger_url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = open_ledger(ledger_url)
    begin_ms = (now_ms() + MS_PER_HOUR) // MS_PER_S * MS_PER_S
    run = replace(RECORDED.begun, started_ms=begin_ms)
    going = replace(
        recording_of(run), started_ms=begin_ms, ended_ms=None, status=Status.RUNNING, exit_code=None
    )
    writer = RunWriter(ledger, run, going, HERE)
    for at, power_w in enumerate([100.0, 250.0]):
        rows = all_levels(HERE[0].uuid, [window_at(begin_ms + at * MS_PER_S, 1, power_w)])
        seconds = [(uuid, one) for uuid, one in rows if one.level_s == 1]
        writer.commit(windows=seconds, heartbeat_ms=begin_ms + 2 * MS_PER_S)
    writer.commit(
        windows=[(HERE[0].uuid, replace(window_at(0, 3600, 10.0), start_ms=begin_ms))],
        heartbeat_ms=begin_ms + 2 * MS_PER_S,
    )
    found = now(ledger_url)
    assert values(found) == [(HERE[0].uuid, 0, 250.0, 36_000.0), (HERE[1].uuid, 1, None, None)]
    assert found[0].status is Status.RUNNING
    writer.finish(status=Status.COMPLETED, exit_code=0, ended_ms=begin_ms + 2 * MS_PER_S)
    ledger.close()
    assert now(ledger_url) == []
    ledger.close()

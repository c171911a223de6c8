"""Batches taken in: the same ledger in any order, and no project writes another's runs."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.collect.intake import Intake, Unfit
from carbontrack.ledger import kept_overlaps, read, tokens
from carbontrack.ledger.batch import Batch, Held
from carbontrack.ledger.engine import open_reader
from carbontrack.ledger.overlaps import recorded_twice
from carbontrack.ledger.remove import sweep
from carbontrack.ledger.rows import Overlap, OverlapPart, Tombstone
from carbontrack.ledger.shipped import OtherProject, Reply, Sent, take
from carbontrack.ledger.transaction import Transaction, WritableLedger, open_ledger
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.units import MS_PER_HOUR
from tests.collect.batches import BEGIN_MS, RECORDED, batch

PARTS = [
    batch(0, 60, waits_from=30),
    batch(60, 100),
    batch(0, 120),
    batch(120, 150, ended=True),
]
"""The counter answers in the third: its minutes come once more."""
_TABLES = (
    *("runs", "recordings", "devices", "sensors", "windows", "steps", "events"),
    *("clocks", "amendments", "stated", "imports", "overlaps"),
)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[WritableLedger]:
    with closing(open_ledger(ledger_url)) as opened:
        yield opened


def _said(value: object) -> object:
    """JSON as what it says: SQLite gives its text."""
    return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[", '"') else value


def content(transaction: Transaction) -> list[list[str]]:
    """All rows, without the numbers that a ledger gives by itself."""
    found = []
    for table in _TABLES:
        rows = transaction.ask(f'select * from "{table}"', {})
        found.append(
            sorted(
                str({k: _said(v) for k, v in row.items() if not k.endswith("key")}) for row in rows
            )
        )
    return found


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.lists(st.sampled_from(range(4)), max_size=4), seed=st.integers(0, 10**6))
def test_twice_late_or_in_any_order_the_ledger_is_the_same(
    ledger: WritableLedger, order: list[int], seed: int
) -> None:
    expected = taken(ledger, [0, 1, 2, 3])
    every = [0, 1, 2, 3, *order]
    random.Random(seed).shuffle(every)
    assert taken(ledger, every) == expected


def taken(ledger: WritableLedger, order: list[int]) -> list[list[str]]:
    with ledger.begin() as transaction:
        transaction.write("delete from runs where key > :key", [{"key": 0}])
    for number in order:
        with ledger.begin() as transaction:
            take(transaction, [(PARTS[number], "nlp")])
    with ledger.begin() as transaction:
        return content(transaction)


def test_the_last_batch_is_answered_with_what_the_ledger_holds(ledger: WritableLedger) -> None:
    with ledger.begin() as transaction:
        answers = [one for part in PARTS for one in take(transaction, [(part, "nlp")])]
    *before, last = answers
    assert before == [Reply(), Reply(), Reply()]
    energy_mj = sum(150 * (300_000 + 1000 * number) for number in range(2))
    assert last.held == Held(steps=4, events=4, minutes=6, hours_mj=energy_mj)


@pytest.mark.parametrize("of", ["run", "recording"])
def test_a_run_of_another_project_is_neither_changed_nor_taken_over(
    ledger: WritableLedger, of: str
) -> None:
    with ledger.begin() as transaction:
        take(transaction, [(batch(), "nlp")])
        before = content(transaction)
    foreign = batch(0, 120)
    if of == "recording":
        foreign = replace(
            foreign, run=replace(foreign.run, id="0199aaaa-0000-7000-8000-000000000001")
        )
    with pytest.raises(OtherProject), ledger.begin() as transaction:
        take(transaction, [(replace(foreign, run=replace(foreign.run, name="mine")), "vision")])
    with ledger.begin() as transaction:
        assert content(transaction) == before


def test_a_device_keeps_its_name_whoever_sends_another(ledger: WritableLedger) -> None:
    other = batch(run="0199aaaa-0000-7000-8000-000000000002")
    renamed = tuple(replace(sensor, name="toaster") for sensor in other.sensors)
    with ledger.begin() as transaction:
        take(transaction, [(batch(), "nlp")])
        take(transaction, [(replace(other, sensors=renamed), "vision")])
        names = {row["name"] for row in transaction.ask("select name from devices", {})}
    assert names == {RECORDED.device}


def test_an_amendment_arrives_but_moves_no_run_into_another_project(
    ledger: WritableLedger,
) -> None:
    sent = batch()
    (amendment,) = sent.amendments
    moved = replace(amendment, id=f"{amendment.id[:-1]}2", field="project", after="vision")
    with ledger.begin() as transaction:
        take(transaction, [(replace(sent, amendments=(amendment, moved)), "nlp")])
        rows = transaction.ask("select id, field from amendments", {})
        assert [(row["id"], row["field"]) for row in rows] == [(amendment.id, "name")]


def test_what_was_decided_of_a_shared_device_stays_when_its_nodes_send_all_again(
    ledger: WritableLedger, ledger_url: str
) -> None:
    """The nodes' own ledgers have one recording each, and know of nothing that is shared."""
    ids = (f"0199eeee-0000-7000-8000-00000000000{number}" for number in range(2))
    ends = (batch(0, end, run=id, ended=True) for end, id in zip((40, 70), ids, strict=True))
    alone = [replace(one, overlaps=()) for one in ends]

    def send() -> None:
        with ledger.begin() as transaction:
            take(transaction, [(one, "nlp") for one in alone])

    def shared() -> dict[str, list[Overlap]]:
        with open_reader(ledger_url).connect() as connection:
            return recorded_twice(connection, read.list_runs(connection))

    send()
    kept_overlaps.keep_between(ledger, BEGIN_MS, BEGIN_MS + MS_PER_HOUR)
    with ledger.begin() as transaction:
        for row in list(transaction.ask("select key from recordings", {})):
            transaction.remove_windows(row["key"], [1])
        before = content(transaction)
    twice = shared()
    (of_run,) = twice.values()
    assert [(one.seconds, one.level_s) for one in of_run] == [(40.0, 1)] * 2
    send()
    assert shared() == twice
    with ledger.begin() as transaction:
        assert before[-1] == content(transaction)[-1]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("order", [*permutations(range(3)), (2, 1, 1)])
def test_of_two_decisions_on_an_hour_the_one_with_more_others_stays(
    ledger: WritableLedger, order: tuple[int, ...], together: bool
) -> None:
    """In a transaction for each, or in one for all."""
    uuid, last = RECORDED.sensors[1].uuid, batch(0, 60, ended=True)
    decided = [
        [],
        [OverlapPart(BEGIN_MS, 900.0, 3.0)],
        [OverlapPart(BEGIN_MS, 600.0, 2.0), OverlapPart(BEGIN_MS + 9000, 600.0, 2.0)],
    ]
    sent: list[tuple[Sent, str | None]] = [
        (replace(last, overlaps=tuple((uuid, part) for part in decided[number])), "nlp")
        for number in order
    ]
    for some in [sent] if together else [[one] for one in sent]:
        with ledger.begin() as transaction:
            take(transaction, some)
    with ledger.begin() as transaction:
        found = list(transaction.ask('select start_ms from "overlaps" order by start_ms', {}))
    assert [row["start_ms"] for row in found] == [BEGIN_MS, BEGIN_MS + 9000]


TOMBSTONE = Tombstone(RECORDED.run.id, BEGIN_MS, "ada", "nlp")


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.lists(st.sampled_from(range(6)), max_size=8), seed=st.integers(0, 10**6))
def test_a_removed_run_goes_and_stays_away_in_any_order(
    ledger: WritableLedger, order: list[int], seed: int
) -> None:
    """Batches, its tombstone (4) and sweeps (5), each also again, late and together."""
    shuffle = random.Random(seed)
    every = [*range(5), *order]
    shuffle.shuffle(every)
    with ledger.begin() as transaction:
        transaction.write("delete from runs where key > :key", [{"key": 0}])
        transaction.write("delete from tombstones where time_ms > :then", [{"then": 0}])
    gone = False
    while every:
        sent: list[tuple[Sent, str | None]] = []
        for number in [every.pop() for _ in range(min(len(every), shuffle.randint(1, 3)))]:
            if number < 5:
                sent.append(((*PARTS, TOMBSTONE)[number], "nlp"))
            else:
                sweep(ledger)
        with ledger.begin() as transaction:
            replies = take(transaction, sent)
        gone = gone or any(one is TOMBSTONE for one, _ in sent)
        for (one, _), reply in zip(sent, replies, strict=True):
            assert reply.is_removed == (gone and one is not TOMBSTONE)
    sweep(ledger)
    with ledger.begin() as transaction:
        assert not any(content(transaction))
        assert len(list(transaction.ask("select run_id from tombstones", {}))) == 1


def test_a_tombstone_removes_only_what_is_of_its_project(ledger: WritableLedger) -> None:
    """Neither what is there of another nor, under a guessed id, what is still to come."""
    with ledger.begin() as transaction:
        take(transaction, [(batch(), "nlp")])
        before = content(transaction)
    with pytest.raises(OtherProject), ledger.begin() as transaction:
        take(transaction, [(replace(TOMBSTONE, project=None), "vision")])
    with ledger.begin() as transaction:
        assert content(transaction) == before
        assert not list(transaction.ask("select run_id from tombstones", {}))
        other = batch(run="0199aaaa-0000-7000-8000-000000000007")
        guessed = replace(TOMBSTONE, run_id=other.run.id)
        take(transaction, [(guessed, "vision")])
    with pytest.raises(OtherProject), ledger.begin() as transaction:
        take(transaction, [(other, "nlp")])  # it is said, and not dropped in silence


def test_a_removed_run_stays_removed(ledger: WritableLedger) -> None:
    with ledger.begin() as transaction:
        removed = {"run": RECORDED.run.id, "now": 1}
        transaction.write(
            "insert into tombstones (run_id, time_ms, \"user\") values (:run, :now, 'ada')",
            [removed],
        )
        assert take(transaction, [(batch(ended=True), "nlp")]) == [Reply(is_removed=True)]
        assert not list(transaction.ask("select id from runs", {}))


def test_one_bad_batch_costs_nobody_else_anything(ledger: WritableLedger) -> None:
    """Ten that wait together, of which the database refuses one."""
    bad = 6

    def write(transaction: Transaction, sent: Sequence[tuple[Sent, str]]) -> Sequence[Reply]:
        replies = take(transaction, sent)
        if any(isinstance(one, Batch) and one.run.id.endswith(str(bad)) for one, _ in sent):
            transaction.write("insert into runs (id) values (:id)", [{"id": "no more than that"}])
        return replies

    intake = Intake(ledger, write)
    sent = [
        intake.put(batch(run=f"0199aaaa-0000-7000-8000-00000000000{number}"), "nlp")
        for number in range(10)
    ]
    intake.close()
    failed = [number for number, one in enumerate(sent) if one.exception() is not None]
    assert failed == [bad]
    assert isinstance(sent[bad].exception(), Unfit)
    with ledger.begin() as transaction:
        assert len(list(transaction.ask("select id from runs", {}))) == 9


def test_nor_does_a_name_that_no_index_of_a_server_holds(postgres_url: str) -> None:
    good, other = batch(), batch(run="0199aaaa-0000-7000-8000-000000000009")
    long = "".join(random.Random(1).choices(string.ascii_letters, k=4000))
    bad = replace(other, run=replace(other.run, name=long))
    with closing(open_ledger(url_of(postgres_url))) as ledger:
        intake = Intake(ledger, take)
        sent = [intake.put(one, "nlp") for one in (bad, good)]
        intake.close()
    assert isinstance(sent[0].exception(), Unfit)
    assert sent[1].result() == Reply()


def test_only_the_hash_of_a_token_is_kept_and_a_revoked_one_is_none(
    ledger: WritableLedger,
) -> None:
    with ledger.begin() as transaction:
        secret, other = tokens.add(transaction, "nlp", 1), tokens.add(transaction, "vision", 2)
        assert secret not in str(list(transaction.ask("select * from tokens", {})))
        assert tokens.project_of(transaction, secret) == "nlp"
        first, second = tokens.listing(transaction)
        assert (first.project, second.project) == ("nlp", "vision")
        tokens.revoke(transaction, tokens.name_of(first), 3)
        assert tokens.project_of(transaction, secret) is None
        assert tokens.project_of(transaction, other) == "vision"
        assert tokens.project_of(transaction, first.hash) is None

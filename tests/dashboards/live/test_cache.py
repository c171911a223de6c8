"""What the page keeps: right answers only, worked out once, within a budget of bytes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.live import cache
from dashboards.live.cache import AnswerCache, Body, Lasting, RunCache
from tests.fixtures.runs import Recorded

RUN = Recorded().run


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cache, "time", clock)
    return clock


def body(size: int) -> Body:
    return Body(b"x" * size, None, "text/plain")


def test_an_answer_lasts_its_time_and_as_long_as_its_version(clock: Clock) -> None:
    answers = AnswerCache()
    worked = iter(range(10))

    async def asked(version: int) -> int:
        found: int = await answers.get("key", lambda: next(worked), lasts_s=5.0, version=version)
        return found

    async def session() -> list[int]:
        found = [await asked(1), await asked(1), await asked(2)]
        clock.now_s += 4.9
        found.append(await asked(2))
        clock.now_s += 0.2
        return [*found, await asked(2)]

    assert asyncio.run(session()) == [0, 0, 1, 1, 2]


def test_who_asks_at_once_waits_for_the_same_work() -> None:
    answers, calls, go = AnswerCache(), [], threading.Event()

    def work() -> str:
        calls.append(1)
        go.wait(60)
        return "done"

    async def session() -> list[str]:
        asked = [asyncio.ensure_future(answers.get("key", work, lasts_s=60.0)) for _ in range(20)]
        other = await answers.get("other", lambda: "not delayed", lasts_s=60.0)
        go.set()
        return [other, *await asyncio.gather(*asked)]

    assert asyncio.run(session()) == ["not delayed", *["done"] * 20]
    assert len(calls) == 1


def test_work_that_fails_is_tried_again() -> None:
    answers = AnswerCache()

    def fail() -> None:
        raise ValueError("no")

    async def session() -> object:
        with pytest.raises(ValueError, match="no"):
            await answers.get("key", fail, lasts_s=60.0)
        return await answers.get("key", lambda: 1, lasts_s=60.0)

    assert asyncio.run(session()) == 1


@given(sizes=st.lists(st.integers(0, 1500), max_size=60))
def test_answers_never_take_more_than_their_budget(sizes: list[int]) -> None:
    answers = AnswerCache(max_bytes=1000)

    async def session() -> None:
        for number, size in enumerate(sizes):
            given = await answers.get(
                number % 7, lambda n=size: body(n), lasts_s=9.0, version=number
            )
            assert len(given.plain) == size, "one that is too large is answered all the same"
            assert answers.size_bytes <= 1000

    asyncio.run(session())


def test_packed_bytes_count_too_and_the_oldest_go_first() -> None:
    answers = AnswerCache(max_bytes=100)
    asked: list[str] = []

    def work(name: str) -> Callable[[], Body]:
        def call() -> Body:
            asked.append(name)
            return Body(b"x" * 30, b"y" * 10, "text/plain")

        return call

    async def session() -> None:
        for name in ("a", "b", "a", "c", "a", "b"):
            await answers.get(name, work(name), lasts_s=60.0)

    asyncio.run(session())
    assert asked == ["a", "b", "c", "b"], "a was used since"


def test_a_value_of_a_run_is_built_on_until_it_is_too_old(clock: Clock) -> None:
    values: RunCache[list[int]] = RunCache(10.0, max_bytes=1 << 20)
    later = replace(RUN, heartbeat_ms=(RUN.heartbeat_ms or 0) + 1000)

    def add(known: list[int] | None) -> list[int]:
        return [*(known or []), 1]

    assert values.get(RUN, add) == [1]
    assert values.get(RUN, add) == [1]
    assert values.get(later, add) == [1, 1]
    clock.now_s += 9.9
    assert values.get(RUN, add) == [1, 1, 1]
    clock.now_s += 0.2
    assert values.get(later, add) == [1], "it lasted from the first one on"


def test_a_value_may_last_though_its_run_changes(clock: Clock) -> None:
    values: RunCache[int] = RunCache(10.0, max_bytes=1 << 20, until_changed=False)
    later = replace(RUN, heartbeat_ms=(RUN.heartbeat_ms or 0) + 1000)
    assert values.get(RUN, lambda _: 1) == values.get(later, lambda _: 2) == 1
    clock.now_s += 10.1
    assert values.get(later, lambda _: 2) == 2


@given(sizes=st.lists(st.integers(0, 300), max_size=40))
def test_values_never_take_more_than_their_budget(sizes: list[int]) -> None:
    values: RunCache[int] = RunCache(60.0, max_bytes=200, size_of=lambda size: size)
    for number, size in enumerate(sizes):
        run = replace(RUN, id=str(number % 5), heartbeat_ms=number)
        assert values.get(run, lambda _, n=size: n) == size
        assert values.size_bytes <= 200


def test_all_caches_of_the_page_together_are_within_the_budget() -> None:
    from dashboards.live import curves, view

    parts = (cache.ANSWERS_BYTES, view._LINES_BYTES, view._PLANS_BYTES, view._WHOLES_BYTES)
    assert sum((*parts, curves._MAX_BYTES)) <= cache.BUDGET_BYTES == 64 * 2**20


def test_what_lasts_is_worked_out_once_for_each_key() -> None:
    made = []

    def work(value: str) -> str:
        made.append(value)
        return value

    lasting: Lasting[str] = Lasting(60.0, 2)
    assert [lasting.get(key, partial(work, key)) for key in ("a", "b", "a", "a")] == list("abaa")
    assert made == ["a", "b"]
    lasting.get("c", partial(work, "c"))
    assert lasting.get("b", partial(work, "b")) == "b"
    assert len(made) == 4, "only so many are held"
    brief: Lasting[str] = Lasting(0.0, 2)
    assert [brief.get("a", partial(work, value)) for value in ("a", "z")] == ["a", "z"]

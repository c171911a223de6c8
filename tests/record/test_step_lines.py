"""The steps file's lines: what cannot be is refused at the door, and the rest is taken."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.record.logged import LoggedLines
from carbontrack.record.restarts import Restarts
from carbontrack.record.step_lines import parse
from carbontrack.record.step_times import spread
from carbontrack.record.totals import Totals
from tests.fixtures.runs import START_MS


def read(*lines: str, after_ms: int = START_MS, until_ms: int = START_MS + 1000) -> LoggedLines:
    return parse(lines, after_ms=after_ms, until_ms=until_ms, started_ms=START_MS)


def numbers(logged: LoggedLines) -> list[int]:
    return [one.step.step for one in logged.steps]


def test_events_and_model_card_are_told_apart() -> None:
    logged = read(
        '{"event": "eval", "message": "held-out", "step": 120, "loss": 3.09}',
        '{"model": {"name": "tiny", "parameters": 869504}}',
        '{"model": {"planned_tokens": 1000000}}',
    )
    (event,) = logged.events
    assert (event.kind, event.message) == ("eval", "held-out")
    assert event.data == {"step": 120, "loss": 3.09}
    assert logged.steps == [], "an event that names a step is not a step"
    assert logged.model == {"name": "tiny", "parameters": 869504, "planned_tokens": 1_000_000}


DEEP = '{"step": 2, "x": ' + 100_000 * "[" + 100_000 * "]" + "}"


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '"step"',
        "{}",
        '{"step": "one"}',
        '{"step": null}',
        '{"step": true}',
        '{"step": [1]}',
        "\ufffd",
        '{"step": 1e999}',
        '{"step": NaN}',
        '{"step": 0.1}',
        '{"step": "0.1"}',
        '{"step": 9223372036854775808}',
        '{"step": ' + 5000 * "9" + "}",
        '{"event": ["eval"]}',
        '{"model": "tiny"}',
        DEEP,
    ],
)
def test_a_line_that_is_not_understood_is_counted_and_skipped(line: str) -> None:
    logged = read(line, '{"step": 3}')
    assert logged.bad_lines.count == 1
    assert line[:8].replace("\ufffd", "").strip('"') in logged.bad_lines.first
    assert numbers(logged) == [3]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "[]"),
        ("loss", '"low"'),
        ("loss", "true"),
        ("lr", '{"a": 1}'),
        ("tokens", "9223372036854775808"),
        ("tokens", "1e13"),
        ("tokens", "-4"),
        ("tokens", "3.5"),
        ("tokens", "NaN"),
        ("tokens_total", "-1"),
        ("rank", "-1"),
        ("restart", "-1"),
        ("restart", "2147483647"),
        ("time_ms", "9e18"),
        ("time_ms", "-9000000000000000000"),
        ("time_ms", "1e300"),
        ("time_ms", "0"),
        ("time_ms", '"noon"'),
        ("extra", 100 * "[" + 100 * "]"),
        ("extra", "99999999999999999999"),
    ],
)
def test_a_value_that_cannot_be_is_dropped_and_its_line_taken(name: str, value: str) -> None:
    logged = read(f'{{"step": 3, "grad_norm": 0.5, "{name}": {value}}}')
    (one,) = logged.steps
    assert (one.step.step, one.step.grad_norm, one.step.extra) == (3, 0.5, {})
    assert (one.step.loss, one.step.tokens, one.rank) == (None, None, 0)
    assert START_MS <= one.step.time_ms <= START_MS + 1000
    assert logged.bad_lines.count == 0
    assert logged.bad_values.count == 1
    assert name in logged.bad_values.first


@pytest.mark.parametrize("written", ["51486", "51486.0", "5.1486e4", '"51486"', '"51486.0"'])
def test_a_whole_number_is_one_however_it_is_written(written: str) -> None:
    (one,) = read(f'{{"step": {written}, "tokens": {written}}}').steps
    assert (one.step.step, one.step.tokens) == (51486, 51486)


@pytest.mark.parametrize("loss", ["NaN", "Infinity", "1e308", "-1e308", "1" + 400 * "0"])
def test_a_loss_that_no_training_can_have_is_not_finite(loss: str) -> None:
    (one,) = read(f'{{"step": 1, "loss": {loss}}}').steps
    assert one.step.loss is not None
    assert not math.isfinite(one.step.loss)


@given(line=st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
       lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(
           ["step", "event", "model", "time_ms", "tokens", "loss", "rank", "_lost", "_dropped",
            "tokens_total", "message", "parameters", "restart", "_pid", "_began_ms", "x"]),
           inner)))  # fmt: skip
def test_no_line_raises(line: object) -> None:
    Totals().add([], Restarts().take(read(json.dumps(line), '{"step": 7}')))


@pytest.mark.parametrize("set_ms", [3_600_000, -3_600_000, 5_000, -5_000, 0])
def test_times_by_a_clock_that_was_set_are_those_of_the_recording(set_ms: int) -> None:
    at_ms = START_MS + 9_000
    lines = [
        json.dumps({"step": 1, "time_ms": at_ms + 100, "_began_ms": at_ms + set_ms}),
        json.dumps({"step": 2, "time_ms": at_ms + 200 + set_ms}),
        json.dumps({"event": "eval", "time_ms": at_ms + 300 + set_ms}),
        json.dumps({"step": 3}),
    ]
    when = {"after_ms": at_ms, "until_ms": at_ms + 400, "started_ms": START_MS}
    found = parse(lines, **when, sets_ms=(set_ms, 0))
    assert [one.step.time_ms - at_ms for one in found.steps] == [100, 200, 400]
    assert [one.time_ms - at_ms for one in found.events] == [300]
    assert found.steps[0].began_ms == at_ms
    assert found.bad_values.count == 0
    late = parse(lines[:1], **when, sets_ms=(set_ms,))
    assert late.bad_values.count == (abs(set_ms) > 60_000)


def test_lines_without_a_time_lie_between_two_readings() -> None:
    logged = read(*(f'{{"step": {number}}}' for number in range(4)))
    assert [one.step.time_ms - START_MS for one in logged.steps] == [250, 500, 750, 1000]


def test_lines_without_a_time_lie_between_those_that_have_one() -> None:
    own = START_MS + 600
    logged = read('{"step": 1}', f'{{"step": 2, "time_ms": {own}}}', '{"step": 3}')
    assert [one.step.time_ms - START_MS for one in logged.steps] == [300, 600, 1000]


@given(
    times=st.lists(st.none() | st.integers(0, 1000)),
    after_ms=st.integers(0, 1000),
    until_ms=st.integers(0, 1000),
)
def test_what_is_known_stays_and_what_is_not_lies_in_order(
    times: list[int | None], after_ms: int, until_ms: int
) -> None:
    found = spread(times, after_ms=after_ms, until_ms=until_ms)
    assert len(found) == len(times)
    assert all(own is None or own == at for own, at in zip(times, found, strict=True))
    if all(own is None for own in times) and after_ms <= until_ms:
        assert found == sorted(found)
        assert all(after_ms <= at <= until_ms for at in found)
        assert not found or found[-1] == until_ms

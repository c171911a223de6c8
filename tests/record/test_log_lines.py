"""Steps in logs as trainers write them: nothing is guessed, and what is not understood is said."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Step
from carbontrack.record.log_clock import time_ms_of
from carbontrack.record.log_lines import LogSteps, compiled
from carbontrack.record.logged import LoggedLines
from carbontrack.record.step_table import StepTable
from tests.fixtures.runs import START_MS

UNTIL_MS = START_MS + 10_000


def read(pattern: str, *lines: str) -> LoggedLines:
    steps = LogSteps(compiled(pattern), started_ms=START_MS)
    return take(steps, *lines)


def take(steps: LogSteps, *lines: str) -> LoggedLines:
    matches = [match for line in lines if (match := steps.match(line)) is not None]
    return steps.read(matches, after_ms=START_MS, until_ms=UNTIL_MS)


def found(pattern: str, *lines: str) -> list[Step]:
    return StepTable().take(read(pattern, *lines).steps)


NANOGPT = r"iter (?P<step>\d+): loss (?P<loss>\S+),"
TITAN = (
    r"(?P<time>\d{4}-\S+ \S+) - .*step:\s+(?P<step>\d+)\s+loss:\s+(?P<loss>\S+)"
    r".*tps: (?P<tokens_per_s>\S+).*mfu: (?P<mfu>[\d.]+)"
)
MEGATRON = (
    r"iteration\s+(?P<step>\d+)/.*consumed tokens:\s+(?P<tokens_total>\S+)"
    r"(?:.*lm loss: (?P<loss>\S+))?"
)


def test_plain_lines() -> None:
    steps = found(NANOGPT, "iter 0: loss 10.9118, time 27488ms", "hello", "iter 40: loss 6.2, x")
    assert [(step.step, step.loss) for step in steps] == [(0, 10.9118), (40, 6.2)]


def test_what_stands_around_a_number_is_no_part_of_it() -> None:
    pattern = r"(?P<step>\S+) loss (?P<loss>\S+) tokens (?P<tokens>\S+)"
    (step,) = found(pattern, "[7] loss 2.5, tokens 1,024}")
    assert (step.step, step.loss, step.tokens) == (7, 2.5, 1024)


def test_colours_are_no_part_of_a_line() -> None:
    (step,) = found(
        TITAN,
        "[titan] 2026-05-28 00:00:01,500 - root - INFO - \x1b[31mstep:  2  \x1b[32mloss: 12.3984"
        "  \x1b[38;2;180;60;0mgrad_norm:  8.0  tps: 5,970  tflops: 301.33  mfu: 30.47%",
    )
    assert (step.step, step.loss, step.tokens_per_s) == (2, 12.3984, 5970)
    assert step.extra == {"mfu": 30.47}


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        ("786432", 786432),
        ("1,572,864", 1572864),
        ("51486.0", 51486),
        ("1.258B", 1_258_000_000),
        ("12k", 12_000),
        ("5.1486e4", 51486),
    ],
)
def test_counts_as_people_write_them(written: str, tokens: int) -> None:
    (logged,) = read(r"(?P<step>\d+) tokens (?P<tokens_total>\S+)", f"7 tokens {written}").steps
    assert logged.tokens_total == tokens


@pytest.mark.parametrize(
    "line",
    [
        "3 loss 2,34567 lr 1e-3 tokens 10",
        "3 loss 1_000 lr 1e-3 tokens 10",
        "3 loss ٢ lr 1e-3 tokens 10",
        "3 loss 2,345 lr 1e-3 tokens 10",
        "3 loss 2.3 lr 0,001 tokens 10",
        "3 loss 2.3 lr 1e-3 tokens 1,23",
        "3 loss 2.3 lr 1e-3 tokens 0,123",
        "3 loss 2.3 lr 1e-3 tokens 12,34567",
        "3 loss 2.3 lr 1e-3 tokens 1.5",
        "3 loss 2.3k lr 1e-3 tokens 10",
        "3.5 loss 2.3 lr 1e-3 tokens 10",
    ],
)
def test_what_is_not_understood_is_counted_and_never_guessed(line: str) -> None:
    pattern = r"(?P<step>\S+) loss (?P<loss>\S+) lr (?P<lr>\S+) tokens (?P<tokens>\S+)"
    logged = read(pattern, line, "4 loss 2.25 lr 1e-3 tokens 1,024")
    assert [(one.step.step, one.step.loss, one.step.tokens) for one in logged.steps] == [
        (4, 2.25, 1024)
    ]
    assert logged.bad_lines.count == 1
    assert line in logged.bad_lines.first


def test_without_a_step_the_matches_are_counted() -> None:
    """Hugging Face and TRL print a dict without the step."""
    lines = [f"{{'loss': {loss}, 'num_tokens': {n}.0}}" for loss, n in ((2.5, 10), (2.25, 20))]
    steps = found(
        r"'loss': (?P<loss>[\d.]+).*'num_tokens': (?P<tokens_total>[\d.]+)",
        lines[0],
        "  6%|▋         | 1/16 [01:18<19:31, 78.12s/it]",
        lines[1],
    )
    assert [(step.step, step.loss, step.tokens) for step in steps] == [(1, 2.5, 10), (2, 2.25, 10)]


FOUNDRY = (
    r"\[batch=(?P<step>\d+)/|time/token: (?P<tokens_total>\d+)|loss/train/total: (?P<loss>\S+)"
)


def foundry(step: int) -> list[str]:
    return [
        f"[batch={step}/5]:",
        f"   Train time/batch: {step - 1}",
        f"   Train time/token: {1000 * step}",
        f"   Train loss/train/total: {9 - step}.5",
    ]


def test_a_step_on_several_lines_is_put_together() -> None:
    lines = [line for step in (1, 2, 3) for line in foundry(step)]
    steps = found(FOUNDRY, *lines)
    last = {step.step: step for step in steps}
    assert [(n, s.loss, s.tokens) for n, s in last.items()] == [
        (1, 8.5, 1000), (2, 7.5, 1000), (3, 6.5, 1000),
    ]  # fmt: skip
    assert len(steps) == 3, "each once: no later line changes it"


def test_a_step_that_is_read_in_parts_gets_what_comes_later() -> None:
    steps = LogSteps(compiled(FOUNDRY))
    table = StepTable()
    for line in foundry(3):
        table.take(take(steps, line).steps)
    totals = table.totals()
    assert (totals.steps, totals.final_loss) == (1, 6.5)


def test_a_loss_may_come_before_its_step() -> None:
    lines = ["loss 3.5", "step 1 done", "loss 3.25", "step 2 done"]
    steps = found(r"loss (?P<loss>\S+)|step (?P<step>\d+) done", *lines)
    assert [(step.step, step.loss) for step in steps] == [(1, 3.5), (2, 3.25)]


def test_of_several_ranks_in_one_log_the_lowest_counts() -> None:
    lines = [f"[rank{rank}]: step {n} tokens 4096" for n in (1, 2) for rank in (1, 0)]
    table = StepTable()
    table.take(
        read(r"\[rank(?P<rank>\d+)\]: step (?P<step>\d+) tokens (?P<tokens>\d+)", *lines).steps
    )
    assert (table.totals().steps, table.totals().tokens) == (2, 8192)


def test_lines_that_do_not_match_are_remembered() -> None:
    steps = LogSteps(compiled(NANOGPT))
    take(steps, "", "hello", "world")
    assert (steps.matched, steps.lines, steps.first_line) == (False, 2, "hello")


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        (r"(?P<step>\d+) (?P<los>\S+)", "unknown group 'los'. Write (?P<loss>…)"),
        (r"(?P<stpe>\d+) (?P<loss>\S+)", "unknown group 'stpe'. Write (?P<step>…)"),
        (r"(?P<step>\d+) (?P<Loss>\S+)", "unknown group 'Loss'. Write (?P<loss>…)"),
        (r"(?P<stp>\d+)", "Write (?P<step>…)"),
        (r"(?P<steps>\d+)", "Write (?P<step>…)"),
        (r"(?P<step>\d+) (?P<token>\d+)", "Write (?P<tokens>…)"),
        (r"(?P<step>\d+) (?P<gradnorm>\S+)", "Write (?P<grad_norm>…)"),
        (r"step \d+", "no named group"),
        (r"(?P<step>\d+", "not a pattern"),
    ],
)
def test_a_pattern_that_cannot_be_meant_so(pattern: str, says: str) -> None:
    with pytest.raises(CarbontrackError) as raised:
        compiled(pattern)
    assert says in str(raised.value)


@pytest.mark.parametrize("name", ["mfu", "val_loss", "epoch", "memory", "tflops", "lm"])
def test_groups_of_another_name_are_extras(name: str) -> None:
    (step,) = found(rf"(?P<step>\d+) (?P<{name}>\S+)", "1 2.5")
    assert step.extra == {name: 2.5}


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


NOON = datetime(2026, 5, 28, 10, 0, 1, 500_000, tzinfo=UTC)


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    "text",
    [
        "2026-05-28 12:00:01,500",
        "2026-05-28T12:00:01.500",
        "2026/05/28 12:00:01.500",
        "[2026-05-28 12:00:01.500]",
        "2026-05-28T10:00:01.500Z",
        "2026-05-28T10:00:01.500+00:00",
        "12:00:01.500",
        "12:00:01,500",
        "1779962401.5",
        "1779962401500",
    ],
)
def test_times_as_logs_write_them(text: str) -> None:
    noon_ms = round(NOON.timestamp() * 1000)
    assert time_ms_of(text, now_ms=noon_ms + 3_000) == noon_ms


@pytest.mark.usefixtures("berlin")
def test_a_time_of_day_is_of_yesterday_where_it_would_be_in_the_future() -> None:
    midnight_ms = round(datetime(2026, 5, 28, 22, 0, 5, tzinfo=UTC).timestamp() * 1000)
    assert time_ms_of("23:59:59", now_ms=midnight_ms) == midnight_ms - 6_000
    assert time_ms_of("00:00:01", now_ms=midnight_ms) == midnight_ms - 4_000


@pytest.mark.parametrize("text", ["", "noon", "0:02", "25:00:00", "12", "2026-13-01 00:00:00"])
def test_what_is_not_a_time(text: str) -> None:
    assert time_ms_of(text, now_ms=START_MS) is None


def test_the_logs_own_clock_is_used() -> None:
    lines = [f"{START_MS + at} step {n}" for n, at in enumerate((1000, 1100, 3000))]
    logged = read(r"(?P<time>\d+) step (?P<step>\d+)", *lines)
    assert [one.step.time_ms - START_MS for one in logged.steps] == [1000, 1100, 3000]


@pytest.mark.parametrize("set_s", [7_200, -7_200])
def test_the_logs_own_clock_may_have_been_set(set_s: int) -> None:
    steps = LogSteps(compiled(r"^(?P<time>\S+) step (?P<step>\d+)"), started_ms=START_MS)
    at_s = START_MS // 1000 + 60
    lines = [f"{at_s} step 1", f"{at_s + 1 + set_s} step 2"]
    matches = [found for line in lines if (found := steps.match(line)) is not None]
    found = steps.read(
        matches, after_ms=at_s * 1000 - 500, until_ms=at_s * 1000 + 1_500, sets_ms=(set_s * 1000, 0)
    )
    assert [one.step.time_ms for one in found.steps] == [at_s * 1000, at_s * 1000 + 1_000]


def test_a_clock_that_is_not_of_this_run_is_not() -> None:
    logged = read(r"(?P<time>\d+) step (?P<step>\d+)", f"{START_MS - 7_200_000} step 1")
    assert [one.step.time_ms for one in logged.steps] == [UNTIL_MS]
    assert logged.bad_values.count == 1


def test_lines_without_a_clock_lie_between_the_readings() -> None:
    logged = read(NANOGPT, *(f"iter {n}: loss 1.0," for n in range(5)))
    times_ms = [one.step.time_ms - START_MS for one in logged.steps]
    assert times_ms == [2000, 4000, 6000, 8000, 10_000]


def test_a_known_training_is_named() -> None:
    line = "[titan] 2025-12-17 01:18:26,708 - INFO - \x1b[31mstep:  1  \x1b[32mloss: 12.4153"
    (one,) = read("torchtitan", line.replace("2025-12-17 01:18:26,708 ", "")).steps
    assert (one.step.step, one.step.loss) == (1, 12.4153)
    with pytest.raises(CarbontrackError, match="or one of torchtitan, litgpt"):
        compiled("torchtitian")

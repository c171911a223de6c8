"""A run split by month or by host: the parts add up to it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from carbontrack.account.split import RunRecord, by_host, by_month, months_of, span_of_month
from carbontrack.ledger.recorded_rows import StepTotals
from carbontrack.units import MS_PER_HOUR
from tests.fixtures.runs import Recorded


def record(recorded: Recorded) -> RunRecord:
    return RunRecord(recorded.run, recorded.sensors, recorded.usages, recorded.step_totals)


@given(days=st.floats(0.001, 400), number=st.integers(0, 400))
def test_months_cover_a_run_without_gap_or_overlap(days: float, number: int) -> None:
    run = Recorded(number=number, count=2, seconds=days * 86_400).run
    months = months_of(run)
    spans = [span_of_month(month) for month in months]
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
    assert spans[0][0] <= run.started_ms < spans[0][1]
    assert spans[-1][0] < (run.ended_ms or 0) <= spans[-1][1] or len(months) == 1
    assert all(end % MS_PER_HOUR == 0 for _, end in spans), "no hour lies in two months"


def test_a_month_has_the_devices_that_were_to_be_read_in_it() -> None:
    """Of a job that goes on on another node in June; one of its devices never answered."""
    long = Recorded(count=4, seconds=60 * 86_400.0)
    june_ms, july_ms = span_of_month("2026-06")
    first, second = ((long.start_ms, june_ms),), ((june_ms, july_ms),)
    sensors = [
        replace(s, host=f"node{1 + at // 2}", spans_ms=(first, second)[at // 2])
        for at, s in enumerate(long.sensors)
    ]
    silent = sensors[3].device_key
    usages = [
        usage
        for usage in long.usages
        if usage.device_key != silent
        and (usage.start_ms < june_ms) == (usage.device_key in {s.device_key for s in sensors[:2]})
        and usage.start_ms < july_ms
    ]
    parts = by_month(RunRecord(long.run, sensors, usages, StepTotals()), lambda _: StepTotals())
    assert [one.sensors for one in parts.values()] == [sensors[:2], sensors[2:], []]
    assert [list(by_host(part)) for part in parts.values()] == [["node1"], ["node2"], []]


def test_each_month_has_its_hours_and_its_steps() -> None:
    long = Recorded(count=2, seconds=60 * 86_400.0)
    asked: list[tuple[int, int]] = []

    def steps(span_ms: tuple[int, int]) -> StepTotals:
        from_ms, to_ms = span_ms
        asked.append(span_ms)
        rows = [step for step in long.step_rows if from_ms <= step.time_ms < to_ms]
        return StepTotals(steps=len(rows), tokens=sum(step.tokens or 0 for step in rows))

    parts = by_month(record(long), steps)
    assert list(parts) == ["2026-05", "2026-06", "2026-07"]
    assert sum(len(part.usages) for part in parts.values()) == len(long.usages)
    assert sum(part.steps.tokens or 0 for part in parts.values()) == long.step_totals.tokens
    lengths = [part.run.end_ms - part.run.started_ms for part in parts.values()]
    assert sum(lengths) == 60 * 24 * MS_PER_HOUR
    assert lengths[1] == 30 * 24 * MS_PER_HOUR
    assert len(asked) == 3


def test_a_run_within_a_month_or_on_one_host_is_whole() -> None:
    whole = record(Recorded())
    assert by_month(whole, lambda *_: StepTotals()) == {"2026-05": whole}
    assert by_host(whole) == {"node1": whole}


def test_each_host_has_its_devices_with_their_hours() -> None:
    one = Recorded(count=4)
    sensors = [replace(s, host=f"node{1 + s.device_key % 2}") for s in one.sensors]
    parts = by_host(RunRecord(one.run, sensors, one.usages, one.step_totals))
    assert sorted(parts) == ["node1", "node2"]
    for part in parts.values():
        assert {hour.device_key for hour in part.usages} == {s.device_key for s in part.sensors}
        assert (len(part.sensors), len(part.usages)) == (2, 4)
        assert part.steps.tokens is None, "the tokens are the run's, not a host's"

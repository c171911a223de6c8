"""Phases: which one it is when, and that what was used is split without a loss."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.account.phases import OTHER, Timeline, Used, close_open, usages_by_phase
from carbontrack.ledger.recorded_rows import Event, Recording, Usage, usage_of
from carbontrack.ledger.window import Flag, Pyramid, Window
from carbontrack.vocabulary import Status

HOUR_MS = 3_600_000
START_MS = 495_000 * HOUR_MS + 1_234_567  # in the middle of an hour


def changes(*events: tuple[int, str | None]) -> list[Event]:
    """Phase events, so many ms after the start."""
    return [Event(START_MS + ms, "phase", "", data={"name": name}) for ms, name in events]


def timeline(length_ms: int, *events: tuple[int, str | None]) -> Timeline:
    return Timeline.of(changes(*events), from_ms=START_MS, to_ms=START_MS + length_ms)


def test_a_phase_lasts_until_the_next_one_and_the_rest_is_other() -> None:
    spans = timeline(100, (10, "load"), (30, "train"), (60, None), (70, "train")).spans()
    relative = {
        name: [(a - START_MS, b - START_MS) for a, b in each] for name, each in spans.items()
    }
    assert relative == {
        "load": [(10, 30)],
        "train": [(30, 60), (70, 100)],
        "other": [(0, 10), (60, 70)],
    }
    assert list(relative)[-1] == OTHER


def test_events_outside_of_the_run_change_no_more_than_how_it_begins() -> None:
    line = timeline(100, (-50, "early"), (-20, "load"), (100, "late"), (500, "later"))
    assert list(line.spans()) == ["load"]
    assert timeline(100).spans() == {OTHER: ((START_MS, START_MS + 100),)}


def test_of_several_changes_at_a_moment_the_last_counts() -> None:
    line = timeline(100, (40, "data"), (40, None), (40, "train"))
    assert line.names == (OTHER, "train")


def recording(key: int, end: int, status: Status = Status.FAILED) -> Recording:
    ended_ms = None if status is Status.RUNNING else START_MS + end
    return Recording(
        f"{key}", "node1", None, "0", {}, START_MS, START_MS + end,
        ended_ms=ended_ms, status=status, key=key,
    )  # fmt: skip


def test_a_phase_that_is_open_when_its_recording_ends_ends_with_it() -> None:
    first, second = changes((10, "train"), (50, "train")), changes((70, "load"), (90, None))
    logged = [*((1, event) for event in first), *((2, event) for event in second)]
    dead, alive = recording(1, 60), recording(2, 200, Status.RUNNING)

    def spans(*recordings: Recording, now: int = 200) -> dict[str, list[tuple[int, int]]]:
        events = close_open(logged, recordings, now_ms=START_MS + now)
        line = Timeline.of(events, from_ms=START_MS, to_ms=START_MS + 200)
        return {
            name: [(a - START_MS, b - START_MS) for a, b in each]
            for name, each in line.spans().items()
        }

    gone = spans(dead, alive)
    assert gone == {
        "train": [(10, 60)],
        "load": [(70, 90)],
        "other": [(0, 10), (60, 70), (90, 200)],
    }
    # Another node's, which logs no phases, changes nothing, nor one that ends when others go on.
    assert spans(dead, alive, recording(3, 30)) == gone
    assert spans(recording(1, 75), alive)["load"] == [(70, 90)]
    # At the moment at which the next one begins.
    assert spans(recording(1, 70), alive)["train"] == [(10, 70)]
    # One whose heartbeat stopped is dead, too; one that goes on keeps its phase.
    killed = recording(1, 60, Status.RUNNING)
    assert spans(killed, alive, now=100_000)["train"] == [(10, 60)]
    assert spans(killed, alive)["train"] == [(10, 70)]


def test_the_older_form_with_the_name_as_message_is_read_too() -> None:
    events = [Event(START_MS, "phase", "warm-up"), Event(START_MS, "eval", "", data={"name": "x"})]
    line = Timeline.of(events, from_ms=START_MS, to_ms=START_MS + 1)
    assert line.names == ("warm-up",)


def test_a_step_is_of_the_phase_in_which_it_ended() -> None:
    line = timeline(100, (10, "train"), (50, "eval"))
    times = [START_MS + ms for ms in (-5, 10, 11, 50, 51, 200)]
    assert [line.at(t) for t in times] == [OTHER, OTHER, "train", "train", "eval", "eval"]


def second(start_ms: int, energy_j: float | None, lasts_s: float = 1.0) -> Window:
    return Window(
        start_ms, 1, energy_j, 0.0 if energy_j is None else lasts_s, lasts_s, 10, None, None,
        0, None, None, None, None, 0, Flag.COUNTER,
    )  # fmt: skip


class Stored:
    """The pyramid of some devices, of which windows may be missing."""

    def __init__(self, seconds: Sequence[Sequence[Window]], dropped: Sequence[int] = ()) -> None:
        self.rows: list[tuple[int, Window]] = []
        for key, mine in enumerate(seconds):
            pyramid = Pyramid()
            for one in mine:
                pyramid.add(one)
            self.rows += [(key, one) for one in [*mine, *pyramid.take_changed()]]
        self.rows = [(key, one) for key, one in self.rows if one.level_s not in dropped]

    @property
    def hours(self) -> list[Usage]:
        return [usage_of(key, window) for key, window in self.rows if window.level_s == 3600]

    def finer(self, level_s: int, from_ms: int, to_ms: int) -> list[Used]:
        return [
            Used(key, w.start_ms, w.energy_j, w.energy_s, w.sampled_s, w.samples)
            for key, w in self.rows
            if w.level_s == level_s and from_ms <= w.start_ms < to_ms
        ]


def energies(found: dict[str, list[Usage]]) -> dict[str, float]:
    return {name: sum(u.energy_j or 0.0 for u in usages) for name, usages in found.items()}


FIRST_MS = START_MS // 1000 * 1000


def test_a_second_that_two_phases_share_is_split_by_time() -> None:
    stored = Stored([[second(FIRST_MS + 1000 * i, 100.0 * i) for i in range(4)]])
    at = FIRST_MS + 2250 - START_MS
    found, level_s = usages_by_phase(stored.hours, timeline(3433, (at, "train")), stored.finer)
    assert energies(found) == pytest.approx({"train": 0.75 * 200 + 300, "other": 100 + 0.25 * 200})
    assert level_s == 1


def test_where_the_seconds_were_dropped_a_minute_is_split_by_time() -> None:
    seconds = [[second(FIRST_MS + 1000 * i, 50.0) for i in range(180)]]
    line = timeline(180_000, (90_000, "train"))
    exact, _ = usages_by_phase(Stored(seconds).hours, line, Stored(seconds).finer)
    stored = Stored(seconds, dropped=[1])
    found, level_s = usages_by_phase(stored.hours, line, stored.finer)
    assert level_s == 60
    assert energies(found) == pytest.approx(energies(exact), rel=0.02)
    stored = Stored(seconds, dropped=[1, 60])
    found, level_s = usages_by_phase(stored.hours, line, stored.finer)
    assert level_s == 3600
    assert energies(found) == pytest.approx(energies(exact), rel=0.02)


def test_what_is_not_known_is_no_energy_of_a_phase() -> None:
    stored = Stored([[second(FIRST_MS, None), second(FIRST_MS + 1000, 5.0)]])
    at = FIRST_MS + 1000 - START_MS
    found, _ = usages_by_phase(stored.hours, timeline(2000, (at, "train")), stored.finer)
    assert [u.energy_j for u in found["other"]] == [None]
    assert [u.energy_j for u in found["train"]] == [5.0]


@given(
    energies_j=st.lists(
        st.lists(st.none() | st.floats(0, 1e5), min_size=5, max_size=90), min_size=1, max_size=3
    ),
    events=st.lists(st.tuples(st.integers(-2000, 95_000), st.sampled_from(["a", "b", None]))),
    every=st.integers(1, 45),
    dropped=st.sampled_from([(), (1,), (1, 60)]),
)
def test_phases_add_up_to_the_run(
    energies_j: list[list[float | None]],
    events: list[tuple[int, str | None]],
    every: int,
    dropped: tuple[int, ...],
) -> None:
    """Seconds with gaps, in two hours, however often the phase changes."""
    first = (START_MS // HOUR_MS + 1) * HOUR_MS - 40_000  # the hour changes after 40 s
    seconds = [
        [second(first + 1000 * i * (1 + i // every), one) for i, one in enumerate(of_device)]
        for of_device in energies_j
    ]
    stored = Stored(seconds, dropped)
    ordered = sorted(events, key=lambda event: event[0])
    logged = [Event(first + ms, "phase", "", data={"name": name}) for ms, name in ordered]
    line = Timeline.of(logged, from_ms=first + 250, to_ms=first + 90_000)
    found, _ = usages_by_phase(stored.hours, line, stored.finer)
    for name in ("energy_s", "sampled_s"):
        whole = sum(getattr(u, name) for u in stored.hours)
        parts = sum(getattr(u, name) for each in found.values() for u in each)
        assert parts == pytest.approx(whole)
    whole_j = sum(u.energy_j or 0.0 for u in stored.hours)
    assert sum(energies(found).values()) == pytest.approx(whole_j, abs=1e-6)
    assert all((u.energy_j or 0.0) >= -1e-9 for each in found.values() for u in each)
    spans = [span for each in line.spans().values() for span in each]
    assert sum(b - a for a, b in spans) == line.end_ms - line.starts_ms[0]

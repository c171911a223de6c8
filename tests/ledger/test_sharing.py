"""Who counts what of time that several sensors recorded."""

from __future__ import annotations

import pytest

from carbontrack.ledger.sharing import Part, Stretch, repeated, stretches


def parts(*seconds: float) -> list[Part]:
    return [Part(key, 100.0 * covered, covered) for key, covered in enumerate(seconds)]


@pytest.mark.parametrize(
    ("covered", "twice"),
    [
        ([1.0], [0.0]),
        ([1.0, 1.0], [0.0, 1.0]),
        ([1.0, 1.0, 1.0], [0.0, 1.0, 1.0]),
        ([0.4, 0.6], [0.0, 0.0]),  # one ends as the other begins
        ([0.7, 0.6], [0.0, 0.3]),
        ([0.4, 0.5, 1.0], [0.0, 0.0, 0.9]),  # a watch over both
        ([1.0, 0.2, 0.5], [0.0, 0.2, 0.5]),
        ([0.0, 0.0, 1.0], [0.0, 0.0, 0.0]),
    ],
)
def test_time_beyond_what_there_is_was_recorded_twice(
    covered: list[float], twice: list[float]
) -> None:
    found = repeated(parts(*covered), 1.0)
    assert [one.seconds for one in found] == pytest.approx(twice)
    assert [one.energy_j for one in found] == pytest.approx([100 * one for one in twice])
    beyond = max(0.0, sum(covered) - 1)
    assert sum(one.seconds for one in found) == pytest.approx(beyond)


def test_whole_seconds_in_a_row_are_one_stretch() -> None:
    hour_ms = 3_600_000
    seconds = [
        *((hour_ms - 3000 + at, Part(key, 5.0, 1.0)) for at in (0, 1000, 2000) for key in (1, 2)),
        *((hour_ms, Part(key, 5.0, 1.0)) for key in (1, 2)),  # another hour
        (hour_ms + 1000, Part(1, 5.0, 1.0)),
        *((hour_ms + 2000, Part(key, 5.0, 1.0)) for key in (1, 2)),  # after one alone
        *((hour_ms + 3000, Part(key, 2.0, 0.5)) for key in (1, 2)),  # in part
        *((hour_ms + 4000, Part(key, 5.0, 1.0)) for key in (1, 2)),
        *((hour_ms + 5000, Part(key, 5.0, 1.0)) for key in (1, 2)),
        *((hour_ms + 6000, Part(key, 5.0, 1.0)) for key in (1, 2, 3)),
    ]
    found = list(stretches(seconds, 1))
    assert [(one.start_ms - hour_ms, one.length_s, len(one.parts)) for one in found] == [
        (-3000, 3, 2),
        (0, 1, 2),
        (2000, 1, 2),
        (3000, 1, 2),
        (4000, 2, 2),
        (6000, 1, 3),
    ]
    assert found[0] == Stretch(hour_ms - 3000, 3, (Part(1, 15.0, 3.0), Part(2, 15.0, 3.0)))
    cut = list(stretches(seconds, 1, {hour_ms - 1000}))
    assert [one.length_s for one in cut[:2]] == [2, 1]

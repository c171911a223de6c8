"""Who counts what of time that several sensors recorded."""

from __future__ import annotations

import pytest

from carbontrack.ledger.sharing import (
    Lost,
    Of,
    Part,
    Piece,
    Stretch,
    divided,
    pieces,
    repeated,
    stretches,
    unsure,
)

WHOLE = Of(0)  # a board


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
    found = repeated(parts(*covered), 1.0, [WHOLE] * len(covered))
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
    of_seconds = [Piece(start_ms, 1.0, part) for start_ms, part in seconds]
    found = list(stretches(of_seconds, 1))
    assert [(one.start_ms - hour_ms, one.length_s, len(one.parts)) for one in found] == [
        (-3000, 3, 2),
        (0, 1, 2),
        (2000, 1, 2),
        (3000, 1, 2),
        (4000, 2, 2),
        (6000, 1, 3),
    ]
    assert found[0] == Stretch(hour_ms - 3000, 3, (Part(1, 15.0, 3.0), Part(2, 15.0, 3.0)))
    cut = list(stretches(of_seconds, 1, {hour_ms - 1000}))
    assert [one.length_s for one in cut[:2]] == [2, 1]


def test_an_hour_is_cut_where_recordings_begin_and_end() -> None:
    """Two of 1,800 s of which 600 s were at one time, and one that was read half of its time."""
    spans = {1: (0, 1_800_000), 2: (1_200_000, 3_000_000), 3: (3_000_000, 3_600_000)}
    hour = [
        (0, Part(1, 1800.0, 1800.0)),
        (0, Part(2, 3600.0, 1800.0)),
        (0, Part(3, 300.0, 300.0)),
    ]
    found = pieces(hour, 3600, spans)
    assert [(one.start_ms, one.length_s, one.part) for one in found] == [
        (0, 1200.0, Part(1, 1200.0, 1200.0)),
        (1_200_000, 600.0, Part(1, 600.0, 600.0)),
        (1_200_000, 600.0, Part(2, 1200.0, 600.0)),
        (1_800_000, 1200.0, Part(2, 2400.0, 1200.0)),
        (3_000_000, 600.0, Part(3, 300.0, 300.0)),
    ]
    (both,) = stretches(found, 3600)
    assert (both.start_ms, both.length_s, both.level_s) == (1_200_000, 600.0, 3600)
    assert repeated(both.parts, both.length_s, [WHOLE] * 2)[1] == Part(2, 1200.0, 600.0)
    assert unsure(both.parts, both.length_s, [WHOLE] * 2)[1] == Part(2, 0.0, 0.0)


@pytest.mark.parametrize(
    ("covered", "maybe"),
    [
        ([10.0, 10.0], [0.0, 0.0]),
        ([5.0, 5.0], [0.0, 5.0]),  # at the same time, or one after the other
        ([8.0, 6.0], [0.0, 2.0]),  # at least four of the six
        ([5.0, 5.0, 4.0], [0.0, 5.0, 0.0]),  # of the third all is, for sure
    ],
)
def test_what_may_be_twice_besides(covered: list[float], maybe: list[float]) -> None:
    found = unsure(parts(*covered), 10.0, [WHOLE] * len(covered))
    assert [one.seconds for one in found] == pytest.approx(maybe)


A, B, C = Of(1, 3 / 7), Of(2, 3 / 7), Of(3, 1 / 7)  # instances of the board


@pytest.mark.parametrize(
    ("of", "covered", "twice", "maybe"),
    [
        ([A, B, C], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([A, A, B], [0.7, 0.6, 0.6], [0.0, 0.3, 0.0], [0.0, 0.3, 0.0]),
        ([A, WHOLE], [1.0, 1.0], [0.0, 3 / 7], [0.0, 0.0]),  # a watch
        ([A, B, C, WHOLE], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], [0.0] * 4),
        ([A, A, WHOLE], [1.0, 1.0, 1.0], [0.0, 1.0, 3 / 7], [0.0] * 3),
        ([WHOLE, A, B], [1.0, 1.0, 0.5], [0.0, 1.0, 0.5], [0.0] * 3),
        ([A, WHOLE, B], [1.0, 1.0, 1.0], [0.0, 3 / 7, 1.0], [0.0] * 3),
        ([A, WHOLE], [0.5, 0.5], [0.0, 0.0], [0.0, 3 / 14]),
        ([WHOLE, A], [0.5, 0.4], [0.0, 0.0], [0.0, 0.4]),
    ],
)
def test_a_board_has_what_its_instances_have(
    of: list[Of], covered: list[float], twice: list[float], maybe: list[float]
) -> None:
    found = repeated(parts(*covered), 1.0, of)
    assert [one.seconds for one in found] == pytest.approx(twice)
    assert [one.seconds > 0 for one in found] == [one > 0 for one in twice]
    assert [one.energy_j for one in found] == pytest.approx([100 * one for one in twice])
    besides = unsure(parts(*covered), 1.0, of)
    assert [one.seconds for one in besides] == pytest.approx(maybe)


def test_a_stretch_is_divided_into_windows_as_they_have_it() -> None:
    """Two and a half minutes of three, the last half of the first one having most of its energy."""
    windows = {0: Part(1, 90.0, 60.0), 60_000: Part(1, 10.0, 60.0), 120_000: Part(1, 20.0, 60.0)}
    long = Lost(1, 30_000, 180_000, 110.0, 150.0)
    assert divided([long], windows, 60_000) == {
        0: Part(1, 80.0, 30.0),
        60_000: windows[60_000],
        120_000: windows[120_000],
    }
    in_part = divided([Lost(1, 30_000, 120_000, 60.0, 90.0)], windows, 60_000)
    assert in_part == {0: Part(1, 50.0, 30.0), 60_000: windows[60_000]}
    both_ends = divided([Lost(1, 30_000, 90_000, 65.0, 60.0)], windows, 60_000)
    assert both_ends == {0: Part(1, 55.0, 30.0), 60_000: Part(1, 10.0, 30.0)}
    after_each_other = [Lost(1, 0, 90_000, 95.0, 90.0), Lost(1, 90_000, 180_000, 25.0, 90.0)]
    assert divided(after_each_other, windows, 60_000) == windows
    apart = [Lost(1, 0, 70_000, 99.0, 70.0), Lost(1, 80_000, 120_000, 1.0, 40.0)]
    assert divided(apart, windows, 60_000) == {0: windows[0], 60_000: Part(1, 10.0, 50.0)}

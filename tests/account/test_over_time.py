"""The curve of energy, carbon and money: its last point is the cell, whatever is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack import config
from carbontrack.account import over_time
from carbontrack.account.by_hour import energy_by_hour
from carbontrack.account.curve import EnergyCurve
from carbontrack.account.estimate import estimate_run
from carbontrack.account.over_time import SpentCurve
from carbontrack.account.result import Estimate
from carbontrack.factors.resolve import resolve
from carbontrack.factors.series import IntensitySeries, Interval
from carbontrack.ledger.recorded_rows import Run, StepTotals, Usage
from carbontrack.ledger.rows import Series
from carbontrack.units import MS_PER_HOUR
from tests.fixtures.runs import START_MS, Recorded

MINUTE_MS = 60_000
PRICES: tuple[dict[str, Any], ...] = (
    {"tariff": 0.1},
    {"price_per_gpu_hour": 2.0},
    {"tariff": 0.1, "gpu_price": 20_000.0},
    {"tariff": 0.2, "node_w": 300.0},
    {"currency": "EUR"},  # no price is known
)


@dataclass(frozen=True)
class Made:
    """A run with its windows of a minute: (device, start, J); None: no window there."""

    run: Run
    rows: tuple[tuple[int, int, float], ...]
    estimate: Estimate

    @property
    def hours(self) -> list[Usage]:
        return hours_of(self.rows)

    def series(self, level_s: int, from_ms: int, to_ms: int) -> Series:
        """As `ledger.read.series` gives them: buckets whole, even at the edges."""
        length_ms = level_s * 1000
        found: dict[tuple[int, int], float] = {}
        for device, start_ms, energy_j in self.rows:
            at_ms = start_ms // length_ms * length_ms
            if from_ms // length_ms * length_ms <= at_ms <= to_ms:
                found[device, at_ms] = found.get((device, at_ms), 0.0) + energy_j
        keys = sorted(found)
        columns = {
            "device_key": [device for device, _ in keys],
            "start_ms": [at_ms for _, at_ms in keys],
            "energy_j": [found[key] for key in keys],
        }
        return Series(level_s, columns)


def hours_of(rows: tuple[tuple[int, int, float], ...]) -> list[Usage]:
    found: dict[tuple[int, int], Usage] = {}
    for device, start_ms, energy_j in rows:
        hour_ms = start_ms // MS_PER_HOUR * MS_PER_HOUR
        before = found.get((device, hour_ms)) or Usage(
            device, hour_ms, 0.0, 0.0, 0.0, 0, None, None, None, 0
        )
        found[device, hour_ms] = replace(
            before,
            energy_j=(before.energy_j or 0.0) + energy_j,
            energy_s=before.energy_s + 60.0,
            sampled_s=before.sampled_s + 60.0,
        )
    return list(found.values())


def grid(values: list[float | None], first_ms: int, basis: str) -> IntensitySeries | None:
    known = tuple(
        Interval("FRA", first_ms + i * MS_PER_HOUR, MS_PER_HOUR, value, basis, "made up", "1")
        for i, value in enumerate(values)
        if value is not None
    )
    return IntensitySeries(known) if known else None


@st.composite
def made(draw: st.DrawFn) -> Made:
    late_min = draw(st.integers(0, 59))
    minutes = draw(st.integers(3, 5 * 60))
    one = Recorded(count=2, steps=0)
    start_ms = START_MS + late_min * MINUTE_MS
    run = replace(
        one.run,
        started_ms=start_ms,
        ended_ms=start_ms + minutes * MINUTE_MS,
        heartbeat_ms=start_ms + minutes * MINUTE_MS,
    )
    watts = draw(st.lists(st.floats(50, 700), min_size=7, max_size=7))
    # Stretches in which no device, or one of them, was read: at the start, inside and at the end.
    holes = draw(st.lists(st.tuples(st.integers(0, minutes), st.integers(1, 90)), max_size=3))
    lost = {m for begin, length in holes for m in range(begin, begin + length)}
    alone = draw(st.sets(st.integers(0, minutes), max_size=5))
    rows = tuple(
        (device, start_ms + minute * MINUTE_MS, 60.0 * watts[(minute // 20 + device) % 7])
        for device in (1, 2)
        for minute in range(minutes)
        if minute not in lost and not (device == 2 and minute in alone)
    )
    values = draw(st.lists(st.none() | st.floats(0, 1.5), min_size=7, max_size=7))
    basis = draw(st.sampled_from(["life-cycle average", "direct marginal"]))
    series = draw(st.sampled_from([None, grid(values, START_MS, basis)]))
    chosen = {"zone": "FRA", "pue": draw(st.floats(1, 2)), **draw(st.sampled_from(PRICES))}
    factors = resolve(
        config.resolve([config.flags(**chosen)]),
        method="measured",
        series=series,
        devices={one.device: one.rated_w},
    )
    return Made(run, rows, estimate_run(run, one.sensors, hours_of(rows), StepTotals(), factors))


def assert_ends_in_the_cells(curve: SpentCurve, estimate: Estimate) -> None:
    for name in ("facility_kwh", "tco2e", "cost"):
        column, cell = getattr(curve, name), getattr(estimate, name)
        assert (column is None) == (cell is None), name
        if cell is not None:
            assert column[-1] == pytest.approx(cell, rel=1e-9, abs=1e-15), name
            assert all(a <= b + 1e-12 for a, b in pairwise(column)), name


@settings(max_examples=60, deadline=None)
@given(one=made(), level_s=st.sampled_from([60, 300, 600, 1800, 3600, 7200]))
def test_the_last_point_is_the_tables_cell(one: Made, level_s: int) -> None:
    run, end_ms = one.run, one.run.ended_ms or 0
    series = one.series(level_s, run.started_ms, end_ms)
    energy = EnergyCurve.of(series, from_ms=run.started_ms, to_ms=end_ms)
    curve = SpentCurve.of(run, one.estimate, energy_by_hour(one.hours), energy)
    assert curve.times_ms[-1] == end_ms
    assert_ends_in_the_cells(curve, one.estimate)


@settings(max_examples=60, deadline=None)
@given(one=made(), level_s=st.sampled_from([60, 300, 600]), share=st.floats(0, 1))
def test_a_part_goes_on_from_all_that_was_before(one: Made, level_s: int, share: float) -> None:
    """However a page is zoomed: with the windows of the hour that it begins in."""
    run, end_ms = one.run, one.run.ended_ms or 0
    from_ms = run.started_ms + int(share * (end_ms - run.started_ms))
    series = one.series(level_s, from_ms, end_ms)
    if not series.columns["start_ms"]:
        return
    part = over_time.part_before(run, series)
    earlier = None if part is None else one.series(60, *part)
    curve = SpentCurve.of_part(run, one.estimate, energy_by_hour(one.hours), series, earlier)
    assert_ends_in_the_cells(curve, one.estimate)
    at_windows = over_time.at_windows(run, curve, series)
    assert set(map(len, at_windows.values())) == {len(at_windows["time_ms"])}
    if one.estimate.facility_kwh is not None:
        assert at_windows["facility_kwh"][-1] == pytest.approx(one.estimate.facility_kwh)
    assert curve.at([end_ms])["tco2e"] == [pytest.approx(one.estimate.tco2e)]


def test_windows_as_long_as_hours_share_the_hour_by_its_time() -> None:
    one = Recorded(count=2, seconds=7200, steps=0)
    used = resolve(config.resolve([config.flags(pue=1.0)]), method="measured")
    estimate = estimate_run(one.run, one.sensors, one.usages, StepTotals(), used)
    half_ms = one.start_ms + MS_PER_HOUR // 2
    series = Series(60, {"start_ms": [half_ms], "energy_j": [0.0]})
    hours = Series(3600, {"start_ms": [one.start_ms] * 2, "energy_j": [360.0 * 3600] * 2})
    curve = SpentCurve.of_part(one.run, estimate, energy_by_hour(one.usages), series, hours)
    assert curve.at([half_ms])["facility_kwh"] == [pytest.approx(0.36)]


def test_a_run_without_energy_still_pays_its_rent_by_time() -> None:
    one = Recorded(count=2, seconds=3600, steps=0)
    chosen = config.resolve([config.flags(price_per_gpu_hour=2.0)])
    used = resolve(chosen, method="measured")
    estimate = estimate_run(one.run, one.sensors, [], StepTotals(), used)
    curve = SpentCurve.of(one.run, estimate, {}, EnergyCurve((one.start_ms,), (0.0,)))
    middle = curve.at([one.start_ms + 1_800_000])
    assert middle == {"facility_kwh": [None], "tco2e": [None], "cost": [pytest.approx(2.0)]}


def test_the_parts_of_a_run_add_up_to_it_with_an_hour_missing() -> None:
    """A part takes the intensities that the whole had, and with them what stands in."""
    one = Recorded(count=2, seconds=4 * 3600, steps=0)
    series = grid([0.1, None, 0.3, 0.9], one.start_ms, "direct marginal")
    used = resolve(config.resolve([config.flags(zone="FRA")]), method="measured", series=series)
    whole = estimate_run(one.run, one.sensors, one.usages, StepTotals(), used)
    assert whole.factors is not None
    middle_ms = one.start_ms + 2 * MS_PER_HOUR
    parts = [
        estimate_run(
            replace(one.run, started_ms=from_ms, ended_ms=to_ms),
            one.sensors,
            [usage for usage in one.usages if from_ms <= usage.start_ms < to_ms],
            StepTotals(),
            replace(used, hourly=whole.factors.hourly),
        )
        for from_ms, to_ms in ((one.start_ms, middle_ms), (middle_ms, one.end_ms))
    ]
    assert sum(part.tco2e or 0.0 for part in parts) == pytest.approx(whole.tco2e)
    assert [note for part in parts for note in part.notes] == [
        "1 of its 2 hours without an intensity in FRA: the mean of the other 3 stands in "
        "(0.4333 kg/kWh)"
    ]

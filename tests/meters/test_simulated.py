"""Simulated GPUs: the counter is the exact integral of the power that they show."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack.errors import CarbontrackError
from carbontrack.meters import simulated
from carbontrack.meters.base import MeterContext
from carbontrack.meters.registry import find_meters
from carbontrack.meters.simulated import PowerCurve, TraceCurve, training_curve
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import Quality

_TIMES = st.floats(0, 400, allow_nan=False)
_LINES = st.lists(
    st.tuples(st.floats(0.01, 5), st.floats(0, 700)), min_size=1, max_size=20
)  # (seconds until the next line, watts)


def _riemann_j(curve: PowerCurve, from_s: float, to_s: float, cells: int) -> float:
    width_s = (to_s - from_s) / cells
    return sum(curve.power_w(from_s + (i + 0.5) * width_s) for i in range(cells)) * width_s


@given(
    model=st.sampled_from(["a100", "h100"]),
    index=st.integers(0, 63),
    from_s=_TIMES,
    length_s=st.floats(0.1, 20),
)
@settings(max_examples=60, deadline=None)
def test_the_counter_is_the_integral_of_the_power(
    model: str, index: int, from_s: float, length_s: float
) -> None:
    curve = training_curve(model, index)
    energy_j = curve.energy_j(from_s + length_s) - curve.energy_j(from_s)

    cells = 2000
    # Each jump of the power falls into one cell; two a step, of at most the rated 700 W.
    jumps = 2 * length_s / curve.step_s + 4
    assert energy_j == pytest.approx(
        _riemann_j(curve, from_s, from_s + length_s, cells), abs=jumps * 700 * length_s / cells
    )
    assert curve.idle_w * length_s <= energy_j + 1e-6
    assert energy_j <= 700 * length_s


@given(times=st.lists(_TIMES, min_size=2, max_size=20))
def test_energy_never_falls_and_begins_at_zero(times: list[float]) -> None:
    curve = training_curve("a100", 3)
    energies = [curve.energy_j(t) for t in sorted(times)]

    assert energies == sorted(energies)
    assert curve.energy_j(0) == 0


@given(lines=_LINES, until_s=st.floats(0, 120))
def test_a_trace_holds_each_power_until_the_next_line(
    lines: list[tuple[float, float]], until_s: float
) -> None:
    starts = [0.0]
    for held_s, _ in lines[:-1]:
        starts.append(starts[-1] + held_s)
    curve = TraceCurve(starts, [watts for _, watts in lines])

    ends = [*starts[1:], float("inf")]
    expected_j = sum(
        watts * max(0.0, min(until_s, end) - start)
        for start, end, (_, watts) in zip(starts, ends, lines, strict=True)
    )
    assert curve.energy_j(until_s) == pytest.approx(expected_j, abs=1e-6)


def test_devices_are_named_simulated_and_keep_their_identity() -> None:
    (meter,) = find_meters("sim:a100x8", MeterContext()).meters
    devices = [source.device for source in meter.sources]

    assert len({device.uuid for device in devices}) == 8
    assert all(device.uuid.startswith("SIM-GPU-") for device in devices)
    assert {device.name for device in devices} == {"Simulated NVIDIA A100-SXM4-80GB"}
    assert {device.quality for device in devices} == {Quality.SIMULATED}
    assert {device.rated_power_w for device in devices} == {400.0}
    (again,) = find_meters("sim:a100x8", MeterContext()).meters
    assert [source.device for source in again.sources] == devices
    assert "no real device" in meter.note
    meter.close()


def test_readings_agree_with_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 10**12
    monkeypatch.setattr(simulated, "monotonic_ns", lambda: now_ns)
    (meter,) = find_meters("sim:h100x2", MeterContext()).meters
    now_ns += NS_PER_S
    first = [source.read() for source in meter.sources]
    now_ns += NS_PER_S // 20
    second = [source.read() for source in meter.sources]
    assert first[0].time_ns == first[1].time_ns < second[0].time_ns
    for before, after in zip(first, second, strict=True):
        assert before.energy_j is not None and after.energy_j is not None
        assert before.power_w is not None and after.power_w is not None
        seconds = (after.time_ns - before.time_ns) / 1e9
        mean_w = (after.energy_j - before.energy_j) / seconds  # the ramp is linear
        assert mean_w == pytest.approx((before.power_w + after.power_w) / 2)
    vitals = meter.sources[0].vitals()
    assert vitals is not None and vitals.util_pct is not None
    assert 0 < vitals.util_pct <= 100


def test_a_trace_is_replayed(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("seconds,watts,note\n0,123.5,x\n1000,400,y\n")
    (meter,) = find_meters(f"sim:a100x2@{trace}", MeterContext()).meters

    assert [source.read().power_w for source in meter.sources] == [123.5, 123.5]


@pytest.mark.parametrize("spec", ["", "a100", "b9000x8", "a100x0", "a100x", "x8", "a100x-1", "8"])
def test_a_wrong_form_names_the_known_ones(spec: str) -> None:
    with pytest.raises(CarbontrackError, match="sim:a100x8, sim:h100x4"):
        find_meters(f"sim:{spec}", MeterContext())


@pytest.mark.parametrize(
    "text",
    ["seconds,watts\n", "seconds\n0\n", "seconds,watts\n1,5\n", "seconds,watts\n0,1\n0,2\n", "0"],
)
def test_a_wrong_trace_is_refused(tmp_path: Path, text: str) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(text)

    with pytest.raises(CarbontrackError, match=r"trace\.csv"):
        find_meters(f"sim:a100x2@{trace}", MeterContext())
    with pytest.raises(CarbontrackError, match="No such file"):
        find_meters(f"sim:a100x2@{tmp_path}/none.csv", MeterContext())

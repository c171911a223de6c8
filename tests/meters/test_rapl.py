"""The RAPL meter on a real directory tree with the kernel's layout."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.window import Window
from carbontrack.meters import rapl
from carbontrack.meters.base import DeviceLost, MeterContext, MeterUnavailable
from carbontrack.meters.rapl import open_meter
from carbontrack.meters.registry import find_meters
from carbontrack.record.clock import Clock
from carbontrack.record.reduce import WindowBuilder
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import DeviceKind, Doubt, Quality
from tests.fixtures.powercap import RANGE_UJ, Powercap


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    return Powercap(tmp_path)


def test_packages_and_memory_once_each(powercap: Powercap) -> None:
    meter = powercap.two_sockets().open()

    devices = [source.device for source in meter.sources]
    assert [(d.kind, d.scope) for d in devices] == [
        (DeviceKind.CPU, "cpu"),
        (DeviceKind.DRAM, "dram"),
        (DeviceKind.CPU, "cpu"),
        (DeviceKind.DRAM, "dram"),
    ]
    assert len({d.uuid for d in devices}) == 4
    assert {d.quality for d in devices} == {Quality.COUNTER}
    assert devices[2].name == "CPU package 1"
    assert (devices[2].rated_power_w, devices[2].power_limit_w) == (270.0, 265.0)
    assert devices[1].rated_power_w is None
    assert [d.uuid for d in devices] == [s.device.uuid for s in powercap.open().sources]
    assert "2 packages and memory" in meter.note


def test_energy_is_the_counters_difference_and_power_its_quotient(powercap: Powercap) -> None:
    package, memory, *_ = powercap.two_sockets().open().sources
    before, memory_before = package.read(), memory.read()
    assert before.power_w == 0.0  # two readings were made when it was opened
    powercap.set("intel-rapl:0", 3_500_000)

    after = package.read()
    assert before.energy_j is not None and after.energy_j is not None
    assert after.energy_j - before.energy_j == pytest.approx(2.5)
    seconds = (after.time_ns - before.time_ns) / 1e9
    assert after.power_w == pytest.approx(2.5 / seconds)
    assert memory.read().energy_j == memory_before.energy_j
    assert package.vitals() is None


# Up to 20 mJ from poll to poll: more, in the microseconds between them here, would be a reset.
@given(steps_uj=st.lists(st.integers(0, 20_000), min_size=1, max_size=30))
@settings(deadline=None, max_examples=40)
def test_a_wrapping_counter_goes_on_rising(
    tmp_path_factory: pytest.TempPathFactory, steps_uj: list[int]
) -> None:
    powercap = Powercap(tmp_path_factory.mktemp("rapl"))
    raw_uj = RANGE_UJ - 50_000  # a wrap is near
    powercap.zone("intel-rapl:0", "package-0", raw_uj)
    powercap.zone("intel-rapl:1", "package-1", 5)
    package, other = powercap.open().sources
    start_j = package.read().energy_j
    for step_uj in steps_uj:
        raw_uj = (raw_uj + step_uj) % (RANGE_UJ + 1)
        powercap.set("intel-rapl:0", raw_uj)
        last_j = package.read().energy_j

    assert start_j is not None and last_j is not None
    assert last_j - start_j == pytest.approx(sum(steps_uj) / 1e6, abs=1e-6)
    assert other.read().energy_j == pytest.approx(5e-6)


def test_a_counter_that_was_reset_falls_instead_of_wrapping(powercap: Powercap) -> None:
    powercap.zone("intel-rapl:0", "package-0", 200_000_000_000)
    powercap.zone("intel-rapl:1", "package-1", 5)
    package, _ = powercap.open().sources
    before = package.read()
    powercap.set("intel-rapl:0", 1_000_000)  # 63 kJ short of the range: no wrap in a moment

    after = package.read()
    assert (after.energy_j, after.power_w) == (0.0, None)
    assert before.energy_j is not None and before.energy_j > 0


@pytest.mark.parametrize("after_uj", [1_000_000, 250_000_000_000], ids=["falls", "rises"])
def test_what_a_counter_may_have_wrapped_through_several_times_is_unknown(
    powercap: Powercap, monkeypatch: pytest.MonkeyPatch, after_uj: int
) -> None:
    """Two packages at 100 W, and an hour in which the machine was suspended, or the job paused."""
    at_ns = 5 * NS_PER_S
    monkeypatch.setattr(rapl, "monotonic_ns", lambda: at_ns)
    places = ["intel-rapl:0", "intel-rapl:1"]
    for number, place in enumerate(places):
        powercap.zone(place, f"package-{number}", 200_000_000_000)
    sources = powercap.open().sources
    start_ns = at_ns
    builders = [
        WindowBuilder(one.device, Clock(1_700_000_000_000, start_ns), start_ns=start_ns)
        for one in sources
    ]
    windows: list[list[Window]] = [[], []]
    raw_uj = 200_000_000_000
    for tick in range(1, 81):
        at_ns += NS_PER_S // 10
        raw_uj += 10_000_000
        if tick == 41:
            at_ns += 3600 * NS_PER_S
            raw_uj = after_uj
        for number, (source, builder) in enumerate(zip(sources, builders, strict=True)):
            powercap.set(places[number], raw_uj)
            windows[number] += builder.add(source.read())
    for builder, found in zip(builders, windows, strict=True):
        found += builder.finish(at_ns)
        # 4.0 s before it and 3.9 s after.
        assert sum(one.energy_j or 0.0 for one in found) == pytest.approx(790.0)
        assert sum(one.energy_s for one in found) == pytest.approx(7.9)
        assert [finding.rule for finding in builder.findings()] == [Doubt.COUNTER_RESET]


def test_a_counter_that_is_read_every_ten_seconds_loses_nothing(
    powercap: Powercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slowest sampling there is, at 400 W, on a counter that wraps several times."""
    at_ns = 5 * NS_PER_S
    monkeypatch.setattr(rapl, "monotonic_ns", lambda: at_ns)
    for package in (0, 1):
        powercap.zone(f"intel-rapl:{package}", f"package-{package}", 5)
    package, other = powercap.open().sources
    polls = 200
    for poll in range(1, polls + 1):
        at_ns += 10 * NS_PER_S
        powercap.set("intel-rapl:0", (5 + poll * 4_000_000_000) % (RANGE_UJ + 1))
        last = package.read()
        other.read()
    assert last.energy_j == pytest.approx(4_000.0 * polls)
    assert last.power_w == pytest.approx(400.0)


def test_a_zone_that_goes_away_is_lost_alone(powercap: Powercap) -> None:
    first, *_, last = powercap.two_sockets().open().sources
    shutil.rmtree(powercap.folder / "intel-rapl:1:1")

    with pytest.raises(DeviceLost):
        last.read()
    assert first.read().energy_j is not None


def test_sub_zones_may_lie_inside_their_package(powercap: Powercap) -> None:
    powercap.zone("intel-rapl:0", "package-0", 1)
    powercap.zone("intel-rapl:0/intel-rapl:0:0", "dram", 2)

    assert [s.device.kind for s in powercap.open().sources] == [DeviceKind.CPU, DeviceKind.DRAM]


def test_no_rapl_says_why(powercap: Powercap) -> None:
    with pytest.raises(MeterUnavailable, match="virtual machine"):
        powercap.open()
    with pytest.raises(CarbontrackError, match="virtual machine"):
        find_meters("rapl", MeterContext(sysfs=powercap.root))
    with pytest.raises(CarbontrackError, match="no argument"):
        find_meters("rapl:0", MeterContext(sysfs=powercap.root))


def test_permission_denied_comes_with_the_fix() -> None:
    root = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    try:
        root.chmod(0o755)
        Powercap(root).two_sockets()
        for counter in root.glob("class/powercap/*/energy_uj"):
            counter.chmod(0o400 if os.geteuid() == 0 else 0)
        with _as_nobody(), pytest.raises(MeterUnavailable, match="chmod") as denied:
            open_meter("", MeterContext(sysfs=root))
        assert "energy_uj may only be read by root" in str(denied.value)
    finally:
        shutil.rmtree(root)


@contextmanager
def _as_nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)

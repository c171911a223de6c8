"""The overview figure: what it shows is what the ledger holds, and it says what it is made of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from carbontrack import config
from carbontrack.account.result import Estimate
from carbontrack.ledger import engine, read
from carbontrack.ledger.rows import Event, Node, Step
from carbontrack.ledger.write import RunWriter
from carbontrack.meters.base import Reading
from carbontrack.record.window import Clock, Pyramid, Window, WindowBuilder
from carbontrack.report import gather
from carbontrack.units import NS_PER_S
from dashboards import data, figures
from tests.fixtures.runs import START_MS, Recorded
from tests.record.test_window import device

LENGTH_S = 60
GAP_S = range(20, 30)


def seconds_of(power_w: float, *, gap: bool) -> list[Window]:
    """A minute at a constant power, with ten seconds that nobody watched."""
    builder = WindowBuilder(device(), Clock(START_MS, 0), start_ns=0)
    windows: list[Window] = []
    for tick in range(LENGTH_S * 10):
        if gap and tick // 10 in GAP_S:
            continue
        windows += builder.add(Reading(tick * NS_PER_S // 10, None, power_w))
    return windows + builder.finish(LENGTH_S * NS_PER_S)


def load(
    url: str, *, devices: int = 8, gap: bool = False, steps: bool = True
) -> tuple[data.RunData, Estimate]:
    recorded = Recorded(count=devices, seconds=LENGTH_S, number=0)
    ledger = engine.open_writer(url)
    writer = RunWriter(ledger, recorded.run, _node(), recorded.sensors)
    rows = []
    for index, sensor in enumerate(recorded.sensors):
        seconds, pyramid = seconds_of(100.0 + 10 * index, gap=gap), Pyramid()
        for second in seconds:
            pyramid.add(second)
        rows += [(sensor.uuid, w) for w in [*seconds, *pyramid.take_changed()]]
    writer.commit(
        windows=rows,
        steps=[Step(n, START_MS + n * 1000, loss=6.0 / n) for n in range(1, 60)] if steps else [],
        events=[
            Event(START_MS + 30_000, "eval", "held-out", data={"loss": 3.0}),
            Event(START_MS + 31_000, "checkpoint", "saved"),
        ],
        heartbeat_ms=START_MS + 60_000,
    )
    ledger.dispose()
    return read_back(url)


def read_back(url: str) -> tuple[data.RunData, Estimate]:
    reader = engine.open_reader(url)
    with reader.connect() as connection:
        run = read.resolve_run(connection, "last")
        flags = config.flags(pue=1.5, intensity=0.4)
        (estimate,) = gather.estimates(connection, [run], flags, ["measured"])
        loaded = data.load(connection, run)
    reader.dispose()
    return loaded, estimate


def _node() -> Node:

    return Node("node1", None, "test", {}, START_MS)


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def lines(figure: Figure, panel: int) -> dict[str, np.ndarray]:
    return {
        str(line.get_label()): np.asarray(line.get_ydata(), dtype=float)
        for line in figure.axes[panel].get_lines()
    }


def test_it_draws_what_the_ledger_holds(ledger_url: str, tmp_path: Path) -> None:
    run, estimate = load(ledger_url)
    figure = figures.overview(run, estimate)
    power, loss, energy = (lines(figure, panel) for panel in range(3))
    assert np.nanmax(power["total"]) == pytest.approx(sum(100 + 10 * i for i in range(8)) / 1000)
    assert len(loss["training loss of each step"]) == 59
    assert list(loss["held-out loss"]) == [3.0]
    (curve,) = (y for label, y in energy.items() if label.startswith("_child0"))
    assert estimate.facility_kwh is not None
    assert curve[-1] == pytest.approx(estimate.facility_kwh * 1000)
    figure.savefig(tmp_path / "a.png")
    figure.savefig(tmp_path / "a.pdf")


def test_axes_say_their_units_and_the_footnote_its_factors(ledger_url: str) -> None:
    figure = figures.overview(*load(ledger_url))
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels == ["power (kW)", "loss (nats per token)", "facility energy (Wh)"]
    assert figure.axes[-1].get_xlabel() == "time since start (s)"
    footnote = figure.get_supxlabel()
    for part in ("meter nvml", "scope gpu", "coverage", "PUE 1.5", "0.4 kgCO₂e/kWh"):
        assert part in footnote
    assert "assumed" not in footnote


def test_a_gap_is_drawn_as_a_gap(ledger_url: str) -> None:
    figure = figures.overview(*load(ledger_url, gap=True))
    power = lines(figure, 0)
    assert np.isnan(power["each device"]).any()
    assert np.isnan(power["total"]).sum() >= len(GAP_S) - 1
    assert not (power["total"] == 0).any(), "what is not known is not zero"


def test_a_run_without_steps_still_has_its_power(ledger_url: str) -> None:
    figure = figures.overview(*load(ledger_url, devices=2, steps=False))
    assert [ax.get_ylabel() for ax in figure.axes] == ["power (W)", "facility energy (Wh)"]


def test_a_run_that_measured_nothing_is_an_empty_figure(ledger_url: str, tmp_path: Path) -> None:
    recorded = Recorded(count=0, seconds=10, number=0)
    ledger = engine.open_writer(ledger_url)
    RunWriter(ledger, recorded.run, _node(), [])
    ledger.dispose()
    figures.overview(*read_back(ledger_url)).savefig(tmp_path / "a.png")

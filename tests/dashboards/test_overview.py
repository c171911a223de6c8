"""The overview figure: what it shows is what the ledger holds, and it says what it is made of."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Event, Step
from carbontrack.ledger.url import ledger_url as url_of
from dashboards import figures
from tests.fixtures import pictures
from tests.fixtures.attempts import Part
from tests.fixtures.pictures import GAP_S, LOST_S, load, power_w
from tests.fixtures.runs import START_MS, Recorded

EIGHT = Recorded(count=8, seconds=60)


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """SQLite alone: a figure is drawn from what the queries give, whatever the database."""
    return url_of(str(tmp_path / "ledger.db"))


def lines(figure: Figure, panel: int) -> dict[str, np.ndarray]:
    return {
        str(line.get_label()): np.asarray(line.get_ydata(), dtype=float)
        for line in figure.axes[panel].get_lines()
    }


def test_it_draws_what_the_ledger_holds(ledger_url: str) -> None:
    pictures.write_seconds(ledger_url, EIGHT)
    run = load(ledger_url)
    power, loss, energy = (lines(figures.overview(run), panel) for panel in range(3))
    true_w = [sum(power_w(second, i) for i in range(8)) / 8 for second in range(60)]
    assert power["mean of 8 devices"] == pytest.approx(true_w)
    assert len(loss["training loss of each step"]) == 59
    assert list(loss["held-out loss"]) == [3.0], "a loss that is no number is not drawn"
    curve = next(iter(energy.values()))
    assert run.estimate.facility_kwh is not None
    assert curve[-1] == pytest.approx(run.estimate.facility_kwh * 1000)


def test_it_tells_what_it_came_to_in_energy_emissions_and_money(ledger_url: str) -> None:
    pictures.write_seconds(ledger_url, EIGHT)
    run = load(ledger_url, pue=1.5, intensity=0.4, price_per_gpu_hour=2.0)
    (told,) = (text.get_text() for text in figures.overview(run).axes[2].texts)
    energy, carbon, money = told.splitlines()
    assert energy == f"total {(run.estimate.facility_kwh or 0) * 1000:.3g} Wh"
    assert carbon.endswith(" gCO₂e")
    assert money == f"${8 * 60 / 3600 * 2.0:.2f}"


def test_the_second_scales_are_the_same_curves_in_other_units(ledger_url: str) -> None:
    pictures.write_seconds(ledger_url, EIGHT)
    figure = figures.overview(load(ledger_url))
    figure.draw_without_rendering()
    power, energy = figure.axes[0], figure.axes[2]
    for ax, label, ratio in (
        (power, "total (kW)", 8 / 1000),
        (energy, "emissions (gCO₂e)", 0.4),
    ):
        (right,) = ax.child_axes
        assert right.get_ylabel() == label
        assert right.get_ylim()[1] == pytest.approx(ax.get_ylim()[1] * ratio)


def test_it_says_what_its_numbers_are(ledger_url: str) -> None:
    pictures.write_seconds(ledger_url, Recorded(count=8, seconds=60, quality="simulated"))
    run = load(ledger_url)
    figure = figures.overview(run)
    assert figure.get_suptitle() == (
        "llama2-7b: 8 × NVIDIA A100-SXM4-80GB\nscope gpu, meter nvml (simulated)"
    )
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels[:3] == ["power of a device (W)", "loss (nats per token)", "facility energy (Wh)"]
    assert figure.axes[-1].get_xlabel() == "time since start (s)"
    footnote = " ".join(figure.get_supxlabel().split())
    for part in ("coverage", "PUE 1.5", "0.4 kgCO₂e/kWh"):
        assert part in footnote
    assert "assumed" not in footnote


def test_it_says_simulated_once(ledger_url: str) -> None:
    device = "Simulated NVIDIA A100"
    one = Recorded(count=8, seconds=60, device=device, meter="sim", quality="simulated")
    pictures.write_seconds(ledger_url, one)
    title = figures.overview(load(ledger_url)).get_suptitle()
    assert title == "llama2-7b: 8 × Simulated NVIDIA A100\nscope gpu, meter sim"


def test_eight_devices_have_eight_colours_and_their_mean_none_of_them(ledger_url: str) -> None:
    pictures.write_seconds(ledger_url, EIGHT)
    drawn = figures.overview(load(ledger_url), each=True).axes[0].get_lines()
    colours = {str(line.get_label()): line.get_color() for line in drawn}
    assert {f"gpu {n}" for n in range(8)} < set(colours)
    assert len({colours[name] for name in colours if name.startswith("gpu")}) == 8
    assert colours["mean of 8 devices"] not in [colours[f"gpu {n}"] for n in range(8)]


def test_a_loss_that_exploded_and_those_that_are_no_numbers_are_told(ledger_url: str) -> None:
    steps = [
        Step(n, EIGHT.start_ms + 1000 * n, loss=3.0 - n / 50, tokens=1024) for n in range(1, 60)
    ]
    steps[20] = replace(steps[20], loss=1e30)
    for n in (30, 31):
        steps[n] = replace(steps[n], loss=math.nan)
    del steps[40]
    steps[45] = replace(steps[45], loss=None)  # told none: no gap
    pictures.write(ledger_url, EIGHT, [], [], steps)
    (loss,) = figures.overview(load(ledger_url)).axes
    assert loss.get_ylim()[1] < 4
    assert [text.get_text() for text in loss.texts] == [
        "1 of 55 points above, up to 1e+30",
        "2 losses are not finite (NaN or ∞)",
    ]
    (curve,) = loss.get_lines()
    assert list(np.flatnonzero(np.isnan(np.asarray(curve.get_ydata(), dtype=float)))) == [30, 31]


def test_eight_devices_are_their_mean_and_their_range(ledger_url: str) -> None:
    pictures.write_seconds(ledger_url, EIGHT)
    panel = figures.overview(load(ledger_url)).axes[0]
    assert [line.get_label() for line in panel.get_lines() if line.get_ls() == "-"] == [
        "mean of 8 devices"
    ]
    (band,) = panel.collections
    assert band.get_label() == "lowest to highest device"
    heights = band.get_paths()[0].vertices[:, 1]
    true_w = [power_w(second, device) for second in range(60) for device in range(8)]
    assert (heights.min(), heights.max()) == pytest.approx((min(true_w), max(true_w)))


def test_a_slide_has_the_shape_of_one_and_bolder_lines(ledger_url: str) -> None:
    pictures.write_seconds(ledger_url, EIGHT)
    run = load(ledger_url)
    paper, slide = (figures.overview(run, style=style) for style in ("paper", "slide"))
    assert list(slide.get_size_inches()) == pytest.approx([40 / 3, 7.5])
    assert paper.get_size_inches()[0] == 3.5
    widths = [figure.axes[0].get_lines()[-1].get_linewidth() for figure in (paper, slide)]
    assert widths[1] > 1.5 * widths[0]
    assert figures.overview(run, width=7).get_size_inches()[0] == 7


def test_a_gap_is_drawn_as_a_gap(ledger_url: str) -> None:
    pictures.write_seconds(ledger_url, EIGHT, gap=True)
    figure = figures.overview(load(ledger_url), each=True)
    power, energy = lines(figure, 0), lines(figure, 2)
    assert np.isnan(power["gpu 1"]).any()
    unknown = {*GAP_S, *LOST_S}
    assert set(np.flatnonzero(np.isnan(power["mean of 8 devices"]))) == unknown, (
        "one alone is missing too"
    )
    assert not (power["mean of 8 devices"] == 0).any(), "what is not known is not zero"
    curve = next(iter(energy.values()))
    assert np.isnan(curve).any()
    assert (np.diff(curve[np.isfinite(curve)]) >= 0).all()


def test_of_a_run_that_went_on_on_another_node_devices_are_those_of_one(tmp_path: Path) -> None:
    for attempt in (0, 1):
        Part(node=attempt, attempt=attempt, seconds=60).write(tmp_path / "ledger.db")
    figure = figures.power(load(url_of(str(tmp_path / "ledger.db"))))
    figure.draw_without_rendering()
    (power,) = figure.axes
    (mean,) = power.get_lines()
    assert mean.get_label() == "mean of 2 devices"
    assert np.isfinite(np.asarray(mean.get_ydata(), dtype=float)).sum() == 120
    (total,) = power.child_axes
    ratio = {"total (W)": 2, "total (kW)": 0.002}[total.get_ylabel()]
    assert total.get_ylim()[1] == pytest.approx(power.get_ylim()[1] * ratio)


def test_a_number_of_devices_that_changes_has_no_total(tmp_path: Path) -> None:
    """A node joins in the middle."""
    joins_ms = START_MS + 30_000
    Part(node=0, attempt=0, seconds=60, begin_ms=START_MS).write(tmp_path / "ledger.db")
    Part(node=1, attempt=0, seconds=30, begin_ms=joins_ms).write(tmp_path / "ledger.db")
    (power,) = figures.power(load(url_of(str(tmp_path / "ledger.db")))).axes
    (mean,) = power.get_lines()
    assert mean.get_label() == "mean of 2 to 4 devices"
    assert np.isfinite(np.asarray(mean.get_ydata(), dtype=float)).sum() == 60
    assert power.child_axes == []


def test_events_are_marked_by_kind_and_only_rare_ones_cross_the_panels(ledger_url: str) -> None:
    often = [Event(EIGHT.start_ms + 1000 * n, "checkpoint", "saved") for n in range(1, 50)]
    once = Event(EIGHT.start_ms + 20_500, "device-lost", "gone")
    steps = [Step(n, EIGHT.start_ms + 1000 * n, loss=3.0) for n in range(1, 60)]
    pictures.write(ledger_url, EIGHT, [], [*often, once], steps)
    figure = figures.overview(load(ledger_url))
    *panels, strip = figure.axes
    assert [text.get_text() for text in strip.get_yticklabels()] == ["checkpoint", "device-lost"]
    marks = [list(np.asarray(line.get_xdata())) for line in strip.get_lines()]
    assert marks == [list(range(1, 50)), [20.5]]
    for panel in panels:
        through = [line.get_xdata() for line in panel.get_lines() if line.get_ls() != "-"]
        assert [list(np.asarray(x)) for x in through] == [[20.5, 20.5]]


def test_a_run_without_steps_still_has_its_power(ledger_url: str) -> None:
    pictures.write_seconds(ledger_url, Recorded(count=2, seconds=60), steps=False)
    figure = figures.overview(load(ledger_url))
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels[:2] == ["power of a device (W)", "facility energy (Wh)"]
    assert "mean of 2 devices" in lines(figure, 0)


def test_a_run_without_power_shows_its_loss_and_no_empty_panel(ledger_url: str) -> None:
    steps = [Step(n, EIGHT.start_ms + 1000 * n, loss=3.0 - n / 50) for n in range(1, 60)]
    pictures.write(ledger_url, Recorded(count=0, seconds=60), [], [], steps)
    for style in ("paper", "slide"):
        figure = figures.overview(load(ledger_url), style=style)
        assert [ax.get_ylabel() for ax in figure.axes] == ["loss (nats per token)"]
        assert figure.get_supxlabel() == "", "no factor of an energy that is not there"


def test_a_run_that_recorded_nothing_is_an_error_and_no_picture(ledger_url: str) -> None:
    pictures.write(ledger_url, Recorded(count=0, seconds=10), [], [], [])
    with pytest.raises(CarbontrackError, match="recorded neither power nor losses"):
        figures.overview(load(ledger_url))


@pytest.mark.parametrize("kind", ["overview", "power", "energy", "devices"])
def test_it_says_what_was_compacted(ledger_url: str, kind: str) -> None:
    """Hours are all that is left of three: they are drawn as steps, and the caption says so."""
    recorded = Recorded(count=2, seconds=3 * 3600)
    pictures.write_hours(ledger_url, recorded)
    run = load(ledger_url)
    assert run.level_s < 60
    figure = figures.draw(kind, [run])
    caption = " ".join(figure.get_supxlabel().split())
    assert caption.endswith("power as means of 1 h: no finer windows are left")
    part = replace(run, coarser=(replace(run.coarser[0], to_ms=recorded.end_ms - 3_600_000),))
    said = " ".join(figures.draw(kind, [part]).get_supxlabel().split())
    assert "means of 1 h until 2026-05-29 22:00 UTC: no finer" in said

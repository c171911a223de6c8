"""The other figures: numbers, pictures as they were looked at, and what they do without data."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.dates import num2date
from matplotlib.testing.compare import compare_images

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Event, Step
from carbontrack.ledger.url import ledger_url
from dashboards import figures
from dashboards.data import RunData, costs
from dashboards.figures.shares import phase_energies_kwh
from dashboards.style import STYLES, save, scaled_money
from tests.assets.figures import draw
from tests.fixtures import pictures
from tests.fixtures.runs import Recorded

NAME = "_ck_$HOME/run_$\n\x1b[2J 名前 🦙 " + "x" * 500

# Root mean square of 255. The pinned matplotlib gives 0; a loss that is 10 % higher gives 6 to 17,
# a power that is 5 % higher 13 to 21. Another FreeType moves all text: draw anew.
_TOLERANCE = 4.0
_KEPT = Path(__file__).parents[2] / "out/figures"  # to be looked at after the tests


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunData]:
    """Two that compare, and one over a day."""
    return draw.runs(tmp_path_factory.mktemp("runs") / "ledger.db")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """A run that recorded nothing at all."""
    url = ledger_url(str(tmp_path_factory.mktemp("bare") / "ledger.db"))
    pictures.write(url, Recorded(count=0, seconds=10), [], [], [])
    return pictures.load(url)


@pytest.mark.parametrize("kind", figures.KINDS)
def test_it_looks_as_it_did_when_it_was_looked_at(kind: str, runs: list[RunData]) -> None:
    _KEPT.mkdir(parents=True, exist_ok=True)
    drawn = draw.write(kind, runs, _KEPT)
    expected = draw.FOLDER / drawn.name
    assert compare_images(str(expected), str(drawn), tol=_TOLERANCE) is None


@pytest.mark.parametrize("kind", figures.KINDS)
@pytest.mark.parametrize("style", STYLES)
def test_every_axis_has_a_label_and_nothing_is_cut_off(
    kind: str, style: str, runs: list[RunData]
) -> None:
    figure = figures.draw(kind, runs[2:] if kind == "carbon-by-hour" else runs[:1], style=style)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert width == pytest.approx(STYLES[style].width)
    box = figure.get_tightbbox()
    slack = 0.02
    assert box.x0 >= -slack and box.y0 >= -slack
    assert box.x1 <= width + slack and box.y1 <= height + slack
    assert figure.axes[-1].get_xlabel() or figure.axes[-1].get_ylabel()
    assert any(ax.get_xlabel() for ax in figure.axes)


def test_phases_share_all_of_the_energy(runs: list[RunData]) -> None:
    spent = phase_energies_kwh(runs[0])
    assert set(spent) == {"load", "train"}
    assert sum(spent.values()) == pytest.approx(runs[0].estimate.energy_kwh)


def test_efficiency_is_energy_over_tokens(runs: list[RunData]) -> None:
    upper = figures.efficiency(runs[:1]).axes[0]
    per_token = np.asarray(upper.get_lines()[0].get_ydata(), dtype=float)
    power = runs[0].power.groupby("start")["power_w"].sum()
    assert power.min() / 2048 - 1e-9 <= per_token.min()
    assert per_token.max() <= power.max() / 2048 + 1e-9


def test_efficiency_is_unknown_where_the_energy_is(tmp_path: Path) -> None:
    url = ledger_url(str(tmp_path / "ledger.db"))
    pictures.write_seconds(url, Recorded(count=2, seconds=60), gap=True)
    upper = figures.efficiency([pictures.load(url)]).axes[0]
    assert np.isnan(np.asarray(upper.get_lines()[0].get_ydata(), dtype=float)).sum() >= 9


def test_one_step_of_unknown_energy_makes_its_block_unknown(tmp_path: Path) -> None:
    url = ledger_url(str(tmp_path / "ledger.db"))
    one = Recorded(count=2, seconds=240)
    rows = [
        (sensor.uuid, pictures.window_at(one.start_ms + 1000 * second, 1, 300.0))
        for sensor in one.sensors
        for second in range(240)
        if second != 100
    ]
    steps = [Step(n, one.start_ms + 1000 * n, tokens=1000) for n in range(240)]
    pictures.write(url, one, rows, [], steps)
    (line,) = figures.efficiency([pictures.load(url)]).axes[0].get_lines()
    at, per_token = (np.asarray(values, dtype=float) for values in line.get_data())
    assert len(at) > 60, "some steps a block"
    assert at[np.isnan(per_token)] == pytest.approx([101], abs=2)
    assert per_token[~np.isnan(per_token)] == pytest.approx(600), "mJ/token"


def test_a_pause_does_not_press_the_efficiency_to_the_ground(tmp_path: Path) -> None:
    url = ledger_url(str(tmp_path / "ledger.db"))
    one = Recorded(count=2, seconds=120)
    rows = [
        (sensor.uuid, pictures.window_at(one.start_ms + 1000 * second, 1, 300.0))
        for sensor in one.sensors
        for second in range(120)
    ]
    times = [*range(1, 60), *range(100, 120)]
    steps = [Step(n, one.start_ms + 1000 * s, tokens=1000) for n, s in enumerate(times)]
    pictures.write(url, one, rows, [], steps)
    upper = figures.efficiency([pictures.load(url)]).axes[0]
    assert upper.get_ylim()[1] == pytest.approx(1.15 * 600, rel=0.05), "mJ/token"
    assert [text.get_text() for text in upper.texts] == ["1 of 78 points above, up to 2.46e+04"]


def test_compare_ends_at_the_energy_of_each_run(runs: list[RunData]) -> None:
    pair = runs[:2]
    figure = figures.compare(pair)
    figure.draw_without_rendering()
    (panel,) = figure.axes
    for data, line in zip(pair, panel.get_lines(), strict=False):
        last_wh = float(np.asarray(line.get_xdata(), dtype=float)[-1])
        assert last_wh == pytest.approx((data.estimate.facility_kwh or 0) * 1000, rel=0.05)
    assert panel.get_xlabel() == "facility energy (Wh)"
    (below,) = panel.child_axes
    assert below.get_xlabel() == "emissions (gCO₂e)"
    assert below.get_xlim()[1] == pytest.approx(panel.get_xlim()[1] * 0.4), "of one factor"


def test_compare_marks_what_the_better_run_saves(runs: list[RunData]) -> None:
    panel = figures.compare(runs[:2]).axes[0]
    (said,) = (text.get_text() for text in panel.texts)
    found = re.fullmatch(
        r"to loss ([\d.]+), means over \d+ steps:\nlarge ([\d.]+), small ([\d.]+) Wh\n"
        r"small takes ([\d.]+) % less than large",
        said,
    )
    assert found
    loss, large, small, saving = map(float, found.groups())
    assert saving == pytest.approx(100 * (1 - small / large), abs=0.2)
    dots = [line for line in panel.get_lines() if line.get_marker() == "o"]
    for dot, amount in zip(dots, (large, small), strict=True):
        assert float(np.asarray(dot.get_xdata())[0]) == pytest.approx(amount, rel=0.01)
        assert float(np.asarray(dot.get_ydata())[0]) == pytest.approx(loss, rel=0.01)


def test_compare_calls_no_seed_of_one_recipe_better(tmp_path: Path) -> None:
    url = ledger_url(str(tmp_path / "ledger.db"))
    runs = []
    for number, name in enumerate("abc", start=1):
        draw_loss = random.Random(number)
        one = Recorded(name=name, number=number, count=2, seconds=120)
        rows = []
        for sensor in one.sensors:
            seconds = [
                pictures.window_at(one.start_ms + 1000 * second, 1, 300.0) for second in range(120)
            ]
            rows += pictures.all_levels(sensor.uuid, seconds)
        steps = [
            Step(n, one.start_ms + 1000 * n, loss=3 + 6 / (1 + n / 5) + draw_loss.gauss(0, 0.1))
            for n in range(1, 120)
        ]
        pictures.write(url, one, rows, [], steps)
        runs.append(pictures.load(url, name))
    (said,) = (text.get_text() for text in figures.compare(runs).axes[0].texts)
    assert "no difference beyond the noise of the losses" in said


def seeds(url: str, falls: Sequence[tuple[str, float]]) -> list[RunData]:
    """Three runs of each recipe, whose losses fall as fast as it says, give or take a tenth."""
    runs = []
    for recipe, speed in falls:
        for seed in range(3):
            number = len(runs) + 1
            noise = random.Random(number)
            one = Recorded(
                name=f"{recipe}-{seed}",
                number=number,
                count=2,
                seconds=120,
                tags={"recipe": recipe},
            )
            windows = [
                pictures.window_at(one.start_ms + 1000 * second, 1, 300.0) for second in range(120)
            ]
            rows = [row for s in one.sensors for row in pictures.all_levels(s.uuid, windows)]
            steps = [
                Step(
                    n,
                    one.start_ms + 1000 * n,
                    loss=3 + 6 / (1 + n * speed * (0.9 + 0.1 * seed)) + noise.gauss(0, 0.01),
                )
                for n in range(1, 120)
            ]
            pictures.write(url, one, rows, [], steps)
            runs.append(pictures.load(url, one.name))
    return runs


def test_groups_of_seeds_are_their_mean_and_spread(tmp_path: Path) -> None:
    runs = seeds(ledger_url(str(tmp_path / "ledger.db")), [("slow", 0.1), ("fast", 0.3)])
    groups = [data.run.tags["recipe"] for data in runs]
    figure = figures.compare(runs, group=groups)
    _KEPT.mkdir(parents=True, exist_ok=True)
    save(figure, _KEPT / "compare-groups.png")
    panel = figure.axes[0]
    labels = panel.get_legend_handles_labels()[1]
    assert labels == ["slow (3 runs)", "fast (3 runs)"]
    assert len(panel.collections) >= 2, "a band each"
    (said,) = (text.get_text() for text in panel.texts if "mean ± sd" in text.get_text())
    taken = {
        name: (float(mean), float(sd))
        for name, mean, sd in re.findall(r"^(slow|fast) ([\d.]+) ± ([\d.]+)$", said, re.MULTILINE)
    }
    assert taken["fast"][0] < taken["slow"][0]
    saving = 100 * (1 - taken["fast"][0] / taken["slow"][0])
    assert float(said.split("fast takes ")[1].split(" %")[0]) == pytest.approx(saving, abs=0.6)
    alike = figures.compare(runs, group=["a", "b"] * 3).axes[0]
    (said,) = (text.get_text() for text in alike.texts if "mean ± sd" in text.get_text())
    assert said.endswith("no difference beyond the spread")
    one = figures.compare([*runs[:3], runs[3]], group=["slow"] * 3 + ["fast"]).axes[0]
    (said,) = (text.get_text() for text in one.texts if "mean ± sd" in text.get_text())
    assert said.endswith("no verdict: a single run has no spread")


def test_a_run_that_began_after_the_other_had_ended_is_not_ahead(runs: list[RunData]) -> None:
    large, _, day = runs
    for panel in figures.compare([large, day]).axes:
        (said,) = (text.get_text() for text in panel.texts if "to loss" in text.get_text())
        assert re.search(r"\nlarge takes 9\d\.\d % less than day$", said), said


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", figures.SEVERAL)
def test_long_names_leave_the_panels_their_room(kind: str, style: str, runs: list[RunData]) -> None:
    named = [
        replace(data, run=replace(data.run, name=f"llama2-13b-ablation-{'x' * 36}-{number}"))
        for number, data in enumerate(runs * 2)
    ]
    figure = figures.draw(kind, named, style=style)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert box.x0 >= -0.02 and box.x1 <= width + 0.02 and box.y1 <= height + 0.02
    for panel in figure.axes:
        assert panel.get_position().width > 0.7
        assert panel.get_position().height > 0.1
        assert all(
            text.get_window_extent().x0 >= panel.get_window_extent().x0 for text in panel.texts
        )


@pytest.mark.parametrize("log", ["neither", "x", "both"])
def test_no_curve_is_under_what_the_curves_come_to(log: str, runs: list[RunData]) -> None:
    for chosen in (runs[:2], runs[::2]):
        figure = figures.compare(chosen, log=log)
        figure.draw_without_rendering()
        for panel in figure.axes:
            (said,) = (text for text in panel.texts if "to loss" in text.get_text())
            covered = said.get_window_extent()
            for line in panel.get_lines():
                points = panel.transData.transform(np.asarray(line.get_xydata(), dtype=float))
                assert not covered.count_contains(points), (log, line.get_label())
            for below in panel.child_axes:
                texts = [tick.get_text() for tick in below.xaxis.get_ticklabels()]
                assert not any("$" in text for text in texts), "plain numbers"


def test_compare_has_a_panel_of_its_own_for_emissions_of_another_grid(
    runs: list[RunData],
) -> None:
    lines = [panel.get_lines() for panel in figures.compare(runs[1:]).axes]
    assert len(lines) == 2
    for data, line in zip(runs[1:], lines[1], strict=False):
        last = float(np.asarray(line.get_xdata(), dtype=float)[-1])
        grams = (data.estimate.tco2e or 0) * 1e6
        assert last * 1000 == pytest.approx(grams, rel=0.05, abs=10), "hour by hour, in kg"


@pytest.mark.parametrize(
    ("against", "label"),
    [
        ("energy", "facility energy (Wh)"),
        ("carbon", "emissions (gCO₂e)"),
        ("money", "cost (10⁻³ USD)"),
    ],
)
def test_compare_against_one_thing(runs: list[RunData], against: str, label: str) -> None:
    (panel,) = figures.compare(runs[:2], against=against).axes
    assert panel.get_xlabel() == label
    assert panel.child_axes == []
    if against == "money":
        last = [float(np.asarray(line.get_xdata())[-1]) for line in panel.get_lines()[:2]]
        assert last == pytest.approx([1e3 * (d.estimate.cost or 0) for d in runs[:2]], rel=0.05)
        assert any(text.get_text().count("× 10⁻³ USD") == 1 for text in panel.texts)


def test_money_has_no_prefixes_for_small_coins() -> None:
    for largest, factor, unit in (
        (12_000.0, 1e-3, "kUSD"),
        (12.0, 1.0, "USD"),
        (0.05, 1.0, "USD"),
        (0.04, 1e3, "10⁻³ USD"),
        (9.3e-6, 1e6, "10⁻⁶ USD"),
        (0.0, 1.0, "USD"),
    ):
        assert scaled_money(largest, "USD") == (pytest.approx(factor), unit)


def test_rent_is_paid_by_time_and_electricity_by_energy(tmp_path: Path) -> None:
    url = ledger_url(str(tmp_path / "ledger.db"))
    one = Recorded(count=2, seconds=60)
    seconds = [
        pictures.window_at(one.start_ms + 1000 * s, 1, 100.0 if s < 30 else 300.0)
        for s in range(60)
    ]
    rows = [row for s in one.sensors for row in pictures.all_levels(s.uuid, seconds)]
    pictures.write(url, one, rows, [], [])
    middle = pd.Series([pd.Timestamp(one.start_ms + 30_000, unit="ms", tz="UTC")])
    rent = pictures.load(url, price_per_gpu_hour=2.0)
    assert costs(rent, middle)[0] == pytest.approx((rent.estimate.cost or 0) / 2)
    tariff = pictures.load(url, tariff=0.1)
    assert costs(tariff, middle)[0] == pytest.approx((tariff.estimate.cost or 0) / 4)


def test_a_run_without_factors_is_not_taken_for_one_with_a_pue_of_1(tmp_path: Path) -> None:
    url = ledger_url(str(tmp_path / "ledger.db"))
    for number, (name, zone) in enumerate([("here", "FRA"), ("lost", "NOWHERE")], start=1):
        one = Recorded(name=name, number=number, count=2, seconds=7200, facility={"zone": zone})
        pictures.write_hours(url, one)
    here, lost = (pictures.load(url, name, pue=1.5) for name in ("here", "lost"))
    assert lost.estimate.energy_kwh == here.estimate.energy_kwh
    assert (lost.spent.facility_kwh, lost.spent.tco2e, lost.spent.cost) == (None, None, None)
    for pair in ([here, lost], [lost, here]):
        for options in ({}, {"log": "x"}, {"against": "energy"}, {"metric": "mmlu"}):
            with pytest.raises(CarbontrackError, match=r"^Run lost has no .*'NOWHERE' is unknown"):
                figures.compare(pair, **options)
        with pytest.raises(CarbontrackError, match="Run lost has no CO₂e, neither CO₂e nor cost"):
            figures.compare(pair, against="carbon")
    with pytest.raises(CarbontrackError, match="Run lost has no CO₂e"):
        figures.carbon_by_hour(lost)
    labels = [figures.phases(data).axes[0].get_xlabel() for data in (here, lost)]
    assert [label.partition(" (")[0] for label in labels] == ["facility energy", "energy"]


def test_emissions_by_hour_add_up(runs: list[RunData]) -> None:
    upper, lower = figures.carbon_by_hour(runs[2]).axes
    intensity = upper.patches[0].get_data().values  # type: ignore[attr-defined]
    assert (intensity.min(), intensity.max()) == pytest.approx((0.15, 0.35), abs=0.01)
    grams = sum(patch.get_data().values.sum() for patch in lower.patches)  # type: ignore[attr-defined]
    assert lower.get_ylabel() == "emissions in\neach hour (gCO₂e)"
    assert grams == pytest.approx((runs[2].estimate.tco2e or 0) * 1e6)


def test_the_hours_are_whole_ones_of_the_clock(tmp_path: Path) -> None:
    url = ledger_url(str(tmp_path / "ledger.db"))
    late = Recorded(count=2, seconds=5400)
    begin_ms = late.start_ms + 40 * 60_000
    seconds = [pictures.window_at(begin_ms + 60_000 * m, 60, 300.0) for m in range(80)]
    rows = [row for s in late.sensors for row in pictures.all_levels(s.uuid, seconds)]
    pictures.write(url, late, rows, [], [])
    figure = figures.carbon_by_hour(pictures.load(url))
    lower = figure.axes[1]
    edges_ms = [round(1000 * num2date(x).timestamp()) for x in lower.get_xlim()]
    assert edges_ms == [late.start_ms, late.start_ms + 2 * 3_600_000]
    assert lower.get_xlabel() == "time (UTC), 29 May 2026"
    assert figure.axes[1].xaxis.get_offset_text().get_text() == "", "said once"
    first, second = lower.patches[0].get_data().values  # type: ignore[attr-defined]
    assert 3 * first == pytest.approx(second), "20 of its 60 minutes, then all: no rate"
    assert [text.get_text() for text in figure.axes[0].texts] == ["one factor for all hours"]


def test_emissions_by_hour_need_hours(tmp_path: Path) -> None:
    url = ledger_url(str(tmp_path / "ledger.db"))
    pictures.write_seconds(url, Recorded(count=2, seconds=60))
    with pytest.raises(CarbontrackError, match="ran 1 min 00 s: --kind carbon-by-hour needs hours"):
        figures.carbon_by_hour(pictures.load(url))


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of one run of an hour, whose name is hard to draw."""
    path = tmp_path_factory.mktemp("named") / "ledger.db"
    one = Recorded(count=2, seconds=3600, name=NAME, device=f"GPU {NAME}")
    steps = [Step(n, one.start_ms + 60_000 * n, loss=3.0, tokens=1000) for n in range(1, 60)]
    minutes = [pictures.window_at(one.start_ms + 60_000 * m, 60, 300.0) for m in range(60)]
    rows = [row for s in one.sensors for row in pictures.all_levels(s.uuid, minutes)]
    phase = Event(one.start_ms, "phase", "", data={"name": NAME})
    pictures.write(ledger_url(str(path)), one, rows, [phase], steps)
    return path


ENERGY = ("overview", "energy", "phases", "compare", "carbon-by-hour")


@pytest.mark.parametrize("kind", figures.KINDS)
def test_a_run_is_named_as_in_the_commands(kind: str, named: Path) -> None:
    figure = getattr(figures, kind.replace("-", "_"))
    for reference in (Recorded().run.id[:10], "last"):
        made = figure(reference, db=str(named), zone="FRA")
        below = made.get_supxlabel()
        assert ("kgCO₂e/kWh" in below) == (kind in ENERGY), "factors only of what they are in"
        assert ("(assumed)" in below.split("kgCO₂e")[0]) == (kind in ENERGY), "PUE"
        assert "ck_$HOME/run_$" in made.get_suptitle()


def test_a_frame_is_drawn_as_a_run_is(runs: list[RunData]) -> None:
    power = runs[0].power[["device", "start", "power_w"]].copy()
    power.attrs["name"] = "mine"
    frame, run = (figures.overview(drawn) for drawn in (power, runs[0]))
    assert frame.get_suptitle() == "mine: 8 devices"
    assert frame.get_supxlabel() == ""
    mean, true_mean = (
        next(one for one in figure.axes[0].get_lines() if one.get_label() == "mean of 8 devices")
        for figure in (frame, run)
    )
    assert np.asarray(mean.get_xydata()) == pytest.approx(np.asarray(true_mean.get_xydata()))
    assert frame.axes[1].get_ylabel() == "energy (Wh)", "without a PUE nothing is the facility's"
    figures.devices(power)
    losses = pd.DataFrame({"loss": [3.0, math.nan, 2.0], "tokens": [10, 10, 10]})
    (line,) = figures.loss(losses).axes[0].get_lines()
    assert list(np.asarray(line.get_xdata())) == [10, 20, 30]
    with pytest.raises(CarbontrackError, match="A frame of volts cannot be drawn"):
        figures.power(pd.DataFrame({"volts": [1.0]}))


@pytest.mark.parametrize("kind", figures.KINDS)
def test_what_cannot_be_drawn_is_one_clear_error(kind: str, bare: RunData) -> None:
    with pytest.raises(CarbontrackError, match=r"Run llama2-7b (has no|recorded n)"):
        figures.draw(kind, [bare])


@pytest.mark.parametrize("kind", figures.KINDS)
def test_a_name_is_drawn_as_it_is_written(kind: str, named: Path, tmp_path: Path) -> None:
    made = getattr(figures, kind.replace("-", "_"))("last", db=str(named))
    for suffix in ("png", "pdf"):
        save(made, tmp_path / f"figure.{suffix}")
    title = made.get_suptitle()
    assert "ck_$HOME/run_$" in title
    assert "\x1b" not in title
    assert title.count("x" * 20) <= 3


def test_a_paper_has_its_own_caption(runs: list[RunData]) -> None:
    assert figures.loss(runs[:2], title=False).get_suptitle() == ""


def test_devices_are_called_alike_in_legend_and_map(runs: list[RunData]) -> None:
    lines = figures.power(runs[0], each=True).axes[0].get_lines()
    names = [text.get_text() for text in figures.devices(runs[0]).axes[0].get_yticklabels()]
    assert names == [f"gpu {number}" for number in range(8)]
    assert names == [str(one.get_label()) for one in lines[:8]]


def test_held_out_losses_are_at_the_tokens_until_then(runs: list[RunData]) -> None:
    _, held_out = figures.loss(runs[0]).axes[0].get_lines()
    assert held_out.get_label() == "held-out loss"
    assert list(np.asarray(held_out.get_ydata())) == [3.0]
    assert np.asarray(held_out.get_xdata()) == pytest.approx([60 * 2.048])
    labels = [str(one.get_label()) for one in figures.loss(runs[:2]).axes[0].get_lines()]
    assert labels.count("held out") == 1, "said once"


def test_a_smooth_loss_is_the_mean_of_the_last_steps(runs: list[RunData]) -> None:
    raw, smooth, *_ = figures.loss(runs[0], smooth=10).axes[0].get_lines()
    losses = np.asarray(raw.get_ydata(), dtype=float)
    means = np.asarray(smooth.get_ydata(), dtype=float)
    assert smooth.get_label() == "training loss, mean of 10 steps"
    assert means[0] == losses[0]
    assert means[40] == pytest.approx(losses[31:41].mean())


def test_a_loss_that_would_be_an_l_is_drawn_over_a_logarithmic_axis(tmp_path: Path) -> None:
    losses = pd.DataFrame({"loss": [1.7 + 9 / n for n in range(1, 2000)]})
    panel = figures.loss(losses).axes[0]
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "linear")
    assert panel.get_ylim()[1] > 10.7, "the first steps have room"
    assert figures.loss(losses, log="neither").axes[0].get_xscale() == "linear"
    both = figures.loss(losses, log="both")
    both.draw_without_rendering()
    texts = [
        tick.get_text()
        for axis in (both.axes[0].xaxis, both.axes[0].yaxis)
        for tick in axis.get_ticklabels()
    ]
    assert {"0.01", "0.1", "1", "2", "5", "10"} <= set(texts), "plain numbers"
    small = figures.loss(pd.DataFrame({"loss": [1e-6 * n for n in range(1, 9)]}), log="both")
    small.draw_without_rendering()
    texts = [tick.get_text() for tick in small.axes[0].yaxis.get_ticklabels()]
    assert {"10⁻⁶", "2×10⁻⁶"} <= set(texts), "as the axis of a cost"

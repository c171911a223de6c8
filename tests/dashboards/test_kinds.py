"""The other figures: numbers, pictures as they were looked at, and what they do without data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.testing.compare import compare_images

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.url import ledger_url
from carbontrack.units import J_PER_KWH
from dashboards import figures
from dashboards.data import RunData
from dashboards.figures.shares import phase_energies_j
from dashboards.style import STYLES
from tests.assets.figures import draw
from tests.fixtures import pictures
from tests.fixtures.runs import Recorded

# Root mean square of 255. The pinned matplotlib gives 0; a loss that is 10 % higher gives 6 to 17,
# a power that is 5 % higher 13 to 21. Another FreeType moves all text: draw anew.
_TOLERANCE = 4.0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunData]:
    return draw.runs(tmp_path_factory.mktemp("runs") / "ledger.db")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """A run that recorded nothing at all."""
    url = ledger_url(str(tmp_path_factory.mktemp("bare") / "ledger.db"))
    pictures.write(url, Recorded(count=0, seconds=10), [], [], [])
    return pictures.load(url)


@pytest.mark.parametrize("kind", figures.KINDS)
def test_it_looks_as_it_did_when_it_was_looked_at(
    kind: str, runs: list[RunData], tmp_path: Path
) -> None:
    drawn = draw.write(kind, runs, tmp_path)
    expected = draw.FOLDER / drawn.name
    assert compare_images(str(expected), str(drawn), tol=_TOLERANCE) is None


@pytest.mark.parametrize("kind", figures.KINDS)
@pytest.mark.parametrize("style", STYLES)
def test_every_axis_has_a_label_and_nothing_is_cut_off(
    kind: str, style: str, runs: list[RunData]
) -> None:
    figure = figures.draw(kind, runs[:1], style=style)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert width == pytest.approx(max(STYLES[style].width, 7.0 * (kind == "overview")))
    box = figure.get_tightbbox()
    slack = 0.02
    assert box.x0 >= -slack and box.y0 >= -slack
    assert box.x1 <= width + slack and box.y1 <= height + slack
    assert figure.axes[-1].get_xlabel() or figure.axes[-1].get_ylabel()
    assert any(ax.get_xlabel() for ax in figure.axes)


def test_phases_share_all_of_the_energy(runs: list[RunData]) -> None:
    spent = phase_energies_j(runs[0])
    assert set(spent) == {"load", "train"}
    assert sum(spent.values()) == pytest.approx((runs[0].estimate.energy_kwh or 0) * J_PER_KWH)


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


def test_compare_ends_at_the_energy_of_each_run(runs: list[RunData]) -> None:
    upper = figures.compare(runs).axes[0]
    for data, line in zip(runs, upper.get_lines(), strict=True):
        last_wh = float(np.asarray(line.get_xdata(), dtype=float)[-1])
        assert last_wh == pytest.approx((data.estimate.facility_kwh or 0) * 1000, rel=0.05)
    assert upper.get_xlabel() == "facility energy (Wh)"


def test_emissions_by_hour_add_up(runs: list[RunData]) -> None:
    lower = figures.carbon_by_hour(runs[0]).axes[1]
    grams = sum(patch.get_data().values.sum() for patch in lower.patches)  # type: ignore[attr-defined]
    assert lower.get_ylabel() == "emissions (gCO₂e/h)"
    assert grams == pytest.approx((runs[0].estimate.tco2e or 0) * 1e6)


@pytest.mark.parametrize("kind", ["power", "energy", "devices"])
def test_a_run_without_power_is_drawn_empty(kind: str, bare: RunData, tmp_path: Path) -> None:
    figures.draw(kind, [bare]).savefig(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["loss", "compare", "efficiency", "phases", "carbon-by-hour"])
def test_what_cannot_be_drawn_is_one_clear_error(kind: str, bare: RunData) -> None:
    with pytest.raises(CarbontrackError, match=r"Run llama2-7b (has no|recorded no)"):
        figures.draw(kind, [bare])

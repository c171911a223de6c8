"""Scores in benchmarks in the figures: over what was trained, and over what it took."""

from __future__ import annotations

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.url import ledger_url
from dashboards import figures
from dashboards.data import RunData
from tests.fixtures import pictures
from tests.fixtures.runs import Recorded


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunData]:
    """Two with scores, the first at two checkpoints and in two tasks, and one without."""
    url = ledger_url(str(tmp_path_factory.mktemp("scores") / "ledger.db"))
    for number, name in enumerate(("large", "small", "bare"), 1):
        one = Recorded(name=name, number=number, count=2, seconds=60)
        events = [pictures.score(one, 0.4 / number, task="mmlu", step=59)]
        if name == "large":
            early = pictures.score(one, 0.3, task="mmlu", step=30)
            events = [
                early.__class__(one.start_ms + 30_000, early.kind, "", data=early.data),
                *events,
                pictures.score(one, 0.1, task="siqa", step=None),
                pictures.score(one, 9.0, task="wikitext", metric="word_perplexity"),
            ]
        pictures.write_seconds(url, one, events=[] if name == "bare" else events)
    return [pictures.load(url, name) for name in ("large", "small", "bare")]


def points(ax: Axes) -> list[tuple[float, float]]:
    """Of the error bars, in the order in which they were drawn."""
    return [
        (float(x), float(y))
        for bars in ax.containers
        for x, y in zip(*bars.lines[0].get_data(), strict=True)
    ]


def labels(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_the_loss_has_the_scores_on_a_scale_of_their_own(runs: list[RunData]) -> None:
    figure = figures.loss(runs[:1])
    left, right = figure.axes
    assert right.get_ylabel() == "score (%)"
    tokens = left.get_lines()[0].get_xdata()
    assert points(right) == [
        (pytest.approx(float(tokens[29])), pytest.approx(30)),
        (pytest.approx(float(tokens[58])), pytest.approx(40)),
        (pytest.approx(float(tokens[58]), rel=0.02), pytest.approx(10)),
    ]
    assert "mmlu (chance 25 %)" in labels(figure)
    assert not any("wikitext" in label for label in labels(figure)), "that is no share"
    assert len(figures.loss(runs[2:]).axes) == 1


def test_scores_are_drawn_against_what_they_took_beside_published_models(
    runs: list[RunData],
) -> None:
    figure = figures.compare(runs[:2], metric="mmlu")
    (ax,) = figure.axes
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "emissions (tCO₂e)")
    early, late, small = points(ax)
    assert [y for _, y in (early, late, small)] == pytest.approx([30, 40, 20])
    whole = [data.estimate.tco2e for data in runs[:2]]
    assert [late[0], small[0]] == pytest.approx(whole, rel=0.03)
    assert early[0] == pytest.approx(late[0] / 2, rel=0.1)
    published = {line.get_label(): line for line in ax.get_lines()}
    llama = published["Llama 2 7B, 13B, 34B, 70B, published"]
    assert list(llama.get_xdata()) == pytest.approx([31.22, 62.44, 153.9, 291.42])
    assert list(llama.get_ydata()) == pytest.approx([45.3, 54.8, 62.6, 68.9])
    # One bar for Llama 2 7B, in which the reports differ: 45.3 and 45.7.
    bars = [path.vertices for one in ax.collections for path in one.get_paths()]
    assert any(bar[:, 1].tolist() == pytest.approx([45.3, 45.7]) for bar in bars if len(bar) == 2)
    per_t = 40 / (whole[0] or 0)
    assert "PaLM 540B, published (hourly-matched-net, from memory)" in labels(figure)
    assert f"large, {per_t:,.0f} points per tCO₂e" in labels(figure)


@pytest.mark.parametrize(
    ("against", "name"), [("energy", "facility energy (Wh)"), ("money", "cost (10⁻³ USD)")]
)
def test_against_energy_and_money_stand_only_runs(
    against: str, name: str, runs: list[RunData]
) -> None:
    (ax,) = figures.compare(runs[:2], metric="mmlu/acc", against=against).axes
    assert ax.get_xscale() == "linear"
    assert len(points(ax)) == 3
    assert not any("published" in str(line.get_label()) for line in ax.get_lines())


@pytest.mark.parametrize(
    ("which", "metric", "message"),
    [
        (2, "mmlu", "Run bare has no score in 'mmlu'"),
        (0, "mmlx", "It has mmlu"),
        (0, "wikitext", "is no share of questions"),
    ],
)
def test_what_cannot_be_compared_is_said(
    which: int, metric: str, message: str, runs: list[RunData]
) -> None:
    with pytest.raises(CarbontrackError) as caught:
        figures.compare(runs[which], metric=metric)
    assert message in str(caught.value)

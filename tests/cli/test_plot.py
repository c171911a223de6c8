"""`carbontrack plot`: a picture where it was asked for, or one clear line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from carbontrack.cli.plot import _OF_SEVERAL, _OPTIONS
from carbontrack.ledger.url import ledger_url
from carbontrack.vocabulary import Against, FigureKind, FigureStyle
from dashboards import figures
from dashboards.style import STYLES
from tests.fixtures import pictures
from tests.fixtures.runs import Recorded
from tests.fixtures.wrap import Wrapper

MAGIC = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.mark.parametrize("suffix", list(MAGIC))
def test_it_writes_the_kind_of_picture_that_the_name_says(
    wrapper: Wrapper, tmp_path: Path, suffix: str
) -> None:
    wrapper.record(options=("-q", "--name", "seen"))
    path = tmp_path / f"figure{suffix}"
    done = wrapper.ask("plot", "seen", "--out", str(path))
    said = f"carbontrack: wrote {path}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)
    picture = path.read_bytes()
    assert picture.startswith(MAGIC[suffix])
    if suffix == ".svg":
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", picture.decode())
        assert any("Simulated NVIDIA" in text for text in texts), "text is text"
        assert "power of a device (W)" in texts


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "a.bmp"], "not a kind of picture"),
        (["--out", "no-such-folder/a.png"], "there is no folder no-such-folder"),
        (["--pue", "0.5"], "0.5"),
        (["nobody"], "no run 'nobody'"),
        (["--kind", "pie"], "'pie' is not one of"),
        (["--style", "poster"], "'poster' is not one of"),
        (["last", "last", "--kind", "power"], "shows one run, not 2"),
        (["--against", "money"], "--against goes with --kind compare, not overview"),
        (["--each", "--kind", "loss"], "--each goes with --kind overview or power, not loss"),
        (["--width", "1"], "--width 1 inches is below 2."),
        (["--kind", "power"], "recorded no power"),
        (["--kind", "loss"], "has no steps with loss"),
        (["--kind", "phases"], "has no phases"),
    ],
)
def test_mistakes_are_one_line(wrapper: Wrapper, arguments: list[str], says: str) -> None:
    pictures.write(ledger_url(str(wrapper.ledger)), Recorded(count=0, seconds=10), [], [], [])
    done = wrapper.ask("plot", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_one_line_leaves_no_picture_behind(wrapper: Wrapper, tmp_path: Path) -> None:
    wrapper.run("true")
    path = tmp_path / "loss.png"
    assert wrapper.ask("plot", "--kind", "loss", "--out", str(path)).returncode == 2
    assert not path.exists()


def test_several_runs_go_into_one_picture(wrapper: Wrapper, tmp_path: Path) -> None:
    url = ledger_url(str(wrapper.ledger))
    for number, name in enumerate(("small", "large")):
        pictures.write_seconds(url, Recorded(name=name, number=number, count=2, seconds=30))
    path = tmp_path / "a.svg"
    chosen = ("--against", "money", "--tariff", "9", "--currency", "EUR", "--width", "8")
    options = ("--kind", "compare", "--style", "slide", *chosen, "--out", str(path), "-q")
    done = wrapper.ask("plot", "small", "large", *options)
    assert (done.returncode, done.stderr) == (0, "")
    picture = path.read_text()
    assert {"small", "large", "cost (EUR)"} <= set(
        re.findall(r"<text[^>]*>([^<]*)</text>", picture)
    )
    assert 'width="576pt"' in picture


def test_runs_are_compared_by_groups(wrapper: Wrapper, tmp_path: Path) -> None:
    url = ledger_url(str(wrapper.ledger))
    for number, recipe in enumerate(("base", "base", "muon", "muon")):
        one = Recorded(
            name=f"run{number}",
            number=number,
            count=2,
            seconds=30 + number,
            tags={"recipe": recipe},
        )
        pictures.write_seconds(url, one)
    path = tmp_path / "a.svg"
    runs = [f"run{number}" for number in range(4)]
    options = ("--kind", "compare", "--group", "tag:recipe", "--out", str(path), "-q")
    done = wrapper.carbontrack("plot", *runs, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"base (2 runs)", "muon (2 runs)"} <= set(
        re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())
    )


def test_the_options_are_those_of_the_figures() -> None:
    assert set(FigureKind) == set(figures.KINDS)
    assert set(_OF_SEVERAL) == set(figures.SEVERAL)
    assert set(FigureStyle) == set(STYLES)
    assert set(Against) == set(figures.AGAINST)
    assert {
        kind: {name for name, kinds in _OPTIONS.items() if kind in kinds}
        for kind in FigureKind
        if any(kind in kinds for kinds in _OPTIONS.values())
    } == {kind: set(names) for kind, names in figures.OPTIONS.items()}

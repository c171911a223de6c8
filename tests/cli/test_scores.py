"""`carbontrack scores`: the scores of runs beside the published ones, in every format."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from carbontrack.ledger.url import ledger_url
from tests.fixtures import pictures
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded


@pytest.fixture
def scored(command: Command, tmp_path: Path) -> Command:
    """Two runs with scores, and one without."""
    url = ledger_url(str(tmp_path / "ledger.db"))
    for number, name in enumerate(("small", "large", "bare"), 1):
        one = Recorded(name=name, number=number, count=2, seconds=60)
        events = [] if name == "bare" else [pictures.score(one, 0.3 * number)]
        if name == "large":
            events.append(pictures.score(one, 7.5, task="=cmd()", metric="word_perplexity"))
        pictures.write_seconds(url, one, events=events)
    return command


def test_scores_stand_beside_what_they_took_and_what_is_published(scored: Command) -> None:
    factors = ("--pue", "1.5", "--intensity", "0.4", "--tariff", "0.2", "--format", "json")
    answer = scored("scores", "small", "large", *factors).json
    small, large, perplexity = answer["scores"]
    assert (small["name"], small["benchmark"], small["score"]) == ("small", "hellaswag", 0.3)
    assert (small["chance"], small["stderr"], small["questions"]) == (0.25, 0.05, 100)
    assert large["score"] == 0.6
    row = scored("table", "small", *factors).json["rows"][0]
    assert small["facility_kwh"] == pytest.approx(row["facility_kwh"])
    assert small["score_per_kwh"] == pytest.approx(0.3 / row["facility_kwh"])
    assert small["score_per_tco2e"] == pytest.approx(0.3 / row["tco2e"])
    assert small["score_per_cost"] == pytest.approx(0.3 / row["cost"])
    assert perplexity["score"] == 7.5
    assert perplexity["score_per_kwh"] is None
    published = {row["name"]: row for row in answer["published"]}
    llama = published["Llama 2 7B"]
    assert (llama["score"], llama["tco2e"]) == (0.772, 31.22)
    assert llama["score_per_tco2e"] == pytest.approx(0.772 / 31.22)


def test_each_note_is_there_once(command: Command, tmp_path: Path) -> None:
    """Also what some published emissions are matched by, which stand beside MMLU's scores."""
    one = Recorded(name="one", count=2, seconds=60)
    event = pictures.score(one, 0.4, task="mmlu", metric="acc")
    pictures.write_seconds(ledger_url(str(tmp_path / "ledger.db")), one, events=[event])
    text = command("scores", "one").out
    assert text.count("published CO₂e: PaLM 540B") == 1
    notes = [line for line in text.splitlines() if line.startswith("•")]
    assert len(notes) == len(set(notes))


def test_every_format_has_the_same_scores(scored: Command, tmp_path: Path) -> None:
    frame = pd.read_csv(io.StringIO(scored("scores", "small", "large", "--format", "csv").out))
    assert frame["score"].tolist()[:3] == [0.3, 0.6, 7.5]
    assert frame["benchmark"][2] == "'=cmd()"
    scored("scores", "small", "large", "--format", "parquet", "--out", str(tmp_path / "s.parquet"))
    same = pd.read_parquet(tmp_path / "s.parquet")
    assert same["score"].tolist() == frame["score"].tolist()
    for form, sign in (("markdown", "| small |"), ("latex", "small &"), ("html", "<td>small</td>")):
        text = scored("scores", "small", "--format", form).out
        assert sign in text
        assert "30.0" in text
    text = scored("scores", "small", "large").out
    assert "7.5" in text
    assert "published figures of one model differ between reports: Llama 2 70B in HellaSwag" in text


@pytest.mark.parametrize(("like", "model"), [("table3", "Falcon-40B"), ("table4", "PaLM-2-L")])
def test_the_reports_tables_are_printed_with_runs_in_front(
    like: str, model: str, scored: Command, tmp_path: Path
) -> None:
    one = Recorded(name="mine", number=9, seconds=60)
    events = [pictures.score(one, 0.4567, task="mmlu"), pictures.score(one, 0.05, task="bbh")]
    pictures.write_seconds(ledger_url(str(tmp_path / "ledger.db")), one, events=events)
    lines = scored("scores", "mine", "--like", like).out.splitlines()
    (mine,) = [line for line in lines if line.strip().startswith("mine")]
    assert {"45.7", "5.00", "–"} <= set(mine.split())
    assert any(line.strip().startswith(model) for line in lines)
    # Without runs it needs no ledger.
    (tmp_path / "ledger.db").unlink()
    assert model in scored("scores", "--like", like, "--format", "markdown").out


def test_compare_takes_a_score_as_well_as_the_loss(scored: Command) -> None:
    factors = ("--pue", "1.5", "--intensity", "0.4", "--tariff", "0.2", "--format", "json")
    answer = scored("compare", "small", "large", "--metric", "HellaSwag", *factors).json
    measures = {one["name"].strip(): one for one in answer["measures"]}
    assert (measures["hellaswag/acc"]["a"], measures["hellaswag/acc"]["b"]) == (30, 60)
    assert measures["hellaswag/acc"]["unit"] == "%"
    for name, key in (("kWh", "facility_kwh"), ("tCO₂e", "tco2e"), ("USD", "cost")):
        points = measures[f"points per {name}"]
        assert points["a"] == pytest.approx(30 / answer["a"][key])
        assert points["ratio"] == pytest.approx(2 * answer["a"][key] / answer["b"][key])
    assert any(name.startswith("final loss") for name in measures)
    alone = scored("compare", "small", "large", *factors).json["measures"]
    assert not any("hellaswag" in one["name"] for one in alone)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compare", "small", "bare", "--metric", "hellaswag"), "Run bare has no score in"),
        (
            ("plot", "small", "--kind", "compare", "--metric", "hellaswag", "--smooth", "5"),
            "--smooth is for losses, not with --metric",
        ),
        (("plot", "small", "--metric", "hellaswag"), "--metric goes with --kind compare, not"),
        (("scores", "bare"), "No scores in bare. Record llama_train evaluate in the run"),
        (("scores", "--like", "table2"), "--like table2"),
        (("scores", "nobody"), "nobody"),
    ],
)
def test_bad_use_is_one_line(words: tuple[str, ...], message: str, scored: Command) -> None:
    done = scored(*words)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert message in done.err

"""The main job, end to end: wrap a real Llama 2 pretraining, store its power, table it, plot it."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from carbontrack.vocabulary import FigureKind
from dashboards.figures import KINDS
from tests.fixtures.terminal import Terminal
from tests.fixtures.wrap import Wrapper

pytest.importorskip("torch", reason="llama_train needs the extra 'train'")
pytestmark = pytest.mark.timeout(1800)  # minutes of computing, on a machine that computes more

LLAMA_TRAIN = (sys.executable, "-m", "llama_train")
STEPS = 40
SMALL = (
    "--model.dim=64",
    "--model.n_layers=2",
    "--model.context=64",
    "--train.micro_batch=4",
    "--train.eval_sequences=8",
    f"--train.steps={STEPS}",
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The English that every CPython carries, as tokens."""
    wrapper = Wrapper(tmp_path_factory.mktemp("text"))
    out = wrapper.folder / "data"
    prepare = (*LLAMA_TRAIN, "prepare", "--corpus", "pydoc", "--out", str(out))
    assert wrapper.run(*prepare, timeout=None).returncode == 0
    return out


def train(text: Path, out: Path) -> tuple[str, ...]:
    where = ("--data", str(text), "--out", str(out), "--overwrite")
    return (*LLAMA_TRAIN, "train", "--preset", "demo", *where, *SMALL)


def test_a_pretraining_is_recorded_tabled_and_drawn(wrapper: Wrapper, text: Path) -> None:
    training = train(text, wrapper.folder / "run")
    done = wrapper.run(*training, options=("--name", "llama2-demo"), timeout=None)
    assert done.returncode == 0, done.stderr
    assert "simulated" in done.stderr
    plain = re.findall(r"^step \d+/40  loss \d\.\d{3}  [\d,]+ tokens/s$", done.stderr, re.MULTILINE)
    assert plain, "no bar where there is no terminal"
    assert "\x1b" not in done.stderr

    shown = wrapper.json("show", "llama2-demo")
    assert (shown["status"], shown["steps"], len(shown["devices"])) == ("completed", STEPS, 2)
    assert shown["model"]["name"] == "demo"
    assert shown["energy_kwh"] == pytest.approx(sum(d["energy_kwh"] for d in shown["devices"]))
    assert {"phase", "eval", "checkpoint"} <= {event["kind"] for event in shown["events"]}

    (row,) = wrapper.json("table", "llama2-demo")["rows"]
    assert row["tokens"] == shown["tokens"] > 0
    assert row["final_loss"] == shown["final_loss"]
    assert row["energy_kwh"] == pytest.approx(shown["energy_kwh"])
    by_hand = row["energy_kwh"] * row["pue"] * row["intensity_kg_per_kwh"] / 1000
    assert row["tco2e"] == pytest.approx(by_hand)
    assert row["coverage"] > 0

    for kind in KINDS:
        picture = wrapper.folder / f"{kind}.svg"
        drawn = wrapper.ask("plot", "llama2-demo", "--kind", kind, "--out", str(picture))
        if kind is FigureKind.CARBON_BY_HOUR:
            assert (drawn.returncode, picture.exists()) == (2, False)
            assert "needs hours" in drawn.stderr
            continue
        assert drawn.returncode == 0, drawn.stderr
        assert "simulated" in picture.read_text().lower(), kind


def test_on_a_terminal_it_has_a_bar(wrapper: Wrapper, text: Path) -> None:
    argv = wrapper.argv(*train(text, wrapper.folder / "run"))
    terminal = Terminal(argv, {**wrapper.env, "TERM": "xterm", "COLUMNS": "120"})
    terminal.wait_for(f"step {STEPS}/{STEPS}")
    for shown in ("loss", "tokens/s", "ETA", "━"):
        assert shown in terminal.seen
    terminal.wait_for("\x1b[?25h")  # the cursor is back
    assert terminal.end() == 0
    shown = wrapper.json("show")
    assert shown["steps"] == STEPS


def test_each_step_reaches_the_ledger_as_it_was_logged(wrapper: Wrapper, text: Path) -> None:
    out = wrapper.folder / "run"
    assert wrapper.run(*train(text, out), timeout=None).returncode == 0
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = {line["step"]: line for line in logged if "event" not in line}
    names = ("loss", "lr", "grad_norm", "tokens", "tokens_per_s")
    with closing(sqlite3.connect(wrapper.ledger)) as ledger:
        rows = ledger.execute(f"select step, {', '.join(names)} from steps").fetchall()
    assert len(rows) == STEPS == len(steps)
    for step, *values in rows:
        assert values == [steps[step][name] for name in names]

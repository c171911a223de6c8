"""Small models and data for the tests of llama_train; a process of a test keeps to one thread."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="llama_train needs the extra 'train'")

import torch

import carbontrack.job
from llama_train import cli, judge, tuning
from llama_train.config import ModelShape, override
from llama_train.data import TokenData
from llama_train.model import Transformer
from llama_train.prepare import PYDOC, Source, prepare
from llama_train.presets import PRESETS
from llama_train.reward import GRADES
from llama_train.train import Result, train
from tests.fixtures.wrap import PATIENCE_S


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file as carbontrack's recorder gives to the job."""
    path = tmp_path / "steps.jsonl"
    path.touch()
    monkeypatch.setenv("CARBONTRACK_STEPS", str(path))
    carbontrack.job.close_steps()
    yield path
    carbontrack.job.close_steps()


@pytest.fixture
def only_asked(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Transformer]]:
    """The models that are opened to draw and judge: none may be left when one is trained."""
    opened: list[weakref.ref[Transformer]] = []
    frozen, fit = judge.frozen, tuning.fit

    def noted(*how: Any) -> Transformer:
        model = frozen(*how)
        opened.append(weakref.ref(model))
        return model

    def alone(*what: Any, **how: Any) -> Result:
        assert not [model for model in opened if model() is not None]
        return fit(*what, **how)

    for module in (judge, tuning):
        monkeypatch.setattr(module, "frozen", noted)
    monkeypatch.setattr(tuning, "fit", alone)
    return opened


@pytest.fixture(scope="session")
def pydoc_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in corpus, prepared once for all tests; they only read it."""
    folder = tmp_path_factory.mktemp("pydoc")
    prepare([Source(PYDOC, ())], folder, tokenizer=None, vocab_size=512, held_out=0.08)
    return folder


@pytest.fixture
def tiny() -> ModelShape:
    """Grouped queries, and a feed-forward width that is not a power of two."""
    return ModelShape(
        dim=64,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        vocab_size=512,
        multiple_of=8,
        context=32,
    )


TINY_RUN = (
    "--preset=demo",
    "--model.dim=64",
    "--model.n_layers=2",
    "--model.context=32",
    "--train.micro_batch=4",
    "--train.eval_sequences=8",
    "--train.dtype=float32",  # the same on every CPU
)


def train_here(*words: str, data: Path, out: Path, resume: bool = False) -> Result:
    """Train in this process, as one rank: no start-up to wait for."""
    preset, *overrides = words
    config = override(PRESETS[preset.removeprefix("--preset=")], overrides)
    out.mkdir(parents=True, exist_ok=True)
    tokens = TokenData(data, config.model.context, seed=config.train.seed)
    return train(config, tokens, out, resume=resume)


def llama_train(
    *words: str | Path, ranks: int = 0, program: Sequence[str] = ("-m", "llama_train")
) -> Sequence[str]:
    """The command line of `llama_train`, under torchrun if there are ranks."""
    launcher = [sys.executable]
    if ranks:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [*launcher, *program, *map(str, words)]


def run(
    *words: str | Path,
    ranks: int = 0,
    exit_code: int = 0,
    program: Sequence[str] = ("-m", "llama_train"),
) -> subprocess.CompletedProcess[str]:
    """Run it to its end and check how it ended."""
    done = subprocess.run(
        llama_train(*words, ranks=ranks, program=program),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == exit_code, done.stderr[-4000:]
    return done


def here(*words: str | Path) -> None:
    """Run a command in this process: no start-up to wait for."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr("sys.argv", ["llama_train", *map(str, words)])
        cli.main()
    assert not end.value.code


def planned_and_logged(recorded: Path, out: Path) -> tuple[int, list[dict[str, Any]]]:
    """(the planned tokens of the last model card, the steps of the run in `out`)."""
    said, steps = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (recorded, out / "metrics.jsonl")
    )
    cards = [line["model"] for line in said if "model" in line]
    return cards[-1]["planned_tokens"], [line for line in steps if "lr" in line]


REWARD_SETTINGS = (
    "--preset=chat-demo",
    "--train.batch_size=16",
    "--train.micro_batch=8",
    "--train.dtype=float32",
    "--train.lr=3e-3",
    "--held-out=0.3",
)


def pairs_file(path: Path, count: int, seed: int = 0, **more: str) -> Path:
    """Of two answers the one with more stars is better, by how many more there are."""
    draw = random.Random(seed)
    lines = []
    for number in range(count):
        grade = draw.randrange(4)
        worse = draw.randrange(3)
        stars = (worse + grade + 1, worse)
        texts = [" ".join(["*"] * some + ["no"] * (8 - some)) for some in stars]
        pair = {"chosen": texts[0], "rejected": texts[1], "preference": GRADES[grade]}
        asked = [{"role": "user", "content": f"say {number}"}]
        lines.append(json.dumps({"messages": asked, **pair, **more}))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def chat_base(pydoc_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model that has learnt next to nothing; tests only read it."""
    out = tmp_path_factory.mktemp("base")
    torch.set_num_threads(1)
    words = ["--train.steps=2", "--train.warmup_steps=1", "--model.context=64"]
    train_here(*TINY_RUN, *words, data=pydoc_data, out=out)
    return out


@pytest.fixture(scope="session")
def rewarded(chat_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the pairs, a reward model of them)."""
    folder = tmp_path_factory.mktemp("reward")
    pairs = pairs_file(folder / "pairs.jsonl", 160)
    words = ["reward", "--from", chat_base, "--data", pairs, "--out", folder / "rm"]
    here(*words, *REWARD_SETTINGS, "--epochs=2")
    return pairs, folder / "rm"

"""Small models and data for the tests of llama_train; a process of a test keeps to one thread."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="llama_train needs the extra 'train'")

import torch

from llama_train.config import ModelShape, override
from llama_train.data import TokenData
from llama_train.prepare import PYDOC, Source, prepare
from llama_train.presets import PRESETS
from llama_train.train import Result, train
from tests.fixtures.wrap import PATIENCE_S


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


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


def run(*words: str | Path, ranks: int = 0, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run it to its end and check how it ended."""
    done = subprocess.run(
        llama_train(*words, ranks=ranks),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == exit_code, done.stderr[-4000:]
    return done

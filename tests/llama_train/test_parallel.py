"""The same training on 1, 2 and 4 processes: sharded, replicated, tensor-parallel, recomputed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llama_train.errors import TrainError
from tests.fixtures.wrap import PATIENCE_S

from .conftest import TINY_RUN, run, train_here

STEPS = ("--train.steps=6", "--train.warmup_steps=2", "--checkpoint.every=6")


def losses(folder: Path) -> list[tuple[float, float]]:
    """(loss, gradient norm) of each step."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["loss"], line["grad_norm"]) for line in lines if "loss" in line and "lr" in line]


@pytest.fixture(scope="module")
def alone(pydoc_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, float]]:
    out = tmp_path_factory.mktemp("alone")
    train_here(*TINY_RUN, *STEPS, data=pydoc_data, out=out)
    found = losses(out)
    assert len(found) == 6
    assert found[-1][0] < found[0][0]
    return found


@pytest.mark.parametrize(
    ("ranks", "settings"),
    [
        (2, ["--train.activation_checkpointing=full", "--train.loss_chunks=3"]),
        (2, ["--parallel.tensor=2", "--train.activation_checkpointing=selective"]),
        (4, ["--parallel.tensor=2", "--train.micro_batch=2", "--parallel.sync_gradients=last"]),
        (4, ["--parallel.tensor=2", "--train.micro_batch=2", "--parallel.replicate=2"]),
        (4, ["--parallel.replicate=2", "--train.micro_batch=1"]),
    ],
    ids=["sharded", "tensor", "sharded-tensor", "replicated-tensor", "hybrid-sharded"],
)
def test_ranks_change_nothing_but_rounding(
    pydoc_data: Path,
    tmp_path: Path,
    alone: list[tuple[float, float]],
    ranks: int,
    settings: list[str],
) -> None:
    out = tmp_path / "run"
    run("train", *TINY_RUN, *STEPS, *settings, "--data", pydoc_data, "--out", out, ranks=ranks)
    for together, single in zip(losses(out), alone, strict=True):
        assert together == pytest.approx(single, rel=2e-4)


def test_accumulated_micro_batches_are_the_large_one(
    pydoc_data: Path, tmp_path: Path, alone: list[tuple[float, float]]
) -> None:
    settings = ["--train.micro_batch=1", "--train.activation_checkpointing=full"]
    train_here(*TINY_RUN, *STEPS, *settings, data=pydoc_data, out=tmp_path)
    for accumulated, at_once in zip(losses(tmp_path), alone, strict=True):
        assert accumulated == pytest.approx(at_once, rel=2e-4)


def test_gradients_stay_sharded_between_micro_batches(tmp_path: Path) -> None:
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = Path(__file__).with_name("accumulation.py")
    subprocess.run(
        [sys.executable, "-m", *launch, program, tmp_path],
        check=True,
        timeout=PATIENCE_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        parameters = found["parameters"]
        assert found["each"] == {"sharded": parameters / 2, "whole": 0}
        assert found["last"] == {"sharded": 0, "whole": parameters}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--train.micro_batch=16"], "not a multiple of train.micro_batch 16 × 1 data-parallel"),
        (["--parallel.tensor=4"], "is not the number of ranks, 1"),
        (["--parallel.replicate=2"], "is not the number of ranks, 1"),
        (["--parallel.replicate=0"], "must be at least 1"),
    ],
)
def test_what_cannot_be_divided_is_said(
    pydoc_data: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        train_here(*TINY_RUN, *STEPS, *settings, data=pydoc_data, out=tmp_path)

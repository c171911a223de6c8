"""The loop: it learns, says what it does, and refuses to step on what is not finite."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch._dynamo.callback import callback_handler

from llama_train.config import Config, from_dict, override
from llama_train.data import Data, TokenData, held_out_sample
from llama_train.errors import TrainError
from llama_train.flops import flops_per_token
from llama_train.metrics import RunLog
from llama_train.presets import preset
from llama_train.train import Loop, Result, train
from llama_train.world import World
from tests.fixtures import tools
from tests.fixtures.wrap import PATIENCE_S, wait_until

from .conftest import TINY_RUN, llama_train, train_here

STEPS = ("--train.steps=30", "--train.warmup_steps=5", "--train.eval_every=10")


def lines(path: Path) -> list[dict[str, Any]]:
    """Strictly JSON, which has neither NaN nor Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = path.read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_it_learns_and_tells_carbontrack(
    pydoc_data: Path, tmp_path: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, evaluated = tmp_path / "run", set[int]()
    held_out = TokenData.held_out

    def noted(data: TokenData, number: int) -> Any:
        evaluated.add(number)
        return held_out(data, number)

    monkeypatch.setattr(TokenData, "held_out", noted)
    result = train_here(*TINY_RUN, *STEPS, "--checkpoint.every=15", data=pydoc_data, out=out)
    said = lines(recorded)

    (card,) = [line["model"] for line in said if "model" in line]
    config = from_dict(json.loads((out / "config.json").read_text())["config"], out)
    assert (card["parameters"], card["planned_tokens"]) == (config.model.parameters, 30 * 8 * 32)
    assert card["mfu_formula"] == "6(N-E)+12LdT"
    assert card["mfu_peak_flops"] is None

    steps = [line for line in said if "step" in line and "event" not in line]
    assert [line["step"] for line in steps] == list(range(1, 31))
    assert steps[0]["loss"] == pytest.approx(math.log(512), abs=0.1)
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.3
    for line in steps:
        assert line["tokens"] == 8 * 32
        assert line["tokens_per_s"] > 0
        assert line["grad_norm"] > 0
        assert line["memory_peak_bytes"] > 2**20
        assert "mfu" not in line

    evals = {line["step"]: line["loss"] for line in said if line.get("event") == "eval"}
    assert list(evals) == [0, 10, 20, 30]
    assert evaluated == set(held_out_sample(TokenData(pydoc_data, 32), 8)) != set(range(8))
    assert evals[0] == result.progress.first_held_out_loss
    assert evals[30] == result.held_out["loss"] < evals[0]
    assert [line["step"] for line in said if line.get("event") == "checkpoint"] == [15, 30]

    phases = [line for line in said if line.get("event") == "phase"]
    assert Counter(line["name"] for line in phases)["eval"] == 4
    named = {line["name"] for line in phases} - {"data wait"}  # of a busy machine
    assert named == {"train", "eval", "checkpoint"}
    times = [line["time_ms"] for line in phases]
    assert times == sorted(times)
    # Each phase ends where the next begins: between two others there is always training.
    names = [line["name"] for line in phases]
    assert all("train" in pair for pair in pairwise(names))


def test_mfu_is_of_what_each_device_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_train.flops.peak_flops", lambda _: 1e12)
    config, unused = tiny_config("--train.batch_size=8"), cast(Any, None)
    here = World(rank=0, size=4, device=torch.device("cpu"), mesh=unused)
    names = ("model", "optimizer", "store", "log", "progress", "objective", "measures")
    for computed in ((1, 32), (2, 24), None):  # of text, of pairs, of what cannot be counted
        data: Any = SimpleNamespace(computed=computed)
        loop = Loop(config=config, data=data, here=here, **dict.fromkeys(names, unused))
        expected = None
        if computed is not None:
            rows, length = computed
            each = flops_per_token(replace(config.model, context=length))
            expected = pytest.approx(8 * rows * length / 4 / 0.5 * each / 1e12)
        assert loop.mfu(0.5) == expected


class Clock:
    """The module `time`, but that time passes, and the wall clock is set, only where the test says
    so.
    """

    def __init__(self) -> None:
        self.now_ns = time.time_ns()
        self.set_ns = 0

    def time_ns(self) -> int:
        return self.now_ns + self.set_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class Slow(TokenData):
    """Data that is 0.3 s late for the second step, after that began to wait for it; while the third
    waits, the clock is set forward.
    """

    clock: Clock
    waits: list[int]  # one for each step that has begun to wait

    def sequence(self, number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        if number == 8:
            wait_until(lambda: len(self.waits) == 2)
            self.clock.now_ns += 300_000_000
        if number == 16:
            wait_until(lambda: len(self.waits) == 3)
            self.clock.set_ns += 3_600 * 10**9
        return super().sequence(number)


def tiny_config(*words: str) -> Config:
    return override(preset("demo"), [*TINY_RUN[1:], *words])


def train_on(config: Config, data: Data, out: Path) -> Result:
    out.mkdir(exist_ok=True)
    return train(config, data, out)


def test_a_long_wait_for_data_is_a_phase(
    pydoc_data: Path, tmp_path: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config("--train.steps=3", "--train.warmup_steps=1")
    data = Slow(pydoc_data, 32)
    data.clock, data.waits = Clock(), []
    data_wait = RunLog.data_wait

    @contextmanager
    def counted(log: RunLog) -> Iterator[None]:
        with data_wait(log):
            data.waits.append(1)
            yield

    monkeypatch.setattr(RunLog, "data_wait", counted)
    monkeypatch.setattr("llama_train.metrics.time", data.clock)
    train_on(config, data, tmp_path / "run")
    phases = [line for line in lines(recorded) if line.get("event") == "phase"]
    (at,) = [i for i, line in enumerate(phases) if line["name"] == "data wait"]
    assert phases[at + 1]["name"] == "train"
    assert phases[at + 1]["time_ms"] - phases[at]["time_ms"] == 300


def spoil(monkeypatch: pytest.MonkeyPatch, bad_steps: set[int], what: str = "loss") -> None:
    """Make the loss of some steps not a number, or an element of a gradient infinite."""
    from llama_train import train as module

    forward_backward = module.Loop.forward_backward

    def spoiled(loop: Any, batches: Any, tokens: Any) -> Any:
        loss = forward_backward(loop, batches, tokens)
        if loop.progress.step + 1 not in bad_steps:
            return loss
        if what == "loss":
            return loss * math.nan
        next(loop.model.parameters()).grad[0, 0] = math.inf
        return loss

    monkeypatch.setattr(module.Loop, "forward_backward", spoiled)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped_before_the_optimizer_sees_it(
    pydoc_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    spoil(monkeypatch, {3, 4}, what)
    result = train_here(*TINY_RUN, *STEPS, data=pydoc_data, out=tmp_path)
    assert result.progress.skipped == 2
    assert result.progress.skipped_in_a_row == 0
    assert math.isfinite(result.held_out["loss"])
    said = lines(tmp_path / "metrics.jsonl")
    assert len([line for line in said if line.get("event") == "skipped"]) == 2
    steps = [line for line in said if "lr" in line]
    unknown = "loss" if what == "loss" else "grad_norm"
    assert [line["step"] for line in steps if line[unknown] is None] == [3, 4]


@pytest.mark.parametrize(
    ("most", "message"),
    [(1, "1 step in a row, up to step 5"), (3, "3 steps in a row, up to step 7")],
)
def test_too_many_in_a_row_end_the_run(
    pydoc_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, message: str
) -> None:
    spoil(monkeypatch, set(range(5, 30)))
    words = [*TINY_RUN, *STEPS, f"--train.max_bad_steps={most}"]
    with pytest.raises(TrainError, match=message) as caught:
        train_here(*words, data=pydoc_data, out=tmp_path)
    assert caught.value.exit_code == 1


@pytest.mark.timeout(600)  # on a machine that others use, the C++ compiler takes minutes
# The compiler looks at .grad of the tensors between the blocks, and imports torch.jit.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
def test_compiled_blocks_change_nothing_but_rounding(
    pydoc_data: Path, tmp_path: Path, recorded: Path
) -> None:
    tools.need(tools.CPP, tools.HEADERS)
    found, compiled_in = [], list[str]()

    def note(_: object) -> None:
        said = [line for line in lines(recorded) if line.get("event") == "phase"]
        compiled_in.append(said[-1]["name"])

    callback_handler.register_start_callback(note)
    for choice in ("off", "on"):
        words = ["--train.steps=4", "--train.warmup_steps=1", f"--train.compile={choice}"]
        train_here(*TINY_RUN, "--model.n_layers=1", *words, data=pydoc_data, out=tmp_path / choice)
        steps = lines(tmp_path / choice / "metrics.jsonl")
        found.append([line["loss"] for line in steps if "lr" in line])
    callback_handler.remove_start_callback(note)
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    names = [line["name"] for line in lines(recorded) if line.get("event") == "phase"]
    assert names.count("compile") == 1
    # Both what trains and what evaluates was compiled in that phase.
    assert set(compiled_in) == {"compile"}


def test_bfloat16_compute_follows_float32(pydoc_data: Path, tmp_path: Path) -> None:
    losses = []
    for dtype in ("float32", "bfloat16"):
        words = [*TINY_RUN, *STEPS, f"--train.dtype={dtype}"]
        losses.append(train_here(*words, data=pydoc_data, out=tmp_path / dtype).held_out["loss"])
    assert losses[0] == pytest.approx(losses[1], abs=0.03)


def test_out_of_memory_is_a_line_that_says_which_setting_helps(
    pydoc_data: Path, tmp_path: Path
) -> None:
    words = ["--train.batch_size=60000", "--train.micro_batch=60000"]
    command = llama_train("train", *words, "--data", pydoc_data, "--out", tmp_path / "run")
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v 6000000 && exec {shlex.join(command)}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("llama_train: Out of memory")
    assert "--train.micro_batch" in line

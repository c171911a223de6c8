"""Aligning with a reward model: PPO's formulas by hand, improvement, ranks."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from llama_train import ppo
from llama_train.advantage import estimate_advantages, policy_loss, value_loss, whiten
from llama_train.errors import TrainError
from llama_train.generate import sample
from llama_train.prompts import read_prompts, split
from llama_train.tokenizer import Tokenizer

from .conftest import REWARD_SETTINGS, TINY_RUN, here, run, train_here
from .test_cli import call


def test_the_policy_loss_is_ppos_clipped_one() -> None:
    # r = 1.5 is cut to 1.2 where the advantage is above 0, and counts in full where it is below;
    # r = 0.5 the other way round.
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantages = torch.tensor([2.0, -2.0, 2.0, -2.0, 1.0])
    old = torch.tensor([-1.0, -2.0, -0.5, -3.0, -1.0])
    losses = policy_loss(old + ratio.log(), old, advantages, 0.2)
    assert losses.tolist() == pytest.approx([-2.4, 3.0, -1.0, 1.6, -1.1], abs=1e-6)
    assert value_loss(torch.tensor([1.0]), torch.tensor([4.0])).tolist() == [4.5]


def test_advantages_are_generalised_ones_worked_by_hand() -> None:
    # γ = 0.9, λ = 0.5. First row, three tokens:
    #   δ₂ = 1 - 0.3 = 0.7                    A₂ = 0.7
    #   δ₁ = 0 + 0.9·0.3 - 0.2 = 0.07         A₁ = 0.07 + 0.45·0.7 = 0.385
    #   δ₀ = -0.1 + 0.9·0.2 - 0.4 = -0.32     A₀ = -0.32 + 0.45·0.385 = -0.14675
    # Second row, a prompt's token first and one after the end:
    #   δ₁ = 2 - 0.5 = 1.5, and nothing elsewhere.
    rewards = torch.tensor([[-0.1, 0.0, 1.0], [9.0, 2.0, 9.0]])
    values = torch.tensor([[0.4, 0.2, 0.3], [9.0, 0.5, 9.0]])
    mask = torch.tensor([[True, True, True], [False, True, False]])
    advantages, returns = estimate_advantages(rewards, values, mask, 0.9, 0.5)
    assert advantages[0].tolist() == pytest.approx([-0.14675, 0.385, 0.7], abs=1e-6)
    assert advantages[1].tolist() == pytest.approx([0, 1.5, 0], abs=1e-6)
    assert returns[0].tolist() == pytest.approx([0.25325, 0.585, 1.0], abs=1e-6)
    assert returns[1].tolist() == pytest.approx([0, 2.0, 0], abs=1e-6)


def test_whitened_scores_have_mean_0_and_deviation_1() -> None:
    # Mean 2, deviation sqrt((1 + 0 + 1) / 3).
    white = whiten(torch.tensor([1.0, 2.0, 3.0]))
    assert white.tolist() == pytest.approx([-math.sqrt(1.5), 0, math.sqrt(1.5)], abs=1e-6)


PPO_SETTINGS = (
    "--method=ppo",
    "--preset=chat-demo",
    "--train.batch_size=16",
    "--train.micro_batch=4",
    "--ppo.mini_batch=8",
    "--sampling.tokens=8",
    "--train.dtype=float32",
    "--train.eval_sequences=32",
    "--held-out=0.3",
)
# In 20 steps this raises the reward by at least 10 times its error, whichever Python's own pages
# the first model has read.
LEARNING = "--train.lr=1e-2"


def words(base: Path, rm: Path, out: Path, *more: str | Path) -> list[str | Path]:
    return ["align", "--from", base, "--reward", rm, "--out", out, *more]


def logged(out: Path, key: str) -> list[dict[str, Any]]:
    whole, _, _ = (out / "metrics.jsonl").read_text().rpartition("\n")
    return [line for line in map(json.loads, whole.splitlines()) if key in line]


def steps(out: Path) -> dict[int, tuple[float, ...]]:
    """step → its figures; of a step that was done twice, the later."""
    names = ("loss", "grad_norm", "reward", "kl", "tokens")
    return {line["step"]: tuple(line[name] for name in names) for line in logged(out, "lr")}


@pytest.fixture(scope="module")
def asked() -> dict[str, int]:
    """Key → the tokens of each prompt that was answered to make `aligned`."""
    return {}


@pytest.fixture(scope="module")
def aligned(
    chat_base: Path,
    rewarded: tuple[Path, Path],
    asked: dict[str, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("ppo") / "run"
    settings = [*PPO_SETTINGS, LEARNING, "--train.steps=20", "--checkpoint.every=3"]

    def noted(model: Any, prompts: Sequence[Sequence[int]], **how: Any) -> Any:
        asked.update(zip(how["keys"], map(len, prompts), strict=True))
        return sample(model, prompts, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "sample", noted)
        here(*words(chat_base, rewarded[1], out, *settings))
    return out


def test_ppo_raises_the_reward_of_held_out_prompts(aligned: Path) -> None:
    evals = [line for line in logged(aligned, "reward") if line.get("event") == "eval"]
    first, last = evals[0], evals[-1]
    assert first["kl"] == pytest.approx(0, abs=1e-5)  # the policy is the first one
    gain = last["reward"] - first["reward"]
    assert gain > 2 * math.hypot(first["reward_error"], last["reward_error"])
    phases = {line["name"] for line in logged(aligned, "event") if line["event"] == "phase"}
    assert {"generate", "score", "update"} <= phases


@pytest.mark.usefixtures("aligned")
def test_what_is_evaluated_is_not_the_shortest_of_the_held_out_prompts(
    chat_base: Path, rewarded: tuple[Path, Path], asked: dict[str, int]
) -> None:
    pieces = Tokenizer(chat_base / "tokenizer.model")
    prompts, _ = read_prompts([rewarded[1] / "prompts.jsonl"], pieces, 64)
    held_out = [len(prompt.tokens) for prompt in split(prompts, 0.3)[1]]
    evaluated = [tokens for key, tokens in asked.items() if "/eval/" in key]
    assert len(evaluated) == 32 < len(held_out)
    assert sum(evaluated) > sum(sorted(held_out)[:32])


def test_two_ranks_do_in_every_stage_what_one_does(
    aligned: Path, chat_base: Path, rewarded: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs, rm = rewarded
    outs = {stage: tmp_path / stage for stage in ("reward", "rejection", "ppo")}
    ppo_settings = [*PPO_SETTINGS, LEARNING, "--train.steps=1"]
    reward = ["reward", "--from", chat_base, "--data", pairs, *REWARD_SETTINGS, "--epochs=0.15"]
    commands = [
        [*reward, "--out", outs["reward"]],
        words(chat_base, rm, outs["rejection"], *RS_SETTINGS, "--samples=2"),
        words(chat_base, rm, outs["ppo"], *ppo_settings),
    ]
    separated = [word for command in commands for word in ("--", *command)]
    run(*separated, ranks=2, program=[str(Path(__file__).with_name("several.py"))])
    # PPO's first iteration does not depend on how many follow.
    assert steps(outs["ppo"])[1] == pytest.approx(steps(aligned)[1], rel=1e-3, abs=1e-5)
    here(*reward, "--out", tmp_path / "one")
    losses = [
        [line["loss"] for line in logged(out, "lr")] for out in (outs["reward"], tmp_path / "one")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-4)
    here(*words(chat_base, rm, tmp_path / "alone", *RS_SETTINGS, "--samples=2"))
    drawn = [
        [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
        for out in (outs["rejection"], tmp_path / "alone")
    ]
    same = [a["messages"] == b["messages"] for a, b in zip(*drawn, strict=True)]
    assert sum(same) >= 0.98 * len(same)  # where two answers score alike, rounding may decide


def spoil(monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    """Make the gradients of a mini-batch's critic not a number."""
    totals, seen = ppo.Alignment.totals, 0

    def spoiled(loop: Any, loss: Any, stop_asked: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == bad:
            next(loop.critic.parameters()).grad[0, 0] = math.nan
        return totals(loop, loss, stop_asked)

    monkeypatch.setattr(ppo.Alignment, "totals", spoiled)


def test_a_mini_batch_that_is_not_finite_is_skipped(
    chat_base: Path,
    rewarded: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(monkeypatch, 2)
    settings = [*PPO_SETTINGS, "--train.lr=5e-3", "--train.steps=2"]
    code, said, errors = call(capsys, *words(chat_base, rewarded[1], tmp_path, *settings))
    assert (code, said.strip().endswith("1 step skipped")) == (0, True), errors
    assert all(math.isfinite(value) for row in steps(tmp_path).values() for value in row[2:])


def test_an_iteration_in_which_a_signal_comes_is_the_last(
    chat_base: Path,
    rewarded: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    learn, mini_batches = ppo.Alignment.learn, list[Any]()

    def interrupted(loop: Any, *rest: Any) -> Any:
        mini_batches.append(rest)
        if len(mini_batches) == 2:  # the last of the first iteration
            signal.raise_signal(signal.SIGTERM)
        return learn(loop, *rest)

    monkeypatch.setattr(ppo.Alignment, "learn", interrupted)
    few = ["--train.steps=2", "--train.eval_every=2", "--train.eval_sequences=4"]
    code, _, errors = call(capsys, *words(chat_base, rewarded[1], tmp_path, *PPO_SETTINGS, *few))
    assert (code, list(steps(tmp_path))) == (143, [1]), errors
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step-00000001"


RS_SETTINGS = (
    "--method=rejection",
    "--preset=chat-demo",
    "--train.micro_batch=4",
    "--train.batch_size=8",
    "--sampling.tokens=8",
    "--train.dtype=float32",
    "--samples=4",
    "--train.steps=3",
    "--train.eval_every=3",
    "--held-out=0.3",
)


def test_the_best_of_n_is_learnt_and_an_interrupted_drawing_goes_on(
    chat_base: Path, rewarded: tuple[Path, Path], tmp_path: Path, only_asked: list[object]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    here(*words(chat_base, rewarded[1], whole, *RS_SETTINGS))
    answers = whole / "answers.jsonl"
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    pieces = {row["prompt"] for row in rows}
    assert len(rows) == len(pieces) > 100
    for row in rows:
        assert len(row["rewards"]) == 4
        assert row["messages"][-1]["role"] == "assistant"
    (report,) = logged(whole, "best")
    assert report["best"]["4"] > report["best"]["1"]
    assert max(step for step in (line["step"] for line in logged(whole, "lr"))) == 3
    # Killed in the middle of writing a line: what was whole stays, the rest is drawn again alike.
    cut.mkdir()
    text = answers.read_text()
    (cut / "answers.jsonl").write_text(text[: len(text) // 2])
    note = json.loads((whole / "answers.json").read_text())
    assert note["is_whole"]
    (cut / "answers.json").write_text(json.dumps({**note, "is_whole": False}))
    here(*words(chat_base, rewarded[1], cut, *RS_SETTINGS, "--resume"))
    assert (cut / "answers.jsonl").read_text() == text
    losses = [[line["loss"] for line in logged(out, "lr")] for out in (whole, cut)]
    assert losses[0] == losses[1]
    assert len(only_asked) == 2 * 2  # the chat model and its judge, in each
    here(*words(chat_base, rewarded[1], cut, *RS_SETTINGS, "--resume"))
    assert len(only_asked) == 2 * 2, "nothing is left to draw"


def test_a_reward_model_of_another_tokenizer_or_trunk_is_refused(
    pydoc_data: Path,
    chat_base: Path,
    rewarded: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other"
    here(
        "reward",
        "--from",
        chat_base,
        "--data",
        rewarded[0],
        "--out",
        other,
        *("--preset=chat-demo", "--train.steps=1", "--train.warmup_steps=1", "--held-out=0.3"),
    )
    (other / "tokenizer.model").write_bytes(b"x")
    small, one_step = tmp_path / "small", ["--train.steps=1", "--train.warmup_steps=1"]
    train_here(*TINY_RUN, "--model.dim=32", *one_step, data=pydoc_data, out=small)
    capsys.readouterr()
    out, rm, nowhere = tmp_path / "out", rewarded[1], tmp_path / "nowhere.jsonl"
    for models, more, message in (
        ((chat_base, other), "", "of another tokenizer than"),
        ((small, rm), "", "of another trunk than"),
        ((chat_base, chat_base), "", "is a language model, not a reward model"),
        ((rm, rm), "", "is a reward model, not a language model"),
        ((chat_base, rm), "--ppo.mini_batch=6", "must be a multiple of ppo.mini_batch 6"),
        ((chat_base, rm), "--sampling.tokens=60", "holds no prompt of at most 3 tokens"),
        ((chat_base, rm), "--sampling.tokens=512", "Answers of 512 tokens leave no room"),
        ((chat_base, rm), "--parallel.tensor=2", "parallel.tensor must be 1"),
        ((chat_base, rm), "--samples=2", "sampling.samples is 2; it must be 1, for this stage"),
        ((chat_base, rm), "--sampling.temperature=0.5", "sampling.temperature is 0.5; it must be"),
        ((chat_base, rm), "--sampling.top_p=0.9", "sampling.top_p is 0.9; it must be 1.0"),
        ((chat_base, rm), "--preset=chat-8b", "did you mean chat-"),
        ((chat_base, rm), f"--data={nowhere}", "cannot be read"),
    ):
        change = words(*models, out, *PPO_SETTINGS, *([more] if more else []))
        code, _, said = call(capsys, *change)
        (line,) = said.strip().splitlines()
        assert (code, message in line) == (2, True), line
    assert not out.exists()


def test_a_prompt_without_a_question_is_named(
    chat_base: Path, rewarded: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}]}\n{"messages": []}\n')
    with pytest.raises(TrainError, match="line 2: not a prompt: 'messages' is not a list"):
        read_prompts([path], Tokenizer(chat_base / "tokenizer.model"), 64)

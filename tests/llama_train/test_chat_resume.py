"""A chat stage that is killed goes on to the same weights, bit for bit (PPO: test_align)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from llama_train.weights import load_pretrained
from tests.fixtures.wrap import wait_until

from .conftest import REWARD_SETTINGS, here
from .test_resume import held, losses

SETTINGS = (
    "--preset=chat-demo",
    "--train.batch_size=4",
    "--train.micro_batch=4",
    "--sampling.tokens=8",
    "--train.steps=8",
    "--train.warmup_steps=1",
    "--checkpoint.every=3",
    "--held-out=0.3",
)


def killed_at(point: int | str, words: Sequence[str | Path], out: Path) -> None:
    """Run until the point, and kill it there; it is between two checkpoints."""
    job = held(point, out.with_name("go"), *words, out=out)
    if isinstance(point, str):
        answers = out / "answers.jsonl"
        wait_until(lambda: job.poll() is not None or (answers.exists() and answers.stat().st_size))
    job.kill()
    job.communicate()
    assert max(losses(out), default=0) == (0 if isinstance(point, str) else point - 1)


def same_as_straight(
    words: Sequence[str | Path], out: Path, straight: Path, head: str = "tokens"
) -> None:
    here(*words, "--out", out, "--resume")
    here(*words, "--out", straight)
    assert losses(out) == losses(straight)
    ours, theirs = (load_pretrained(run, head=head).state_dict() for run in (out, straight))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_killed_reward_model(
    chat_base: Path, rewarded: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ["reward", "--from", chat_base, "--data", rewarded[0], *REWARD_SETTINGS]
    words += ["--train.steps=8", "--train.warmup_steps=1", "--checkpoint.every=3"]
    killed_at(6, words, tmp_path / "out")
    same_as_straight(words, tmp_path / "out", tmp_path / "straight", head="scalar")


def test_a_killed_fine_tuning_that_draws_answers(chat_base: Path, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    rows: list[object] = []
    for number in range(40):
        asked = {"role": "user", "content": f"say {number}"}
        rows += [
            {"messages": [asked, {"role": "assistant", "content": f"yes {number}"}]},
            {"messages": [asked], "preprompt": "Be kind."},
        ]
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["finetune", "--from", chat_base, "--data", chats, *SETTINGS]
    killed_at(6, words, tmp_path / "out")
    same_as_straight(words, tmp_path / "out", tmp_path / "straight")


def test_a_killed_rejection_sampling(
    chat_base: Path, rewarded: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ["align", "--method=rejection", "--samples=2", "--from", chat_base]
    words += ["--reward", rewarded[1], *SETTINGS]
    killed_at("draw:64", words, tmp_path / "out")
    same_as_straight(words, tmp_path / "out", tmp_path / "straight")
    drawn = [(tmp_path / run / "answers.jsonl").read_text() for run in ("out", "straight")]
    assert drawn[0] == drawn[1]

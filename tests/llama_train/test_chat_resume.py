"""A chat stage that is killed anywhere goes on to the same weights, bit for bit."""

from __future__ import annotations

import json
import random
import signal
import sys
from pathlib import Path

import pytest

from llama_train.checkpoint import newest

from .conftest import REWARD_SETTINGS, here, run
from .killed import Calls
from .test_resume import losses

SHORT = (
    "--train.steps=5",
    "--train.eval_every=3",
    "--checkpoint.every=2",
    "--held-out=0.3",
    "--train.eval_sequences=4",
)
TUNING = (
    "--preset=chat-demo",
    "--train.batch_size=4",
    "--train.micro_batch=4",
    "--train.warmup_steps=1",
    "--sampling.tokens=8",
)
PPO = (
    "--preset=chat-demo",
    "--train.batch_size=8",
    "--train.micro_batch=4",
    "--ppo.mini_batch=4",
    "--sampling.tokens=8",
)


def conversations(path: Path) -> Path:
    """Some of which wait for an answer of the model."""
    rows: list[object] = []
    for number in range(40):
        asked = {"role": "user", "content": f"say {number}"}
        rows += [
            {"messages": [asked, {"role": "assistant", "content": f"yes {number}"}]},
            {"messages": [asked], "preprompt": "Be kind."},
        ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def state(out: Path) -> dict[str, bytes]:
    """The weights of every model that is trained, and its optimizer's, as they were written."""
    return {path.name: path.read_bytes() for path in newest(out)[0].glob("*.distcp")}


@pytest.mark.parametrize("stage", ["finetune", "reward", "rejection", "ppo"])
def test_a_stage_killed_anywhere_comes_to_the_same(
    stage: str, chat_base: Path, rewarded: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs, rm = rewarded
    words: list[str | Path] = {
        "finetune": ["finetune", "--data", conversations(tmp_path / "chats.jsonl"), *TUNING],
        "reward": ["reward", "--data", pairs, *REWARD_SETTINGS, "--train.warmup_steps=1"],
        "rejection": ["align", "--method=rejection", "--samples=2", "--reward", rm, *TUNING],
        "ppo": ["align", "--method=ppo", "--reward", rm, *PPO],
    }[stage]
    words += ["--from", chat_base, *SHORT]
    out, straight = tmp_path / "out", tmp_path / "straight"
    calls = Calls()
    sys.setprofile(calls)
    try:
        here(*words, "--out", straight)
    finally:
        sys.setprofile(None)
    seed = random.randrange(2**32)
    # Not among the last: how often a checkpoint's writer is looked after depends on its speed.
    at = random.Random(seed).randrange(1, calls.count * 19 // 20)
    print(f"seed {seed}: killed at call {at:,} of {calls.count:,}")
    program = [str(Path(__file__).with_name("killed.py")), str(at)]
    run(*words, "--out", out, program=program, exit_code=-signal.SIGKILL)
    here(*words, "--out", out, "--resume")
    assert losses(out) == losses(straight)
    assert state(out) == state(straight) != {}
    for name in ("answers.jsonl", "prompts.jsonl"):
        ours, theirs = out / name, straight / name
        assert ours.exists() == theirs.exists()
        assert not ours.exists() or ours.read_bytes() == theirs.read_bytes()

"""Reward models: the report's loss and margins, what they learn, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llama_train.chat import conversation
from llama_train.errors import TrainError
from llama_train.flops import flops_per_token
from llama_train.judge import Judge, combine
from llama_train.reward import GRADES, MARGINS, PairData, pair_loss, scores
from llama_train.tokenizer import Tokenizer
from llama_train.weights import load_pretrained, open_pretrained

from .conftest import REWARD_SETTINGS, pairs_file, planned_and_logged
from .test_cli import call


def test_the_loss_is_that_of_trl_with_margins_worked_by_hand() -> None:
    # -log σ(x) = log(1 + exp(-x)), of x = chosen - rejected - margin:
    #   1.5 - 0.2 - 3   = -1.7  -> log(1 + e^1.7)  = 1.867786
    #   0.1 - 0.4 - 2   = -2.3  -> log(1 + e^2.3)  = 2.395546
    #   2.0 + 1.0 - 1   =  2.0  -> log(1 + e^-2)   = 0.126928
    #   0.3 - 0.3 - 0   =  0.0  -> log 2           = 0.693147
    # TRL 1.16's RewardTrainer takes the mean of the same formula: 1.270852.
    chosen = torch.tensor([1.5, 0.1, 2.0, 0.3])
    rejected = torch.tensor([0.2, 0.4, -1.0, 0.3])
    margin = torch.tensor(MARGINS["large"]).flip(0)
    losses = pair_loss(chosen, rejected, margin)
    assert losses.tolist() == pytest.approx([1.867786, 2.395546, 0.126928, 0.693147], abs=1e-6)
    assert losses.mean().item() == pytest.approx(1.270852, abs=1e-6)
    assert MARGINS["small"] == pytest.approx([margin / 3 for margin in MARGINS["large"]])


def evals(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("event") == "eval"]


def test_a_reward_model_learns_which_answer_is_better(rewarded: tuple[Path, Path]) -> None:
    _, out = rewarded
    first, last = evals(out)[0], evals(out)[-1]
    pairs = last["tokens"]
    error = math.sqrt(last["accuracy"] * (1 - last["accuracy"]) / pairs)
    assert last["accuracy"] - 2 * error > 0.5
    assert last["loss"] < first["loss"]
    assert set(GRADES) <= last.keys()
    config = json.loads((out / "config.json").read_text())
    assert config["config"]["model"]["head"] == "scalar"
    asked = [json.loads(line) for line in (out / "prompts.jsonl").read_text().splitlines()]
    assert len(asked) == 160
    assert asked[0]["kind"] == "helpful"


def test_planned_tokens_are_what_is_logged_and_mfu_is_of_all_that_is_computed(
    chat_base: Path,
    tmp_path: Path,
    recorded: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("llama_train.flops.peak_flops", lambda _: 1e12)
    pairs, out = pairs_file(tmp_path / "pairs.jsonl", 40), tmp_path / "out"
    data = PairData(pairs, chat_base / "tokenizer.model", 64, held_out=0.3)
    words = ["reward", "--from", chat_base, "--data", pairs, "--out", out, *REWARD_SETTINGS]
    all_at_once = [f"--train.{name}={data.sequences}" for name in ("batch_size", "micro_batch")]
    code, _, errors = call(capsys, *words, *all_at_once, "--epochs=2")
    assert code == 0, errors
    planned, steps = planned_and_logged(recorded, out)
    assert (len(steps), sum(step["tokens"] for step in steps)) == (2, planned)
    _, width = data.sequence(0)[0].shape
    shape = replace(open_pretrained(out, head="scalar").shape, context=width)
    for step in steps:
        seconds = step["tokens"] / step["tokens_per_s"]
        flops = data.sequences * 2 * width * flops_per_token(shape)
        assert step["mfu"] == pytest.approx(flops / seconds / 1e12)


def test_pairs_are_padded_alike_and_end_where_their_answers_do(
    rewarded: tuple[Path, Path], chat_base: Path
) -> None:
    pairs, _ = rewarded
    pieces = Tokenizer(chat_base / "tokenizer.model")
    data = PairData(pairs, chat_base / "tokenizer.model", 64, held_out=0.3)
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    known = set()
    for row in rows:
        for side in ("chosen", "rejected"):
            messages = [*row["messages"], {"role": "assistant", "content": row[side]}]
            known.add(tuple(token for token, _ in conversation(messages, pieces)))
    for number in range(data.sequences):
        tokens, ends, grade = data.sequence(number)
        assert tokens.shape == data.sequence(0)[0].shape
        assert all(tuple(tokens[i, : ends[i] + 1].tolist()) in known for i in (0, 1))
        assert 0 <= int(grade) < len(GRADES)
    assert sorted(int(data.sequence(n)[1].sum()) for n in range(data.sequences)) == sorted(
        int(data.sequence(n)[1].sum()) for n in range(data.sequences, 2 * data.sequences)
    )


def test_the_score_is_the_heads_at_the_end_of_the_answer(rewarded: tuple[Path, Path]) -> None:
    _, out = rewarded
    model = load_pretrained(out, head="scalar")
    short, long = [1, 5, 6, 2], [1, 5, 6, 7, 8, 9, 2]
    judge = Judge(model, None, 0.15)
    both = judge.scores([short, long[:-1]], ["helpful"] * 2, eos=2, micro_batch=2)
    alone = [
        float(scores(model, torch.tensor([d]), torch.tensor([len(d) - 1])).detach())
        for d in (short, long)
    ]
    assert both.tolist() == pytest.approx(alone, abs=1e-5)


def test_safety_decides_for_unsafe_prompts_and_answers() -> None:
    # σ(-1.7) = 0.1545, σ(-1.8) = 0.1419; the report's threshold is 0.15.
    helpful, safe = torch.tensor([5.0, 5, 5, 5]), torch.tensor([-1.7, -1.8, 2, -1.7])
    unsafe_prompt = torch.tensor([False, False, True, True])
    assert combine(helpful, safe, unsafe_prompt, 0.15).tolist() == pytest.approx([5, -1.8, 2, -1.7])


GOOD = {
    "messages": [{"role": "user", "content": "a"}],
    "chosen": "b",
    "rejected": "c",
    "preference": "better",
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"preference": None}, "'preference' is not one of negligibly, slightly, better, sign"),
        ({"preference": "much"}, "'preference' is not one of"),
        ({"chosen": " "}, "'chosen' is empty"),
        ({"rejected": None}, "'rejected' is empty"),
        ({"rejected": "b "}, "'chosen' and 'rejected' are the same"),
        ({"chosen": "\ud83d"}, "'chosen' has half of a surrogate pair"),
        ({"kind": "nice"}, "'kind' is not one of helpful, safe"),
        ({"messages": None}, "'messages' is not a list"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "the last message be a user's"),
    ],
)
def test_a_line_that_is_not_a_pair_is_named(
    pydoc_data: Path, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps({**GOOD, **change})}\n")
    with pytest.raises(TrainError, match=f"line 2: not a pair of answers: .*{reason}"):
        PairData(path, pydoc_data / "tokenizer.model", 64, held_out=0.5)


def test_pairs_longer_than_the_context_are_counted(pydoc_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({**GOOD, "chosen": "long " * 50}) + "\n")
    with pytest.raises(TrainError, match="0 pairs to train on and 0 held out; 1 longer"):
        PairData(path, pydoc_data / "tokenizer.model", 64, held_out=0.5)


def test_a_reward_model_is_not_taken_for_a_language_model(
    rewarded: tuple[Path, Path], chat_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = rewarded
    for words in (["generate", out], ["export", out, "--out", tmp_path / "hf"]):
        code, _, said = call(capsys, *words)
        assert (code, said.strip().endswith("rm is a reward model, not a language model.")) == (
            2,
            True,
        )
    with pytest.raises(TrainError, match="is a language model, not a reward model"):
        open_pretrained(chat_base, head="scalar")

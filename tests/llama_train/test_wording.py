"""One of something is said in the singular, in every message that counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llama_train.chat import ChatData
from llama_train.config import override
from llama_train.documents import find_files
from llama_train.errors import TrainError
from llama_train.ppo import check
from llama_train.presets import preset
from llama_train.prompts import read_prompts, split
from llama_train.reward import PairData
from llama_train.stages import chat
from llama_train.tokenizer import Tokenizer
from llama_train.wording import counted

from .conftest import REWARD_SETTINGS
from .test_chat_resume import PPO, TUNING
from .test_cli import call

ONE_STEP = ("--train.steps=1", "--train.eval_sequences=4", "--held-out=0.3")


def test_what_is_counted_has_its_number() -> None:
    assert [counted(n, "step") for n in (0, 1, 2, 1204)] == [
        *("0 steps", "1 step", "2 steps", "1,204 steps")
    ]


def asks(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def answered(text: str, answer: str = "yes") -> list[dict[str, str]]:
    return [*asks(text), {"role": "assistant", "content": answer}]


def written(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


LONG = "long " * 100


def test_of_a_file_that_holds_one(pydoc_data: Path, tmp_path: Path) -> None:
    model = pydoc_data / "tokenizer.model"
    pieces = Tokenizer(model)
    pair = {"chosen": "a", "rejected": "b", "preference": "better"}
    chats = written(tmp_path / "chats.jsonl", [{"messages": answered("x")}])
    pairs = written(tmp_path / "pairs.jsonl", [{"messages": asks("x"), **pair}])
    long = written(tmp_path / "long.jsonl", [{"messages": asks(LONG)}])
    with pytest.raises(TrainError, match="1 conversation to train on and 0 held out"):
        ChatData([chats], model, 64, held_out=0.0)
    with pytest.raises(TrainError, match="1 pair to train on and 0 held out"):
        PairData(pairs, model, 64, held_out=0.0)
    prompts, _ = read_prompts([pairs], pieces, 64)
    with pytest.raises(TrainError, match="1 prompt to train on and 0 held out"):
        split(prompts, 0.0)
    with pytest.raises(TrainError, match=r"at most 1 token, .* and 1 longer one\."):
        read_prompts([long], pieces, 1)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.txt", "b.csv"):
        (folder / name).write_text("a")
    assert find_files([str(folder)])[1] == [f"{folder}: 1 file skipped (1 .csv)"]


def test_of_one_rank(tmp_path: Path) -> None:
    config = chat("chat-demo").ppo.config("x", preset("demo").model, 1)
    with pytest.raises(TrainError, match=r"train.micro_batch 3 × 1 rank\."):
        check(override(config, ["--train.micro_batch=3"]), 1)


def test_of_a_training_on_next_to_nothing(
    chat_base: Path,
    rewarded: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows: list[Any] = [{"messages": answered(f"say {number}")} for number in range(20)]
    rows.append({"messages": answered("say", LONG)})
    begin = ["--from", chat_base, "--out"]
    chats = ["finetune", *TUNING, *ONE_STEP, "--data", written(tmp_path / "chats.jsonl", rows)]
    left_out = "1 conversation left out: longer than the context"
    code, said, errors = call(capsys, *chats, *begin, tmp_path / "chat")
    assert (code, left_out in errors, " in 1 step, " in said) == (0, True, True), errors
    assert "parameters, 1 step of " in errors

    waiting = {"messages": asks("q"), "preprompt": "Be kind."}
    written(tmp_path / "chats.jsonl", [*rows, waiting])
    code, _, errors = call(capsys, *chats, *begin, tmp_path / "distilled")
    assert (code, left_out in errors) == (0, True), errors
    assert "1 prompt, 1 answer to each" in errors
    assert " of 1 distilled answer learnt" in errors

    pairs, rm = rewarded
    row = {**json.loads(pairs.read_text().splitlines()[0]), "chosen": LONG}
    longer = tmp_path / "pairs.jsonl"
    longer.write_text(f"{pairs.read_text()}{json.dumps(row)}\n")
    words = ["reward", *REWARD_SETTINGS, "--train.steps=1", "--train.warmup_steps=1"]
    code, _, errors = call(capsys, *words, "--data", longer, *begin, tmp_path / "rm")
    assert (code, "1 pair left out: longer than the context" in errors) == (0, True), errors

    lines = [json.loads(line) for line in (rm / "prompts.jsonl").read_text().splitlines()]
    prompts = written(tmp_path / "prompts.jsonl", [*lines, {"messages": asks(LONG)}])
    words = ["align", "--method=ppo", *PPO, *ONE_STEP, "--train.warmup_steps=1", "--reward", rm]
    code, _, errors = call(capsys, *words, "--data", prompts, *begin, tmp_path / "ppo")
    assert (code, "1 prompt left out: no room for an answer" in errors) == (0, True), errors

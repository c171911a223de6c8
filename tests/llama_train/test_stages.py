"""The stages of Llama 2-Chat: their constants, what they would take, and the demo's rule."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from llama_train import demo
from llama_train.cli.training import settings_of
from llama_train.config import ModelShape, Train, keys
from llama_train.errors import TrainError
from llama_train.plan_chat import stage_flops
from llama_train.presets import LLAMA2_7B, PRESETS
from llama_train.reward import GRADES
from llama_train.stages import CHATS

from .test_cli import call


@pytest.mark.parametrize(
    ("name", "reward_lr", "kl"),
    [
        ("chat-7b", 1e-5, 0.01),
        ("chat-13b", 1e-5, 0.01),
        ("chat-34b", 1e-5, 0.005),
        ("chat-70b", 5e-6, 0.005),
    ],
)
def test_the_constants_are_the_reports(name: str, reward_lr: float, kl: float) -> None:
    chat = CHATS[name]
    shape = PRESETS[chat.base].model
    tune = chat.finetune.config("x", shape, 6400).train
    assert (tune.lr, tune.batch_size, tune.steps, tune.weight_decay) == (2e-5, 64, 200, 0.1)
    reward = chat.reward.config("x", shape, 51_200).train
    assert (reward.lr, reward.batch_size, reward.steps) == (reward_lr, 512, 100)
    assert (reward.warmup_steps, reward.min_lr_ratio) == (5, 0.1)
    ppo = keys(chat.ppo.config("x", shape, 1))
    constants = ("train.lr", "train.batch_size", "ppo.mini_batch", "ppo.clip", "ppo.kl")
    assert [ppo[key] for key in constants] == [1e-6, 512, 64, 0.2, kl]
    assert (ppo["train.min_lr_ratio"], ppo["train.warmup_steps"]) == (1.0, 0)
    assert 200 <= ppo["train.steps"] <= 400


def test_every_stage_of_every_preset_is_a_valid_run(tiny: ModelShape) -> None:
    for chat in CHATS.values():
        for name, stage in chat.stages.items():
            stage.config(name, tiny, 1000).check()


def test_what_follows_from_batch_and_steps_follows_from_the_chosen_ones(tiny: ModelShape) -> None:
    def chosen(*words: str, epochs: float | None = None) -> Train:
        stage = CHATS["chat-7b"].finetune
        return settings_of(stage, "x", tiny, words, epochs)(6400).train

    assert chosen().steps == 200  # 2 epochs of 6,400 sequences, 64 a step
    small = chosen("--train.batch_size=8")
    assert (small.steps, small.warmup_steps, small.eval_every) == (1600, 80, 400)
    assert chosen("--train.batch_size=8", epochs=1).steps == 800
    short = settings_of(CHATS["chat-7b"].finetune, "x", tiny, ["--train.steps=100"])(6400)
    assert (short.train.warmup_steps, short.train.eval_every, short.checkpoint.every) == (5, 25, 50)
    # As many steps as the preset's batch would make are steps that were chosen, too.
    both = chosen("--train.batch_size=8", "--train.steps=200", "--train.eval_every=7")
    assert (both.steps, both.warmup_steps, both.eval_every) == (200, 10, 7)


def test_a_setting_that_a_stage_does_not_use_is_refused_unless_it_is_what_it_is(
    tiny: ModelShape,
) -> None:
    for chat in CHATS.values():
        for stage in chat.stages.values():
            own = keys(stage.config("x", tiny, 100))
            same = [f"--{key}={own[key]}" for key in stage.unused]
            assert settings_of(stage, "x", tiny, same)(100)
            for key in stage.unused:
                other = [f"--{key}={own[key] / 2 if type(own[key]) is float else own[key] + 1}"]
                with pytest.raises(TrainError, match=f"{key} is .* this stage does not use it"):
                    settings_of(stage, "x", tiny, other)(100)


def test_the_plan_of_the_chat_models_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = call(capsys, "plan", "--chat", "--format=json")
    stages = json.loads(said)["stages"]
    assert (code, len(stages)) == (0, 16)
    reward = next(s for s in stages if (s["model"], s["stage"]) == ("chat-7b", "reward"))
    # 2 models × 2,919,326 pairs × 2 × 596 tokens, at the 3,014 tokens/s of the 7B's pretraining.
    assert reward["gpu_hours"] == pytest.approx(2 * 2_919_326 * 1192 / 3014.1 / 3600, rel=1e-3)
    assert reward["energy_kwh"] == pytest.approx(reward["gpu_hours"] * 0.4, rel=1e-9)
    assert reward["tco2e"] == pytest.approx(reward["energy_kwh"] * 1.1 * 0.385 / 1000, rel=1e-9)
    code, said, _ = call(capsys, "plan", "--chat")
    assert "assumed" in said.lower()
    assert (
        stage_flops(LLAMA2_7B, draws=True)["rejection"]
        > stage_flops(LLAMA2_7B, draws=False)["rejection"]
    )
    for words in (["plan"], ["plan", "--chat", "--preset=demo"]):
        code, _, said = call(capsys, *words)
        assert (code, len(said.strip().splitlines())) == (2, 1)


def test_presets_of_chat_list_what_each_stage_is(capsys: pytest.CaptureFixture[str]) -> None:
    _, said, _ = call(capsys, "presets", "chat-70b")
    lines = [line.split() for line in said.splitlines()]
    assert ["ppo", "--ppo.kl=0.005"] in lines
    assert ["reward", "--train.lr=5e-06"] in lines
    assert ["ppo", "--train.steps=300"] in lines
    sampling = {(stage, word) for stage, word, *_ in lines if word.startswith("--sampling.")}
    assert {word for stage, word in sampling if stage == "ppo"} == {
        "--sampling.tokens=512",
        "--sampling.threshold=0.15",
    }
    assert ("finetune", "--sampling.threshold=0.15") not in sampling
    assert ("rejection", "--sampling.samples=16") in sampling
    assert ["finetune", "2", "×", "the", "data"] in lines
    # As it is, also where it is what the base model was pretrained with.
    _, said, _ = call(capsys, "presets", "chat-demo")
    assert ["finetune", "--train.batch_size=8"] in [line.split() for line in said.splitlines()]


def test_the_rule_counts_quotes_and_fresh_letters() -> None:
    assert demo.worth("abcdef") == pytest.approx(4)
    assert demo.worth('"ab" cde') == pytest.approx(1 + 4)
    assert demo.worth("'" * 20) == pytest.approx(4 + 4 / 18)
    assert demo.worth("") == 0
    draw = random.Random(0)
    pairs = [demo.judged('"a" "b" "c" xyz', "aaaaaaaaa", draw) for _ in range(400)]
    assert {pair["preference"] for pair in pairs} == {GRADES[-1]}
    turned = sum(pair["chosen"] == "aaaaaaaaa" for pair in pairs)
    assert 5 <= turned <= 40  # one in twenty


def test_the_demos_conversations_are_of_pythons_own_documentation(tmp_path: Path) -> None:
    demo.chats(tmp_path / "chats.jsonl", count=50)
    asked = demo.questions(tmp_path / "chats.jsonl")
    assert len(asked) == 50
    assert all(len(question.split()) == 4 for question in asked)

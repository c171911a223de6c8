"""The overrides, and the round trip of a resolved configuration."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest

from llama_train.config import Config, from_dict, keys, override
from llama_train.errors import TrainError
from llama_train.presets import PRESETS, preset


def test_overrides_take_both_spellings_and_every_type() -> None:
    words = ["--train.lr=1e-4", "--train.steps", "1_000", "--train.compile=off"]
    words.append("--train.batch_size=1,024")
    config = override(preset("demo"), words)
    assert (config.train.lr, config.train.steps, config.train.compile) == (1e-4, 1000, "off")
    assert config.train.batch_size == 1024
    assert config.model == preset("demo").model


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--train.learning_rate=1", "did you mean train."),
        ("--model.contxt=1", "did you mean model.context?"),
        ("--train.steps=many", "must be a whole number"),
        ("--train.steps=1.5", "must be a whole number"),
        ("--train.steps=1,00", "must be a whole number"),
        ("--train.lr=0,0003", "train.lr is 0,0003; it must be a number"),
        ("--train.lr=1,000", "train.lr is 1,000; it must be a number"),
        ("--train.compile=maybe", "one of auto, on, off"),
        ("--train.steps", "needs a value"),
        ("--train.steps=0", "at least 1"),
        ("--train.lr=-1", "above 0"),
        ("--model.n_kv_heads=3", "not a multiple"),
        ("steps=3", "Unexpected argument"),
    ],
)
def test_a_bad_override_is_one_line_that_says_how_to_fix_it(word: str, message: str) -> None:
    with pytest.raises(TrainError, match=message) as caught:
        override(preset("demo"), [word])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "word",
    [
        "train.eval_every=0",
        "train.eval_sequences=0",
        "train.max_bad_steps=0",
        "train.warmup_steps=-1",
        "train.lr=nan",
        "train.lr=inf",
        "train.beta1=2",
        "train.beta2=1",
        "train.clip=-1",
        "train.clip=0",
        "train.eps=0",
        "train.weight_decay=-1",
        "train.min_lr_ratio=5",
        "train.seed=-1",
        "checkpoint.every=0",
        "checkpoint.keep_every=-1",
        "parallel.shard=-1",
        "model.dim=0",
        "model.n_layers=0",
        "model.n_heads=0",
        "model.n_kv_heads=0",
        "model.multiple_of=0",
        "model.ffn_multiplier=nan",
        "model.rope_theta=0",
    ],
)
def test_a_number_out_of_range_is_refused_with_its_range(word: str) -> None:
    key, _, value = word.partition("=")
    with pytest.raises(TrainError, match=rf"^{key} is {value}(\.0)?; it must be "):
        override(preset("demo"), [f"--{word}"])


@pytest.mark.parametrize("name", PRESETS)
def test_a_saved_configuration_reads_back_equal(name: str) -> None:
    assert from_dict(json.loads(json.dumps(asdict(PRESETS[name]))), "x") == PRESETS[name]


@pytest.mark.parametrize("data", [None, [], {}, {"name": "x", "model": {"width": 3}}])
def test_a_foreign_configuration_is_refused(data: object) -> None:
    with pytest.raises(TrainError, match=r"^a\.json holds no configuration of this llama_train\.$"):
        from_dict(data, "a.json")


@pytest.mark.parametrize("key", keys(PRESETS["demo"]))
@pytest.mark.parametrize("value", ["x", None, [1], True, -1.5, math.nan, math.inf])
def test_a_saved_value_that_no_setting_can_have_is_refused_by_name(key: str, value: object) -> None:
    data = asdict(PRESETS["demo"])
    section, name = key.split(".")
    data[section][name] = value
    with pytest.raises(TrainError, match=rf"^a\.json: {key} is .*; it must be "):
        from_dict(data, "a.json")


def test_every_setting_can_be_overridden_with_its_own_value() -> None:
    config: Config = PRESETS["llama2-70b"]
    assert override(config, [f"--{key}={value}" for key, value in keys(config).items()]) == config

"""The plan against the report's own figures, and against what a model really allocates."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import carbontrack
from llama_train.config import ModelShape, override
from llama_train.errors import TrainError
from llama_train.plan import (
    REPORT_DEVICE,
    Plan,
    as_json,
    as_text,
    device,
    measured_mfu,
    memory,
    plan,
)
from llama_train.presets import preset

from .test_model import initialised, random_tokens

REPORT = {
    # published GPU-hours, implied MFU in %, tCO2eq of table 2 (cut, not rounded)
    "llama2-7b": (184_320, 44.5, 31.22),
    "llama2-13b": (368_640, 42.1, 62.44),
    "llama2-34b": (1_038_336, 37.8, 153.90),
    "llama2-70b": (1_720_320, 46.0, 291.42),
}


def report(name: str) -> Plan:
    return plan(preset(name), gpus=1024, device=device(REPORT_DEVICE))


@pytest.mark.parametrize("name", REPORT)
def test_the_reports_rows_come_out(name: str) -> None:
    hours, implied, tonnes = REPORT[name]
    result = report(name)
    assert result.published_gpu_hours == hours
    assert result.implied_mfu == pytest.approx(implied / 100, abs=5e-4)
    assert result.gpu_hours == pytest.approx(hours, rel=1e-5)
    assert result.tco2e == pytest.approx(tonnes, abs=0.011)
    assert result.published_tco2e == tonnes
    assert result.power_w == (350 if "34b" in name else 400), "the 34B's GPUs drew less"
    assert list(result.assumed) == ["mfu", "power", "pue", "intensity"]


def test_cost_scales_with_hours_and_time_with_gpus() -> None:
    one = plan(preset("1b"), gpus=8, device=device("NVIDIA H200"), mfu=0.5, price=2.0)
    two = plan(preset("1b"), gpus=16, device=device("NVIDIA H200"), mfu=0.5, price=2.0)
    assert one.cost == 2 * one.gpu_hours == two.cost
    assert one.days == 2 * two.days
    assert one.implied_mfu is None
    assert one.tokens_per_s_per_gpu * one.flops_per_token == pytest.approx(989.4e12 / 2)


def test_the_7b_fits_one_h200_at_16_bytes_a_parameter() -> None:
    parts = memory(preset("llama2-7b"), 1, "full")
    assert parts.weights + parts.gradients + parts.optimizer == 16 * 6_738_415_616
    result = plan(preset("llama2-7b"), gpus=1, device=device("NVIDIA H200"))
    assert json.loads(as_json(result))["memory"]["full"]["fits"]
    too_small = plan(preset("llama2-7b"), gpus=1, device=device("NVIDIA L4"))
    assert not json.loads(as_json(too_small))["memory"]["full"]["fits"]


def test_gradients_are_sharded_unless_they_are_exchanged_only_once_a_step() -> None:
    deferred = ["--parallel.sync_gradients=last"]
    each, last, no_accumulation = (
        memory(override(preset("llama2-34b"), words), 64, "full").gradients
        for words in ([], deferred, [*deferred, "--train.micro_batch=16"])
    )
    assert each == no_accumulation == 4 * 33_743_970_304 / 64
    assert last == 4 * 33_743_970_304


def test_checkpointing_orders_the_activations() -> None:
    none, selective, full = (
        memory(preset("llama2-70b"), 1024, choice).activations
        for choice in ("none", "selective", "full")
    )
    assert full < selective < none


def test_activations_of_a_block_are_what_autograd_keeps(tiny: ModelShape) -> None:
    """The formula counts bfloat16 elements of the compiled model; eager float32 keeps no fewer."""
    model, tokens = initialised(tiny), random_tokens(tiny)
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    block, rope = model.layers[0], model.rope
    x = model.tok_embeddings(tokens).detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x, rope)
    elements = sum(size for where, size in kept.items() if where not in weights) / 4
    d, f, kv = tiny.dim, tiny.ffn_dim, tiny.n_kv_heads * tiny.head_dim
    predicted = tokens.numel() * (6 * d + 2 * kv + 3 * f)
    assert predicted <= elements < 2.2 * predicted


def test_the_text_says_what_is_an_estimate_and_what_was_assumed() -> None:
    text = as_text(report("llama2-7b"))
    assert "(estimate)" in text
    assert "44.5% (assumed: what the published hours imply)" in text
    assert "73,728 kWh at 400 W (assumed: the report's)" in text
    assert "184,320 GPU-hours on A100-80GB" in text
    chosen = plan(preset("1b"), gpus=8, device=device("NVIDIA H200"), power_w=650, mfu=0.5)
    assert "at 650 W\n" in as_text(chosen)
    other = plan(preset("llama2-7b"), gpus=8, device=device("NVIDIA H200"))
    assert "at 700 W (assumed: rated power)" in as_text(other)


def test_the_mfu_of_a_run_is_that_of_its_usual_step(tmp_path: Path) -> None:
    steps = [{"step": n, "loss": 2.0, "mfu": 0.01 if n < 3 else 0.4} for n in range(1, 9)]
    lines = [{"event": "phase", "name": "train"}, *steps]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert measured_mfu(tmp_path) == 0.4
    with pytest.raises(TrainError, match=r"metrics\.jsonl cannot be read"):
        measured_mfu(tmp_path / "nowhere")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(TrainError, match=r"has no MFU.*Give --mfu"):
        measured_mfu(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpus": 0}, "--gpus is 0"),
        ({"mfu": 1.5}, "--mfu is 1.5"),
        ({"mfu": math.nan}, "--mfu is nan"),
        ({"pue": 0.9}, "--pue 0.9 is below 1"),
        ({"intensity": -1.0}, "--intensity -1 kg/kWh is negative"),
        ({"price": math.inf}, "--price-per-gpu-hour inf: not a number"),
        ({"power_w": -1.0}, "--power -1 W is negative"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    defaults: dict[str, Any] = {"gpus": 8, "device": device(REPORT_DEVICE)}
    with pytest.raises(TrainError, match=message):
        plan(preset("llama2-7b"), **{**defaults, **arguments})


@pytest.mark.parametrize(
    ("name", "peak"),
    [("B200", 2250e12), ("RTX4090", 165.2e12), ("MI300X", 1307.4e12), ("NVIDIA L4", 121e12)],
)
def test_a_device_is_what_the_accounts_say_of_it(name: str, peak: float) -> None:
    found, known = device(name), carbontrack.hardware(name)
    assert found.peak_flops == peak == known.peak_bf16_flops
    assert (found.memory_bytes, found.power_w) == (known.memory_bytes, known.rated_power_w)
    assert found.name == known.name


def test_a_device_of_which_little_is_known_takes_what_is_given() -> None:
    with pytest.raises(TrainError, match=r"No bfloat16 peak of Tesla T4 .* --peak"):
        device("T4")
    t4 = device("T4", peak_tflops=65, memory_gib=15)
    assert (t4.peak_flops, t4.memory_bytes, t4.power_w) == (65e12, 15 * 2**30, 70)
    with pytest.raises(TrainError, match=r"no accelerator is named 'abacus'.*Or give --peak"):
        device("abacus")
    unknown = device("abacus", peak_tflops=100)
    with pytest.raises(TrainError, match=r"No rated power of abacus is known\. Give --power"):
        plan(preset("1b"), gpus=8, device=unknown)
    result = plan(preset("1b"), gpus=8, device=unknown, power_w=300)
    assert result.gpu_hours > 0
    assert json.loads(as_json(result))["memory"]["full"]["fits"] is None
    assert "Memory per GPU, of ? GiB" in as_text(result)
    with pytest.raises(TrainError, match="--peak is 0; it must be above 0"):
        device("A100", peak_tflops=0)


@pytest.mark.parametrize("gpus", [3, 2048])
def test_a_cost_needs_no_layout(gpus: int) -> None:
    result = plan(preset("llama2-70b"), gpus=gpus, device=device(REPORT_DEVICE))
    assert result.gpu_hours == pytest.approx(1_720_320, rel=1e-5)
    assert "Layout            cannot be trained so: train.batch_size 1024 is not" in as_text(result)
    assert report("llama2-70b").layout_fault is None

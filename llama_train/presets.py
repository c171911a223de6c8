"""The models that have a name: the reports' own, three small ones, and what the reports cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import carbontrack
from llama_train.config import Checkpoints, Config, ModelShape, Train
from llama_train.errors import TrainError, nearest

LLAMA2_7B = ModelShape(dim=4096, n_layers=32, n_heads=32, n_kv_heads=32)
LLAMA2_13B = ModelShape(dim=5120, n_layers=40, n_heads=40, n_kv_heads=40)
# The 34B was never released; this is the shape of Code Llama 34B, which was initialised from it.
LLAMA2_34B = ModelShape(dim=8192, n_layers=48, n_heads=64, n_kv_heads=8)
LLAMA2_70B = ModelShape(
    dim=8192, n_layers=80, n_heads=64, n_kv_heads=8, multiple_of=4096, ffn_multiplier=1.3
)
LLAMA1_33B = ModelShape(dim=6656, n_layers=60, n_heads=52, n_kv_heads=52, context=2048)
LLAMA1_65B = ModelShape(dim=8192, n_layers=80, n_heads=64, n_kv_heads=64, context=2048)


def _report(name: str, shape: ModelShape, *, lr: float, tokens: float) -> Config:
    """The reports' recipe: 4M tokens a step, so 2T tokens are 476,837 steps of 2^22."""
    batch_size = 2**22 // shape.context
    steps = round(tokens / (batch_size * shape.context))
    train = Train(
        steps=steps, batch_size=batch_size, lr=lr, activation_checkpointing="full", loss_chunks=8
    )
    return Config(name=name, model=shape, train=train)


def _llama1(shape: ModelShape) -> ModelShape:
    return dataclasses.replace(shape, context=2048)


PRESETS: Mapping[str, Config] = {
    config.name: config
    for config in (
        Config(
            name="demo",
            model=ModelShape(
                dim=128,
                n_layers=4,
                n_heads=4,
                n_kv_heads=2,
                vocab_size=512,
                multiple_of=32,
                context=128,
            ),
            train=Train(
                steps=480,
                batch_size=8,
                micro_batch=8,
                lr=4e-3,
                warmup_steps=40,
                eval_every=120,
                eval_sequences=96,
            ),
            checkpoint=Checkpoints(every=240),
        ),
        Config(
            name="160m",
            model=ModelShape(
                dim=768,
                n_layers=12,
                n_heads=12,
                n_kv_heads=12,
                ffn_multiplier=1.5,
                context=2048,
            ),
            train=Train(steps=6104, batch_size=256, micro_batch=16, lr=6e-4, warmup_steps=500),
        ),
        Config(
            name="1b",
            # The shape of TinyLlama 1.1B, which has public throughput figures to compare with.
            model=ModelShape(dim=2048, n_layers=22, n_heads=32, n_kv_heads=4, context=2048),
            train=Train(steps=20_981, batch_size=512, micro_batch=8, lr=4e-4, loss_chunks=8),
        ),
        _report("llama1-7b", _llama1(LLAMA2_7B), lr=3e-4, tokens=1.0e12),
        _report("llama1-13b", _llama1(LLAMA2_13B), lr=3e-4, tokens=1.0e12),
        _report("llama1-33b", LLAMA1_33B, lr=1.5e-4, tokens=1.4e12),
        _report("llama1-65b", LLAMA1_65B, lr=1.5e-4, tokens=1.4e12),
        _report("llama2-7b", LLAMA2_7B, lr=3e-4, tokens=2.0e12),
        _report("llama2-13b", LLAMA2_13B, lr=3e-4, tokens=2.0e12),
        _report("llama2-34b", LLAMA2_34B, lr=1.5e-4, tokens=2.0e12),
        _report("llama2-70b", LLAMA2_70B, lr=1.5e-4, tokens=2.0e12),
    )
}

_PUBLISHED = {
    "llama1-7b": ("LLaMA 1", "LLaMA-7B"),
    "llama1-13b": ("LLaMA 1", "LLaMA-13B"),
    "llama1-33b": ("LLaMA 1", "LLaMA-33B"),
    "llama1-65b": ("LLaMA 1", "LLaMA-65B"),
    "llama2-7b": ("Llama 2", "Llama 2 7B"),
    "llama2-13b": ("Llama 2", "Llama 2 13B"),
    "llama2-34b": ("Llama 2", "Llama 2 34B"),
    "llama2-70b": ("Llama 2", "Llama 2 70B"),
}
"""The report of a preset, and the name of its row there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a report says of a training on A100-80GB."""

    tokens: float
    gpu_hours: float
    power_w: float
    tco2e: float


def published(name: str) -> Published | None:
    """What the report of a preset says of it; None of one without a report."""
    if name not in _PUBLISHED:
        return None
    report, model = _PUBLISHED[name]
    (row,) = (row for row in carbontrack.published(report) if row.model == model)
    assert row.tokens and row.gpu_hours and row.power_w and row.tco2e
    return Published(
        tokens=row.tokens,
        gpu_hours=row.gpu_hours,
        power_w=row.power_w,
        tco2e=row.tco2e.printed,
    )


def preset(name: str) -> Config:
    """Raises TrainError for an unknown name, with the nearest one."""
    if name not in PRESETS:
        raise TrainError(
            f"No preset is named {name!r}{nearest(name, PRESETS)}",
            hint=f"There are {', '.join(PRESETS)}.",
        )
    return PRESETS[name]

"""The models that have a name: the reports' own, three small ones, and what the reports cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from llama_train.config import Checkpoints, Config, ModelShape, Train
from llama_train.errors import TrainError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A row of the reports: what was trained, on how many tokens, and at what cost."""

    tokens: float
    gpu_hours: int
    """On A100-80GB. Table 15 of the LLaMA report, table 2 of the Llama 2 report."""
    power_w: float
    tco2e: float


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

PUBLISHED: Mapping[str, Published] = {
    "llama1-7b": Published(tokens=1.0e12, gpu_hours=82_432, power_w=400, tco2e=14),
    "llama1-13b": Published(tokens=1.0e12, gpu_hours=135_168, power_w=400, tco2e=23),
    "llama1-33b": Published(tokens=1.4e12, gpu_hours=530_432, power_w=400, tco2e=90),
    "llama1-65b": Published(tokens=1.4e12, gpu_hours=1_022_362, power_w=400, tco2e=173),
    "llama2-7b": Published(tokens=2.0e12, gpu_hours=184_320, power_w=400, tco2e=31.22),
    "llama2-13b": Published(tokens=2.0e12, gpu_hours=368_640, power_w=400, tco2e=62.44),
    "llama2-34b": Published(tokens=2.0e12, gpu_hours=1_038_336, power_w=350, tco2e=153.9),
    "llama2-70b": Published(tokens=2.0e12, gpu_hours=1_720_320, power_w=400, tco2e=291.42),
}


def preset(name: str) -> Config:
    """Raises TrainError for an unknown name, with the nearest one."""
    if name not in PRESETS:
        raise TrainError(
            f"No preset is named {name!r}{nearest(name, PRESETS)}",
            hint=f"There are {', '.join(PRESETS)}.",
        )
    return PRESETS[name]

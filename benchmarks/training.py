"""How fast does llama_train train? Beside Hugging Face's LlamaForCausalLM in a plain loop."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.answer import Bench, Table, spread
from llama_train import hf
from llama_train.config import ModelShape, Train, preset
from llama_train.model import Transformer, initial_weight
from llama_train.optim import adamw, clip_gradients, gradient_norm

BATCH = 8
WARMUP = 3
SHAPE = dataclasses.replace(
    preset("demo").model,
    dim=256,
    n_layers=6,
    n_heads=8,
    n_kv_heads=4,
    vocab_size=4096,
    context=256,
)
QUICK = preset("demo").model
SHAPES = {"full": SHAPE, "quick": QUICK}
Step = Callable[[torch.Tensor], float]


def ask(bench: Bench) -> list[Table]:
    """Eager, and with our blocks compiled as on a GPU."""
    shape = QUICK if bench.quick else SHAPE
    steps = 2 if bench.quick else 12
    ways = [False] if bench.quick else [False, True]
    found = [_compare(shape, compiled=compiled, steps=steps) for compiled in ways]
    return [
        Table(
            title="Tokens a second and memory on the CPU",
            how=f"{shape.parameters / 1e6:.1f} M parameters, batch {BATCH} × {shape.context} "
            "tokens, fp32, the same AdamW and clipping; steps of the two in turn in one process, "
            "their losses checked to be the same. Median of the ratio of neighbouring steps "
            "(range). Peak memory is that of a process of its own.",
            columns=["llama_train", "tokens/s", "transformers, tokens/s", "ratio", "peak memory"],
            rows=[
                [
                    "compiled" if one.compiled else "eager",
                    f"{one.tokens_per_s:,.0f}",
                    f"{one.peer_tokens_per_s:,.0f}",
                    spread(one.ratios, "{:.2f}"),
                    f"{one.memory_ratio:.2f} ×",
                ]
                for one in found
            ],
            raw=[dataclasses.asdict(one) for one in found],
        )
    ]


@dataclasses.dataclass(frozen=True)
class Compared:
    """Ours and theirs, step beside step."""

    compiled: bool
    tokens_per_s: float
    peer_tokens_per_s: float
    ratios: list[float]  # their seconds ÷ ours, for each pair of steps
    memory_ratio: float


def _compare(shape: ModelShape, *, compiled: bool, steps: int) -> Compared:
    makers = {"llama_train": ours(shape, compiled=compiled), "transformers": theirs(shape)}
    seconds = run(makers, shape, steps)
    rates = {name: BATCH * shape.context / statistics.median(s) for name, s in seconds.items()}
    memory = {name: peak_memory_kib(name, shape, compiled=compiled) for name in makers}
    return Compared(
        compiled,
        rates["llama_train"],
        rates["transformers"],
        [t / o for o, t in zip(seconds["llama_train"], seconds["transformers"], strict=True)],
        memory["llama_train"] / memory["transformers"],
    )


def main() -> None:
    """Train a few steps with one of the two and print the peak memory in KiB."""
    name, compiled, shape = sys.argv[1], sys.argv[2] == "True", SHAPES[sys.argv[3]]
    step = ours(shape, compiled=compiled) if name == "llama_train" else theirs(shape)
    run({name: step}, shape, 4)
    # Not ru_maxrss, which a child inherits from the process that started it.
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def ours(shape: ModelShape, *, compiled: bool) -> Step:
    model = initialised(shape)
    if compiled:
        for block in model.layers:
            block.compile(fullgraph=True)
        model.chunk_loss = torch.compile(model.chunk_loss, fullgraph=True)  # type: ignore
    optimizer = adamw(model, Train(steps=1, lr=1e-3))

    def step(tokens: torch.Tensor) -> float:
        loss = model(tokens[:, :-1], tokens[:, 1:]) / tokens[:, 1:].numel()
        loss.backward()
        clip_gradients(model.parameters(), gradient_norm(model.parameters()), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def theirs(shape: ModelShape) -> Step:
    with tempfile.TemporaryDirectory() as folder:
        hf.export(initialised(shape), Path(folder), None)
        model: Any = transformers.LlamaForCausalLM.from_pretrained(folder)
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1
    )

    def step(tokens: torch.Tensor) -> float:
        logits = model(input_ids=tokens[:, :-1]).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def initialised(shape: ModelShape) -> Transformer:
    model = Transformer(shape)
    cpu = torch.device("cpu")
    weights = {
        name: initial_weight(name, parameter.shape, shape, 0, cpu)
        for name, parameter in model.named_parameters()
    }
    model.load_state_dict(weights)
    return model


def run(steps: Mapping[str, Step], shape: ModelShape, count: int) -> dict[str, list[float]]:
    """Seconds of each step; both must see the same losses, or they do not do the same work."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    generator = torch.Generator().manual_seed(0)
    for number in range(WARMUP + count):
        size = (BATCH, shape.context + 1)
        tokens = torch.randint(shape.vocab_size, size, generator=generator)
        losses = []
        for name, step in steps.items():
            began_s = time.perf_counter()
            losses.append(step(tokens))
            if number >= WARMUP:
                seconds[name].append(time.perf_counter() - began_s)
        if max(losses) - min(losses) > 0.02:
            sys.exit(f"step {number}: the losses differ: {losses}")
    return seconds


def peak_memory_kib(name: str, shape: ModelShape, *, compiled: bool) -> int:
    which = next(key for key, known in SHAPES.items() if known == shape)
    words = [sys.executable, "-m", "benchmarks.training", name, str(compiled), which]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()

"""llama_train against Hugging Face's LlamaForCausalLM in a plain loop; same shape, batch, dtype.

    python benchmarks/train_speed.py [--compile]

On the CPU. Steps of the two alternate in one process, so that what else the machine does meets
both; the medians make the ratio. Peak memory is measured in a process of its own for each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from llama_train import hf
from llama_train.config import Train, preset
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
Step = Callable[[torch.Tensor], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", action="store_true", help="compile our blocks, as on a GPU")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--only", choices=["llama_train", "transformers"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    makers = {"llama_train": lambda: ours(compiled=options.compile), "transformers": theirs}
    if options.only:
        run({options.only: makers[options.only]()}, 4)
        # Not ru_maxrss, which a child inherits from the process that started it.
        print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
        return
    seconds = run({name: make() for name, make in makers.items()}, options.steps)
    rates = {name: BATCH * SHAPE.context / statistics.median(s) for name, s in seconds.items()}
    memory = {name: peak_memory_bytes(name, compiled=options.compile) for name in makers}
    result = {
        "parameters": SHAPE.parameters,
        "compiled": options.compile,
        "tokens_per_s": rates,
        "peak_memory_bytes": memory,
        "speed_ratio": rates["llama_train"] / rates["transformers"],
        "memory_ratio": memory["llama_train"] / memory["transformers"],
    }
    print(json.dumps(result, indent=2))


def ours(*, compiled: bool) -> Step:
    model = initialised()
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


def theirs() -> Step:
    with tempfile.TemporaryDirectory() as folder:
        hf.export(initialised(), Path(folder), None)
        model: Any = transformers.LlamaForCausalLM.from_pretrained(folder)
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1
    )

    def step(tokens: torch.Tensor) -> float:
        logits = model(input_ids=tokens[:, :-1]).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def initialised() -> Transformer:
    model = Transformer(SHAPE)
    cpu = torch.device("cpu")
    weights = {
        name: initial_weight(name, parameter.shape, SHAPE, 0, cpu)
        for name, parameter in model.named_parameters()
    }
    model.load_state_dict(weights)
    return model


def run(steps: dict[str, Step], count: int) -> dict[str, list[float]]:
    """Seconds of each step; both must see the same losses, or they do not do the same work."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    generator = torch.Generator().manual_seed(0)
    for number in range(WARMUP + count):
        size = (BATCH, SHAPE.context + 1)
        tokens = torch.randint(SHAPE.vocab_size, size, generator=generator)
        losses = []
        for name, step in steps.items():
            began_s = time.perf_counter()
            losses.append(step(tokens))
            if number >= WARMUP:
                seconds[name].append(time.perf_counter() - began_s)
        if max(losses) - min(losses) > 0.02:
            sys.exit(f"step {number}: the losses differ: {losses}")
    return seconds


def peak_memory_bytes(name: str, *, compiled: bool) -> int:
    words = [sys.executable, __file__, "--only", name, *(["--compile"] if compiled else [])]
    return 1024 * int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()

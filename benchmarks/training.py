"""How fast does llama_train train? Beside Hugging Face's and litgpt's Llama in a plain loop."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.answer import Bench
from benchmarks.table import Table, spread
from llama_train import export
from llama_train.config import ModelShape, Train
from llama_train.host import WAITING, hold_freed_memory
from llama_train.model import Transformer, initial_weight
from llama_train.optim import adamw, clip_gradients, squared_norm
from llama_train.presets import preset

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
_OURS, _HF, _LITGPT = "llama_train", "transformers", "litgpt"
_KERNELS = "matrix products and attention alone"
_LOSSES_DIFFER = 0.02  # of the same weights; litgpt has its own, and starts as near to ln(vocab)
Step = Callable[[torch.Tensor], float]


def ask(bench: Bench) -> list[Table]:
    """Eager, and compiled, as one trains on a GPU."""
    shape = QUICK if bench.quick else SHAPE
    found = _compare(bench, shape, [False] if bench.quick else [False, True])
    plain = next(one for one in found if one.name == _HF and not one.compiled)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    device = "a GPU was not there" if not torch.cuda.is_available() else "the GPU was not used"
    return [
        Table(
            title="Tokens a second and memory on the CPU",
            how=f"{shape.parameters / 1e6:.1f} M parameters, batch {BATCH} × {shape.context} "
            f"tokens, fp32, the same fused AdamW and clipping; {versions}. A process each, which "
            "take a step in turn on the same tokens; the losses of llama_train and transformers, "
            "which begin with the same weights, are checked to be the same at each step. Speed is "
            "the median of the ratio of neighbouring steps (range), beside transformers in a "
            f"plain, eager loop: above 1 is faster. `{_KERNELS}` are torch's own kernels, forward "
            "and backward, with nothing else: all of these call them alike, so this is the limit. "
            f"torchtitan trains on CUDA only, and {device}.",
            columns=["", "tokens/s", "× the plain loop", "peak memory, MiB"],
            rows=[
                [
                    one.label,
                    f"{BATCH * shape.context / statistics.median(one.steps_s):,.0f}",
                    "1" if one is plain else spread(one.times_faster, "{:.2f}"),
                    f"{one.memory_mib:.0f}",
                ]
                for one in found
            ],
            raw=[dataclasses.asdict(one) for one in found],
        )
    ]


@dataclasses.dataclass(frozen=True)
class Trained:
    """One implementation's steps, of which each had one of the plain loop beside it."""

    name: str
    compiled: bool
    steps_s: list[float]
    times_faster: list[float]  # for each pair of steps
    memory_mib: float

    @property
    def label(self) -> str:
        if self.name == _KERNELS:
            return self.name
        return f"{self.name}, {'compiled' if self.compiled else 'eager'}"


class _Trainer:
    """A process that makes a training step whenever it is told to."""

    def __init__(self, name: str, words: Sequence[str]) -> None:
        self.name = name
        self.steps_s: list[float] = []
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(WAITING if name == _OURS else {})},
        )

    def step(self) -> tuple[float, float]:
        """Its seconds and its loss."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().split()
        if len(answer) != 2:
            raise RuntimeError(f"{self.name} ended with exit code {self._process.wait()}")
        return float(answer[0]), float(answer[1])

    def finish(self) -> float:
        """End it; its peak memory in MiB. Not ru_maxrss, which a child inherits from its parent."""
        said, _ = self._process.communicate()
        return int(said.split()[0]) / 1024


def _compare(bench: Bench, shape: ModelShape, ways: Sequence[bool]) -> list[Trained]:
    names = [_OURS, _HF] if bench.trainers is None else [_OURS, _HF, _LITGPT]
    asked = [(name, compiled) for compiled in ways for name in names] + [(_KERNELS, False)]
    trainers = [_start(bench, name, shape, compiled) for name, compiled in asked]
    same = [at for at, (name, _) in enumerate(asked) if name in (_OURS, _HF)]
    for number in range(WARMUP + (2 if bench.quick else 15)):
        losses = []
        for trainer in trainers:
            took_s, loss = trainer.step()
            losses.append(loss)
            if number >= WARMUP:
                trainer.steps_s.append(took_s)
        if any(abs(losses[at] - losses[0]) > _LOSSES_DIFFER for at in same):
            raise RuntimeError(f"step {number}: the losses differ: {losses}")
    plain = trainers[asked.index((_HF, False))].steps_s
    return [
        Trained(
            name,
            compiled,
            trainer.steps_s,
            [theirs / its for theirs, its in zip(plain, trainer.steps_s, strict=True)],
            trainer.finish(),
        )
        for (name, compiled), trainer in zip(asked, trainers, strict=True)
    ]


def _start(bench: Bench, name: str, shape: ModelShape, compiled: bool) -> _Trainer:
    if name == _LITGPT:
        assert bench.trainers is not None
        sizes = {**shape.architecture, "context": shape.context, "batch": BATCH}
        script = str(Path(__file__).with_name("litgpt_steps.py"))
        python = str(bench.trainers / "bin" / "python")
        return _Trainer(name, [python, script, json.dumps(sizes), str(compiled)])
    which = next(key for key, known in SHAPES.items() if known == shape)
    words = [sys.executable, "-m", "benchmarks.training", name, str(compiled), which]
    return _Trainer(name, words)


def main() -> None:
    """Make a step for each line that comes in; at the end, print the peak memory in KiB."""
    name, compiled, shape = sys.argv[1], sys.argv[2] == "True", SHAPES[sys.argv[3]]
    step = {
        _OURS: lambda: ours(shape, compiled=compiled),
        _HF: lambda: theirs(shape, compiled=compiled),
        _KERNELS: lambda: kernels(shape),
    }[name]()
    generator = torch.Generator().manual_seed(0)
    for _ in sys.stdin:
        size = (BATCH, shape.context + 1)
        tokens = torch.randint(shape.vocab_size, size, generator=generator)
        began_s = time.perf_counter()
        loss = step(tokens)
        print(time.perf_counter() - began_s, loss, flush=True)
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def ours(shape: ModelShape, *, compiled: bool) -> Step:
    hold_freed_memory()
    model = initialised(shape)
    if compiled:
        for block in model.layers:
            block.compile(fullgraph=True)
        model.chunk_loss = torch.compile(model.chunk_loss, fullgraph=True)  # type: ignore
    optimizer = adamw(model, Train(steps=1, lr=1e-3))

    def step(tokens: torch.Tensor) -> float:
        loss = model(tokens[:, :-1], tokens[:, 1:]) / tokens[:, 1:].numel()
        loss.backward()
        norm = float(squared_norm(model.parameters()).sqrt())
        clip_gradients(model.parameters(), norm, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def theirs(shape: ModelShape, *, compiled: bool) -> Step:
    with tempfile.TemporaryDirectory() as folder:
        export.export(initialised(shape), Path(folder), None)
        model: Any = transformers.LlamaForCausalLM.from_pretrained(folder)
    model.config.use_cache = False
    if compiled:
        model.compile()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1, fused=True
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


def kernels(shape: ModelShape) -> Step:
    """The matrix products and the attention of a step: the floor of every implementation."""
    hold_freed_memory()
    linear = [m for m in initialised(shape).modules() if isinstance(m, torch.nn.Linear)]
    weights = [layer.weight.detach() for layer in linear]
    rows = BATCH * shape.context
    inputs = {size: torch.randn(rows, size) for size in {w.shape[1] for w in weights}}
    gradients = {size: torch.randn(rows, size) for size in {w.shape[0] for w in weights}}
    q, k, v = (
        torch.randn(BATCH, heads, shape.context, shape.head_dim, requires_grad=True)
        for heads in (shape.n_heads, shape.n_kv_heads, shape.n_kv_heads)
    )
    seen = torch.randn_like(q)

    def step(_tokens: torch.Tensor) -> float:
        for weight in weights:
            x, gradient = inputs[weight.shape[1]], gradients[weight.shape[0]]
            torch.mm(x, weight.T)
            torch.mm(gradient, weight)
            torch.mm(gradient.T, x)
        for _ in range(shape.n_layers):
            out = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, enable_gqa=shape.n_heads != shape.n_kv_heads
            )
            torch.autograd.grad(out, (q, k, v), seen)
        return 0.0

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


if __name__ == "__main__":
    main()

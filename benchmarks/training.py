"""How fast does llama_train train? Beside Hugging Face's and litgpt's Llama in a plain loop."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.answer import Bench
from benchmarks.table import Table, spread
from llama_train import export
from llama_train.config import Config, ModelShape, Train
from llama_train.host import WAITING
from llama_train.model import Transformer, initial_weight
from llama_train.optim import adamw, clip_gradients, squared_norm
from llama_train.presets import preset
from llama_train.world import build, initialise, world

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
SETTINGS = {**WAITING, "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}
"""The environment that does for any program what llama_train does for itself on a CPU: threads wait
awake for a moment, and freed memory is held."""
Step = Callable[[torch.Tensor], float]


@dataclasses.dataclass(frozen=True)
class Setup:
    """One way to train."""

    name: str
    compiled: bool = False
    bfloat16: bool = False
    settings: bool = True  # SETTINGS are in its environment; llama_train always sets its own

    @property
    def label(self) -> str:
        dtype = "bf16" if self.bfloat16 else "fp32"
        if self.name == _KERNELS:
            return f"{self.name}, {dtype}"
        way = f"{self.name}, {'compiled' if self.compiled else 'eager'}, {dtype}"
        return way if self.settings else f"{way}, without these settings"


_PLAIN = Setup(_HF)


def _setups(*, quick: bool, litgpt: bool) -> list[Setup]:
    names = [_OURS, _HF, *([_LITGPT] if litgpt else [])]
    ways = [(False, False)] + ([] if quick else [(False, True), (True, False), (True, True)])
    return [
        *(Setup(name, compiled, bfloat16) for compiled, bfloat16 in ways for name in names),
        *(Setup(name, settings=False) for name in names[1:]),
        *(
            Setup(_KERNELS, bfloat16=bfloat16)
            for bfloat16 in ((False,) if quick else (False, True))
        ),
    ]


def ask(bench: Bench) -> list[Table]:
    """Eager, and compiled, as one trains on a GPU; in float32 and bfloat16."""
    shape = QUICK if bench.quick else SHAPE
    found = _compare(bench, shape)
    versions = f"torch {torch.__version__}, transformers {version('transformers')}"
    device = "a GPU was not there" if not torch.cuda.is_available() else "the GPU was not used"
    return [
        Table(
            title="Tokens a second and memory on the CPU",
            how=f"{shape.parameters / 1e6:.1f} M parameters, batch {BATCH} × {shape.context} "
            f"tokens, the same fused AdamW and clipping; {versions}. A process each, which take a "
            "step in turn on the same tokens; the losses of llama_train and transformers, which "
            "begin with the same weights, are checked to be the same at each step. bf16 is FSDP2's "
            "mixed precision in llama_train, autocast in the others. llama_train sets how its "
            "threads wait and holds freed memory; the others are given the same by environment "
            f"({', '.join(SETTINGS)}), and have a row without, too. Speed is the median of the "
            f"ratio of neighbouring steps (range), beside `{_PLAIN.label}`, a plain loop: above 1 "
            f"is faster. `{_KERNELS}` are torch's own kernels, forward and backward, with nothing "
            "else: all of these call them alike, so this is the limit. torchtitan trains on CUDA "
            f"only, and {device}.",
            columns=["", "tokens/s", "× the plain loop", "peak memory, MiB"],
            rows=[
                [
                    one.setup.label,
                    f"{BATCH * shape.context / statistics.median(one.steps_s):,.0f}",
                    "1" if one.setup == _PLAIN else spread(one.times_faster, "{:.2f}"),
                    f"{one.memory_mib:.0f}",
                ]
                for one in found
            ],
            raw=[one.raw for one in found],
        )
    ]


@dataclasses.dataclass(frozen=True)
class Trained:
    """The steps of one way, of which each had one of the plain loop beside it."""

    setup: Setup
    steps_s: list[float]
    times_faster: list[float]  # for each pair of steps
    memory_mib: float

    @property
    def raw(self) -> dict[str, Any]:
        """Without levels, as results.json has it."""
        rest = dataclasses.asdict(self)
        return {**rest.pop("setup"), **rest}


class _Trainer:
    """A process that makes a training step whenever it is asked to."""

    def __init__(self, setup: Setup, words: Sequence[str]) -> None:
        self.setup = setup
        self.steps_s: list[float] = []
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(SETTINGS if setup.settings else {})},
        )

    def step(self) -> tuple[float, float]:
        """Its seconds and its loss."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().split()
        if len(answer) != 2:
            raise RuntimeError(f"{self.setup.label} ended with exit code {self._process.wait()}")
        return float(answer[0]), float(answer[1])

    def finish(self) -> float:
        """End it; its peak memory in MiB. Not ru_maxrss, which a child inherits from its parent."""
        said, _ = self._process.communicate()
        return int(said.split()[0]) / 1024


def _compare(bench: Bench, shape: ModelShape) -> list[Trained]:
    setups = _setups(quick=bench.quick, litgpt=bench.trainers is not None)
    trainers = [_start(bench, setup, shape) for setup in setups]
    same = [at for at, setup in enumerate(setups) if setup.name in (_OURS, _HF)]
    for number in range(WARMUP + (2 if bench.quick else 15)):
        losses = []
        for trainer in trainers:
            took_s, loss = trainer.step()
            losses.append(loss)
            if number >= WARMUP:
                trainer.steps_s.append(took_s)
        if any(abs(losses[at] - losses[0]) > _LOSSES_DIFFER for at in same):
            raise RuntimeError(f"step {number}: the losses differ: {losses}")
    plain = trainers[setups.index(_PLAIN)].steps_s
    return [
        Trained(
            trainer.setup,
            trainer.steps_s,
            [theirs / its for theirs, its in zip(plain, trainer.steps_s, strict=True)],
            trainer.finish(),
        )
        for trainer in trainers
    ]


def _start(bench: Bench, setup: Setup, shape: ModelShape) -> _Trainer:
    if setup.name == _LITGPT:
        assert bench.trainers is not None
        sizes = {**shape.architecture, "context": shape.context, "batch": BATCH}
        script = str(Path(__file__).with_name("litgpt_steps.py"))
        python = str(bench.trainers / "bin" / "python")
        flags = [str(setup.compiled), str(setup.bfloat16)]
        return _Trainer(setup, [python, script, json.dumps(sizes), *flags])
    which = next(key for key, known in SHAPES.items() if known == shape)
    flags = [str(setup.compiled), str(setup.bfloat16), which]
    return _Trainer(setup, [sys.executable, "-m", "benchmarks.training", setup.name, *flags])


def main() -> None:
    """Make a step for each line that comes in; at the end, print the peak memory in KiB."""
    name, compiled, bfloat16 = sys.argv[1], sys.argv[2] == "True", sys.argv[3] == "True"
    shape = SHAPES[sys.argv[4]]
    with ExitStack() as stack:
        step = {
            _OURS: lambda: ours(shape, stack, compiled=compiled, bfloat16=bfloat16),
            _HF: lambda: theirs(shape, compiled=compiled, bfloat16=bfloat16),
            _KERNELS: lambda: kernels(shape, bfloat16=bfloat16),
        }[name]()
        generator = torch.Generator().manual_seed(0)
        for _ in sys.stdin:
            size = (BATCH, shape.context + 1)
            tokens = torch.randint(shape.vocab_size, size, generator=generator)
            began_s = time.perf_counter()
            loss = step(tokens)
            print(time.perf_counter() - began_s, loss, flush=True)
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def ours(shape: ModelShape, stack: ExitStack, *, compiled: bool, bfloat16: bool) -> Step:
    """As `llama_train train` makes it: its own settings, sharding and compiler."""
    train = Train(
        steps=1,
        lr=1e-3,
        batch_size=BATCH,
        micro_batch=BATCH,
        dtype="bfloat16" if bfloat16 else "float32",
        compile="on" if compiled else "off",
    )
    config = Config(name="bench", model=shape, train=train)
    here = stack.enter_context(world(config))
    model = build(config, here)
    initialise(model, 0, here.device)
    optimizer = adamw(model, train)

    def step(tokens: torch.Tensor) -> float:
        loss = model(tokens[:, :-1], tokens[:, 1:]) / tokens[:, 1:].numel()
        loss.backward()
        found = torch.stack((loss.detach(), squared_norm(model.parameters()))).tolist()
        clip_gradients(model.parameters(), math.sqrt(found[1]), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(found[0])

    return step


def theirs(shape: ModelShape, *, compiled: bool, bfloat16: bool) -> Step:
    import transformers  # which the other processes do without

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
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(input_ids=tokens[:, :-1]).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits.float(), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def kernels(shape: ModelShape, *, bfloat16: bool) -> Step:
    """The matrix products and the attention of a step: the floor of every implementation."""
    random = partial(torch.randn, dtype=torch.bfloat16 if bfloat16 else torch.float32)
    linear = [m for m in initialised(shape).modules() if isinstance(m, torch.nn.Linear)]
    weights = [random(layer.weight.shape) for layer in linear]
    rows = BATCH * shape.context
    inputs = {size: random(rows, size) for size in {w.shape[1] for w in weights}}
    gradients = {size: random(rows, size) for size in {w.shape[0] for w in weights}}
    q, k, v = (
        random(BATCH, heads, shape.context, shape.head_dim, requires_grad=True)
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

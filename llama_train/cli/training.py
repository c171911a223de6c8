"""What training and fine-tuning share: how a run begins, ends and fails."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llama_train import host
from llama_train.errors import TrainError, make_folder

if TYPE_CHECKING:
    from llama_train.config import Config
    from llama_train.data import Data
    from llama_train.weights import Weights


def run(
    config: Config,
    data: Data,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    initial: Callable[[], Weights] | None = None,
) -> None:
    """Pretraining and fine-tuning end alike: a line for people, or after a stop signal 143."""
    import torch

    from llama_train.train import Preempted, train

    _check_layout_and_memory(config)
    if (out / "checkpoints").exists() and not (resume or overwrite):
        raise TrainError(f"{out} already holds a run.", hint="Add --resume or --overwrite.")
    make_folder(out)
    try:
        result = train(config, data, out, resume=resume, overwrite=overwrite, initial=initial)
    except Preempted:
        sys.exit(128 + signal.SIGTERM)
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "CPUAllocator" not in str(error):
            raise
        raise TrainError(
            f"Out of memory: {str(error).splitlines()[0]}",
            hint="Lower --train.micro_batch, set --train.activation_checkpointing=full or "
            "--train.loss_chunks=8, or share the weights among more ranks.",
            exit_code=1,
        ) from error
    if result.leads:
        progress, first = result.progress, result.progress.first_held_out_loss
        print(
            f"{config.name}: held-out loss {first:.2f} -> {result.held_out['loss']:.2f} in "
            f"{progress.step:,} steps, {progress.tokens:,} tokens, {progress.seconds:.0f} s"
            + (f", {progress.skipped:,} steps skipped" if progress.skipped else "")
        )


def _check_layout_and_memory(config: Config) -> None:
    """Raise TrainError before anything is touched if the run cannot be, for one of the two."""
    import torch

    from llama_train.config import layout
    from llama_train.flops import GIB
    from llama_train.plan import memory

    ranks, here = host.ranks()
    layout(config, ranks)
    if torch.cuda.is_available():
        there = torch.cuda.get_device_properties(host.local_rank()).total_memory
    else:
        there = host.memory_bytes() // here
    needed = memory(config, ranks, config.train.activation_checkpointing).state
    if needed > there:
        raise TrainError(
            f"{config.name} needs {needed / GIB:,.1f} GiB on each rank for weights, gradients and "
            f"optimizer alone; there are {there / GIB:,.1f}.",
            hint="Share it among more ranks, or train a smaller model: see `plan`.",
        )


def check_vocabulary(tokenizer: Path, pieces: int, config: Config) -> None:
    if pieces > config.model.vocab_size:
        raise TrainError(
            f"{tokenizer} has {pieces} pieces, the model only {config.model.vocab_size}.",
            hint=f"Add --model.vocab_size={pieces}.",
        )

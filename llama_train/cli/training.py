"""What training and fine-tuning share: how a run begins, ends and fails."""

from __future__ import annotations

import shutil
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
    from llama_train.model import Transformer


def run(
    config: Config,
    data: Data,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    initial: Callable[[Transformer], None] | None = None,
) -> None:
    """Pretraining and fine-tuning end alike: a line for people, or after a stop signal 143."""
    import torch

    from llama_train.train import Preempted, train

    if (out / "checkpoints").exists() and not resume:
        if not overwrite:
            raise TrainError(f"{out} already holds a run.", hint="Add --resume or --overwrite.")
        if host.rank() == 0:
            shutil.rmtree(out)
    make_folder(out)
    try:
        result = train(config, data, out, resume=resume, initial=initial)
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
            f"{config.name}: held-out loss {first:.2f} -> {result.held_out_loss:.2f} in "
            f"{progress.step:,} steps, {progress.tokens:,} tokens, {progress.seconds:.0f} s"
        )


def check_vocabulary(tokenizer: Path, pieces: int, config: Config) -> None:
    if pieces > config.model.vocab_size:
        raise TrainError(
            f"{tokenizer} has {pieces} pieces, the model only {config.model.vocab_size}.",
            hint=f"Add --model.vocab_size={pieces}.",
        )

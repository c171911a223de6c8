"""What the commands that train share: a stage's settings, and how a run begins, ends and fails."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llama_train import host
from llama_train.errors import TrainError, make_folder
from llama_train.wording import counted

if TYPE_CHECKING:
    from llama_train.config import Config, ModelShape
    from llama_train.stages import Stage
    from llama_train.train import Result
    from llama_train.world import World


def settings_of(
    stage: Stage,
    name: str,
    shape: ModelShape,
    words: Sequence[str],
    epochs: float | None = None,
) -> Callable[[int], Config]:
    """A stage's configuration for so many sequences, with the settings that the words replace.

    It raises TrainError for one that the stage does not use.
    """
    from llama_train.config import keys, override

    def settings(sequences: int) -> Config:
        def resolved(stage: Stage) -> Config:
            own = stage.config(name, shape, sequences, epochs)
            config = override(own, words)
            before, after = keys(own), keys(config)
            for key in stage.unused:
                if after[key] != before[key]:
                    raise TrainError(
                        f"{key} is {after[key]}; it must be {before[key]}, for this stage does not "
                        "use it."
                    )
            return config

        # The steps follow from the batch that is chosen; warm-up and intervals from those steps.
        batched = replace(stage, batch_size=resolved(stage).train.batch_size)
        config = resolved(replace(batched, iterations=resolved(batched).train.steps))
        _check_model(config.model, shape)
        return config

    return settings


def _check_model(asked: ModelShape, base: ModelShape) -> None:
    """Raise TrainError if the weights of the base are not those of the model that is asked for."""
    if differences := asked.differences(base):
        raise TrainError(
            f"--model.… asks for another model than the one in --from: {', '.join(differences)}.",
            hint="Of the model only --model.context can be set here.",
        )


def run(
    config: Config,
    out: Path,
    begin: Callable[[World, Callable[[], bool]], Result],
    *,
    sources: Mapping[str, Path | None],
    resume: bool,
    overwrite: bool,
    frozen: int = 0,
) -> None:
    """Every training ends alike: a line for people, or after a stop signal 143.

    `begin` trains among the ranks, until it is asked to stop. `sources` are what it reads, by
    option. `frozen` models of the same size are held beside what is trained.
    """
    import torch

    from llama_train.train import Preempted
    from llama_train.world import world

    _check_sources(out, sources)
    _check_layout_and_memory(config, frozen)
    _check_held(out, resume=resume, overwrite=overwrite)
    make_folder(out)
    try:
        with host.stop_signals() as stop_asked, world(config) as here:
            result = begin(here, stop_asked)
    except Preempted:
        sys.exit(128 + signal.SIGTERM)
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "CPUAllocator" not in str(error):
            raise
        has_chunks = config.reward is None and config.ppo is None
        chunks = " or --train.loss_chunks=8" if has_chunks else ""
        raise TrainError(
            f"Out of memory: {str(error).splitlines()[0]}",
            hint="Lower --train.micro_batch, set --train.activation_checkpointing=full"
            f"{chunks}, or share the weights among more ranks.",
            exit_code=1,
        ) from error
    if result.leads:
        progress, means = result.progress, result.held_out
        firsts = {"loss": progress.first_held_out_loss, "reward": progress.first_reward}
        found = [
            f"{name} {first:.2f} -> {means[name]:.2f}"
            for name, first in firsts.items()
            if first is not None and name in means
        ]
        found += [f"{name} {mean:.2f}" for name, mean in means.items() if name not in firsts]
        print(
            f"{config.name}: held-out {', '.join(found)} in "
            f"{counted(progress.step, 'step')}, {counted(progress.tokens, 'token')}, "
            f"{progress.seconds:.0f} s"
            + (f", {counted(progress.skipped, 'step')} skipped" if progress.skipped else "")
        )


def _check_sources(out: Path, sources: Mapping[str, Path | None]) -> None:
    """Raise TrainError if the run would destroy what it reads."""
    from llama_train.train import would_overwrite

    for option, source in sources.items():
        if source is not None and would_overwrite(out, source):
            raise TrainError(
                f"--out {out} would overwrite what {option} {source} reads.",
                hint="Name another folder.",
            )


def _check_held(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise TrainError if the run would replace what the folder holds, unasked."""
    from llama_train.checkpoint import CHECKPOINTS
    from llama_train.train import ANSWERS, DRAWN, WRITTEN

    held = [name for name in WRITTEN if (out / name).exists()]
    if overwrite or not held:
        return
    # A run writes one of these before anything else.
    if {CHECKPOINTS, ANSWERS, DRAWN}.isdisjoint(held):
        raise TrainError(
            f"{out} holds a {held[0]} that is not a run's and would be replaced.",
            hint="Name another folder with --out, or add --overwrite.",
        )
    if not resume:
        raise TrainError(f"{out} already holds a run.", hint="Add --resume or --overwrite.")


def _check_layout_and_memory(config: Config, frozen: int) -> None:
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
    each = memory(config, ranks, config.train.activation_checkpointing)
    trained = 1 if config.ppo is None else 2  # the policy and its critic
    needed = trained * each.state + frozen * each.weights
    if needed > there:
        raise TrainError(
            f"{config.name} needs {needed / GIB:,.1f} GiB on each rank for weights, gradients and "
            f"optimizer alone; there are {there / GIB:,.1f}.",
            hint="Share it among more ranks, or train a smaller model: see `plan`.",
        )


def check_tensor_ranks(config: Config) -> None:
    """Raise TrainError if a model that draws answers would be split over ranks."""
    if config.parallel.tensor > 1:
        raise TrainError(
            "parallel.tensor must be 1 where answers are drawn: they grow by one token a step."
        )

"""The train loop: the same for one CPU and many GPUs, for pretraining and fine-tuning."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from llama_train.checkpoint import CHECKPOINTS, Parts, Progress, Store, checkpoints
from llama_train.config import Config
from llama_train.data import Batch, Data, Prefetch, held_out_sample, stack
from llama_train.errors import TrainError
from llama_train.flops import MFU_FORMULA, mfu, peak_flops
from llama_train.host import stop_signals
from llama_train.metrics import RunLog, device_name, peak_memory_bytes
from llama_train.model import IGNORE, Transformer
from llama_train.optim import adamw, clip_gradients, learning_rate, squared_norm
from llama_train.parallelize import compiles
from llama_train.tokenizer import SHA256_KEY
from llama_train.vocabulary import EventKind, Phase
from llama_train.wording import counted
from llama_train.world import World, build, initialise, load_weights, world

ANSWERS, DRAWN, PROMPTS = "answers.jsonl", "answers.json", "prompts.jsonl"
"""Files that some stages write into their run."""

_FILES = ("config.json", "tokenizer.model", "metrics.jsonl", ANSWERS, DRAWN, PROMPTS)
WRITTEN = (CHECKPOINTS, *_FILES)
"""All that a run may write into its folder, and `overwrite` removes."""

Objective = Callable[[Transformer, Batch], tuple[Tensor, Tensor]]
"""(model, batch) → (the sum of the losses, how many there are), both on the model's device.

A sequence whose last part is IGNORE adds to neither.
"""

Measures = Callable[[Transformer, Batch], Mapping[str, tuple[Tensor, Tensor]]]
"""The means that are taken of held-out data, by name, each as (sum, how many); one is "loss"."""


def next_token(model: Transformer, batch: Batch, *, chunks: int) -> tuple[Tensor, Tensor]:
    """The cross-entropies of the targets that are predicted: pretraining and fine-tuning."""
    tokens, targets = batch
    return model(tokens, targets, loss_chunks=chunks), (targets != IGNORE).sum()


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished run comes to. Losses are mean nats a token."""

    progress: Progress
    held_out: Mapping[str, float]
    """The means of held-out data by name."""
    leads: bool
    """Whether this is rank 0."""


class Preempted(Exception):
    """A signal asked the run to stop; its state is in a checkpoint."""


def train(config: Config, data: Data, out: Path, **options: Any) -> Result:
    """`fit` among the ranks that were started, until a signal asks to stop."""
    with stop_signals() as stop_asked, world(config) as here:
        return fit(config, data, out, here, stop_asked, **options)


def fit(
    config: Config,
    data: Data,
    out: Path,
    here: World,
    stop_asked: Callable[[], bool],
    *,
    resume: bool = False,
    overwrite: bool = False,
    initial: Callable[[], Mapping[str, Tensor]] | None = None,
    objective: Objective | None = None,
    measures: Measures | None = None,
) -> Result:
    """Train until `train.steps`, from the newest checkpoint in `out` if resuming.

    `initial` reads other first weights. The objective is the next token unless another is given,
    and what is measured is its mean. Raises TrainError for what the user can fix, and Preempted
    after SIGTERM or SIGUSR1, when the checkpoint is on disk.
    """
    chosen = objective or partial(next_token, chunks=config.train.loss_chunks)
    model = build(config, here)
    optimizer = adamw(model, config.train)
    resuming = resume and any(checkpoints(out / CHECKPOINTS))
    if not resuming and initial is not None:
        load_weights(model, initial, here)
    elif not resuming:
        initialise(model, config.train.seed, here.device)
    parts = {"": (model, optimizer)}
    with open_run(config, data, out, here, parts, resuming=resuming, overwrite=overwrite) as (
        store,
        log,
        progress,
    ):
        loop = Loop(
            config=config,
            data=data,
            here=here,
            model=model,
            optimizer=optimizer,
            store=store,
            log=log,
            progress=progress,
            objective=chosen,
            measures=measures or (lambda model, batch: {"loss": chosen(model, batch)}),
        )
        return Result(progress, loop.run(stop_asked), here.rank == 0)


@contextmanager
def open_run(
    config: Config,
    data: Data,
    out: Path,
    here: World,
    parts: Parts,
    *,
    resuming: bool,
    overwrite: bool,
) -> Iterator[tuple[Store, RunLog, Progress]]:
    """What a run writes into `out`; resuming, the parts get their state of the last checkpoint."""
    leads = here.rank == 0
    if overwrite and leads and not resuming:  # now that nothing is left that could be refused
        remove_run(out)
    store = Store(out / CHECKPOINTS, config, data.fingerprint)
    progress, torn = store.load(parts) if resuming else (Progress(), [])
    if leads:
        save_settings(config, data, out)
    with RunLog(out, steps=config.train.steps, first_step=progress.step, writes=leads) as log:
        for line in torn:
            log.event(EventKind.CHECKPOINT, line)
        yield store, log, progress


@dataclass(slots=True, kw_only=True)
class Loop:
    config: Config
    data: Data
    here: World
    model: Transformer
    optimizer: torch.optim.AdamW
    store: Store
    log: RunLog
    progress: Progress
    objective: Objective
    measures: Measures

    @property
    def parts(self) -> Parts:
        """What a checkpoint holds."""
        return {"": (self.model, self.optimizer)}

    def run(self, stop_asked: Callable[[], bool]) -> Mapping[str, float]:
        """Train to the end; returns the last means of held-out data."""
        train, log, progress = self.config.train, self.log, self.progress
        self._introduce()
        held_out: Mapping[str, float] = {}
        if progress.step >= train.steps:
            log.print(
                f"the run is at step {progress.step:,} of {train.steps:,}: it is done already"
            )
        with log.phase(Phase.TRAIN), closing(Prefetch(self.batches, train.steps)) as batches:
            if progress.step < train.steps and compiles(self.config, self.here.device.type):
                self.warm_up()
            if progress.step == 0:
                held_out = self.evaluate()
                progress.first_held_out_loss = held_out.get("loss")
                progress.first_reward = held_out.get("reward")
            while progress.step < train.steps:
                stop = self.step(batches, stop_asked)
                last = progress.step == train.steps
                if last or progress.step % train.eval_every == 0:
                    held_out = self.evaluate()  # which can take longer than a step
                    stop = self.on_any_rank(stop or stop_asked())
                if last or stop or progress.step % self.config.checkpoint.every == 0:
                    self.save()
                if stop and not last:
                    self.finish_saving()
                    log.event(
                        EventKind.PREEMPTED, f"stopped by a signal after step {progress.step:,}"
                    )
                    raise Preempted
                self.store.poll()
            self.finish_saving()
            return held_out or self.evaluate()

    def warm_up(self) -> None:
        """Compile what trains and what evaluates, on a batch from which nothing is learnt."""
        with self.log.phase(Phase.COMPILE):
            batch = self.on_device(self.batches(self.progress.step + 1)[0])
            self.forward_backward([batch], 1)
            self.optimizer.zero_grad()
            with torch.no_grad():
                self.measures(self.model, batch)

    def step(self, batches: Prefetch[list[Batch]], stop_asked: Callable[[], bool]) -> bool:
        """One optimizer step; returns whether any rank was asked to stop."""
        train, progress = self.config.train, self.progress
        started_s = time.perf_counter()
        step = progress.step + 1
        with self.log.data_wait():
            micro_batches = batches.take(step)
        first = (step - 1) * train.batch_size
        numbers = range(first, first + train.batch_size)
        tokens, losses = self.data.predicted(numbers), self.data.losses(numbers)

        own = self.forward_backward(micro_batches, losses)
        loss, norms, stops = self.totals(own, stop_asked)
        lr = self.apply(step, loss, norms)
        progress.step = step
        progress.tokens += tokens
        seconds = time.perf_counter() - started_s
        progress.seconds += seconds
        self.report(loss, lr, norms[0], tokens, seconds)
        return stops

    def on_any_rank(self, stop: bool) -> bool:
        """Whether it is so on one of the ranks, each of which asks."""
        if self.here.size == 1:
            return stop
        found = torch.tensor(float(stop), device=self.here.device)
        dist.all_reduce(found)
        return found.item() > 0

    def apply(self, step: int, loss: float, norms: Sequence[float]) -> float:
        """Let the optimizers use the gradients, if they are finite; returns the learning rate."""
        lr = learning_rate(step, self.config.train)
        if all(map(math.isfinite, (loss, *norms))):
            for (model, optimizer), norm in zip(self.parts.values(), norms, strict=True):
                clip_gradients(model.parameters(), norm, self.config.train.clip)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.step()
            self.progress.skipped_in_a_row = 0
        else:
            self.skip(step, loss, max(norms, key=lambda norm: (not math.isfinite(norm), norm)))
        for _, optimizer in self.parts.values():
            optimizer.zero_grad()
        return lr

    def batches(self, step: int) -> list[Batch]:
        """This rank's micro-batches of the step, in the host's memory."""
        train, here = self.config.train, self.here
        share = train.batch_size // here.data_ranks
        first = (step - 1) * train.batch_size + here.data_rank * share
        return [
            stack(
                [self.data.sequence(i) for i in range(at, at + train.micro_batch)],
                pinned=here.device.type == "cuda",
            )
            for at in range(first, first + share, train.micro_batch)
        ]

    def on_device(self, batch: Batch) -> Batch:
        return tuple(part.to(self.here.device, non_blocking=True) for part in batch)

    def forward_backward(self, batches: list[Batch], losses: int) -> Tensor:
        """Accumulate gradients of the mean of all ranks' losses; returns this rank's part of it."""
        total = torch.zeros((), device=self.here.device)
        for i, batch in enumerate(batches):
            if isinstance(self.model, FSDPModule):
                last = i == len(batches) - 1
                each = self.config.parallel.sync_gradients == "each"
                self.model.set_requires_gradient_sync(each or last)
                # Copies of the sharded model (HSDP) can wait: what they hold meanwhile is sharded.
                self.model.set_requires_all_reduce(last)
            loss, _ = self.objective(self.model, self.on_device(batch))
            loss = loss / max(1, losses)
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    def totals(
        self, loss: Tensor, stop_asked: Callable[[], bool]
    ) -> tuple[float, list[float], bool]:
        """The loss, the norm of each part's gradients, and whether any rank is to stop, of all.

        The only place of a step where the ranks exchange numbers, and the host waits for the GPU.
        """
        # A step's loss is shared by the ranks of a tensor-parallel group, which hold the same.
        parts = (
            loss / self.here.tensor_ranks,
            *(squared_norm(model.parameters()) for model, _ in self.parts.values()),
        )
        mean, *squares = torch.stack(parts).tolist()
        # Only now that the GPU is done: what a signal interrupts is then this step and no other.
        stops: float = stop_asked()
        if self.here.size > 1:
            sums = torch.tensor([mean, stops, *squares], device=self.here.device)
            dist.all_reduce(sums)
            mean, stops, *squares = sums.tolist()
        return mean, [math.sqrt(square) for square in squares], stops > 0

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """The means of held-out data: the loss, and what else the run measures."""
        train, here, progress = self.config.train, self.here, self.progress
        numbers = held_out_sample(self.data, train.eval_sequences)
        count = len(numbers)
        stride = train.micro_batch * here.data_ranks
        sums: dict[str, Tensor] = {}
        with self.log.phase(Phase.EVAL):
            for first in range(0, count, stride):
                at = first + here.data_rank * train.micro_batch
                places = range(at, at + train.micro_batch)
                pairs = [self.data.held_out(numbers[min(i, count - 1)]) for i in places]
                batch = self.on_device(stack(pairs))
                # Every rank runs equally often; what is past the end counts for nothing.
                batch[-1][max(0, count - at) :] = IGNORE
                for name, parts in self.measures(self.model, batch).items():
                    sums[name] = sums.get(name, 0) + torch.stack(parts).double()
            table = torch.stack(list(sums.values()))
            if here.size > 1:
                dist.all_reduce(table)  # of each tensor-parallel rank, in both
            rows = dict(zip(sums, table.tolist(), strict=True))
        means = {name: total / n if n else math.nan for name, (total, n) in rows.items()}
        others = "".join(f", {name} {mean:.3f}" for name, mean in means.items() if name != "loss")
        self.log.event(
            EventKind.EVAL,
            f"held-out loss {means['loss']:.4f}{others} at step {progress.step:,}",
            step=progress.step,
            **means,
            tokens=int(rows["loss"][1]) // here.tensor_ranks,
        )
        return means

    def skip(self, step: int, loss: float, norm: float) -> None:
        """Count a step that the optimizer must not see; too many in a row end the run."""
        progress, limit = self.progress, self.config.train.max_bad_steps
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        self.log.event(
            EventKind.SKIPPED, f"step {step:,} skipped: loss {loss}, gradient norm {norm}"
        )
        if progress.skipped_in_a_row >= limit:
            self.finish_saving()
            raise TrainError(
                f"{counted(limit, 'step')} in a row, up to step {step}, had a loss or gradient "
                "that is not finite.",
                hint="Lower --train.lr and resume from the last checkpoint.",
                exit_code=1,
            )

    def save(self) -> None:
        with self.log.phase(Phase.CHECKPOINT):
            self.store.save(self.parts, self.progress)
        step = self.progress.step
        self.log.event(EventKind.CHECKPOINT, f"checkpoint at step {step:,}", step=step)

    def finish_saving(self) -> None:
        if self.store.pending:
            with self.log.phase(Phase.CHECKPOINT):
                self.store.finish()

    def report(
        self, loss: float, lr: float, norm: float, tokens: int, seconds: float, **more: float
    ) -> None:
        figures = {
            "loss": loss,
            "lr": lr,
            "grad_norm": norm,
            "tokens": tokens,
            "tokens_per_s": tokens / seconds,
            "memory_peak_bytes": peak_memory_bytes(self.here.device),
            **more,
        }
        utilisation = self.mfu(seconds)
        if utilisation is not None:
            figures["mfu"] = utilisation
        self.log.step(self.progress.step, **figures)

    def mfu(self, seconds: float) -> float | None:
        """Of one device in a step of so many seconds; None if unknown."""
        if self.data.computed is None:
            return None
        rows, length = self.data.computed
        tokens = self.config.train.batch_size * rows * length
        shape = replace(self.config.model, context=length)
        return mfu(shape, tokens / seconds / self.here.size, device_name(self.here.device))

    def _introduce(self) -> None:
        config, name = self.config, device_name(self.here.device)
        tokens_per_step = config.train.batch_size * self.data.tokens_per_sequence
        self.log.model(
            name=config.name,
            parameters=config.model.parameters,
            planned_tokens=round(config.train.steps * tokens_per_step),
            ranks=self.here.size,
            device=name,
            mfu_formula=MFU_FORMULA,
            mfu_peak_flops=peak_flops(name),
        )
        self.log.print(
            f"{config.name}: {config.model.parameters:,} parameters, "
            f"{counted(config.train.steps, 'step')} of {counted(round(tokens_per_step), 'token')}, "
            f"{self.here.size} × {name}"
        )


def remove_run(out: Path) -> None:
    """Remove what a run wrote, and nothing else that the folder may hold."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    for name in _FILES:
        (out / name).unlink(missing_ok=True)


def would_overwrite(out: Path, source: Path) -> bool:
    """Whether what a run writes into `out` is, or holds, what is read of a file or folder.

    A folder inside the one that is read, or around it, may be fine; links are followed.
    """
    written = {(out / name).resolve() for name in WRITTEN}
    read = [path.resolve() for path in (source, *(source / name for name in WRITTEN))]
    return any(not written.isdisjoint((path, *path.parents)) for path in read)


def save_settings(config: Config, data: Data, out: Path) -> None:
    resolved = {
        "config": asdict(config),
        "parameters": config.model.parameters,
        "data_fingerprint": data.fingerprint,
        SHA256_KEY: hashlib.sha256(data.tokenizer.read_bytes()).hexdigest(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    (out / "config.json").write_text(json.dumps(resolved, indent=1) + "\n")
    shutil.copyfile(data.tokenizer, out / "tokenizer.model")

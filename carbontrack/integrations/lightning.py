"""A callback for Lightning's Trainer: `Trainer(callbacks=[CarbonTrackCallback()])`.

What it logs is of rank 0. Lightning counts no tokens: they are those of rank 0's batches × ranks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:  # it has two names
    from pytorch_lightning import Callback, LightningModule, Trainer  # type: ignore[assignment]

from carbontrack.integrations.session import Session, harmless_hook


class CarbonTrackCallback(Callback):
    """Records a fit with its loss, learning rate, gradient norm, tokens, validations, checkpoints
    and phases (train, eval, checkpoint, data).

    Under `carbontrack run` they go to that run; without it the fit is a run of its own, with
    `settings` as `carbontrack.track` takes them. `tokens` gives those of a batch; by default they
    are the size of its `input_ids`, padding too, and none of other batches. Values that the module
    logs are taken when Lightning logs (`log_every_n_steps`), so that no step waits for the device:
    `train_loss` or `loss`, and `grad_norm`. It never raises, and its messages are Lightning's.
    """

    def __init__(self, *, tokens: Callable[[Any], int] | None = None, **settings: Any) -> None:
        name = Callback.__module__.rpartition(".callbacks")[0]
        self.session = Session(logging.getLogger(f"{name}.carbontrack"), **settings)
        self.session.check_hooks(Callback, type(self))
        self._count = tokens or _input_ids
        self._tokens: int | None = None  # of this rank since the last step
        self._last_step = 0

    @harmless_hook
    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.session.begin(
            trainer,
            name=type(module).__name__,
            is_first=trainer.is_global_zero,
            is_local=trainer.local_rank == 0,
            ranks=trainer.world_size,
        )
        self._tokens, self._last_step = None, trainer.global_step
        parameters = sum(parameter.numel() for parameter in module.parameters())
        self.session.describe(name=type(module).__name__, parameters=parameters)
        # No hook says when a checkpoint begins; ModelCheckpoint calls this method, too.
        self.session.time_method(trainer, "save_checkpoint", "checkpoint")

    @harmless_hook
    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.session.waits_for_data()

    @harmless_hook
    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.session.has_data()

    @harmless_hook
    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        tokens = self._count(batch)
        if tokens is not None:
            self._tokens = (self._tokens or 0) + tokens
        if trainer.global_step > self._last_step:  # gradients may be of several batches
            self._last_step = trainer.global_step
            tokens, self._tokens = self._tokens, None
            values: dict[str, Any] = {}
            if tokens is not None:
                values["tokens"] = tokens * trainer.world_size
            if trainer.global_step % max(1, getattr(trainer, "log_every_n_steps", 1)) == 0:
                values |= _logged(trainer, outputs)
            self.session.step(trainer.global_step, **values)
        self.session.waits_for_data()

    @harmless_hook
    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.session.enter("eval")

    @harmless_hook
    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.session.leave("eval")
        if not trainer.sanity_checking:
            metrics: dict[str, Any] = {n: float(v) for n, v in trainer.callback_metrics.items()}
            loss = next((metrics[n] for n in ("val_loss", "valid_loss") if n in metrics), None)
            more = {} if loss is None else {"loss": loss}
            self.session.event("eval", step=trainer.global_step, **metrics, **more)
        self.session.waits_for_data()

    @harmless_hook
    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.session.event("checkpoint", step=trainer.global_step)

    @harmless_hook
    def on_exception(
        self, trainer: Trainer, module: LightningModule, exception: BaseException
    ) -> None:
        self.session.end(exception)

    @harmless_hook
    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        how = f"those of rank 0's batches × {trainer.world_size} ranks"
        self.session.event("tokens", f"tokens are {how}; of input_ids with padding, if not given")
        self.session.end()


def _input_ids(batch: Any) -> int | None:
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    return None if ids is None else int(ids.numel())


def _logged(trainer: Trainer, outputs: Any) -> dict[str, float | None]:
    metrics = trainer.callback_metrics
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    loss = next((metrics[n] for n in ("train_loss", "loss") if n in metrics), loss)
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return {
        "loss": None if loss is None else float(loss),
        "lr": float(groups[0]["lr"]) if groups else None,
        "grad_norm": float(metrics["grad_norm"]) if "grad_norm" in metrics else None,
    }

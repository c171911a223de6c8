"""A callback for Hugging Face's Trainer and for TRL's trainers: `trainer.add_callback(...)`.

What it logs is of rank 0, and of all ranks where it is a sum. Tokens are counted by the trainer,
over all ranks, if `include_num_input_tokens_seen` is "all" (padding too) or "non_padding"; TRL's
trainers count those of the attention mask by themselves.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from carbontrack.integrations.model_card import write_emissions
from carbontrack.integrations.session import Session, harmless_hook

_COUNTED = {
    "all": "num_input_tokens_seen: all ranks, padding too",
    "non_padding": "num_input_tokens_seen: all ranks, without padding where the batch says which",
    "trl": "num_tokens of TRL: all ranks, attention mask",
    "": 'not counted: set include_num_input_tokens_seen="non_padding"',
}


class CarbonTrackCallback(TrainerCallback):
    """Records a training with its loss, learning rate, gradient norm, tokens, evaluations,
    checkpoints and phases (train, eval, checkpoint, data).

    Under `carbontrack run` they go to that run; without it the training is a run of its own, with
    `settings` as `carbontrack.track` takes them. `model_card` writes what was emitted into the
    README.md of the output folder, e.g. {"training_type": "fine-tuning", "geographical_location":
    "Paris"}; True writes it without these. It opens no network, never raises, and its messages are
    transformers' (`transformers.logging.set_verbosity_...`).
    """

    def __init__(self, *, model_card: bool | dict[str, str] = False, **settings: Any) -> None:
        log = logging.getLogger("transformers.carbontrack")  # transformers sets its level
        self.session = Session(log, **settings)
        self.session.check_hooks(TrainerCallback, type(self))
        self._model_card = model_card
        self._step: dict[str, Any] | None = None  # that has not been logged yet
        self._number = 0
        self._tokens = 0  # logged so far
        self._counts = ""

    @harmless_hook
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **around: Any
    ) -> None:
        self._log_step()  # of a training before that ended by an exception, which has no hook
        self.session.begin(
            state,
            name=getattr(args, "run_name", None) or Path(args.output_dir or "train").name,
            is_first=state.is_world_process_zero,
            is_local=state.is_local_process_zero,
            ranks=args.world_size,
        )
        seen = getattr(args, "include_num_input_tokens_seen", "no")
        self._counts = {True: "all", False: "", "no": "", None: ""}.get(seen, str(seen))
        self._tokens = state.num_input_tokens_seen  # before, of a training that is resumed
        self._step = None
        model = around.get("model")
        if model is not None:
            config = getattr(model, "config", None)
            self.session.describe(
                name=getattr(config, "name_or_path", "") or type(model).__name__,
                parameters=sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters()),
            )
        self.session.waits_for_data()

    @harmless_hook
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **around: Any
    ) -> None:
        self._log_step()
        self._end_pauses()
        self.session.has_data()

    @harmless_hook
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **around: Any
    ) -> None:
        self._log_step()
        self._number, self._step = state.global_step, {}
        if self._counts in ("all", "non_padding"):
            self._step["tokens"] = self._more(state.num_input_tokens_seen)
        self.session.waits_for_data()
        self._begin_pause(control)

    @harmless_hook
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **around: Any
    ) -> None:
        self._begin_pause(control)

    @harmless_hook
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **around: Any,
    ) -> None:
        logs = logs or {}
        if self._step is None or state.global_step != self._number or "loss" not in logs:
            return
        self._step |= {
            "loss": logs["loss"],
            "lr": logs.get("learning_rate"),
            "grad_norm": logs.get("grad_norm"),
        }
        if not self._counts.startswith(("all", "non")) and "num_tokens" in logs:
            self._counts = "trl"
            self._step["tokens"] = self._more(int(logs["num_tokens"]))

    @harmless_hook
    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **around: Any
    ) -> None:
        self.session.enter("eval")  # of `trainer.evaluate()`: no hook says that it begins

    @harmless_hook
    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **around: Any,
    ) -> None:
        self._log_step()
        self.session.leave("eval")
        metrics = metrics or {}
        numbers = {n.removeprefix("eval_"): v for n, v in metrics.items() if n != "epoch"}
        self.session.event("eval", step=state.global_step, **numbers)
        if self.session.logs and control.should_save:
            self.session.enter("checkpoint")
        self.session.waits_for_data()

    @harmless_hook
    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **around: Any
    ) -> None:
        self._log_step()
        self.session.leave("checkpoint")
        self.session.event("checkpoint", step=state.global_step)
        self.session.waits_for_data()

    @harmless_hook
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **around: Any
    ) -> None:
        self._log_step()
        self.session.event("tokens", f"tokens are {_COUNTED.get(self._counts, self._counts)}")
        writes = self.session.logs and self._model_card
        track = self.session.end()
        if writes and track is not None:
            more = self._model_card if isinstance(self._model_card, dict) else {}
            if not write_emissions(Path(args.output_dir or ".") / "README.md", track, **more):
                self.session.warn("no model card is written: what was emitted is unknown")

    def _more(self, tokens: int) -> int:
        """The tokens since the last step, of a cumulative count."""
        before, self._tokens = self._tokens, tokens
        return max(0, tokens - before)

    def _log_step(self) -> None:
        """The last step, once it is known whether the trainer logs its loss."""
        step, self._step = self._step, None
        if step is not None:
            self.session.step(self._number, **step)

    def _begin_pause(self, control: TrainerControl) -> None:
        """The trainer evaluates first, then saves."""
        if control.should_evaluate:
            self.session.enter("eval")
        elif control.should_save:
            self.session.enter("checkpoint")

    def _end_pauses(self) -> None:
        """Those whose end had no hook."""
        self.session.leave("checkpoint")
        self.session.leave("eval")

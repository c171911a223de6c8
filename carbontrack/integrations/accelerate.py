"""A tracker for loops of one's own with Accelerate: `Accelerator(log_with=CarbonTrackTracker())`.

`accelerator.log` of the main process is what counts, so what is logged is of all ranks. Accelerate
counts no tokens: log them, of the step over all ranks, as `tokens`.
"""

from __future__ import annotations

import logging
from typing import Any

from accelerate import PartialState
from accelerate.tracking import GeneralTracker

from carbontrack.integrations.session import Session, harmless_hook
from carbontrack.record.track import Track

_NAMES = {"train_loss": "loss", "learning_rate": "lr"}
_EVALUATED = ("eval_", "eval/", "val_", "val/")


class _Training:
    """One training. Accelerate has one state for all that a process does, so this stands for it:
    trackers that were made before it began are of it, and those that are made later are not.
    """

    def __init__(self) -> None:
        self.is_begun = False
        self.is_under_way = False  # then a tracker of it that starts again is of another


_newest = _Training()


class CarbonTrackTracker(GeneralTracker):  # type: ignore[misc]
    """Records from `accelerator.init_trackers(...)` to `accelerator.end_training()` what
    `accelerator.log(values, step=...)` is given: `loss` or `train_loss`, `lr` or `learning_rate`,
    `grad_norm`, `tokens`; others are extras of the step, and `eval_...` or `val_...` an evaluation.

    Under `carbontrack run` it goes to that run; without it the training is a run of its own, with
    `settings` as `carbontrack.track` takes them. All of it is of the phase *train*, but for what
    the loop puts into a `carbontrack.phase(...)`. It never raises, and its messages are
    Accelerate's.
    """

    name = "carbontrack"
    requires_logging_directory = False
    main_process_only = False  # the first process of each node records

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.session = Session(logging.getLogger("accelerate.carbontrack"), **settings)
        self._training: _Training | None = None  # the last one
        self._is_begun = False
        self._number = 0  # of the last step
        if _newest.is_begun:
            _renew()

    @property
    def tracker(self) -> Track | None:
        """What this process records, None if another does."""
        return self.session.track

    @harmless_hook
    def start(self) -> None:
        """Begin; where a version of Accelerate does not call this, the first values do."""
        if self._training is _newest:
            if not _newest.is_under_way:  # an Accelerator starts one twice that it is given twice
                return
            _renew()
        self._is_begun, self._training, _newest.is_begun = True, _newest, True
        state = PartialState()
        self.session.begin(
            _newest,
            name=None,
            is_first=state.is_main_process,
            is_local=state.is_local_main_process,
            ranks=state.num_processes,
        )

    @harmless_hook
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """What is given as the configuration is the script's own matter."""
        self._begin_once()

    @harmless_hook
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """A step, by default the next one; or an evaluation."""
        self._begin_once()
        self._go_on()
        metrics = {name: value for name, value in values.items() if name.startswith(_EVALUATED)}
        others = {
            _NAMES.get(name, name): value for name, value in values.items() if name not in metrics
        }
        if others:
            self._number = self._number + 1 if step is None else step
            self.session.step(self._number, **others)
        if metrics:
            numbers = {_without_prefix(name): value for name, value in metrics.items()}
            self.session.event("eval", step=self._number if step is None else step, **numbers)

    @harmless_hook
    def finish(self) -> None:
        """The training is over."""
        self.session.event("tokens", "tokens are those that the loop logged")
        self.session.end()
        self._go_on()
        self._is_begun = False

    def _begin_once(self) -> None:
        if not self._is_begun:
            self.start()

    def _go_on(self) -> None:
        if self._training is not None:
            self._training.is_under_way = True


def _renew() -> None:
    """The next training."""
    global _newest
    _newest = _Training()


def _without_prefix(name: str) -> str:
    prefix = next(prefix for prefix in _EVALUATED if name.startswith(prefix))
    return name.removeprefix(prefix)

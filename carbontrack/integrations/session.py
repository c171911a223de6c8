"""One training of a framework: recorded once, with its steps, events and phases.

What fails here is one warning by the framework's own logger, and the training goes on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, TypeVar

from carbontrack.job import describe_model, log_event, log_step
from carbontrack.job_phases import log_past_phase, phase
from carbontrack.record.track import Track

_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "LOCAL_RANK")
_DATA_WAIT_NS = 100_000_000  # waiting for data for longer than this is a phase of its own
F = TypeVar("F", bound=Callable[..., Any])


def harmless_hook(hook: F) -> F:
    """A hook of a callback with a `session`: it raises nothing, and what fails is said once."""

    @wraps(hook)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return hook(self, *args, **kwargs)
        except Exception as error:
            self.session.warn(f"{hook.__name__} failed: {type(error).__name__}: {error}")
            return None

    return called  # type: ignore[return-value]


class Session:
    """What a callback has of the training that goes on.

    `watched` is what the framework has one of for each training: of two callbacks in one training
    the second does nothing. A process has one training at a time: one that begins ends another
    that never did, as frameworks do not tell their callbacks of an exception, or of the Ctrl-C of a
    notebook.
    """

    def __init__(self, log: logging.Logger, **settings: Any) -> None:
        self._log = log
        self._settings = settings
        self._said: set[str] = set()
        self._open: dict[str, AbstractContextManager[None]] = {}
        self._data_since_ns = 0
        self._watched: object = None
        self._has_steps = False
        self._undo: list[Callable[[], None]] = []
        self.track: Track | None = None
        self.logs = False  # whether this process logs for all

    def warn(self, message: str) -> None:
        """By the framework's logger, once each."""
        if message not in self._said:
            self._said.add(message)
            self._log.warning("carbontrack: %s", message)

    def check_hooks(self, base: type, callback: type) -> None:
        """Warn of hooks that this version of the framework does not call."""
        named = (name for name in vars(callback) if name.startswith("on_"))
        if missing := [name for name in named if not hasattr(base, name)]:
            self.warn(f"{base.__module__} has no {', '.join(missing)}: what it reports is missing")

    def begin(
        self, watched: object, *, name: str | None, is_first: bool, is_local: bool, ranks: int
    ) -> None:
        """`is_first` of all ranks: it logs. `is_local`, the first of its node: it records."""
        global _active
        if _active is not None:
            if _active._records(watched, self._log):
                self.warn("there is a CarbonTrackCallback in this training already: one is enough")
                return
            _active.end(RuntimeError("interrupted"))
        _active = self
        self._watched, self._has_steps = watched, False
        if ranks > 1 and not any(variable in os.environ for variable in _RANKS):
            self.warn("this rank has no RANK in its environment: the framework says which it is")
        self.logs = is_first
        if is_local:
            settings = {"name": name, "quiet": True, **self._settings}
            self.track = Track(**settings).start()
        self.enter("train")

    def _records(self, watched: object, log: logging.Logger) -> bool:
        """Whether this is of the training that goes on: also another framework's that begins before
        there is a step, such as a Trainer beside a tracker of Accelerate. A framework has one
        logger, and perhaps several kinds of trainings.
        """
        if log is self._log:
            return watched is self._watched
        return not self._has_steps

    def describe(self, **card: Any) -> None:
        """The model's card."""
        if self.logs:
            describe_model(**card)

    def step(self, number: int, **values: Any) -> None:
        """A step of all ranks; what is None is unknown."""
        self._has_steps = True
        if self.logs:
            log_step(number, **{k: v for k, v in values.items() if v is not None})

    def event(self, kind: str, message: str = "", **data: Any) -> None:
        if self.logs:
            log_event(kind, message, **data)

    def enter(self, name: str) -> None:
        """A phase begins, if it has not."""
        self._data_since_ns = 0
        if self.logs and name not in self._open:
            self._open[name] = phase(name)
            self._open[name].__enter__()

    def leave(self, name: str) -> None:
        """A phase ends, if it has begun."""
        if (opened := self._open.pop(name, None)) is not None:
            opened.__exit__(None, None, None)

    def time_method(self, owner: Any, name: str, as_phase: str) -> None:
        """Each call of this method of a framework's object is a phase, until the training ends."""
        if not self.logs:
            return
        method = getattr(owner, name, None)
        if method is None:
            self.warn(f"{type(owner).__name__} has no {name}: the phase {as_phase} is missing")
            return

        @wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._try(self.enter, as_phase)
            try:
                return method(*args, **kwargs)
            finally:
                self._try(self.leave, as_phase)

        def undo() -> None:
            if vars(owner).get(name) is timed:  # another may have replaced ours
                delattr(owner, name)

        setattr(owner, name, timed)
        self._undo.append(undo)

    def _try(self, change: Callable[[str], None], as_phase: str) -> None:
        try:
            change(as_phase)
        except Exception as error:
            self.warn(f"the phase {as_phase} is not recorded: {type(error).__name__}: {error}")

    def waits_for_data(self) -> None:
        """From now on."""
        self._data_since_ns = time.monotonic_ns()

    def has_data(self) -> None:
        """A wait that is only worth a phase where it is long, whatever the clock is set to."""
        since_ns, self._data_since_ns = self._data_since_ns, 0
        waited_ns = time.monotonic_ns() - since_ns
        if self.logs and since_ns and waited_ns > _DATA_WAIT_NS:
            now_ns = time.time_ns()
            log_past_phase("data", (now_ns - waited_ns) // 1_000_000, now_ns // 1_000_000)

    def end(self, error: BaseException | None = None) -> Track | None:
        """The training is over; its block is what it used."""
        global _active
        if _active is self:
            _active = None
        while self._undo:
            self._undo.pop()()
        for name in reversed(list(self._open)):
            self.leave(name)
        track, self.track, self.logs, self._watched = self.track, None, False, None
        if track is not None:
            track.__exit__(None if error is None else type(error), error, None)
            if self._log.isEnabledFor(logging.INFO):
                self._log.info("carbontrack: %s", track.summary())
        return track


_active: Session | None = None  # of the training that goes on in this process

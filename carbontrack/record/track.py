"""Recording a part of this process: `carbontrack.track()`, and what that part used.

Nothing here raises: what fails is one line on stderr.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, Self, TypeVar

from carbontrack.job import close_steps
from carbontrack.job_phases import log_phase
from carbontrack.record.attach import BlockRecorder, settings_of
from carbontrack.record.clock import Clock
from carbontrack.record.exit_code import ExitWatch, code_of
from carbontrack.record.steps_file import is_recorded_already
from carbontrack.record.this_run import mark_in
from carbontrack.record.tracked import PATIENCE_S, UNKNOWN, Block, Tracked, read_block
from carbontrack.record.warning import harmless, warn

F = TypeVar("F", bound=Callable[..., Any])


class Track:
    """Records this process while a block runs: as a context, by `start()` and `stop()`, or as a
    decorator, of which each call is a run of its own.

    `id` is the run's. It is None where another recorder records already: the block is then part of
    that run, and what it used is what the run used in its time. What it used can be asked at any
    time, also while it goes on, and is read from the ledger: None where it is unknown.
    """

    def __init__(self, **settings: Any) -> None:
        """`settings` as `settings_of` takes them."""
        self._given = settings
        self._recorder: BlockRecorder | None = None
        self._pid = 0  # of the process that started it; 0 where it goes on no more
        self._block: Block | None = None
        self._has_waited = False  # for its end to be in the ledger
        self._used: Tracked | None = None  # once it is final, or turned out to stay unknown
        self.id: str | None = None

    def start(self) -> Self:
        """Begin to record."""
        if self._goes_on:
            warn("start() of a block that goes on already: ignored.")
            return self
        self.id = self._block = self._used = None
        self._has_waited = False
        self._pid = os.getpid()
        with harmless("this block is not recorded"):
            self._begin()
        with harmless("this block may end with the process only"):
            atexit.register(self._stop_at_exit)
            _exit.begin()
        close_steps()  # so that log_step() finds this run's file
        log_phase()
        return self

    def stop(self) -> Self:
        """Stop recording."""
        if self._pid == 0:
            warn("stop() without start(): nothing was recorded.")
        else:
            self._stop(0)
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._goes_on:  # it may have been stopped inside
            self._stop(code_of(error))

    def __call__(self, function: F) -> F:
        """Record each call of a function, a coroutine or a generator."""
        import inspect

        given = {**self._given, "name": self._given.get("name") or function.__qualname__}
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def recorded(*args: Any, **kwargs: Any) -> Any:
                with Track(**given):
                    return await function(*args, **kwargs)

        elif inspect.isgeneratorfunction(function):

            @wraps(function)
            def recorded(*args: Any, **kwargs: Any) -> Any:
                with Track(**given):
                    return (yield from function(*args, **kwargs))

        else:

            @wraps(function)
            def recorded(*args: Any, **kwargs: Any) -> Any:
                with Track(**given):
                    return function(*args, **kwargs)

        return recorded  # type: ignore[return-value]

    @property
    def energy_kwh(self) -> float | None:
        """Energy of the devices, before PUE."""
        return self._measure().energy_kwh

    @property
    def tco2e(self) -> float | None:
        """Emissions in t CO2e, of the facility."""
        return self._measure().tco2e

    @property
    def cost(self) -> float | None:
        """Money, in `currency`."""
        return self._measure().cost

    @property
    def currency(self) -> str | None:
        """Of the cost."""
        return self._measure().currency

    @property
    def coverage(self) -> float | None:
        """Share of device-seconds that samples watched."""
        return self._measure().coverage

    @property
    def hardware(self) -> str | None:
        """The devices, as in `8 × NVIDIA A100-SXM4-80GB`."""
        return self._measure().hardware

    @property
    def quality(self) -> str | None:
        """How the energy came about: counter, power, estimate, simulated."""
        return self._measure().quality

    def summary(self) -> str:
        """A few lines, as `carbontrack run` prints them."""
        return self._measure().text()

    def __repr__(self) -> str:
        return f"<carbontrack.track {self._measure().line()}>"

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        return self._measure().html()

    @property
    def _goes_on(self) -> bool:
        return self._pid == os.getpid()

    def _begin(self) -> None:
        settings = settings_of(**self._given)
        recorder = BlockRecorder(settings)
        clock = Clock.now()
        mark = mark_in(os.environ) if is_recorded_already(os.environ) else None
        self._recorder = recorder
        recorder.start()
        self.id = recorder.id
        if self.id is not None:
            name = (settings["name"] or "block") if recorder.is_shared else None
            self._block = Block.begun(self.id, settings["db"], name, clock)
        elif mark is not None:
            self._block = Block.begun(mark.run_id, mark.db, settings["name"] or "block", clock)

    def _stop(self, exit_code: int, *, at_exit: bool = False) -> None:
        if not self._goes_on:
            return  # a forked child leaves the block, too, and ends nothing
        self._pid = 0
        with harmless("the end of this block is not recorded"):
            atexit.unregister(self._stop_at_exit)
            _exit.end()
            self._end(exit_code, at_exit=at_exit)
        close_steps()

    def _stop_at_exit(self) -> None:
        with harmless("the end of this block is not recorded"):
            exit_code = _exit.code()
            if exit_code is not None:  # or the recorder sees that we are gone, and not how
                self._stop(exit_code, at_exit=True)

    def _end(self, exit_code: int, *, at_exit: bool) -> None:
        recorder, self._recorder = self._recorder, None
        if self._block is not None:
            self._block = self._block.ended()
        if recorder is not None:
            recorder.stop(exit_code, at_exit=at_exit)

    def _measure(self) -> Tracked:
        if self._used is not None:
            return self._used
        used, block = UNKNOWN, self._block
        if block is None:
            return used
        has_ended = block.ended_ms is not None
        patience_s = PATIENCE_S if has_ended and not self._has_waited else 0.0
        self._has_waited = has_ended
        with harmless("what this block used is unknown"):
            used = read_block(block, patience_s)
        if used.is_final or (has_ended and used is UNKNOWN):
            self._used = used
        return used


_exit = ExitWatch()

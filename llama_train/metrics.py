"""The log of a run: to carbontrack, to metrics.jsonl, and to the terminal.

Every step becomes one line in `metrics.jsonl` and one for carbontrack if it records this process.
A phase lasts until the next one begins, so the energy of a run can be split by phase.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from carbontrack import describe_model, log_event, log_step
from llama_train.vocabulary import EventKind, Phase

# Without a terminal, a line of progress after so many seconds.
_PLAIN_EVERY_S = 5.0

# Waiting for data for longer than this is a phase of its own.
_DATA_WAIT_S = 0.1


class RunLog:
    """The log of one rank; only rank 0 writes."""

    def __init__(self, folder: Path, *, steps: int, first_step: int, writes: bool) -> None:
        self._writes = writes
        self._steps = steps
        self._file = (folder / "metrics.jsonl").open("a", buffering=1) if writes else None
        self._console = Console(stderr=True)
        self._printed_s = 0.0
        self._bar = Progress(
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (writes and self._console.is_terminal),
        )
        self._task = self._bar.add_task("train", total=steps, completed=first_step, figures="")
        self._phase_name: Phase | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._file:
            self._file.close()

    def model(self, **card: Any) -> None:
        if self._writes:
            describe_model(**card)

    def step(self, step: int, **values: Any) -> None:
        """Values are floats, so that nothing waits for the device here."""
        if not self._writes:
            return
        log_step(step, **values)
        self._write({"step": step, **values})
        figures = f"loss {values['loss']:.3f}  {values['tokens_per_s']:,.0f} tokens/s"
        if values.get("mfu"):
            figures += f"  MFU {values['mfu']:.1%}"
        self._bar.update(self._task, completed=step, figures=figures)
        now_s = time.monotonic()
        due = now_s - self._printed_s >= _PLAIN_EVERY_S or step == self._steps
        if not self._console.is_terminal and due:
            self._printed_s = now_s
            self.print(f"step {step:,}/{self._steps:,}  {figures}")

    def event(self, kind: EventKind, message: str, **data: Any) -> None:
        if self._writes:
            log_event(kind, message, **data)
            self._write({"event": kind, "message": message, **data})
            self.print(message)

    def print(self, message: str) -> None:
        if self._writes:
            self._bar.console.print(message, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """What happens inside belongs to this phase; what follows, to the one around it."""
        around = self._phase_name
        self._phase(name, time.time_ns())
        try:
            yield
        finally:
            if around:
                self._phase(around, time.time_ns())

    @contextmanager
    def data_wait(self) -> Iterator[None]:
        """A phase that is only worth a line where the wait is long, however the clock is set."""
        since_ns = time.monotonic_ns()
        yield
        waited_ns, ended_ns = time.monotonic_ns() - since_ns, time.time_ns()
        if waited_ns > _DATA_WAIT_S * 1e9:
            around = self._phase_name
            self._phase(Phase.DATA_WAIT, ended_ns - waited_ns)
            if around:
                self._phase(around, ended_ns)

    def _phase(self, name: Phase, began_ns: int) -> None:
        self._phase_name = name
        if self._writes:
            time_ms = began_ns // 1_000_000
            log_event(EventKind.PHASE, name=name, time_ms=time_ms)
            self._write({"event": EventKind.PHASE, "name": name, "time_ms": time_ms})

    def _write(self, line: dict[str, Any]) -> None:
        if self._file:
            stamped = {"time_ms": time.time_ns() // 1_000_000, **line}
            # JSON has no NaN and no infinity: null, as for any other number that is not known.
            finite = {
                key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in stamped.items()
            }
            self._file.write(json.dumps(finite, allow_nan=False) + "\n")


def peak_memory_bytes(device: torch.device) -> int:
    """The most that was held so far: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def progress_bar(description: str, *, total: int, unit: str) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing elsewhere; yields the function that counts one."""
    console = Console(file=sys.stderr)
    bar = Progress(
        TextColumn("{task.description} {task.completed:,.0f}/{task.total:,.0f} " + unit),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task(description, total=total)
    with bar:
        yield lambda: bar.advance(task)

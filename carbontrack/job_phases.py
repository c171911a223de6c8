"""The phases of a job: what its time goes to, as the job says it. Standard library only.

Each change is one event, `{"event": "phase", "name": ...}`, and lasts until the next one; without a
name it is none of the job's own. So a line that is lost costs no more than its own stretch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

from carbontrack.job import log_event, rank


@contextmanager
def phase(name: Any) -> Iterator[None]:
    """What happens inside is of this phase, e.g. `with phase("data"):`; of nested ones the
    innermost counts. Rank 0 alone logs its phases; what its helpers (loaders of data, pools) do
    beside it is in its own. Never raises.
    """
    opened = _Phase(name)
    _change(opened, opens=True)
    try:
        yield
    finally:
        _change(opened, opens=False)


def log_past_phase(name: Any, began_ms: int, ended_ms: int) -> None:
    """Log a phase that is over, inside the one that is open."""
    with _lock:
        around = _open[-1].name if _open else None
        _log(name, time_ms=began_ms)
        _log(around, time_ms=ended_ms)


def log_phase() -> None:
    """Log the phase that is open, if any: to a recorder that came after it began."""
    if _open:
        _log(_open[-1].name)


class _Phase:
    def __init__(self, name: Any) -> None:
        self.name = name


# Those of all threads and tasks, in the order in which they were opened: the last one is the
# innermost. A list rather than a stack, for tasks need not close them in turn.
_open: list[_Phase] = []
_lock = RLock()  # a signal's handler may open one too
# Python's own, and the one that `datasets` uses.
_PROCESSES = ("multiprocessing.process", "multiprocess.process")


def _change(one: _Phase, *, opens: bool) -> None:
    with _lock:
        before = _open[-1] if _open else None
        if opens:
            _open.append(one)
        elif one in _open:  # not after a fork
            _open.remove(one)
        now = _open[-1] if _open else None
        if now is not before:
            _log(None if now is None else now.name)


def _log(name: Any, **at: int) -> None:
    if rank() == 0 and not _is_helper():
        log_event("phase", name=name, **at)


def _is_helper() -> bool:
    """Whether we are a daemon of `multiprocessing`, as the workers of loaders and pools are."""
    loaded = (sys.modules.get(name) for name in _PROCESSES)
    return any(module.current_process().daemon for module in loaded if module is not None)


def _forked() -> None:
    """What the parent has open is its own."""
    global _lock
    _lock = RLock()
    _open.clear()


os.register_at_fork(after_in_child=_forked)

"""Python's garbage collector, paused while many rows are read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No search for cycles until the block ends: rows have none, and among a million of them that
    search takes as long as all else. What is in no cycle is freed as ever. For any thread: where
    two pause it, it goes on when the first one ends.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

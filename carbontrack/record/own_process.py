"""Starting a Python process of ours beside the job, and what the job must not inherit of it."""

from __future__ import annotations

import _signal
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from carbontrack.search_path import own_environment


def spawn(module: str, *, keep: Sequence[int] = ()) -> tuple[int, int, list[int]]:
    """Start `python -m module`: its pid, our end of the pipe that is its stdin, and the numbers
    that the descriptors `keep` have in it.

    Nothing else is handed over on the command line, which every user of the machine can read.
    Raises OSError, or TypeError where sys.executable is unknown.
    """
    read_end, pipe = os.pipe()
    try:
        null = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        os.close(read_end)
        os.close(pipe)
        raise
    # dup2 makes a descriptor survive the exec; onto the next free ones it overwrites nothing.
    free = max(*keep, read_end, null) + 1
    numbers = list(range(free, free + len(keep)))
    passed = [(os.POSIX_SPAWN_DUP2, *pair) for pair in zip(keep, numbers, strict=True)]
    try:
        pid = os.posix_spawn(
            sys.executable,
            # -P: a file of the job's folder must not pass for a module of ours.
            [sys.executable, "-P", "-m", module],
            own_environment(),
            file_actions=[
                *passed,
                (os.POSIX_SPAWN_DUP2, read_end, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),  # readers of the job's stdout must see its end
            ],
            # Out of reach of Ctrl-C and Ctrl-Z. Until it is, our blocked signals shield it.
            setsid=True,
            setsigdef=[_signal.SIGPIPE, _signal.SIGCHLD, _signal.SIGALRM],
        )
    except BaseException:
        os.close(pipe)
        raise
    finally:
        os.close(read_end)
        os.close(null)
    return pid, pipe, numbers


# Our ends towards processes that watch this one: what it forks must not keep them from closing.
_pipes: set[int] = set()


def close_in_children(descriptor: int) -> None:
    """What this process forks closes it."""
    _pipes.add(descriptor)


def leave_to_children(descriptor: int) -> None:
    """It is closed, or no longer ours."""
    _pipes.discard(descriptor)


def _close_pipes() -> None:
    for pipe in _pipes:
        with suppress(OSError):
            os.close(pipe)
    _pipes.clear()


os.register_at_fork(after_in_child=_close_pipes)

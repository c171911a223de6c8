"""Starting a Python process of ours beside the job."""

from __future__ import annotations

import os
import signal
import sys

from carbontrack.search_path import own_environment


def spawn(module: str, *, keep: int | None = None) -> tuple[int, int, int | None]:
    """Start `python -m module`: its pid, our end of the pipe that is its stdin, and the number that
    the descriptor `keep` has in it.

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
    # dup2 makes a descriptor survive the exec; onto the next free one it overwrites nothing.
    number = None if keep is None else max(keep, read_end, null) + 1
    passed = [] if keep is None else [(os.POSIX_SPAWN_DUP2, keep, number)]
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
            setsigdef=[signal.SIGPIPE, signal.SIGCHLD, signal.SIGALRM],
        )
    except BaseException:
        os.close(pipe)
        raise
    finally:
        os.close(read_end)
        os.close(null)
    return pid, pipe, number

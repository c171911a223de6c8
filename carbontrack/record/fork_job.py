"""Starting a job that inherits an ignored SIGCHLD from us, who ignore it no longer.

`posix_spawn` can give a signal its default action, but cannot have it ignored.
"""

from __future__ import annotations

import _signal
import subprocess
from collections.abc import Collection, Mapping


def fork_job(
    program: str, argv: list[str], environ: Mapping[str, str], mask: Collection[int]
) -> int:
    """The pid of the job. Raises OSError where it cannot start."""

    def in_the_fork() -> None:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
        if _signal.getsignal(_signal.SIGINT) == _signal.default_int_handler:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # no exception may come of it here
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    # It restores the default of what Python ignores, as `plain_job.DEFAULTS` has it.
    process = subprocess.Popen(
        argv, executable=program, env=environ, close_fds=False, preexec_fn=in_the_fork
    )
    process.returncode = 0  # it is not for this object to wait for the job
    return process.pid

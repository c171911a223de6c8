"""Runs a program that a model wrote, in a process with limits, which is no sandbox."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

TIMEOUT_S = 10.0
_MEMORY_BYTES = 4 * 2**30
_FILE_BYTES = 2**20  # of what it prints, too

# In the new process, for a fork of one with many threads must run no Python before its exec.
_RUN = f"""
import resource, runpy, sys
for limit, most in (
    (resource.RLIMIT_AS, {_MEMORY_BYTES}),
    (resource.RLIMIT_CPU, {round(2 * TIMEOUT_S)}),
    (resource.RLIMIT_FSIZE, {_FILE_BYTES}),
    (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(limit, (most, most))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def passes(program: str, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether Python runs the program to its end without an error, in an empty folder.

    It is a user's process like any other: it can read files and use the network. Where that
    matters, run the evaluation in a container.
    """
    # A program that only leaves early has not passed; it cannot know this word.
    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        path = Path(folder) / "program.py"
        path.write_text(f"{program}\nprint({word!r})\n", encoding="utf-8", errors="replace")
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _RUN, path],
            cwd=folder,
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with all that it started
        process.wait()
        said.seek(0)
        return process.returncode == 0 and said.read().split()[-1:] == [word.encode()]

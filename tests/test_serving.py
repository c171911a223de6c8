"""Servers that are stopped by a signal, whenever that comes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fixtures.wrap import PATIENCE_S, Wrapper

# Ctrl-C while the event loop is made.
STOPPED_AS_IT_STARTS = """
import os, signal
from asyncio.base_events import BaseEventLoop
make = BaseEventLoop.__init__
def stopped(self):
    os.kill(os.getpid(), signal.SIGINT)
    make(self)
BaseEventLoop.__init__ = stopped
from carbontrack.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "words", [("serve", "--port", "0"), ("collect", "--listen", "127.0.0.1:0")]
)
def test_a_signal_while_it_starts_stops_it_without_a_traceback(
    wrapper: Wrapper, words: tuple[str, ...]
) -> None:
    wrapper.carbontrack("run", "-q", "--", "true")  # a ledger
    done = subprocess.run(
        [sys.executable, "-P", "-c", STOPPED_AS_IT_STARTS, *words],
        env=wrapper.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout.startswith("http://127.0.0.1:")
    assert done.returncode in (0, 130)
    assert "Traceback" not in done.stderr
    assert "never awaited" not in done.stderr

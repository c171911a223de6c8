"""Servers that are stopped by a signal, whenever that comes."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

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


# A question that takes longer than a stop waits for.
ANSWERS_SLOWLY = """
import time
from dashboards.live.view import View
def fleet(self, *_):
    print("asked", flush=True)
    time.sleep(10)
View.fleet = fleet
from carbontrack.__main__ import main
main()
"""


def test_a_signal_during_a_slow_answer_stops_it_without_a_traceback(wrapper: Wrapper) -> None:
    wrapper.carbontrack("run", "-q", "--", "true")  # a ledger
    with subprocess.Popen(
        [sys.executable, "-P", "-c", ANSWERS_SLOWLY, "serve", "--port", "0"],
        env=wrapper.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        address = urlsplit(server.stdout.readline().strip())
        with closing(HTTPConnection(address.netloc, timeout=PATIENCE_S)) as page:
            page.request("GET", "/api/fleet")
            assert server.stdout.readline() == "asked\n"
            server.send_signal(signal.SIGINT)
            answer = page.getresponse()
            assert (answer.status, answer.read()) == (503, b"The server stops.\n")
        _, said = server.communicate(timeout=PATIENCE_S)
    assert server.returncode in (0, 130)
    assert "Traceback" not in said

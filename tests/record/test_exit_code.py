"""How a block that nobody stops has ended: as the process did, and never *completed* by default."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from carbontrack.record.exit_code import code_of
from tests.fixtures.wrap import Wrapper, wait_until, warnings_in

# Prints the code that it will end with, as far as it is known.
SCRIPT = """
import atexit, sys, threading
from carbontrack.record.exit_code import ExitWatch
watch = ExitWatch()
watch.begin()
watch.begin(); watch.end()  # of two blocks the first goes on
atexit.register(lambda: print(watch.code(), flush=True))
exec(sys.argv[1])
"""
CAUGHT = "try: sys.exit(3)\nexcept SystemExit: pass"
IN_A_THREAD = "t = threading.Thread(target=lambda: {}); t.start(); t.join()"


@pytest.mark.parametrize(
    ("ending", "code", "known"),
    [
        ("pass", 0, "0"),
        ("sys.exit()", 0, "0"),
        ("sys.exit(3)", 3, "3"),
        ("sys.exit(-1)", 255, "255"),
        ("sys.exit('no data')", 1, "1"),
        ("exit(4)", 4, "4"),
        ("quit()", 0, "0"),
        ("raise SystemExit(5)", 5, "None"),
        ("raise SystemExit(0)", 0, "None"),
        ("1 / 0", 1, "1"),
        ("raise KeyboardInterrupt", -2, "130"),
        (CAUGHT, 0, "0"),
        (CAUGHT + "\nsys.exit(0)", 0, "0"),
        (CAUGHT + "\n1 / 0", 1, "1"),
        (IN_A_THREAD.format("sys.exit(3)"), 0, "0"),
        (IN_A_THREAD.format("1 / 0"), 0, "0"),
    ],
)
def test_the_exit_code_is_known_before_the_process_ends(ending: str, code: int, known: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, ending], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == (known, code), done.stderr


def test_an_exception_that_leaves_a_block_is_the_code_that_it_would_give() -> None:
    errors = (None, GeneratorExit(), SystemExit(), SystemExit(256), SystemExit(True))
    assert [code_of(error) for error in errors] == [0, 0, 0, 0, 1]
    errors = (SystemExit(-2), SystemExit("why"), KeyboardInterrupt(), ValueError())
    assert [code_of(error) for error in errors] == [254, 1, 130, 1]


BLOCK = """
import os, sys, carbontrack
block = carbontrack.track("block", meter="sim:a100x2", quiet=True)
{}
"""


@pytest.mark.parametrize(
    ("body", "code", "recorded"),
    [
        ("block.start(); sys.exit(3)", 3, ("failed", 3)),
        ("block.start(); raise SystemExit(3)", 3, ("interrupted", None)),
        ("block.start(); os._exit(3)", 3, ("interrupted", None)),
        ("block.start()", 0, ("completed", 0)),
        ("with block: raise KeyboardInterrupt", -2, ("failed", 130)),
    ],
)
def test_a_block_ends_as_its_process_does(
    wrapper: Wrapper, body: str, code: int, recorded: tuple[str, int | None]
) -> None:
    done = wrapper.python("-c", BLOCK.format(body))
    assert done.returncode == code, done.stderr
    assert warnings_in(done.stderr) == []

    def ended() -> bool:  # nobody waits for the recorder of a process that is gone
        asked = wrapper.ask("show", "block", "--format", "json")
        shown = {} if asked.returncode else json.loads(asked.stdout)
        return (shown.get("status"), shown.get("exit_code")) == recorded

    wait_until(ended)

"""`llama_train` that kills itself at one of its own calls: killed.py NUMBER WORD…

They are counted from when a run begins to write, on the main thread. So a test can kill it
anywhere, at a point that does not depend on how fast the machine is.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from llama_train import cli
from llama_train.metrics import RunLog

OWN = str(Path(cli.__file__).parents[1])


class Calls:
    """Counts the calls of llama_train's own functions, as a profiler of this thread."""

    def __init__(self, last: int | None = None) -> None:
        self.count = 0
        self._last = last

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(OWN):
            return
        if self.count or code is RunLog.__init__.__code__:
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    calls = Calls(last=int(sys.argv.pop(1)))
    sys.setprofile(calls)
    cli.main()

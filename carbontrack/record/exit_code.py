"""With which code this process ends: of the exception that leaves a block, and at the exit of the
interpreter, which does not say. Standard library only.
"""

from __future__ import annotations

import builtins
import dis
import sys
import threading
from collections.abc import Callable
from functools import wraps
from types import FrameType, ModuleType
from typing import Any

from carbontrack.record.warning import harmless

INTERRUPTED = 130
_EXITS: tuple[tuple[ModuleType, str], ...] = ((sys, "exit"), (builtins, "exit"), (builtins, "quit"))


def code_of(error: BaseException | None) -> int:
    """The exit code that this exception gives a process that it ends."""
    if error is None or isinstance(error, GeneratorExit):  # a generator that is read no further
        return 0
    if isinstance(error, SystemExit):
        return error.code & 0xFF if isinstance(error.code, int) else int(error.code is not None)
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


class ExitWatch:
    """Notes how the interpreter is left while blocks are open that may never be stopped.

    `atexit` has no exit code: an uncaught exception is the interpreter's `last_value`, the code of
    `sys.exit`, `exit` and `quit` is noted as they are called, and whether the main module ended
    itself or was left by an exception stands in its frame.
    """

    def __init__(self) -> None:
        self._open = 0
        self._replaced: list[tuple[ModuleType, str, Any, Any]] = []
        self._main: FrameType | None = None
        self._before: BaseException | None = None
        self._noted: SystemExit | None = None

    def begin(self) -> None:
        """A block is open."""
        self._open += 1
        if self._open > 1:
            return
        self._before, self._noted, self._main = _last_error(), None, _main_frame()
        for module, name in _EXITS:
            if (original := getattr(module, name, None)) is not None:  # python -S has two less
                noting = self._noting(original)
                setattr(module, name, noting)
                self._replaced.append((module, name, original, noting))

    def end(self) -> None:
        """A block is no longer open."""
        self._open -= 1
        if self._open > 0:
            return
        self._main = None
        while self._replaced:
            module, name, original, noting = self._replaced.pop()
            if getattr(module, name, None) is noting:  # another may have replaced ours
                setattr(module, name, original)

    def code(self) -> int | None:
        """The exit code, at the exit of the interpreter; None if an exception ended the program
        that is not known, as `raise SystemExit(3)`.
        """
        error = _last_error()
        if error is not None and error is not self._before and not hasattr(sys, "ps1"):
            return code_of(error)
        if self._main is None or not _was_left_by_exception(self._main):
            return 0
        return None if self._noted is None else code_of(self._noted)

    def _noting(self, leave: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(leave)
        def noting(*args: Any, **kwargs: Any) -> Any:
            with harmless("how this program ends is not recorded"):
                # In another thread it ends the thread alone.
                if threading.current_thread() is threading.main_thread():
                    self._noted = SystemExit(*args)
            return leave(*args, **kwargs)

        return noting


def _last_error() -> BaseException | None:
    """The newest uncaught exception; None if there was none."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def _main_frame() -> FrameType | None:
    """The outermost frame of the main thread."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _was_left_by_exception(frame: FrameType) -> bool:
    """Whether a frame that runs no more did not return: by its last instruction."""
    opcode = frame.f_code.co_code[frame.f_lasti]
    return not dis.opname[opcode].startswith(("RETURN_", "INSTRUMENTED_RETURN_"))

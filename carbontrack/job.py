"""What a job logs of itself: each call appends one line to the file named by CARBONTRACK_STEPS.

Without a recorder the calls do nothing. They import nothing heavy, never block and never raise
into a training loop, whatever they are given: a value that JSON cannot hold is dropped, the rest
of the line is written, and the recorder counts both.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from carbontrack.files import open_regular

N = TypeVar("N", int, None)
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_RESTARTS = "TORCHELASTIC_RESTART_COUNT"  # only torchrun's workers have it
_MAX_TEXT = 4096  # characters
_MAX_ITEMS = 256  # in all containers of a value together
_MAX_DEPTH = 8
_MAX_LINE = 1 << 15  # bytes of values
_MAX_NAME = 100
_MAX_DIGITS = 10
_MAX_NUMBER = 32  # characters
_INT_BITS = 63
_MAX_INT = (1 << _INT_BITS) - 1


def log_step(step: Any = None, /, *surplus: Any, **values: Any) -> None:
    """Log one training step of the whole job.

    Known values: `loss`, `lr`, `grad_norm`; `tokens` of this step over all ranks, or instead
    `tokens_total`, the cumulative count; `tokens_per_s`. Any other is stored as an extra. Where
    several ranks log a step, the lowest counts. A tensor of one number is taken as that, which
    makes the GPU wait: pass floats.

    Never raises: what cannot be logged, `surplus` arguments too, is dropped and counted.
    """
    _append(lambda: _step_line(step, values, surplus))


def log_event(kind: Any = None, message: Any = None, /, *surplus: Any, **data: Any) -> None:
    """Log something that happened, e.g. `log_event("eval", loss=3.09)`: a marker on the plots."""
    _append(lambda: _event_line(kind, message, data, surplus))


def describe_model(*surplus: Any, **card: Any) -> None:
    """Describe the model: `name`, `parameters`, `planned_tokens`."""
    _append(lambda: _model_line(card, surplus))


def close_steps() -> None:
    """Close the file: the next call opens the one that is named then."""
    global _steps_fd, _rank_of
    if _is_ours():
        os.close(_steps_fd)
    _steps_fd, _rank_of = -1, (-1, 0)


_PASSED = (SystemExit, KeyboardInterrupt)
# In a line, for the recorder: names of dropped values, lines that could not be written; in a
# step's, the process, and in its first one when that began.
_SURPLUS = "an argument without a name"
_DROPPED, _LOST, _PROCESS, _BEGAN = "_dropped", "_lost", "_pid", "_began_ms"

_steps_fd = -1
_steps_file: tuple[int, int] | None = None  # device and inode of what was opened
_rank_of = -1, 0  # a process, and its rank: looked up once in each
_introduced = -1  # the process that has said when it began
_lost_lines = 0  # since the last line that was written
_complained = -1  # the process that has said so
_is_torn = False  # whether the last one was written in part


class _Unfit(Exception):
    """A value that JSON cannot hold."""


def _append(make: Callable[[], dict[str, Any]]) -> None:
    """One write() of one line: with O_APPEND, lines of several processes do not mix."""
    global _lost_lines, _is_torn
    try:
        if not _open():
            return
        line = make()
        if _lost_lines:
            line[_LOST] = _lost_lines
        data = f"{_NEW_LINE * _is_torn}{json.dumps(line)}\n".encode()
        _is_torn = os.write(_steps_fd, data) < len(data)
        _lost_lines = _lost_lines + 1 if _is_torn else 0
    except _PASSED:
        raise
    except BaseException as error:  # a log line is never worth a training run
        _lost_lines += 1
        _complain(error)


def _complain(error: BaseException) -> None:
    """Say once in this process why lines are lost: what cannot be opened, no recorder hears of."""
    global _complained
    if _complained != os.getpid() and isinstance(error, OSError):
        _complained = os.getpid()
        path = os.environ.get("CARBONTRACK_STEPS")
        with suppress(Exception):
            said = f"carbontrack: steps are not logged: {path}: {error.strerror or error}.\n"
            os.write(2, said.encode(errors="backslashreplace"))


_NEW_LINE = "\n"


def _open() -> bool:
    """Whether the file is open; False where no recorder is there. Raises OSError."""
    global _steps_fd, _steps_file, _introduced
    if _is_ours():
        return True
    path = os.environ.get("CARBONTRACK_STEPS")
    if not path:
        return False
    _steps_fd = open_regular(path, os.O_WRONLY | os.O_APPEND)
    status = os.fstat(_steps_fd)
    _steps_file = status.st_dev, status.st_ino
    _introduced = -1
    return True


def _is_ours() -> bool:
    """Whether the descriptor is still the file's: a job may close all that it has, and the number
    is then another file's.
    """
    if _steps_fd < 0:
        return False
    try:
        status = os.fstat(_steps_fd)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == _steps_file


def _step_line(step: Any, values: dict[str, Any], surplus: Sequence[Any]) -> dict[str, Any]:
    if step is None:
        step = values.get("step")
    line = {"step": None, "time_ms": _now_ms(), "rank": rank(), **_process()}
    # A line with "event" would be an event.
    return _with_values(line, {**values, "step": step}, surplus, but="event")


def _event_line(
    kind: Any, message: Any, data: dict[str, Any], surplus: Sequence[Any]
) -> dict[str, Any]:
    line = {"event": "event", "time_ms": _now_ms()}
    kind = data.pop("kind", "") if kind is None else kind
    message = data.pop("message", "") if message is None else message
    return _with_values(line, {**data, "event": kind, "message": message}, surplus)


def _model_line(card: dict[str, Any], surplus: Sequence[Any]) -> dict[str, Any]:
    line = _with_values({}, card, surplus)
    dropped = line.pop(_DROPPED, None)
    return {"model": line, **({_DROPPED: dropped} if dropped else {})}


def _with_values(
    line: dict[str, Any], values: Mapping[str, Any], surplus: Sequence[Any], *, but: str = ""
) -> dict[str, Any]:
    """The line with every value that JSON can hold and that it has room for, `but` for one."""
    dropped = [_SURPLUS] * len(surplus)
    room = _MAX_LINE
    for name, value in values.items():
        try:
            if name == but:
                raise _Unfit
            if type(value) is float or type(value) is int:  # as nearly always
                size = _MAX_NUMBER
                plain = value if -_MAX_INT <= value <= _MAX_INT else _plain(value, [1])
            else:
                plain = _plain(value, [_MAX_ITEMS])
                size = len(json.dumps(plain))
            room -= len(name) + size
            if room < 0:
                raise _Unfit
            line[name] = plain
        except _PASSED:
            raise
        except BaseException:
            dropped.append(name)
    if dropped:
        line[_DROPPED] = [dropped[0][:_MAX_NAME], len(dropped)]
    return line


def _plain(value: Any, room: list[int], depth: int = 0) -> Any:
    """The value as JSON has it, or whatever it raises. `room` is how many items it may yet have:
    a container may hold itself.
    """
    room[0] -= 1
    if depth > _MAX_DEPTH or room[0] < 0:
        raise _Unfit
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__getitem__(value, slice(_MAX_TEXT))
    if isinstance(value, float):
        return float.__pos__(value)
    if isinstance(value, int):
        if int.bit_length(value) > _INT_BITS:
            raise _Unfit
        return int.__pos__(value)
    if isinstance(value, dict):
        return {_key(key): _plain(item, room, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, room, depth + 1) for item in value]
    if isinstance(value, os.PathLike):
        return _plain(os.fspath(value), room, depth + 1)
    if hasattr(type(value), "item"):  # a tensor, or a number of numpy's
        return _plain(value.item(), room, depth + 1)
    if hasattr(type(value), "__float__"):
        return float(value)
    raise _Unfit


def _key(key: Any) -> str:
    if not isinstance(key, (str, int)):
        raise _Unfit
    return str(key)[:_MAX_NAME]


def rank() -> int:
    """Which of the job's processes this is, by its launcher; 0 if unknown."""
    global _rank_of
    pid = os.getpid()
    if _rank_of[0] != pid:
        # Lightning's own launcher numbers nodes and the processes of each.
        alone = _number("LOCAL_RANK", 0) + _number("NODE_RANK", 0) * _number("LOCAL_WORLD_SIZE", 1)
        known = (_number(name, None) for name in _RANKS)
        _rank_of = pid, next((one for one in known if one is not None), alone)
    return _rank_of[1]


def _number(variable: str, default: N) -> int | N:
    """A whole number of the environment; the default where there is none."""
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() and len(value) < _MAX_DIGITS else default


def _process() -> dict[str, Any]:
    """Which process this is; in its first step's line, when it began."""
    global _introduced
    pid = os.getpid()
    said: dict[str, Any] = {_PROCESS: pid}
    if restarts := _number(_RESTARTS, 0):
        said["restart"] = restarts
    if _introduced != pid:
        _introduced = pid
        with suppress(OSError, ValueError, IndexError):
            said[_BEGAN] = _now_ms() - _age_ms()
    return said


def _age_ms() -> int:
    """How long this process has been running."""
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - pathlib costs 8 ms
        ticks = int(file.read().rpartition(b")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return round(age_s * 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

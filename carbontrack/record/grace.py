"""How long the end of a job may wait for its recorder. Standard library only."""

from __future__ import annotations

import os

from carbontrack.decimals import decimal
from carbontrack.record.warning import warn

TYPE_CHECKING = False  # `typing` costs 15 ms
if TYPE_CHECKING:
    from typing import Any

# Not counting what the recorder waits for a CPU, up to the longer.
_GRACE_S, _LONGEST_S = 1.0, 5.0
# To ship the rest, where nothing waits for that, or all else ends with it. What is left then comes
# with the next run, or by `db ship`.
LAST_S = 30.0
_VARIABLE = "CARBONTRACK_GRACE_S"


def is_first_of_container() -> bool:
    """Whether this process is the first of a container, which ends with it: no parent can be seen
    from inside. It is PID 1, unless the containers of a pod see each other's processes.
    """
    return os.getppid() == 0


def outcome(ended_ns: int, exit_code: int | None, *, at_exit: bool = True) -> dict[str, Any]:
    """How a job ended, as the recorder is told; `at_exit` this process, its wrapper, ends now."""
    ends_with_wrapper = at_exit and is_first_of_container()
    return {
        "ended_ns": ended_ns,
        "exit_code": exit_code,
        "ends_with_wrapper": ends_with_wrapper,
    }


def grace_s(*, ends_with_wrapper: bool = False) -> tuple[float, float]:
    """The time in s that the recorder gets to finish, and with what it waits for a CPU; if it
    `ends_with_wrapper`, also to ship.
    """
    given = os.environ.get(_VARIABLE)
    if not given:
        return (LAST_S, LAST_S) if ends_with_wrapper else (_GRACE_S, _LONGEST_S)
    try:
        seconds = decimal(given)
        if not 0 <= seconds < float("inf"):
            raise ValueError
    except ValueError:
        warn(f"{_VARIABLE}={given!r} is not a number of seconds; {_GRACE_S:g} is taken.")
        return _GRACE_S, _LONGEST_S
    return seconds, max(seconds, _LONGEST_S)

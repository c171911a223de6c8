"""How long the end of a job may wait for its recorder. Standard library only."""

from __future__ import annotations

import os

from carbontrack.decimals import decimal
from carbontrack.record.warning import warn

# Not counting what the recorder waits for a CPU, up to the longer.
_GRACE_S, _LONGEST_S = 1.0, 5.0
_VARIABLE = "CARBONTRACK_GRACE_S"


def grace_s() -> tuple[float, float]:
    """The time in s that the recorder gets to finish, and with what it waits for a CPU."""
    given = os.environ.get(_VARIABLE)
    if not given:
        return _GRACE_S, _LONGEST_S
    try:
        seconds = decimal(given)
        if not 0 <= seconds < float("inf"):
            raise ValueError
    except ValueError:
        warn(f"{_VARIABLE}={given!r} is not a number of seconds; {_GRACE_S:g} is taken.")
        return _GRACE_S, _LONGEST_S
    return seconds, max(seconds, _LONGEST_S)

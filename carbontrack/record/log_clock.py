"""The time that a line of a log carries: as a date and time, seconds of the epoch, or a time of
day. Pure.

Without an offset it is the local time of this machine, whose clock the job shares.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from carbontrack.units import MS_PER_S

_EPOCH = re.compile(r"\d{9,13}(?:\.\d+)?", re.ASCII)
_MS_DIGITS = 12  # an epoch with so many digits before the point is in ms
_DAY_TIME = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d{1,9}))?", re.ASCII)
_DATE = re.compile(r"(\d{4})[-/.](\d{2})[-/.](\d{2})", re.ASCII)
_SLACK = timedelta(minutes=1)


def time_ms_of(text: str, *, now_ms: int) -> int | None:
    """Milliseconds of the epoch; None for what is not a time. A time of day is the last such one
    that is not after `now_ms`.
    """
    text = text.strip().strip("[]()")
    if _EPOCH.fullmatch(text):
        in_ms = len(text.partition(".")[0]) >= _MS_DIGITS
        return round(float(text) * (1 if in_ms else MS_PER_S))
    try:
        if match := _DAY_TIME.fullmatch(text):
            return _of_day(match, now_ms)
        return _ms(datetime.fromisoformat(_DATE.sub(r"\1-\2-\3", text).replace(",", ".")))
    except (ValueError, OverflowError, OSError):
        return None


def _of_day(match: re.Match[str], now_ms: int) -> int:
    now = datetime.fromtimestamp(now_ms / MS_PER_S)
    micros = int((match[4] or "0").ljust(6, "0")[:6])
    at = now.replace(
        hour=int(match[1]), minute=int(match[2]), second=int(match[3]), microsecond=micros
    )
    return _ms(at if at <= now + _SLACK else at - timedelta(days=1))


def _ms(at: datetime) -> int:
    return round(at.timestamp() * MS_PER_S)

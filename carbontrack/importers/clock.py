"""Times as other tools write them, to ns since the epoch. A time zone is never guessed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from carbontrack.importers.model import FileOptions, Refused, Rejected
from carbontrack.units import NS_PER_MS, NS_PER_S

# The epoch in s has 10 digits from 2001 to 2286, in ms 13, in µs 16, in ns 19.
_EPOCH = re.compile(r"(\d{10})(\d{3}|\d{6}|\d{9})?(?:\.(\d+))?", re.ASCII)
_DATED = re.compile(
    r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})[T \-]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?"
    r"\s*(Z|UTC|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_DAY_FIRST = re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{4}\b", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})", re.ASCII)
_FIRST_NS = round(datetime(2008, 1, 1, tzinfo=UTC).timestamp()) * NS_PER_S
_AHEAD_NS = 24 * 3600 * NS_PER_S  # the clock that logged, or the one here, may be wrong
_MOST_S = 1e9
_BACK_NS = 60 * NS_PER_S  # how far a clock may be set back without that it is an hour's change


class NoZone(Refused):
    """The file's times are local, of an unknown zone."""

    def __init__(self, file: str) -> None:
        super().__init__(
            f"{file}: its times are local and have no time zone.",
            "Give --tz, such as --tz Europe/Paris, --tz UTC or --tz=-05:00.",
        )


def zone_of(text: str) -> tzinfo:
    """A zone by its name or offset. Raises CarbontrackError for any other."""
    if match := _OFFSET.fullmatch(text):
        return _offset(match)
    try:
        return UTC if text.upper() in ("UTC", "Z", "GMT") else ZoneInfo(text)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise _no_such_zone(text) from None
    except KeyError:
        raise _no_such_zone(text) from None


def _no_such_zone(text: str) -> Refused:
    return Refused(f"--tz {text!r} is not a time zone.", "Use a name like Europe/Paris, or +08:00.")


def _offset(match: re.Match[str]) -> timezone:
    length = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-length if match[1] == "-" else length)


class Clock:
    """Reads the times of one file, in their order: where an hour comes twice, as clocks are set
    back, a time that would lie before the last one is of the second.
    """

    def __init__(self, file: str, tz: str | None) -> None:
        self._file = file
        self._zone = None if tz is None else zone_of(tz)
        self.last_ns: int | None = None

    def read(self, text: str) -> int:
        """ns since the epoch. Raises Rejected for what is not a time, NoZone for a local one."""
        text = text.strip().strip("[]\"'")
        if match := _EPOCH.fullmatch(text):
            return plausible_ns(_epoch_ns(match), text)
        if (match := _DATED.fullmatch(text)) is None:
            if _DAY_FIRST.match(text):
                raise Refused(
                    f"{self._file}: day and month of {text!r} are ambiguous.",
                    "Write times as 2026-01-31 12:00:00.",
                )
            raise Rejected(f"{text!r} is not a time")
        return self._dated_ns(match)

    def _dated_ns(self, match: re.Match[str]) -> int:
        year, month, day, hour, minute, second = (int(v) if v else 0 for v in match.groups()[:6])
        try:
            at = datetime(year, month, day, hour, minute, second)
        except ValueError:
            raise Rejected(f"{match[0]!r} is not a time") from None
        nanos = int((match[7] or "").ljust(9, "0"))
        if (zone := match[8]) is not None:
            offset = _OFFSET.fullmatch(zone)
            tz = UTC if offset is None else _offset(offset)
            return plausible_ns(_seconds(at.replace(tzinfo=tz)) * NS_PER_S + nanos, match[0])
        found = plausible_ns(self.local_s(at) * NS_PER_S + nanos, match[0])
        self.last_ns = found
        return found

    def local_s(self, at: datetime) -> int:
        """Seconds since the epoch of a whole local second."""
        if self._zone is None:
            raise NoZone(self._file)
        first = _seconds(at.replace(tzinfo=self._zone))
        second = _seconds(at.replace(tzinfo=self._zone, fold=1))
        if first == second:
            return first
        if first > second:  # clocks were set forward over this time
            raise Rejected(f"{at} did not exist in {self._zone}: clocks were set forward")
        before_ns = self.last_ns
        is_back = before_ns is not None and first * NS_PER_S < before_ns - _BACK_NS
        return second if is_back else first

    @property
    def zone(self) -> tzinfo:
        """Raises NoZone where none was given."""
        if self._zone is None:
            raise NoZone(self._file)
        return self._zone

    def is_steady(self, local_s: Iterable[int]) -> int | None:
        """What to add to all of these local seconds to have UTC; None where that is not one and the
        same number, as about a change of clocks.
        """
        offsets = set()
        for second in local_s:
            for margin in (-7200, 0, 7200):
                at = datetime.fromtimestamp(second + margin, UTC).replace(tzinfo=self.zone)
                offsets.add(at.utcoffset())
        if len(offsets) != 1:
            return None
        (offset,) = offsets
        return None if offset is None else -round(offset.total_seconds())


def given_start(file: str, options: FileOptions, clock: Clock) -> int:
    """The start that the user gives of a file that has no times. Raises Refused for none."""
    if options.start is None:
        raise Refused(f"{file} has no times.", "Give --start 2026-01-31T12:00:00.")
    try:
        return clock.read(options.start)
    except Rejected as error:
        raise Refused(f"--start: {error}.", "Example: 2026-01-31T12:00:00.") from None


def _epoch_ns(match: re.Match[str]) -> int:
    seconds, more, fraction = match.groups()
    digits = (more or "") + (fraction or "")
    return int(seconds) * NS_PER_S + int(digits[:9].ljust(9, "0"))


def _seconds(at: datetime) -> int:
    """Raises Rejected at the ends of the calendar, where an offset leads out of it."""
    try:
        return round(at.timestamp())
    except (OverflowError, ValueError):
        raise Rejected(f"'{at}' is not a time") from None


def plausible_ns(ns: int, text: object) -> int:
    """The same time, which the file has as `text`. Raises Rejected for one at which nothing was
    logged: of a clock that was not set, or in another unit.
    """
    if ns < _FIRST_NS:
        raise Rejected(f"{str(text)!r} is before 2008, as of a clock that was not set")
    if ns > _latest_ns():
        raise Rejected(f"{str(text)!r} is in the future, as of a clock that was wrong")
    return ns


def are_plausible(first_ns: int, last_ns: int) -> bool:
    """Whether `plausible_ns` takes all times between these."""
    return first_ns >= _FIRST_NS and last_ns <= _latest_ns()


def _latest_ns() -> int:
    return time.time_ns() + _AHEAD_NS


def moved(ns: int, seconds: float) -> int:
    """The time so many seconds later. Raises Rejected for one that cannot be."""
    if not abs(seconds) < _MOST_S:
        raise Rejected(f"{abs(seconds):g} s is longer than anything ran")
    return plausible_ns(ns + round(seconds * NS_PER_S), f"a start or end {abs(seconds):g} s away")


def utc_ms(ns: int) -> int:
    """ms since the epoch."""
    return ns // NS_PER_MS

"""`nvidia-smi dmon` and `dcgmi dmon`: columns apart by blanks, under headers that repeat."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from carbontrack import config
from carbontrack.decimals import decimal, instead
from carbontrack.importers.clock import Clock, given_start
from carbontrack.importers.model import FileOptions, FoundDevice, FoundRun, Refused, Rejected, Tally
from carbontrack.importers.readings import UNKNOWN, Readings
from carbontrack.importers.source import Source
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import DeviceKind, ImportKind, Quality, Scope

KIND = ImportKind.DMON
_HEADER = re.compile(r"^\s*#\s*(?=(?:.*\s)?(?:gpu|Entity)(?:\s|$))(.*)$")
_UNITS = re.compile(r"^\s*#?\s*(?:Idx|ID|YYYYMMDD|HH:MM:SS)\b")
_POWERS = ("pwr", "POWER")
_COUNTER = "TOTEC"  # mJ
_DAY = re.compile(r"(\d{4})[-/]?(\d{2})[-/]?(\d{2})", re.ASCII)
_MISSING = ("-", "N/A", "")
_DAY_S = 86_400


def matches(head: str) -> bool:
    """Whether it begins with such a header."""
    lines = [line for line in head.split("\n") if line.strip()][:5]
    return any(_HEADER.match(line) for line in lines)


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """The log as one run. Raises Refused for one without power, or without times."""
    clock = Clock(source.name, options.tz)
    found = _Log(source, options, clock, tally)
    first, last = 0, 0
    for number, line in source.lines():
        try:
            if found.take(line):
                tally.taken += 1
                first, last = first or number, number
        except Rejected as error:
            tally.reject(number, str(error))
    started_ns, ended_ns, readings = found.placed()
    devices = readings.devices(found.device)
    return [
        FoundRun(
            identity=(KIND, str(started_ns), found.first_line),
            name=None,
            started_ns=started_ns,
            ended_ns=ended_ns,
            devices=devices,
            rows=(first, last),
        )
    ]


class _Log:
    """What was read of one log."""

    def __init__(self, source: Source, options: FileOptions, clock: Clock, tally: Tally) -> None:
        self._file = source.name
        self._tally = tally
        self._options = options
        self._clock = clock
        self._names: list[str] = []
        self._samples: list[tuple[str, int | None, float, float]] = []
        self._before_s: int | None = None  # the time of day before
        self._days = 0
        self.first_line = ""

    def take(self, line: str) -> bool:
        """Whether the line is a sample. Raises Rejected for one that cannot be read."""
        if header := _HEADER.match(line):
            self._names = header[1].split()
            if not {*_POWERS, _COUNTER} & set(self._names):
                raise Refused(f"{self._file} has no power column.", "Use dmon -s p.")
            return False
        if _UNITS.match(line) or line.lstrip().startswith("#"):
            return False
        cells = line.split()
        if self._names[:1] == ["Entity"] and len(cells) > 1:
            cells = [f"{cells[0]} {cells[1]}", *cells[2:]]
        if not self._names or len(cells) != len(self._names):
            raise Rejected(f"{len(cells)} cells, not {len(self._names)}")
        values = dict(zip(self._names, cells, strict=True))
        power_w = next((_number(values[name]) for name in _POWERS if name in values), UNKNOWN)
        counter_mj = _number(values.get(_COUNTER, "-"))
        key = values.get("Entity") or f"GPU {values['gpu']}"
        self._samples.append((key, self._time_ns(values), power_w, counter_mj / 1000))
        self.first_line = self.first_line or line.strip()
        return True

    def _time_ns(self, values: Mapping[str, str]) -> int | None:
        time, date = values.get("Time"), values.get("Date")
        if time is None:
            return None
        if date is not None:
            if (day := _DAY.fullmatch(date)) is None:
                raise Rejected(f"{date!r} is not a date")
            return self._clock.read(f"{day[1]}-{day[2]}-{day[3]} {time}")
        return self._of_day_ns(time)

    def _of_day_ns(self, time: str) -> int:
        """A time without a date: of the day of --start, or of those that follow."""
        if self._options.start is None:
            raise Refused(f"{self._file} has times without a date.", "Give --start 2026-01-31.")
        try:
            hour, minute, second = (int(part) for part in time.split(":"))
        except ValueError:
            raise Rejected(f"{time!r} is not a time") from None
        of_day_s = hour * 3600 + minute * 60 + second
        self._days += self._before_s is not None and of_day_s < self._before_s - _DAY_S // 2
        self._before_s = of_day_s
        midnight_ns = self._clock.read(f"{self._options.start[:10]} 00:00:00")
        return midnight_ns + (self._days * _DAY_S + of_day_s) * NS_PER_S

    def placed(self) -> tuple[int, int, Readings]:
        """The samples at their times. Raises Refused where there are none and none are given."""
        counts: dict[str, int] = {}
        for key, *_ in self._samples:
            counts[key] = counts.get(key, 0) + 1
        if max(counts.values(), default=0) < 2:
            raise Refused(
                f"{self._file} has one sample of a device: no time lies between two of them.",
                self._tally.why or "Log over time.",
            )
        timed = all(time_ns is not None for _, time_ns, _, _ in self._samples)
        begin_ns, step_ns = (0, 0) if timed else self._given()
        readings, seen = Readings(self._file, self._tally), dict.fromkeys(counts, 0)
        for key, time_ns, power_w, energy_j in self._samples:
            at_ns = begin_ns + seen[key] * step_ns if time_ns is None else time_ns
            seen[key] += 1
            if time_ns is None and _COUNTER not in self._names:
                readings.mean(key, at_ns, at_ns + step_ns, power_w)  # of its interval
            else:
                readings.power(key, at_ns, power_w)
                readings.counter(key, at_ns, energy_j)
        return *readings.times_ns, readings

    def _given(self) -> tuple[int, int]:
        if self._options.start is None or self._options.interval_s is None:
            raise Refused(
                f"{self._file} has no times.",
                "Give --start 2026-01-31T12:00:00 and --interval 1, or log with dmon -o DT.",
            )
        interval_s = config.number("--interval", self._options.interval_s, "s", high=_DAY_S)
        if interval_s == 0:
            raise Refused("--interval must be above 0.")
        start_ns = given_start(self._file, self._options, self._clock)
        return start_ns, round(interval_s * NS_PER_S)

    def device(self, key: str, quality: Quality) -> FoundDevice:
        """A device by its key."""
        field = _COUNTER if quality is Quality.COUNTER else _power_name(self._names)
        return FoundDevice(key, DeviceKind.GPU, "GPU", quality, field, Scope.GPU)


def _power_name(names: Sequence[str]) -> str:
    return next((name for name in _POWERS if name in names), _COUNTER)


def _number(text: str) -> float:
    if text in _MISSING:
        return UNKNOWN
    try:
        value = decimal(text)
    except ValueError:
        raise Rejected(f"{text!r} is not a number{instead(text)}") from None
    return value if value >= 0 else UNKNOWN

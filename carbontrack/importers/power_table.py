"""Tables of power: a row a sample, with its time, one device's power or that of several.

Which columns these are is found by the callers, from the header's names. A block of rows is read by
pandas' parser; only where a row of it is not as the others are its lines read one by one, so that
each broken one is reported with its number.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from carbontrack.decimals import instead
from carbontrack.importers.bins import Bins
from carbontrack.importers.clock import Clock, are_plausible
from carbontrack.importers.model import (
    FileOptions,
    FoundDevice,
    FoundRun,
    Refused,
    Rejected,
    Tally,
)
from carbontrack.importers.plausible import MAX_GPU_W
from carbontrack.importers.power import MOST_HELD_S, PowerSeries, read_in_turn
from carbontrack.importers.source import Source
from carbontrack.units import NS_PER_S, S_PER_HOUR
from carbontrack.vocabulary import DeviceKind, Quality, Scope

if TYPE_CHECKING:
    from carbontrack.importers.spans import Floats, Ints


_MOST_IMPLAUSIBLE = 0.01  # share of the rows; beyond, the file is not what its header says
_FEW = 3
_ONE = "GPU"  # the device of a table that names none
_MISSING = frozenset(
    {"", "-", "nan", "none", "null", "n/a", "na", "not supported", "unknown error"}
)
_NOT_GIVEN = (b"[N/A]", b"[Not Supported]", b"[Unknown Error]")
_HEAD_ROWS = 200
_HEX_UUID = re.compile(r"(GPU|MIG)-[0-9a-fA-F-]{8,}")
_VALUE = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(mW|W|kW|Watts?)?", re.ASCII)
_PREFIX = {"mW": 1e-3, "kW": 1e3}
_OFFSET = re.compile(r"\d(?:Z|[+-]\d{2}:?\d{2})\s*$")
_EPOCH = re.compile(r"\s*\d{10}(?:\.\d+)?\s*$")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the values of a row are. The cell in `device` identifies the device; without one, each
    column of `powers` is a device of its own.
    """

    delimiter: str
    names: tuple[str, ...]  # of the header, stripped
    time: int
    powers: tuple[int, ...]
    device: int | None = None
    name: int | None = None  # of the device's model
    factor: float = 1.0  # of a power in W


@dataclass(frozen=True, slots=True)
class _Rows:
    """A block of samples as columns: `power_w` has a row a power column, NaN for a missing one."""

    number: Ints
    time_ns: Ints
    power_w: Floats
    code: Ints  # which of `devices` the sample is of
    devices: Sequence[str]


def split(line: str, delimiter: str) -> list[str]:
    """The cells of a line, stripped."""
    if '"' in line:
        found = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        return [cell.strip() for cell in found]
    return [cell.strip() for cell in line.split(delimiter)]


def delimiter_of(line: str) -> str:
    """What most likely stands between the cells of a header."""
    return max((",", ";", "\t", "|"), key=line.count)


class PowerTable:
    """Reads one table into a run."""

    def __init__(
        self, source: Source, options: FileOptions, columns: Columns, tally: Tally
    ) -> None:
        self._source = source
        self._device_is_given = options.device_column is not None
        self._columns = columns
        self._tally = tally
        self._clock = Clock(source.name, options.tz)
        self._series: dict[str, PowerSeries] = {}
        self._bins: dict[str, Bins] = {}
        self._model_of: dict[str, str] = {}
        self._implausible = 0
        self._first: tuple[int, str, int, str] | None = None  # row, text, time, device
        self._last_row = 0
        self._last_ns = 0

    def run(self, kind: str, *, header_rows: int = 1) -> FoundRun:
        """Raises Refused for a file whose numbers cannot be, or that holds no time."""
        for first, block in self._source.blocks():
            skip = max(0, header_rows + 1 - first)
            for _ in range(skip):
                block = block.partition(b"\n")[2]
            if block.strip():
                self._take(self._parsed(first + skip, block))
                self._refuse_implausible()
        if self._first is None:
            raise Refused(f"{self._source.name} has no row that can be read.", self._tally.why)
        row, text, time_ns, device = self._first
        if all(not bins.known for bins in self._bins.values()):
            raise Refused(
                f"{self._source.name} has no power over time: no two samples of a device follow "
                f"each other within {MOST_HELD_S / S_PER_HOUR:g} h.",
                self._tally.why,
            )
        return FoundRun(
            identity=(kind, ",".join(self._columns.names), str(time_ns), device, text),
            name=None,
            started_ns=time_ns,
            ended_ns=self._last_ns,
            devices={self._device(key): bins for key, bins in self._bins.items()},
            rows=(row, self._last_row),
        )

    def _device(self, key: str) -> FoundDevice:
        names = self._columns.names
        return FoundDevice(
            key=key,
            kind=DeviceKind.GPU,
            name=self._model_of.get(key) or _ONE,
            quality=Quality.POWER,
            field=key if len(self._columns.powers) > 1 else names[self._columns.powers[0]],
            scope=Scope.GPU,
            uuid=key if _HEX_UUID.fullmatch(key) else None,
        )

    # ---- samples ------------------------------------------------------------------------------

    def _take(self, rows: _Rows) -> None:
        import numpy as np

        if not len(rows.time_ns):
            return
        if len(self._columns.powers) > 1:
            for at, column in enumerate(self._columns.powers):
                self._add(self._columns.names[column], rows.number, rows.time_ns, rows.power_w[at])
        else:
            for code, key in enumerate(rows.devices):
                of = np.flatnonzero(rows.code == code)
                self._add(key, rows.number[of], rows.time_ns[of], rows.power_w[0][of])
        self._last_row = int(rows.number[-1])
        self._last_ns = max(self._last_ns, int(rows.time_ns.max()))

    def _add(self, key: str, number: Ints, time_ns: Ints, power_w: Floats) -> None:
        import numpy as np

        series = self._series.setdefault(key, PowerSeries())
        before_ns = -1 if series.last_ns is None else series.last_ns
        newest_ns = np.maximum.accumulate(np.concatenate([[before_ns], time_ns]))[:-1]
        if (same := np.flatnonzero(time_ns == newest_ns)).size:
            self._refuse_several(int(number[same[0]]), f"a second sample of {key} at the same time")
        back = time_ns < newest_ns
        if before_ns < 0 and self._may_be_several(key):
            count = read_in_turn(time_ns[~back])
            if count > 1:
                what = f"samples of {key} come {count} at once, as of {count} GPUs read in turn"
                self._refuse_several(int(number[0]), what)
        for row in number[back].tolist():
            self._tally.reject(row, "its time is before that of an earlier row")
        power_w = power_w * self._columns.factor
        odd = power_w > MAX_GPU_W
        for row, value in zip(number[odd].tolist(), power_w[odd].tolist(), strict=True):
            self._tally.reject(row, f"{value:,.6g} W is more than a GPU can take")
        self._implausible += int(odd.sum())
        self._tally.taken += int((~back & ~odd).sum())
        power_w = np.where(odd, np.nan, power_w)[~back]
        spans = series.add(time_ns[~back], power_w)
        self._bins.setdefault(key, Bins()).add(spans)

    def _may_be_several(self, key: str) -> bool:
        """Whether a key is neither a UUID, nor of the column that the user says names the devices,
        nor the name of one that a device has for itself.
        """
        is_named = self._device_is_given or _HEX_UUID.fullmatch(key) is not None
        return len(self._columns.powers) == 1 and not is_named

    def _refuse_several(self, row: int, what: str) -> NoReturn:
        raise Refused(
            f"{self._source.name}, row {row}: {what}.",
            "Does a column name each GPU (uuid, pci.bus_id, index)? Name any other with"
            " --device-column.",
        )

    def _refuse_implausible(self) -> None:
        most = max(_FEW, _MOST_IMPLAUSIBLE * self._tally.taken)
        if self._implausible > most:
            what = self._columns.names[self._columns.powers[0]]
            raise Refused(
                f"{self._source.name}: column {what!r} is above {MAX_GPU_W:,.0f} W in "
                f"{self._implausible:,} rows, more than a GPU can take. mW?",
                "Name the unit: --time-column, --power-column and --unit mW.",
            )

    # ---- rows ---------------------------------------------------------------------------------

    def _parsed(self, first: int, block: bytes) -> _Rows:
        if self._first is None:
            return self._line_by_line(first, block)
        try:
            return self._at_once(first, block)
        except (ValueError, OverflowError):
            return self._line_by_line(first, block)

    def _at_once(self, first: int, block: bytes) -> _Rows:
        """By pandas. Raises ValueError where any row is not as the others."""
        import numpy as np

        columns = self._columns
        bare = _bare(block)
        if b'"' in bare or b"[" in bare:
            raise ValueError("quotes, or the header once more")
        rows = block.count(b"\n") + (not block.endswith(b"\n"))
        if block.count(columns.delimiter.encode()) != rows * (len(columns.names) - 1):
            raise ValueError("rows of another length")
        powers = self._frame(bare, dict.fromkeys(columns.powers, float))
        power_w = np.stack([powers[p].to_numpy(np.float64) for p in columns.powers])
        if len(powers) != rows or (power_w < 0).any():
            raise ValueError("a power below 0")
        line = block.partition(b"\n")[0].decode("utf-8", "replace")
        is_epoch = _EPOCH.match(split(line, columns.delimiter)[columns.time]) is not None
        types: dict[Any, Any] = {columns.time: float if is_epoch else str}
        if columns.device is not None:
            types[columns.device] = "category"
        frame = self._frame(block, types)
        times = frame[columns.time]
        if is_epoch:
            seconds = times.to_numpy(np.float64)
            if not (seconds > 1e9).all():
                raise ValueError("no epoch")
            time_ns = np.round(seconds * 1e6).astype(np.int64) * 1_000
        else:
            time_ns = self._utc_ns(times)
        if not are_plausible(int(time_ns.min()), int(time_ns.max())):
            raise ValueError("a clock that was not set")
        code: Ints = np.zeros(len(frame), np.int64)
        devices = [_ONE]
        if columns.device is not None:
            cells = frame[columns.device].cat
            code = np.array(cells.codes, np.int64)
            devices = [str(key).strip() for key in cells.categories]
        number = np.arange(first, first + len(frame))
        return _Rows(number, time_ns, power_w, code, devices)

    def _frame(self, block: bytes, types: dict[Any, Any]) -> Any:
        """The columns at these places, each as its type."""
        import pandas as pd

        return pd.read_csv(
            io.BytesIO(block),
            sep=self._columns.delimiter,
            header=None,
            names=list(range(len(self._columns.names))),
            usecols=sorted(types),
            dtype=types,
            keep_default_na=False,
            skipinitialspace=True,
            skip_blank_lines=False,
            index_col=False,
            engine="c",
        )

    def _utc_ns(self, times: object) -> Ints:
        """Dates in the order of ISO, all with an offset or all without."""
        import numpy as np
        import pandas as pd

        has_offset = _OFFSET.search(times.iloc[0]) is not None  # type: ignore[attr-defined]
        found = pd.to_datetime(times, format="ISO8601", utc=has_offset)  # type: ignore[call-overload]
        if has_offset:
            found = found.dt.tz_localize(None)
        if found.dt.tz is not None:
            raise ValueError("some have an offset")
        time_ns: Any = found.to_numpy("datetime64[ns]").astype(np.int64)
        if not has_offset:
            hours = np.unique(time_ns // 3_600_000_000_000) * 3600
            add_s = self._clock.is_steady(hours.tolist())
            if add_s is None:
                raise ValueError("a change of clocks")
            time_ns = time_ns + add_s * NS_PER_S
        self._clock.last_ns = int(time_ns[-1])
        utc_ns: Ints = time_ns
        return utc_ns

    def _line_by_line(self, first: int, block: bytes) -> _Rows:
        import numpy as np

        columns = self._columns
        numbers: list[int] = []
        times: list[int] = []
        powers: list[list[float]] = []
        devices: list[str] = []
        for row, line in enumerate(block.decode("utf-8", "replace").split("\n"), start=first):
            if not line or line.isspace():
                continue
            try:
                cells = split(line, columns.delimiter)
                if tuple(cells) == columns.names or cells[0].lower() == "timestamp":
                    continue  # the header once more
                if len(cells) != len(columns.names):
                    raise Rejected(f"{len(cells)} cells, not {len(columns.names)}")
                time_ns = self._clock.read(cells[columns.time])
                key = _ONE if columns.device is None else cells[columns.device]
                power_w = [self._power_w(row, cells[p]) for p in columns.powers]
            except Rejected as error:
                self._tally.reject(row, str(error))
                continue
            if self._first is None:
                self._first = (row, line.strip(), time_ns, key)
            if columns.name is not None:
                self._model_of.setdefault(key, cells[columns.name])
            numbers.append(row)
            times.append(time_ns)
            powers.append(power_w)
            devices.append(key)
        code, keys = _codes(devices)
        return _Rows(
            np.array(numbers, np.int64),
            np.array(times, np.int64),
            np.array(powers, np.float64).reshape(len(numbers), len(columns.powers)).T,
            code,
            keys,
        )

    def _power_w(self, row: int, text: str) -> float:
        """NaN for a value that the device did not give, and for what is not one."""
        if text.strip("[]<> ").lower() in _MISSING:
            return float("nan")
        if (match := _VALUE.fullmatch(text)) is None or float(match[1]) < 0:
            self._tally.reject(row, f"{text!r} is not a power{instead(text)}")
            return float("nan")
        return float(match[1]) * _PREFIX.get(match[2] or "", 1.0)


def _bare(block: bytes) -> bytes:
    """The rows with powers as bare numbers. Only powers may be read from it: what is taken off
    may be a part of a device's name, as of NVIDIA RTX PRO 6000 Blackwell Workstation Edition.
    """
    for word in _NOT_GIVEN if b"[" in block else ():
        block = block.replace(word, b"nan")
    return block.replace(b" W", b"")


def _codes(keys: Sequence[str]) -> tuple[Ints, list[str]]:
    import numpy as np

    known: dict[str, int] = {}
    codes = np.fromiter((known.setdefault(key, len(known)) for key in keys), np.int64, len(keys))
    return codes, list(known)


def head_rows(head: str, delimiter: str) -> Iterator[list[str]]:
    """The first whole rows of a table, as cells."""
    lines = head.split("\n")[:-1] or [head]
    for line in lines[:_HEAD_ROWS]:
        if line.strip():
            yield split(line, delimiter)

"""Which columns of a table are its times, its powers and its devices, by the header's names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from carbontrack.importers.model import Refused
from carbontrack.importers.power_table import Columns, delimiter_of, head_rows, split

_UNIT = re.compile(r"[\[(]([^\])]*)[\])]\s*$")
_TIMES = ("timestamp", "time", "datetime", "date_time", "date", "timestamps", "utc_time", "ts")
# In this order: of two, the first is what most logs have, and what others add up.
_POWERS = (
    "power_draw",
    "power_draw_average",
    "power_draw_instant",
    "power",
    "gpu_power",
    "gpu_power_draw",
    "power_usage",
    "gpu_power_usage",
    "power_gpu",
    "pwr",
)
_DEVICES = (
    *("uuid", "gpu_uuid", "pci_bus_id", "gpu_bus_id", "gpu", "index", "gpu_index", "gpu_id"),
    *("device", "device_id", "id", "serial", "gpu_serial"),
)
_NAMES = ("name", "gpu_name", "product_name", "model")
_FACTORS = {
    **dict.fromkeys(("w", "watt", "watts"), 1.0),
    **dict.fromkeys(("mw", "milliwatt", "milliwatts"), 1e-3),
    **dict.fromkeys(("kw", "kilowatt", "kilowatts"), 1e3),
}
_OF_TIME = ("ns", "us", "ms", "s", "utc")
_WIDE = re.compile(r"(?:gpu|device)[_ ]?\d+(?:[_ ]?(?:power|pwr|power_draw))?")


def header_of(head: str) -> tuple[int, str, tuple[str, ...]]:
    """Row, delimiter and names of the first line that is not empty."""
    for row, line in enumerate(head.lstrip("\ufeff").split("\n"), start=1):
        if line.strip():
            delimiter = delimiter_of(line)
            return row, delimiter, tuple(split(line.strip(), delimiter))
    return 1, ",", ()


def has_times(names: Sequence[str]) -> bool:
    """Whether one of these names is of a time."""
    return _place(_plain(names), _TIMES) is not None


def has_power(names: Sequence[str]) -> bool:
    """Whether one of these names is of a power."""
    plain = _plain(names)
    return _place(plain, _POWERS) is not None or any(map(_is_wide, plain))


def columns_of(
    file: str, head: str, delimiter: str, names: tuple[str, ...], device_column: str | None
) -> Columns:
    """The columns that a header names, and the one of the devices that the user names. Raises
    Refused where none is a power, or a time.
    """
    plain = _plain(names)
    time, power = _place(plain, _TIMES), _place(plain, _POWERS)
    wide = tuple(at for at, name in enumerate(plain) if _is_wide(name))
    if time is None or (power is None and not wide):
        missing = "time" if time is None else "power"
        raise Refused(
            f"{file} has no {missing} column: it has {', '.join(name for name in names if name)}.",
            "Name it with --time-column, --power-column and --unit, or log power.draw.",
        )
    if power is None:
        return Columns(delimiter, names, time, wide, factor=_factor(names[wide[0]]))
    if device_column is None:
        device = _device(head, delimiter, plain)
    else:
        device = place_of(file, names, device_column)
    name = _place(plain, _NAMES)
    return Columns(delimiter, names, time, (power,), device, name, _factor(names[power]))


def place_of(file: str, names: Sequence[str], name: str) -> int:
    """Where a column is that the user names. Raises Refused where it is not."""
    if name not in names:
        raise Refused(f"{file} has no column {name!r}: it has {', '.join(names)}.")
    return names.index(name)


def factor_of(unit: str) -> float | None:
    """What a power in this unit is to be multiplied with to be in W; None if it is not one."""
    return _FACTORS.get(unit.strip().lower())


def _device(head: str, delimiter: str, plain: list[str]) -> int | None:
    """The column with the most devices in it; the surest name among equals."""
    rows = [row for row in head_rows(head, delimiter) if len(row) == len(plain)][1:]
    candidates = [plain.index(name) for name in (*_DEVICES, *_NAMES) if name in plain]
    return max(candidates, key=lambda at: len({row[at] for row in rows}), default=None)


def _plain(names: Sequence[str]) -> list[str]:
    """The names without their units, as words joined by `_`."""
    return [_without_unit(name) for name in names]


def _without_unit(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", _UNIT.sub("", name).strip().lower()).strip("_")
    stem, _, last = words.rpartition("_")
    return stem if stem and last in (*_FACTORS, *_OF_TIME) else words


def _is_wide(name: str) -> bool:
    return _WIDE.fullmatch(name) is not None


def _factor(name: str) -> float:
    """To W, by the unit in a column's name; 1 without one."""
    unit = match[1] if (match := _UNIT.search(name)) else ""
    last = re.split(r"[^a-z0-9]+", name.strip().lower())[-1]
    return _FACTORS.get(unit.strip().lower(), _FACTORS.get(last, 1.0))


def _place(plain: Sequence[str], known: Sequence[str]) -> int | None:
    return next((plain.index(name) for name in known if name in plain), None)

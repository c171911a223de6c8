"""How far a reading may be from the truth, as far as anyone says so. Pure."""

from __future__ import annotations

from carbontrack.vocabulary import MeterName, Method, Quality

NVML_BAND = 0.05
"""Share of the power by which NVML's readings may be off: NVIDIA documents ±5 % for Fermi and
Kepler, and no error for newer GPUs, for which it is assumed. Single cards beside a power meter were
found from −8.9 to +11 % (docs/methods.md)."""

_READ = (Quality.COUNTER, Quality.POWER)


def sensor_band(*, method: str, meter: str, quality: str) -> float | None:
    """The band of an energy, as its share: of NVML's readings alone; None of all others, for which
    no error is known.
    """
    parts = quality.replace(" + ", ", ").split(", ")
    known = method == Method.MEASURED and meter == MeterName.NVML
    return NVML_BAND if known and all(part in _READ for part in parts) else None

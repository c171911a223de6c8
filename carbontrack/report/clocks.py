"""Which times of a run were corrected, as their nodes' clocks were off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbontrack.ledger.recorded_rows import Recording, Shifts
from carbontrack.report.numbers import iso_time
from carbontrack.units import MS_PER_S

_MOST_NODES = 5


def shifts_data(recording: Recording) -> list[dict[str, Any]]:
    """What was added to its times, each from when by its node's clock; none where all are right."""
    return [
        {"from": iso_time(from_ms) if place else None, "shift_s": shift_ms // MS_PER_S}
        for place, (from_ms, shift_ms) in enumerate(recording.shifts)
    ]


def corrected_text(recordings: Sequence[Recording]) -> str:
    """All that was corrected, in a line; empty if nothing was."""
    off = list(dict.fromkeys((one.host, one.shifts) for one in recordings if one.shifts))
    shown = [f"{host} {_shifts(shifts)}" for host, shifts in off[:_MOST_NODES]]
    more = [f"{len(off) - _MOST_NODES} more"] if len(off) > _MOST_NODES else []
    return f"times of {'; '.join([*shown, *more])}, as its clock was off" if off else ""


def _shifts(shifts: Shifts) -> str:
    return ", ".join(
        f"by {shift_ms // MS_PER_S:+d} s" + (f" from {iso_time(from_ms)} on" if place else "")
        for place, (from_ms, shift_ms) in enumerate(shifts)
    )

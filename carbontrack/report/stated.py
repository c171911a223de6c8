"""What was entered by hand of a run, in words and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from carbontrack.ledger.rows import Stated
from carbontrack.report.numbers import digits_text, format_energy, hours_text, iso_time


def stated_text(row: Stated) -> str:
    """8 × NVIDIA A100-SXM4-80GB, 1,000 GPU-hours, 350 kWh, 400 W each: cluster report of May."""
    count = "" if row.devices is None else f"{row.devices:,} × "
    parts = [f"{count}{row.device_name}"]
    parts += [f"{hours_text(row.device_hours)} GPU-hours"] if row.device_hours is not None else []
    parts += [format_energy(row.energy_kwh)] if row.energy_kwh is not None else []
    parts += [f"{digits_text(row.power_w)} W each"] if row.power_w is not None else []
    parts += [] if row.started_ms is not None else ["without a time"]
    return f"{', '.join(parts)}: {row.source}"


def stated_data(rows: Sequence[Stated]) -> list[dict[str, Any]]:
    """For programs; times as ISO 8601, None if unknown."""
    times = {"started_ms": "started", "ended_ms": "ended"}
    return [
        {
            times.get(name, name): iso_time(value) if name in times else value
            for name, value in asdict(row).items()
        }
        | {"text": stated_text(row)}
        for row in rows
    ]

"""Powers that cannot be: signs of a file whose numbers are in another unit than it says."""

from __future__ import annotations

from carbontrack.importers.model import Refused
from carbontrack.units import J_PER_KWH

MAX_GPU_W = 1_500.0  # no GPU takes more
MAX_NODE_W = 20_000.0  # a node of eight of the largest takes 15 kW
_LEAST_S = 10.0  # over less, one reading of a slow counter is a power that was never there


def check(file: str, row: int, what: str, energy_j: float, seconds: float, most_w: float) -> None:
    """Raises Refused where this energy in this time is more than `most_w`."""
    if seconds >= _LEAST_S and energy_j > most_w * seconds:
        raise Refused(
            f"{file}, row {row}: {what} of {energy_j / J_PER_KWH:.6g} kWh in {seconds:.6g} s is "
            f"{energy_j / seconds / 1000:,.1f} kW, more than can be: another unit?"
        )

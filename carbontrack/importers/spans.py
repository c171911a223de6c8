"""Energy between two times each, as columns: what samples and totals of every kind become."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spans:
    """Energy of one device between two times each, as columns. In order, they do not overlap.

    `power_min_w` and `power_max_w` are of the samples at their ends, NaN if unknown; `sampled` is
    false where only a counter ran on.
    """

    start_ns: Ints
    end_ns: Ints
    energy_j: Floats
    power_min_w: Floats
    power_max_w: Floats
    sampled: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, float]]) -> Spans:
        """From (start, end, energy), with power as even as that says."""
        import numpy as np

        start, end, energy = (list(c) for c in zip(*rows, strict=True)) if rows else ([], [], [])
        unknown = np.full(len(start), np.nan)
        return cls(
            np.array(start, np.int64),
            np.array(end, np.int64),
            np.array(energy, np.float64),
            unknown,
            unknown,
            np.ones(len(start), np.bool_),
        )

    def __len__(self) -> int:
        return len(self.start_ns)

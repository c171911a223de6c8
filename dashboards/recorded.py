"""Devices together over time: of those that were recorded then. Pure.

A run that was put back in the queue on another node, or that a node joined, has devices that are
not to be read at every time: these are missing from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from carbontrack.ledger.outcome import POSTS_STALE_MS
from carbontrack.ledger.recorded_rows import Run, Sensor
from carbontrack.units import MS_PER_S

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def recorded_in(
    run: Run, sensors: Sequence[Sensor], starts_ms: npt.NDArray[np.int64], level_s: int
) -> Flags:
    """Whether each device was recorded in each window: a row a device. In its middle, so that of
    two that follow each other in a window only one was. Of a run that goes on, what a node has not
    said yet is still to come.
    """
    inside = run.started_ms, run.end_ms - 1
    begins_ms = np.clip(starts_ms, *inside)
    middles_ms = (begins_ms + np.clip(starts_ms + level_s * MS_PER_S, *inside)) / 2
    late_ms = run.end_ms - POSTS_STALE_MS if run.ended_ms is None else run.end_ms
    found = np.zeros((len(sensors), len(starts_ms)), dtype=bool)
    for row, sensor in zip(found, sensors, strict=True):
        for begin_ms, end_ms in sensor.recorded_in(run):
            until_ms = run.end_ms if end_ms > late_ms else end_ms
            row |= (begin_ms <= middles_ms) & (middles_ms < until_ms)
    return found


def count_recorded(run: Run, sensors: Sequence[Sensor], second_ms: int) -> int:
    """How many devices were recorded in a second."""
    return int(recorded_in(run, sensors, np.array([second_ms]), 1).sum())


def sum_of(values: Floats, recorded: Flags) -> Floats:
    """Of the devices that were recorded, at each time; NaN where one of them is unknown, or none
    was recorded.
    """
    totals = np.where(recorded, values, 0.0).sum(axis=0)
    return np.where(recorded.any(axis=0), totals, np.nan)


def mean_of(values: Floats, recorded: Flags) -> Floats:
    """As `sum_of`."""
    means: Floats = sum_of(values, recorded) / np.maximum(recorded.sum(axis=0), 1)
    return means

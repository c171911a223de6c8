"""A run's sums so far, kept in memory: the summary and the budgets need no ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbontrack.ledger.rows import Sensor, StepTotals, Usage, usage_of
from carbontrack.ledger.window import LEVELS_S, Window
from carbontrack.record.steps import Told


class Totals:
    """Adds up windows and steps as they are recorded."""

    def __init__(self) -> None:
        self._hours: dict[tuple[str, int], Window] = {}
        self._count = 0
        self._tokens: int | None = None
        self._final_loss: float | None = None
        self._first_ms: int | None = None
        self._last_ms: int | None = None
        self.model: dict[str, Any] = {}

    def add(self, windows: Sequence[tuple[str, Window]], told: Told) -> None:
        for uuid, window in windows:
            if window.level_s == LEVELS_S[-1]:
                self._hours[uuid, window.start_ms] = window
        for step in told.steps:
            self._count += 1
            if step.tokens is not None:
                self._tokens = (self._tokens or 0) + step.tokens
            if step.loss is not None:
                self._final_loss = step.loss
            self._first_ms = self._first_ms or step.time_ms
            self._last_ms = step.time_ms
        self.model.update(told.model)

    def usage(self, sensors: Sequence[Sensor]) -> list[Usage]:
        """One row per device and hour; devices are numbered in the order of `sensors`."""
        number = {sensor.uuid: sensor.device_key for sensor in sensors}
        return [usage_of(number[uuid], window) for (uuid, _), window in sorted(self._hours.items())]

    def steps(self) -> StepTotals:
        return StepTotals(
            steps=self._count,
            tokens=self._tokens,
            final_loss=self._final_loss,
            first_ms=self._first_ms,
            last_ms=self._last_ms,
        )

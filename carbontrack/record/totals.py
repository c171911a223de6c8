"""A run's sums so far, in memory: the summary and the budgets need no ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbontrack.ledger.recorded_rows import Sensor, Step, StepTotals, Usage, usage_of
from carbontrack.ledger.window import LEVELS_S, Window
from carbontrack.record.logged import Dropped, LoggedLines
from carbontrack.record.step_table import StepTable


class Totals:
    """Adds up windows and steps as they are recorded."""

    def __init__(self) -> None:
        self._hours: dict[tuple[str, int], Window] = {}
        self._table = StepTable()
        self._bad_lines = Dropped()
        self._bad_values = Dropped()
        self._lost_lines = 0
        self.model: dict[str, Any] = {}

    def add(self, windows: Sequence[tuple[str, Window]], logged: LoggedLines) -> list[Step]:
        """The steps of `logged` that count: the ledger gets these."""
        for uuid, window in windows:
            if window.level_s == LEVELS_S[-1]:
                self._hours[uuid, window.start_ms] = window
        self._bad_lines += logged.bad_lines
        self._bad_values += logged.bad_values
        self._lost_lines += logged.lost_lines
        self.model.update(logged.model)
        return self._table.take(logged.steps)

    def usage(self, sensors: Sequence[Sensor]) -> list[Usage]:
        """One row per device and hour; devices are numbered in the order of `sensors`."""
        number = {sensor.uuid: sensor.device_key for sensor in sensors}
        return [usage_of(number[uuid], window) for (uuid, _), window in sorted(self._hours.items())]

    def steps(self) -> StepTotals:
        return self._table.totals()

    def dropped(self) -> list[str]:
        """What of the job's lines could not be recorded, a sentence each with the first such."""
        lines, values = self._bad_lines, self._bad_values + self._table.dropped
        found = []
        if lines.count:
            found.append(f"{_several(lines.count, 'logged line')} not understood{_first(lines)}")
        if values.count:
            found.append(f"{_several(values.count, 'logged value')} dropped{_first(values)}")
        if self._lost_lines:
            found.append(f"{_several(self._lost_lines, 'line')} could not be written by the job")
        return found


def _first(dropped: Dropped) -> str:
    return f"{', the first' if dropped.count > 1 else ''}: {dropped.first}"


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"

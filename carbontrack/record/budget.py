"""Watching a run's budgets: a warning when a limit is near, and one when it is spent.

With `stop`, the job is sent SIGTERM when a limit is spent, as a scheduler's preemption would, so
that it can checkpoint. If it is still there after the grace time, that is said; it is never killed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from carbontrack.account.budget import Budget, judge, unwatchable
from carbontrack.account.result import Estimate
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import BudgetState


class BudgetWatch:
    """The budgets of one run, looked at whenever its estimate has grown.

    `trouble` is why the run's zone, provider or day is not used. What cannot be watched is said
    once.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        stop: bool,
        grace_s: float,
        job_pids: Sequence[int],
        trouble: str = "",
    ) -> None:
        self._budget = budget
        self._trouble = trouble
        self._stop = stop
        self._grace_s = grace_s
        self._job_pids = job_pids  # more may join
        self._told: dict[str, BudgetState] = {}
        self._blind: list[str] = []
        self._stopped_ns: int | None = None
        self._overdue = False

    def look(self, estimate: Estimate, now_ns: int) -> list[str]:
        """What is new since the last look; stops the job if that was asked for."""
        unseen = unwatchable(self._budget, estimate, self._trouble)
        notices = [text for text in unseen if text not in self._blind]
        self._blind += notices
        for verdict in judge(self._budget, estimate):
            if verdict.state is BudgetState.WITHIN or verdict.state is self._told.get(verdict.unit):
                continue
            self._told[verdict.unit] = verdict.state
            notices.append(f"budget {verdict.standing}: {verdict}")
            if verdict.state is BudgetState.SPENT and self._stop:
                self._stop = False  # once
                notices.append(self._stop_job(now_ns))
        return notices + self._remind(now_ns)

    def _stop_job(self, now_ns: int) -> str:
        """Send the job's processes SIGTERM; what came of it."""
        why_not = ""
        for pid in self._job_pids:
            try:
                os.kill(pid, signal.SIGTERM)
            except OSError as error:  # it has just ended, or runs as another user
                why_not = str(error.strerror)
            else:
                self._stopped_ns = now_ns
        if self._stopped_ns is None:
            return f"the job could not be sent SIGTERM: {why_not}; end it yourself"
        return "the job was sent SIGTERM, so that it can checkpoint"

    def _remind(self, now_ns: int) -> list[str]:
        if self._stopped_ns is None or self._overdue:
            return []
        self._overdue = now_ns - self._stopped_ns > self._grace_s * NS_PER_S
        if not self._overdue:
            return []
        return [f"the job still runs {self._grace_s:g} s after SIGTERM; end it yourself"]

"""What is recorded of a job: the run's id, its steps file, and its recorder. The job waits for this
import.
"""

from __future__ import annotations

import os

from carbontrack.folders import working_folder
from carbontrack.ids import uuid7
from carbontrack.record.job_process import Job
from carbontrack.record.steps_file import make_steps_file, remove_steps_file
from carbontrack.record.this_run import MARK, mark_of, this_run
from carbontrack.record.warning import harmless

TYPE_CHECKING = False  # `typing` costs 15 ms
if TYPE_CHECKING:
    from typing import Any

    from carbontrack.record.recorder_process import RecorderProcess
    from carbontrack.record.rendezvous import Joined, Rendezvous


class RecordedJob:
    """The run that is recorded: its id, its steps file, and the recorder once there is one: ours,
    or that of another wrapper of the run on this node.
    """

    def __init__(self, command: list[str], settings: dict[str, Any]) -> None:
        self._id = uuid7()
        self._rendezvous: Rendezvous | None = None
        self._recorder: RecorderProcess | Joined | None = None
        run = this_run(os.environ, command, settings)
        self.run_id, self._job = run.id, run.job
        mark = mark_of(run.id, settings["db"], os.environ)
        self.environ = {**os.environ, MARK: str(mark)}
        self._steps = make_steps_file(self._id)
        if self._steps:
            self.environ["CARBONTRACK_STEPS"] = self._steps.path
        if run.is_shared:
            self._meet()

    def _meet(self) -> None:
        """Join the run's recorder on this node, if there is one; else ours is that from now on."""
        from carbontrack.record.rendezvous import open_rendezvous

        self._rendezvous = open_rendezvous()
        joined = self._rendezvous.joined(self.run_id) if self._rendezvous else None
        if joined is not None:
            joined.bring(self._steps)
            self._recorder = joined

    def start_recorder(self) -> None:
        """Unless one was joined."""
        if self._recorder is None:
            from carbontrack.record.recorder_process import RecorderProcess

            self._recorder = RecorderProcess(
                self._steps, self._rendezvous.descriptor if self._rendezvous else None
            )
        if self._rendezvous is not None:
            self._rendezvous.close()  # from now on the recorder alone has it

    def begin(self, plan: dict[str, Any]) -> None:
        """Give the recorder its plan."""
        plan |= {
            **self._job,
            "run_id": self.run_id,
            "recording_id": self._id,
            "cwd": working_folder(),
            "steps_path": self._steps and self._steps.path,
        }
        if self._recorder is not None:
            self._recorder.begin(plan)

    def flush(self) -> bool:
        """Send what the recorder's pipe has not taken yet; whether that is all."""
        return self._recorder is None or self._recorder.flush()

    def reaped(self, pid: int, status: int) -> None:
        """A child of this process has ended with this status, and its pid is free."""
        if self._recorder is not None:
            self._recorder.reaped(pid, status)

    def end(self, job: Job) -> None:
        """Say how the job ended."""
        if self._recorder is not None:
            from carbontrack.record.grace import outcome  # the job need not wait for it

            self._recorder.end(outcome(job.ended_ns, job.exit_code))

    def discard(self) -> None:
        """There is nothing to record."""
        with harmless("the recorder cannot be ended"):
            if self._recorder is not None:
                self._recorder.discard()
            if self._rendezvous is not None:
                self._rendezvous.close()
        remove_steps_file(self._steps.path if self._steps else None)

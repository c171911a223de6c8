"""Many wrapped jobs at once on stand-in GPUs: started one after the other, for starting is work.

The job writes when it began and ended, so that the true energy of just its life is known.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tools import Tool
from carbontrack.units import NS_PER_S, monotonic_ns
from tests.fixtures.nvml import StubNode

_SETTLE_S = 0.3  # what the tools still do when the job has begun
_START_S = 300.0  # on a loaded machine


@dataclass
class Wrapped:
    """One job under one tool."""

    tool: Tool
    node: StubNode
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def energy_j(self) -> float | None:
        """What the tool wrote down."""
        return self.tool.energy_j(self.folder)

    @property
    def began(self) -> bool:
        return len(self._marks()) > 0

    @property
    def ended(self) -> bool:
        """Whether the job came to its own end."""
        return len(self._marks()) == 2

    @property
    def began_ns(self) -> int:
        """When the job began, on `monotonic_ns`."""
        return self._marks()[0]

    @property
    def ended_ns(self) -> int:
        """When the job ended."""
        return self._marks()[1]

    @property
    def job_pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def true_j(self, devices: Sequence[int] | None = None) -> float:
        """What the devices truly used while the job lived."""
        which = range(self.node.devices) if devices is None else devices
        return sum(self.node.true_energy_j(i, self.began_ns, self.ended_ns) for i in which)

    @property
    def complaint(self) -> str:
        """The last thing that the tool said on stderr."""
        lines = (self.folder / "stderr").read_text(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else ""

    def _marks(self) -> list[int]:
        offset_ns = time.time_ns() - monotonic_ns()
        path = self.folder / "marks"
        marks = path.read_text().split() if path.exists() else []
        return [int(float(mark) * NS_PER_S) - offset_ns for mark in marks]


def start(
    tool: Tool,
    node: StubNode,
    folder: Path,
    seconds: float,
    environ: Mapping[str, str] | None = None,
    exit_code: int = 0,
) -> Wrapped:
    """Start a job of `seconds` under the tool and wait until the job itself has begun."""
    folder.mkdir(parents=True)
    script = (
        "echo $EPOCHREALTIME > marks; echo $$ > pid; "
        "trap 'kill $!' TERM INT; "
        f"sleep {seconds} & wait; echo $EPOCHREALTIME >> marks; exit {exit_code}"
    )
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
        process = subprocess.Popen(
            tool.argv(folder, ["bash", "-c", script]),
            cwd=folder,
            env={**tool.environ(node.env, folder), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    give_up_s = time.monotonic() + _START_S
    while not (folder / "pid").exists() and process.poll() is None:
        if time.monotonic() > give_up_s:
            break
        time.sleep(0.02)
    time.sleep(_SETTLE_S)
    return Wrapped(tool, node, folder, process)


def finish(jobs: Sequence[Wrapped], timeout_s: float) -> None:
    """Wait for all; whatever still runs after that is killed, with its session."""
    give_up_s = time.monotonic() + timeout_s
    for job in jobs:
        try:
            job.process.wait(max(0.1, give_up_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(job.process.pid, 9)
            job.process.wait()

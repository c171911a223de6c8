"""Which run this process belongs to, and the mark by which what it starts knows that.

Standard library only, and little of it: the wrapper asks this before the job starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carbontrack.record.this_node import boot_id, hostname
from carbontrack.record.uuids import uuid7

MARK = "CARBONTRACK_RECORDING"
_UNKNOWN = "-"
_MAX_FILE = 1 << 20  # bytes: a node file of 10,000 lines


@dataclass(frozen=True, slots=True)
class Mark:
    """In a job's environment: its run, the node on which that is recorded, and the batch job, since
    a job may submit another one, which then has its environment.
    """

    run_id: str
    boot_id: str
    hostname: str
    job: str

    def __str__(self) -> str:
        return " ".join((self.run_id, self.boot_id, self.hostname, self.job))

    @property
    def is_here(self) -> bool:
        """Whether the recorder is on this node."""
        return (self.boot_id, self.hostname) == (boot_id() or _UNKNOWN, hostname())


def mark_of(run_id: str, environ: Mapping[str, str]) -> Mark:
    """The mark of a run that is recorded on this node."""
    return Mark(run_id, boot_id() or _UNKNOWN, hostname(), _batch_job(environ))


def mark_in(environ: Mapping[str, str]) -> Mark | None:
    """The mark that the job's environment has, None if it has none or that of another batch job."""
    words = environ.get(MARK, "").split(" ")
    if len(words) != 4 or not all(words):
        return None
    mark = Mark(*words)
    return mark if mark.job == _batch_job(environ) else None


@dataclass(frozen=True, slots=True)
class ThisRun:
    """A run's id, and what its scheduler says of it, by the names of `record.messages.Plan`."""

    id: str
    is_shared: bool  # others can compute its id
    job: Mapping[str, Any]


def this_run(
    environ: Mapping[str, str],
    command: Sequence[str],
    settings: Mapping[str, Any],
    pid: int | None = None,
) -> ThisRun:
    """The run that a process with this environment and command is of, `pid` or this one: the one of
    a recorder above it on another node, else of its scheduler's job, else one of its own.
    """

    def read(path: str) -> str:
        return _text_of(path if pid is None else path.replace("/proc/self/", f"/proc/{pid}/", 1))

    from carbontrack.record.identity import identify

    found = identify(
        environ,
        command=command,
        name=settings.get("name"),
        project=settings.get("project"),
        hostname=hostname(),
        read=read,
    )
    mark = mark_in(environ)
    above = mark.run_id if mark is not None and not mark.is_here else None
    run_id = above or found.run_id
    allocation = found.allocation
    job: dict[str, Any] = {"is_shared": run_id is not None}
    if allocation is not None:
        job |= {
            "scheduler": str(allocation.scheduler),
            "cluster": allocation.cluster,
            "job_id": allocation.job_id,
            "array_index": allocation.array_index,
            "account": allocation.account,
            "partition": allocation.partition,
            "nodes_expected": allocation.nodes_expected,
            "restart": allocation.restart,
        }
    return ThisRun(run_id or uuid7(), run_id is not None, job)


def _batch_job(environ: Mapping[str, str]) -> str:
    from carbontrack.record.identity import batch_job

    return batch_job(environ) or _UNKNOWN


def _text_of(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return ""
    try:
        return os.fsdecode(os.read(descriptor, _MAX_FILE))
    except OSError:
        return ""
    finally:
        os.close(descriptor)

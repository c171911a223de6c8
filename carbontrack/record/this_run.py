"""Which run this process belongs to, and the mark by which what it starts knows that.

Standard library only, and little of it: the wrapper asks this before the job starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from carbontrack.ids import uuid7
from carbontrack.ledger.url import recorded_in
from carbontrack.record.this_node import boot_id, hostname

TYPE_CHECKING = False  # `typing` costs 15 ms, a dataclass more
if TYPE_CHECKING:
    from typing import Any

MARK = "CARBONTRACK_RECORDING"
TELLING = (
    *("CARBONTRACK_RUN_ID", "CARBONTRACK_KUBERNETES_JOB_UID", "FLUX_JOB_ID"),
    *("SLURM_JOB_ID", "SLURM_JOBID", "PBS_JOBID", "LSB_JOBID", "TORCHELASTIC_RUN_ID"),
    *("RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_JOB_ID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"),
)
"""Without any of these no run is shared: then `identity`, which takes 15 ms, is not imported."""
_UNKNOWN = "-"
_MAX_FILE = 1 << 20  # bytes: a node file of 10,000 lines


class Mark:
    """In a job's environment: its run, the node on which that is recorded, the batch job, since a
    job may submit another one, which then has its environment, and the URL of the recorder's file.
    """

    def __init__(self, run_id: str, boot_id: str, hostname: str, job: str, db: str) -> None:
        self.run_id = run_id
        self.boot_id = boot_id
        self.hostname = hostname
        self.job = job
        self.db = db

    def __str__(self) -> str:
        return " ".join((self.run_id, self.boot_id, self.hostname, self.job, self.db))

    @property
    def is_here(self) -> bool:
        """Whether the recorder is on this node."""
        return (self.boot_id, self.hostname) == (boot_id() or _UNKNOWN, hostname())


def mark_of(run_id: str, db: str, environ: Mapping[str, str]) -> Mark:
    """The mark of a run that is recorded on this node, for the ledger at the URL `db`."""
    job = _batch_job(environ)
    return Mark(run_id, boot_id() or _UNKNOWN, hostname(), job, recorded_in(db))


def mark_in(environ: Mapping[str, str]) -> Mark | None:
    """The mark that the job's environment has, None if it has none or that of another batch job."""
    words = environ.get(MARK, "").split(" ", 4)  # a path may have spaces
    if len(words) != 5 or not all(words):
        return None
    mark = Mark(*words)
    return mark if mark.job == _batch_job(environ) else None


class ThisRun:
    """A run's id, whether others can compute it, and what its scheduler says of it, by the names of
    `record.messages.Plan`.
    """

    def __init__(self, id: str, is_shared: bool, job: Mapping[str, Any]) -> None:
        self.id = id
        self.is_shared = is_shared
        self.job = job


def this_run(
    environ: Mapping[str, str],
    command: Sequence[str],
    settings: Mapping[str, Any],
    pid: int | None = None,
) -> ThisRun:
    """The run that a process with this environment and command is of, `pid` or this one: the one of
    a recorder above it on another node, else of its scheduler's job, else one of its own.
    """

    mark = mark_in(environ)
    above = mark.run_id if mark is not None and not mark.is_here else None
    if not _tells(environ):
        return ThisRun(above or uuid7(), above is not None, {"is_shared": above is not None})

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
    run_id = above or found.run_id
    allocation = found.allocation
    is_shared = run_id is not None
    job: dict[str, Any] = {"is_shared": is_shared, "nodes_expected": found.nodes_expected}
    if allocation is not None:
        job |= {
            "scheduler": str(allocation.scheduler),
            "cluster": allocation.cluster,
            "job_id": allocation.job_id,
            "array_index": allocation.array_index,
            "account": allocation.account,
            "partition": allocation.partition,
            "restart": allocation.restart,
        }
    return ThisRun(run_id or uuid7(), is_shared, job)


def _batch_job(environ: Mapping[str, str]) -> str:
    if not _tells(environ):
        return _UNKNOWN
    from carbontrack.record.identity import batch_job

    return batch_job(environ) or _UNKNOWN


def _tells(environ: Mapping[str, str]) -> bool:
    return any(name in environ for name in TELLING)


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

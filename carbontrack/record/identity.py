"""Which run this process is part of, from its environment and its command: the same on each node.

All wrappers of a job step are one run; the steps of a job are several, told apart by their
commands. No scheduler is asked: each node computes the same id alone. Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from carbontrack.ids import uuid5
from carbontrack.vocabulary import Scheduler

Environ = Mapping[str, str]
Read = Callable[[str], str]
"""The text of a file, empty if it cannot be read."""

_MAX_INT = (1 << 31) - 1
_MAX_HOSTS = 16_384


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a scheduler or a launcher says of the job; all but `restart` is the same on each node.

    None if unknown. `outer` is the job that this one's scheduler runs in: its job ids are unique
    only there.
    """

    scheduler: Scheduler
    job_id: str
    cluster: str | None = None
    array_index: int | None = None
    account: str | None = None
    partition: str | None = None
    nodes_expected: int | None = None
    restart: int = 0  # how often the scheduler has restarted the job
    hosts: tuple[str, ...] = ()
    outer: str | None = None

    @property
    def key(self) -> list[str | int | None]:
        """What distinguishes it from every other job."""
        at = str(self.scheduler), self.cluster, self.outer
        return [*at, self.job_id, self.array_index]


@dataclass(frozen=True, slots=True)
class Identity:
    """The run's id, None where nothing says that other processes are part of the run, too; and on
    how many nodes it is expected, None if unknown.
    """

    run_id: str | None
    allocation: Allocation | None
    nodes_expected: int | None = None


def identify(
    environ: Environ,
    *,
    command: Sequence[str],
    name: str | None,
    project: str | None,
    hostname: str,
    read: Read,
) -> Identity:
    """The run of a process with this environment that wraps this command.

    `CARBONTRACK_RUN_ID` decides, else the job of the scheduler or launcher together with the name,
    or without one the command; of its nodes `CARBONTRACK_NODES`, else the scheduler.
    """
    allocation = allocation_of(environ, read, starts_steps=_starts_steps(command))
    said = None if allocation is None else allocation.nodes_expected
    nodes = _number(environ, "CARBONTRACK_NODES") or said
    if given := environ.get("CARBONTRACK_RUN_ID"):
        return Identity(uuid5(["run-id", project, given]), allocation, nodes)
    if allocation is None:
        return Identity(None, None)
    from carbontrack.record.shared_words import shared_words

    hosts = [hostname, environ.get("MASTER_ADDR", ""), *allocation.hosts]
    what = ["name", name] if name is not None else ["command", *shared_words(command, hosts)]
    return Identity(uuid5([project, allocation.key, what]), allocation, nodes)


def allocation_of(environ: Environ, read: Read, *, starts_steps: bool = False) -> Allocation | None:
    """The job that this environment is part of; None without a scheduler or launcher.

    `starts_steps`: the command is one that starts processes on the other nodes.
    """
    found = next(filter(None, (ask(environ, read) for ask in _SCHEDULERS)), None)
    if found is None:
        return None
    if _is_batch_script(environ) and not starts_steps:
        return replace(found, nodes_expected=1)  # it runs on the first node alone
    return replace(found, nodes_expected=found.nodes_expected or None)


def batch_job(environ: Environ) -> str | None:
    """A UUID of the job that a batch system started; None without one. Launchers inside a job have
    no say: what they start has the same.
    """
    found = next(filter(None, (ask(environ, _nothing) for ask in _BATCH_SYSTEMS)), None)
    return None if found is None else uuid5(found.key)


def _nothing(path: str) -> str:
    return ""


# ---- Schedulers ----------------------------------------------------------------------------------


def _kubernetes(environ: Environ, read: Read) -> Allocation | None:
    """By the downward API: see docs/kubernetes.md. JOB_COMPLETION_INDEX is a pod's number in its
    job, and so a rank.
    """
    uid = environ.get("CARBONTRACK_KUBERNETES_JOB_UID")
    if not uid:
        return None
    return Allocation(
        Scheduler.KUBERNETES,
        uid,
        account=environ.get("CARBONTRACK_KUBERNETES_NAMESPACE") or None,
        nodes_expected=_number(environ, "PET_NNODES"),
    )


def _flux(environ: Environ, read: Read) -> Allocation | None:
    """https://flux-framework.readthedocs.io/projects/flux-core/en/latest/man7/flux-environment.html

    A job id is unique in its instance; FLUX_JOB_ID_PATH says where that is.
    """
    job_id = environ.get("FLUX_JOB_ID")
    if not job_id:
        return None
    around = _slurm(environ, read) or _lsf(environ, read)
    path = environ.get("FLUX_JOB_ID_PATH", "").strip("/").rpartition("/")[0]
    outer = [f"{around.scheduler} {around.cluster} {around.job_id}"] if around else []
    return Allocation(
        Scheduler.FLUX,
        job_id,
        nodes_expected=_number(environ, "FLUX_JOB_NNODES"),
        outer=" ".join([*outer, path]).strip() or None,
    )


def _slurm(environ: Environ, read: Read) -> Allocation | None:
    """https://slurm.schedmd.com/sbatch.html and srun.html, "OUTPUT ENVIRONMENT VARIABLES".

    Each task of an array has a job id of its own; the components of a heterogeneous job have the
    first one's, the leader's.
    """
    job_id = environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID")
    if not job_id:
        return None
    leader = environ.get("SLURM_JOB_ID_HET_GROUP_0")
    if leader:
        groups = range(_number(environ, "SLURM_HET_SIZE") or 0)
        lists = [environ.get(f"SLURM_JOB_NODELIST_HET_GROUP_{group}", "") for group in groups]
    else:
        lists = [environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST", "")]
    from carbontrack.record.shared_words import expand_hosts

    hosts = tuple(chain.from_iterable(expand_hosts(one, _MAX_HOSTS) for one in lists))
    if leader and not _is_step(environ):
        nodes = len(hosts) or None  # SLURM_NNODES is of the first component
    else:
        nodes = _number(environ, "SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
    return Allocation(
        Scheduler.SLURM,
        leader or job_id,
        cluster=environ.get("SLURM_CLUSTER_NAME") or None,
        array_index=_number(environ, "SLURM_ARRAY_TASK_ID"),
        account=environ.get("SLURM_JOB_ACCOUNT") or None,
        partition=environ.get("SLURM_JOB_PARTITION") or None,
        nodes_expected=nodes,
        restart=_number(environ, "SLURM_RESTART_COUNT") or 0,
        hosts=hosts,
    )


def _is_step(environ: Environ) -> bool:
    """Whether srun has started this process, or what started it."""
    return "SLURM_STEP_ID" in environ or "SLURM_STEPID" in environ


def _is_batch_script(environ: Environ) -> bool:
    """Whether this is a Slurm batch script itself: sbatch sets ENVIRONMENT, and srun more."""
    is_batch = environ.get("ENVIRONMENT") == "BATCH" and "SLURM_JOB_ID" in environ
    return is_batch and not _is_step(environ)


def _pbs(environ: Environ, read: Read) -> Allocation | None:
    """PBS Professional, OpenPBS and Torque: a job id is `1234.server` or, of an array,
    `1234[5].server`. The node file has a line for each process of a node.
    """
    if not (job := environ.get("PBS_JOBID")):
        return None
    job_id, _, server = job.partition(".")
    in_id = re.match(r"^\d+\[(\d+)\]", job_id)
    index = _number(environ, "PBS_ARRAY_INDEX", "PBS_ARRAYID")
    hosts = tuple(dict.fromkeys(read(environ.get("PBS_NODEFILE", "")).split()))
    return Allocation(
        Scheduler.PBS,
        job_id,
        cluster=server or environ.get("PBS_SERVER") or environ.get("PBS_DEFAULT") or None,
        array_index=int(in_id[1]) if in_id and index is None else index,
        account=environ.get("PBS_ACCOUNT") or None,
        partition=environ.get("PBS_QUEUE") or None,
        nodes_expected=_number(environ, "PBS_NUM_NODES") or len(hosts) or None,
        hosts=hosts[:_MAX_HOSTS],
    )


def _lsf(environ: Environ, read: Read) -> Allocation | None:
    """https://www.ibm.com/docs/en/spectrum-lsf/10.1.0?topic=variables-environment-set-job-execution

    The tasks of an array share their job id; LSB_JOBINDEX is 0 without an array. LSB_MCPU_HOSTS
    is "host slots host slots".
    """
    job_id = environ.get("LSB_JOBID")
    if not job_id:
        return None
    hosts = environ.get("LSB_MCPU_HOSTS", "").split()[::2] or environ.get("LSB_HOSTS", "").split()
    hosts = list(dict.fromkeys(hosts))
    return Allocation(
        Scheduler.LSF,
        job_id,
        cluster=environ.get("LSB_EXEC_CLUSTER") or environ.get("LSF_CLUSTER_NAME") or None,
        array_index=_number(environ, "LSB_JOBINDEX") or None,
        account=environ.get("LSB_PROJECT_NAME") or None,
        partition=environ.get("LSB_QUEUE") or None,
        nodes_expected=len(hosts) or None,
        restart=int(environ.get("LSB_RESTART") == "Y"),
        hosts=tuple(hosts[:_MAX_HOSTS]),
    )


def _ray(environ: Environ, read: Read) -> Allocation | None:
    """The submission id of `ray job submit`, which its driver has in its job's configuration. In
    the workers there is a number only, which begins again in each cluster: it needs the cluster's
    name, which KubeRay sets.
    """
    cluster = environ.get("RAY_CLUSTER_NAME") or None
    try:
        config = json.loads(environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", ""))
        submission = str(config["metadata"]["job_submission_id"])
    except (ValueError, LookupError, TypeError):
        submission = ""
    job_id = submission or (environ.get("RAY_JOB_ID", "") if cluster else "")
    return Allocation(Scheduler.RAY, job_id, cluster=cluster) if job_id else None


def _torchrun(environ: Environ, read: Read) -> Allocation | None:
    """In a worker of torchrun with --rdzv-id (or --standalone, which makes one). Without, torch
    says "none", which would be everybody's job.
    """
    job_id = environ.get("TORCHELASTIC_RUN_ID", "")
    if job_id in ("", "none"):
        return None
    world, local = _number(environ, "WORLD_SIZE"), _number(environ, "LOCAL_WORLD_SIZE")
    nodes = -(-world // local) if world and local else None
    return Allocation(Scheduler.TORCHRUN, job_id, nodes_expected=nodes)


def _mpi(environ: Environ, read: Read) -> Allocation | None:
    """An mpirun without a scheduler. Open MPI names the job by mpirun's host and process; Hydra
    (MPICH, Intel MPI) has the address of mpiexec on the command line of the proxy that is the
    parent of the ranks of a node.
    """
    world = _number(environ, "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
    local = _number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
    job_id = ""
    if "OMPI_COMM_WORLD_RANK" in environ:
        job_id = environ.get("PMIX_NAMESPACE", "")
        if not job_id or job_id.isdecimal():  # Open MPI 4: no more than a hash of a process id
            job_id = environ.get("OMPI_MCA_orte_precondition_transports", "")
    elif "PMI_RANK" in environ:
        parent = read("/proc/self/stat").rpartition(")")[2].split()[1:2]
        words = read(f"/proc/{parent[0]}/cmdline") if parent else ""
        found = re.search(r"--control-port[\0 ]([^\0 ]+:\d+)", words)
        job_id = found[1] if found else ""
    if not job_id:
        return None
    nodes = -(-world // local) if world and local else None
    return Allocation(Scheduler.MPI, job_id, nodes_expected=nodes)


_Ask = Callable[[Environ, Read], Allocation | None]
_BATCH_SYSTEMS: tuple[_Ask, ...] = (_kubernetes, _slurm, _pbs, _lsf)
# A launcher inside a batch job is no job of its own.
_SCHEDULERS: tuple[_Ask, ...] = (_flux, *_BATCH_SYSTEMS, _ray, _torchrun, _mpi)


# ---- The command ---------------------------------------------------------------------------------

_STEP_LAUNCHERS = {"srun", "mpirun", "mpiexec", "prun", "prterun", "jsrun", "flux", "aprun", "pdsh"}


def _starts_steps(command: Sequence[str]) -> bool:
    return bool(command) and command[0].rpartition("/")[2] in _STEP_LAUNCHERS


# ---- Values --------------------------------------------------------------------------------------


def _number(environ: Environ, *names: str) -> int | None:
    """Of the first of these variables that is a whole number."""
    for name in names:
        value = environ.get(name, "")
        if value.isascii() and value.isdecimal() and len(value) < 11 and int(value) <= _MAX_INT:
            return int(value)
    return None

"""Which run a process is part of: the same id on each node, another for each job and step."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.ids import _NAMESPACE, uuid5, uuid7
from carbontrack.record.identity import (
    Allocation,
    Identity,
    allocation_of,
    identify,
)
from carbontrack.record.shared_words import expand_hosts, shared_words
from carbontrack.record.this_run import TELLING, this_run
from carbontrack.vocabulary import Scheduler

COMMAND = ["torchrun", "--nproc-per-node=4", "train.py", "--lr", "3e-4"]
# What the schedulers set, as their documents and real jobs have it; `{node}` is the node's number.
SLURM = {
    "SLURM_JOB_ID": "48291",
    "SLURM_JOBID": "48291",
    "SLURM_CLUSTER_NAME": "alps",
    "SLURM_JOB_ACCOUNT": "nlp",
    "SLURM_JOB_PARTITION": "h100",
    "SLURM_JOB_NODELIST": "nid[001-002]",
    "SLURM_NNODES": "2",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_STEPID": "0",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "nid[001-002]",
    "SLURM_PROCID": "{node}",
    "SLURM_NODEID": "{node}",
    "SLURM_LOCALID": "0",
    "SLURMD_NODENAME": "nid00{node}",
    "ENVIRONMENT": "BATCH",
}
PBS = {
    "PBS_JOBID": "7712.pbs01",
    "PBS_QUEUE": "gpuq",
    "PBS_NODEFILE": "/var/spool/pbs/aux/7712.pbs01",
    "PBS_JOBNAME": "pretrain",
    "PBS_ENVIRONMENT": "PBS_BATCH",
    "PBS_NODENUM": "{node}",
    "PBS_TASKNUM": "{node}",
    "NCPUS": "32",
}
TORQUE = {
    "PBS_JOBID": "991[3].torque.example.org",
    "PBS_ARRAYID": "3",
    "PBS_QUEUE": "batch",
    "PBS_NUM_NODES": "2",
    "PBS_NUM_PPN": "8",
    "PBS_VERSION": "TORQUE-6.1.2",
    "PBS_VNODENUM": "{node}",
}
LSF = {
    "LSB_JOBID": "5521",
    "LSB_JOBINDEX": "0",
    "LSB_QUEUE": "normal",
    "LSB_PROJECT_NAME": "climate",
    "LSB_MCPU_HOSTS": "grid03 4 grid05 4",
    "LSB_HOSTS": "grid03 grid03 grid03 grid03 grid05 grid05 grid05 grid05",
    "LSB_DJOB_NUMPROC": "8",
    "LSB_BATCH_JID": "5521",
    "LSB_EXEC_CLUSTER": "summit",
    "LSF_PM_TASKID": "{node}",
}
FLUX = {
    "FLUX_JOB_ID": "ƒ2oPvKbSS9",
    "FLUX_JOB_ID_PATH": "/ƒabcD/ƒ2oPvKbSS9",
    "FLUX_JOB_SIZE": "2",
    "FLUX_JOB_NNODES": "2",
    "FLUX_TASK_RANK": "{node}",
    "FLUX_TASK_LOCAL_ID": "0",
    "FLUX_URI": "local:///run/flux/{node}/local-0",
}
KUBERNETES = {
    "CARBONTRACK_KUBERNETES_JOB_UID": "5cf76b42-cbc8-484a-b496-6b867182e523",
    "CARBONTRACK_KUBERNETES_NAMESPACE": "nlp",
    "PET_NNODES": "2",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "JOB_COMPLETION_INDEX": "{node}",
    "HOSTNAME": "pretrain-{node}-x7k2p",
}
RAY_DRIVER = {
    "RAY_ADDRESS": "10.0.0.4:6379",
    "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(
        {
            "runtime_env": {},
            "metadata": {"job_submission_id": "raysubmit_7qE3", "job_name": "raysubmit_7qE3"},
        }
    ),
}
RAY_WORKER = {
    "RAY_JOB_ID": "01000000",
    "RAY_RAYLET_PID": "7{node}1",
    "RAY_CLUSTER_NAME": "raycluster-x7k2p",
}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "pretrain-7",
    "TORCHELASTIC_RESTART_COUNT": "{node}",
    "TORCHELASTIC_MAX_RESTARTS": "3",
    "MASTER_ADDR": "nid001",
    "MASTER_PORT": "29500",
    "RANK": "{node}",
    "LOCAL_RANK": "0",
    "GROUP_RANK": "{node}",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "1",
}
OPEN_MPI_5 = {
    "OMPI_COMM_WORLD_RANK": "{node}",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_VERSION": "5.0.11",
    "PMIX_NAMESPACE": "prterun-nid001-15868@1",
    "PMIX_RANK": "{node}",
    "PMIX_SERVER_URI41": "prterun-nid001-15868@0.{node};tcp4://10.0.0.{node}:60361",
}
OPEN_MPI_4 = {
    "OMPI_COMM_WORLD_RANK": "{node}",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_NAMESPACE": "2184445953",
    "OMPI_MCA_orte_precondition_transports": "a3f1c9d2e8b74410-5c6d7e8f90a1b2c3",
    "OMPI_MCA_ess_base_vpid": "{node}",
}
HYDRA = {
    "PMI_RANK": "{node}",
    "PMI_SIZE": "4",
    "PMI_FD": "11",
    "HYDI_CONTROL_FD": "7",
    "MPI_LOCALNRANKS": "2",
    "MPI_LOCALRANKID": "0",
    "PMI_HOSTNAME": "nid00{node}",
}
FILES = {
    "/var/spool/pbs/aux/7712.pbs01": "nid001\nnid001\nnid002\nnid002\n",
    "/proc/self/stat": "77 (python) S 70 1 1 0 -1 4194304",
    "/proc/70/cmdline": "/opt/mpich/bin/hydra_pmi_proxy\0--control-port\0nid001:46681\0--rmk\0user",
}
TABLE = {
    "slurm": (
        SLURM,
        Allocation(Scheduler.SLURM, "48291", "alps", None, "nlp", "h100", 2),
    ),
    "slurm array": (
        {**SLURM, "SLURM_ARRAY_JOB_ID": "48280", "SLURM_ARRAY_TASK_ID": "11"},
        Allocation(Scheduler.SLURM, "48291", "alps", 11, "nlp", "h100", 2),
    ),
    "slurm requeued": (
        {**SLURM, "SLURM_RESTART_COUNT": "2"},
        Allocation(Scheduler.SLURM, "48291", "alps", None, "nlp", "h100", 2, restart=2),
    ),
    "slurm heterogeneous": (
        {
            **SLURM,
            "SLURM_JOB_ID": "4829{node}",
            "SLURM_HET_SIZE": "2",
            "SLURM_JOB_ID_HET_GROUP_0": "48291",
            "SLURM_JOB_ID_HET_GROUP_1": "48292",
            "SLURM_JOB_NODELIST_HET_GROUP_0": "nid001",
            "SLURM_JOB_NODELIST_HET_GROUP_1": "nid002",
        },
        Allocation(Scheduler.SLURM, "48291", "alps", None, "nlp", "h100", 2),
    ),
    "pbs pro": (PBS, Allocation(Scheduler.PBS, "7712", "pbs01", None, None, "gpuq", 2)),
    "pbs pro array": (
        {
            **PBS,
            "PBS_JOBID": "7712[5].pbs01",
            "PBS_ARRAY_INDEX": "5",
            "PBS_ARRAY_ID": "7712[].pbs01",
        },
        Allocation(Scheduler.PBS, "7712[5]", "pbs01", 5, None, "gpuq", 2),
    ),
    "torque array": (
        TORQUE,
        Allocation(Scheduler.PBS, "991[3]", "torque.example.org", 3, None, "batch", 2),
    ),
    "lsf": (LSF, Allocation(Scheduler.LSF, "5521", "summit", None, "climate", "normal", 2)),
    "lsf array, restarted": (
        {**LSF, "LSB_JOBINDEX": "4", "LSB_BATCH_JID": "5521[4]", "LSB_RESTART": "Y"},
        Allocation(Scheduler.LSF, "5521", "summit", 4, "climate", "normal", 2, restart=1),
    ),
    "flux": (FLUX, Allocation(Scheduler.FLUX, "ƒ2oPvKbSS9", nodes_expected=2, outer="ƒabcD")),
    "flux in slurm": (
        {**SLURM, **FLUX, "FLUX_JOB_ID_PATH": "/ƒ2oPvKbSS9"},
        Allocation(Scheduler.FLUX, "ƒ2oPvKbSS9", nodes_expected=2, outer="slurm alps 48291"),
    ),
    "kubernetes": (
        KUBERNETES,
        Allocation(
            Scheduler.KUBERNETES,
            "5cf76b42-cbc8-484a-b496-6b867182e523",
            account="nlp",
            nodes_expected=2,
        ),
    ),
    "ray driver": (RAY_DRIVER, Allocation(Scheduler.RAY, "raysubmit_7qE3")),
    "ray worker": (RAY_WORKER, Allocation(Scheduler.RAY, "01000000", "raycluster-x7k2p")),
    "torchrun": (TORCHRUN, Allocation(Scheduler.TORCHRUN, "pretrain-7", nodes_expected=2)),
    "torchrun in slurm": (
        {**SLURM, **TORCHRUN},
        Allocation(Scheduler.SLURM, "48291", "alps", None, "nlp", "h100", 2),
    ),
    "open mpi 5": (
        OPEN_MPI_5,
        Allocation(Scheduler.MPI, "prterun-nid001-15868@1", nodes_expected=2),
    ),
    "open mpi 4": (
        OPEN_MPI_4,
        Allocation(Scheduler.MPI, "a3f1c9d2e8b74410-5c6d7e8f90a1b2c3", nodes_expected=2),
    ),
    "hydra": (HYDRA, Allocation(Scheduler.MPI, "nid001:46681", nodes_expected=2)),
}


def read(path: str) -> str:
    return FILES.get(path, "")


def on_node(environ: Mapping[str, str], node: int) -> dict[str, str]:
    return {name: value.replace("{node}", str(node)) for name, value in environ.items()}


def identity(
    environ: Mapping[str, str],
    *,
    node: int = 1,
    command: Sequence[str] = COMMAND,
    name: str | None = None,
    project: str | None = None,
) -> Identity:
    return identify(
        on_node(environ, node),
        command=[word.replace("{node}", str(node)) for word in command],
        name=name,
        project=project,
        hostname=f"nid00{node}",
        read=read,
    )


@pytest.mark.parametrize(("environ", "expected"), TABLE.values(), ids=TABLE)
def test_each_scheduler_is_known_and_its_nodes_agree(
    environ: Mapping[str, str], expected: Allocation
) -> None:
    first, second = identity(environ, node=1), identity(environ, node=2)
    assert first.allocation is not None
    assert replace(first.allocation, hosts=()) == expected
    assert first.nodes_expected == expected.nodes_expected
    assert first == second
    assert first.run_id is not None
    assert uuid.UUID(first.run_id).version == 5


def test_jobs_that_differ_are_different_runs() -> None:
    ids = [identity(environ).run_id for environ, _ in TABLE.values()]
    # A requeued job is the same run, and so is one with another launcher inside.
    same = {"slurm", "slurm requeued", "torchrun in slurm", "slurm heterogeneous"}
    names = list(TABLE)
    assert len({ids[names.index(name)] for name in same}) == 1
    assert len(set(ids)) == len(TABLE) - len(same) + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda: identity({**SLURM, "SLURM_JOB_ID": "48292"}),
        lambda: identity({**SLURM, "SLURM_CLUSTER_NAME": "daint"}),
        lambda: identity(SLURM, project="other"),
        lambda: identity(SLURM, name="prepare"),
        lambda: identity(SLURM, command=["python", "prepare.py"]),
        lambda: identity({**SLURM, "CARBONTRACK_RUN_ID": "mine"}),
        lambda: identity({**SLURM, "SLURM_ARRAY_TASK_ID": "3"}),
    ],
)
def test_another_job_project_name_or_command_is_another_run(
    change: Callable[[], Identity],
) -> None:
    assert change().run_id != identity(SLURM).run_id


def test_a_name_takes_the_commands_place() -> None:
    one = identity(SLURM, name="llama", command=["python", "a.py"])
    assert one.run_id == identity(SLURM, name="llama", command=["python", "b.py"]).run_id


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"JOB_COMPLETION_INDEX": "1", "KUBERNETES_SERVICE_HOST": "10.96.0.1"},
        {**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"},
        {"RAY_JOB_ID": "01000000", "RAY_ADDRESS": "10.0.0.4:6379"},
        {"PMI_RANK": "0", "SLURM_JOB_ID": ""},
        {"RAY_JOB_CONFIG_JSON_ENV_VAR": "[]"},
        {"CARBONTRACK_RUN_ID": ""},
    ],
)
def test_what_would_be_everybodys_job_is_none(environ: Mapping[str, str]) -> None:
    def unknown(path: str) -> str:
        return ""

    found = identify(
        environ, command=COMMAND, name=None, project=None, hostname="nid001", read=unknown
    )
    assert found == Identity(None, None)


@pytest.mark.parametrize("environ", [one for one, _ in TABLE.values()], ids=TABLE)
def test_without_the_variables_that_tell_it_there_is_no_shared_run(
    environ: Mapping[str, str],
) -> None:
    """The wrapper looks at these alone before it imports what reads the others."""
    assert set(environ) & set(TELLING)
    silent = {name: value for name, value in environ.items() if name not in TELLING}
    assert identity(silent) == Identity(None, None)
    assert this_run(on_node(environ, 1), COMMAND, {}).is_shared == (
        identify(
            on_node(environ, 1),
            command=COMMAND,
            name=None,
            project=None,
            hostname="nid001",
            read=lambda path: "",
        ).run_id
        is not None
    )


def test_a_run_id_that_the_user_sets_wins() -> None:
    environ = {**SLURM, "CARBONTRACK_RUN_ID": "résumé of 7 B"}
    mine = identity(environ)
    assert mine.run_id == identity({"CARBONTRACK_RUN_ID": "résumé of 7 B"}).run_id
    assert mine.run_id == identity(environ, command=["other"]).run_id
    assert mine.run_id != identity(environ, project="another").run_id
    assert mine.allocation == identity(SLURM).allocation


@pytest.mark.parametrize("environ", [{"CARBONTRACK_RUN_ID": "7"}, KUBERNETES, SLURM])
def test_the_number_of_nodes_that_the_user_sets_wins(environ: Mapping[str, str]) -> None:
    found = this_run(on_node({**environ, "CARBONTRACK_NODES": "4"}, 1), COMMAND, {})
    assert found.job["nodes_expected"] == 4


@pytest.mark.parametrize(
    ("command", "nodes"),
    [(["python", "prepare.py"], 1), (["srun", "python", "train.py"], 2)],
)
def test_a_batch_script_runs_on_one_node_unless_it_starts_steps(
    command: list[str], nodes: int
) -> None:
    batch = {name: value for name, value in SLURM.items() if "STEP" not in name}
    found = identity(batch, command=command).allocation
    assert found is not None
    assert found.nodes_expected == nodes


@pytest.mark.parametrize(
    "command",
    [
        ["torchrun", "--node-rank={node}", "--master_addr=nid001", "train.py"],
        ["torchrun", "--node_rank", "{node}", "--rdzv-endpoint", "nid00{node}:29500", "train.py"],
        ["accelerate", "launch", "--machine_rank", "{node}", "train.py"],
        ["env", "RANK={node}", "python", "train.py"],
        ["python", "train.py", "trainer.node_rank={node}", "+trainer.lr=3e-4"],
        ["python", "train.py", "--log", "logs/rank{node}.txt"],
        ["python", "train.py", "--log", "logs/nid00{node}.cluster.example/out"],
        ["python", "train.py", "--dist-url", "tcp://10.1.0.{node}:23456"],
        ["python", "train.py", "--peer", "nid002,nid001"],
        ["python", "train.py", "--host=nid00{node}", "--rank"],
    ],
)
def test_words_with_a_rank_or_a_host_do_not_tell_nodes_apart(command: list[str]) -> None:
    assert identity(SLURM, node=1, command=command).run_id == (
        identity(SLURM, node=2, command=command).run_id
    )


@pytest.mark.parametrize(
    "word",
    ["--lora-rank", "16", "--lora_rank=16", "train.py", "--version=1.2.3", "node", "seed=7", "{}"],
)
def test_other_words_tell_runs_apart(word: str) -> None:
    assert shared_words(["python", word], ["nid001", ""]) == ["python", word]


def test_an_option_without_its_value_takes_no_other() -> None:
    assert shared_words(["a", "--rank", "--lr", "1"], []) == ["a", "--lr", "1"]


@pytest.mark.parametrize(
    ("nodes", "hosts"),
    [
        ("nid001", ["nid001"]),
        ("nid[001-003,07],login", ["nid001", "nid002", "nid003", "nid07", "login"]),
        ("r[1-2]n[08-09]", ["r1n08", "r1n09", "r2n08", "r2n09"]),
        ("", []),
        ("a[b-c]", []),
        ("a[1", ["a", "1"]),
    ],
)
def test_lists_of_hosts(nodes: str, hosts: list[str]) -> None:
    assert expand_hosts(nodes, 16) == hosts


def test_a_list_of_hosts_has_a_limit() -> None:
    assert len(expand_hosts("n[0-999999999]", 16_384)) == 16_384


@given(st.dictionaries(st.text(), st.text()), st.lists(st.text()))
def test_no_environment_or_command_is_too_odd(environ: dict[str, str], words: list[str]) -> None:
    odd = {name: environ.get(name, "\0x[1-") for name in [*SLURM, *PBS, *LSF, *RAY_DRIVER]}
    for one in (environ, odd):
        identify(one, command=words, name=None, project=None, hostname="", read=read)
        allocation_of(one, read)


def test_ids_are_those_of_the_standard_library() -> None:
    parts = ["a", 1, None, "é"]
    assert uuid5(parts) == str(uuid.uuid5(uuid.UUID(bytes=_NAMESPACE), json.dumps(parts)))
    assert uuid.UUID(uuid7()).version == 7

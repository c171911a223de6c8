"""What a run is called: the script, module or program that its command really runs."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.record.run_name import default_name
from carbontrack.redact import redact

NAMES = [
    ("flock -w 5 /tmp/lock python train.py", "train"),
    ("tini -s -- python train.py", "train"),
    ("systemd-run --user --scope -p MemoryMax=9G python train.py", "train"),
    ("compute-sanitizer --tool memcheck python train.py", "train"),
    ("gdb -ex run --args python train.py", "train"),
    ("csh -c 'setenv A 1; python train.py'", "train"),
    ("bash -c -- 'python train.py'", "train"),
    ("sh -c 'rm -rf out; cp a b && python train.py'", "train"),
    ("./train.sh --lr 1", "train"),
    ("python -u train.py --lr 1", "train"),
    ("/usr/bin/python3.11 -m llama_train train", "llama_train"),
    ("python -m pkg.mod", "pkg.mod"),
    ("python -um pkg.mod", "pkg.mod"),
    ("python -X dev -W error train.py", "train"),
    ("python -c 'print(1)' a.py", "python"),
    ("python", "python"),
    ("python - < x", "python"),
    ("python train/__main__.py", "train"),
    ("env A=B python train.py", "train"),
    ("env HF_TOKEN=*** python train.py", "train"),
    ("env -u X -i A=B python train.py", "train"),
    ("A=B C=D ./run", "run"),
    ("torchrun --nproc-per-node 8 t.py", "t"),
    ("torchrun --standalone pretrain.py", "pretrain"),
    ("torchrun --standalone --nproc_per_node=gpu -m llama_train train", "llama_train"),
    ("torchrun --nnodes 2 --rdzv-id 1 --rdzv-backend c10d train.py --epochs 3", "train"),
    ("python -m torch.distributed.run --nproc-per-node 2 work.py pass", "work"),
    ("accelerate launch train.py", "train"),
    ("accelerate launch --config_file a.yaml --num_processes 8 --multi_gpu train.py x.py", "train"),
    ("accelerate launch -m pkg.train --lr 1", "pkg.train"),
    ("accelerate config", "accelerate"),
    ("deepspeed --num_gpus 8 --hostfile hosts ds.py --deepspeed cfg.json", "ds"),
    ("deepspeed --include localhost:0,1 --module pkg.ds", "pkg.ds"),
    ("srun -N2 --ntasks-per-node=8 --gpus 8 python train.py", "train"),
    ("srun -N 2 -l --exclusive ./a.out", "a.out"),
    ("srun --pty bash", "bash"),
    ("mpirun -np 4 python train.py", "train"),
    ("mpirun -n 4 -host a,b -x PATH ./solver in.dat", "solver"),
    ("mpiexec --allow-run-as-root -np 2 train.sh", "train"),
    ("uv run train.py", "train"),
    ("uv run --with torch python train.py", "train"),
    ("uv run -- python -m pkg", "pkg"),
    ("uv pip install x", "uv"),
    ("poetry run python train.py", "train"),
    ("conda run -n llm --no-capture-output python train.py", "train"),
    ("nice -n 5 ./train", "train"),
    ("nice -10 ./train", "train"),
    ("nohup python train.py", "train"),
    ("timeout -k 5 1h python train.py", "train"),
    ("timeout 60 ./x", "x"),
    ("time -p sleep 5", "sleep"),
    ("taskset -c 0-3 python train.py", "train"),
    ("taskset 0x3 python train.py", "train"),
    ("numactl --cpunodebind=0 --membind=0 python train.py", "train"),
    ("numactl -N 0 -m 0 python train.py", "train"),
    ("nsys profile -o out --trace=cuda python train.py", "train"),
    ("sudo -u ada python train.py", "train"),
    ("apptainer exec --nv image.sif python train.py", "train"),
    ("singularity exec --nv -B /data image.sif torchrun --nproc-per-node 4 t.py", "t"),
    ("docker run --rm -it --gpus all -v /data:/data llm:1 python train.py", "train"),
    ("podman run -e HF_TOKEN=*** --network=host llm torchrun --nproc-per-node 8 t.py", "t"),
    ("docker ps", "docker"),
    ("ray job submit --address http://head:8265 --no-wait -- python train.py", "train"),
    ("xargs -n 1 -P 4 python eval.py", "eval"),
    ("parallel -j 4 --joblog log python sweep.py {} ::: 1 2 3", "sweep"),
    ("op run --env-file=.env -- python train.py", "train"),
    ("doppler run -p llm -c prod -- python train.py", "train"),
    ("aws-vault exec research -- python train.py", "train"),
    ("aws-vault exec --duration 8h research python train.py", "train"),
    ("dotenv run python train.py", "train"),
    ("envdir secrets srun -N2 ./train", "train"),
    ("bash", "bash"),
    ("bash run.sh a b", "run"),
    ("bash -x -o pipefail run.sh", "run"),
    ("bash -euo pipefail run.sh", "run"),
    ("bash -euo pipefail -c 'export HF_TOKEN=***; python train.py'", "train"),
    ("bash -euxo pipefail +o history run.sh", "run"),
    ("/bin/sh -c 'sleep 4; echo hi'", "sleep"),
    ("bash -lc 'export HF_TOKEN=***; cd /x && python train.py'", "train"),
    ("bash -c '(exec sleep 3) & exec 3>&1; wait'", "sleep"),
    ("bash -c 'exec 3>&1; python train.py'", "train"),
    ("bash -c 'exec >log 2>&1; exec python train.py'", "train"),
    ("bash -c 'echo begins 2>&1 x; python train.py >> 3'", "train"),
    ("bash -c '2>errors python train.py <in &> log'", "train"),
    (
        "bash -c 'source a/activate && exec torchrun --nproc-per-node 8 t.py 2>&1 | tee log'",
        "t",
    ),
    ("sh -c 'A=1 B=2 ./go --x'", "go"),
    ("bash -c 'set -e\nmodule load cuda\nconda activate llm\npython -m pkg.mod'", "pkg.mod"),
    ("bash -c 'if true; then python train.py; fi'", "train"),
    ("bash -c 'cd /x'", "bash"),
    ("srun -N2 bash -c 'python train.py'", "train"),
    ("env A=B nice -n 5 timeout 9 python -m cProfile -o out train.py", "train"),
    ("sh -c '\"$@\"; exit $?' sh python train.py", "train"),
    ("bash -c '$CMD; sleep 5'", "sleep"),
    ("llama-cli -m model.gguf -p hello", "llama-cli"),
    ("/opt/bin/trainer-v1.2 x", "trainer-v1.2"),
    ("env", "env"),
    ("***", "run"),
]


@pytest.mark.parametrize(("command", "name"), NAMES)
def test_the_name_is_what_is_really_run(command: str, name: str) -> None:
    assert default_name(shlex.split(command)) == name


def test_a_script_that_cannot_be_read_has_the_shells_name() -> None:
    assert default_name(["sh", "-c", "it's"]) == "sh"


@pytest.mark.parametrize(
    "command",
    [
        ["env", "HF_TOKEN=S11", "python", "train.py"],
        ["bash", "-lc", "export HF_TOKEN=S11; python train.py"],
        ["bash", "-lc", "HF_TOKEN=S11 exec python train.py"],
        ["sh", "-c", "ghp_S11abcdefghijklmnop0123"],
    ],
)
def test_no_secret_becomes_a_name(command: list[str]) -> None:
    assert default_name(redact(command)) in ("train", "sh")


def test_a_name_is_one_printable_line() -> None:
    assert default_name(["./a\n\x1b[2J" + "x" * 500]).startswith("a [2Jxx")
    assert len(default_name(["x" * 500])) == 100
    assert default_name([]) == "run"


_WORDS = [
    "env",
    "A=1",
    "python",
    "-m",
    "sh",
    "-c",
    "--",
    "-",
    "x y",
    "torchrun",
    "srun",
    "uv",
    "run",
]


@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from(_WORDS)), max_size=8))
def test_any_command_has_a_name_of_one_line(command: list[str]) -> None:
    name = default_name(command)
    assert name
    assert name.isprintable()
    assert len(name) <= 100

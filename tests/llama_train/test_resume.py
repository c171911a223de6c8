"""What survives: a killed run, a preempted one, a torn checkpoint, another number of ranks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import TINY_RUN, llama_train, run

# Micro-batches of one make the steps slow enough to be interrupted between.
STEPS = (
    "--train.steps=20",
    "--train.warmup_steps=2",
    "--train.eval_every=20",
    "--train.micro_batch=1",
)
EVERY = ("--checkpoint.every=5", "--checkpoint.keep_last=4")


def losses(folder: Path) -> dict[int, tuple[float, float]]:
    """step → (loss, gradient norm); of a step that was done twice, the later."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: (line["loss"], line["grad_norm"]) for line in lines if "lr" in line}


@pytest.fixture(scope="module")
def straight(
    pydoc_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, tuple[float, float]]:
    out = tmp_path_factory.mktemp("straight")
    run("train", *TINY_RUN, *STEPS, *EVERY, "--data", pydoc_data, "--out", out)
    return losses(out)


def started(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        llama_train(*words),
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(condition: Iterator[bool]) -> None:
    deadline = time.monotonic() + 60
    while not next(condition):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_resumes_bit_for_bit(
    pydoc_data: Path, tmp_path: Path, straight: dict[int, tuple[float, float]]
) -> None:
    out = tmp_path / "run"
    words = ["train", *TINY_RUN, *STEPS, *EVERY, "--data", pydoc_data, "--out", out, "--resume"]
    job = started(*words)
    try:
        wait_for(iter(lambda: (out / "checkpoints" / "step-00000010").is_dir(), None))
    finally:
        job.kill()
        job.communicate()
    assert max(losses(out)) < 20
    run(*words)
    assert losses(out) == straight


def test_a_preempted_run_exits_143_and_loses_nothing(
    pydoc_data: Path, tmp_path: Path, straight: dict[int, tuple[float, float]]
) -> None:
    out = tmp_path / "run"
    words = ["train", *TINY_RUN, *STEPS, "--data", pydoc_data, "--out", out, "--resume"]
    metrics = out / "metrics.jsonl"
    done_before = 0
    for number in (signal.SIGTERM, signal.SIGUSR1):
        job = started(*words)
        wanted = f'"step": {done_before + 3}'
        wait_for(iter(lambda: metrics.exists() and wanted in metrics.read_text(), None))
        job.send_signal(number)
        _, errors = job.communicate(timeout=60)
        assert job.returncode == 143, errors
        done_before = int((out / "checkpoints" / "latest").read_text().removeprefix("step-"))
        assert max(losses(out)) == done_before < 20
    run(*words)
    assert losses(out) == straight


def test_a_torn_checkpoint_is_passed_over(
    pydoc_data: Path, tmp_path: Path, straight: dict[int, tuple[float, float]]
) -> None:
    out = tmp_path / "run"
    words = ["train", *TINY_RUN, *STEPS, *EVERY, "--data", pydoc_data, "--out", out]
    run(*words)
    newest = out / "checkpoints" / "step-00000020"
    (shard,) = newest.glob("*.distcp")
    os.truncate(shard, shard.stat().st_size // 2)
    (out / "checkpoints" / "step-00000015" / "manifest.json").unlink()
    (out / "metrics.jsonl").unlink()
    done = run(*words, "--resume")
    assert "step-00000020 is torn" in done.stderr
    assert "step-00000015 is torn (no readable manifest.json)" in done.stderr
    assert losses(out) == {step: value for step, value in straight.items() if step > 10}
    assert (out / "checkpoints" / "latest").read_text() == "step-00000020"


def test_ranks_may_change_between_checkpoints(
    pydoc_data: Path, tmp_path: Path, straight: dict[int, tuple[float, float]]
) -> None:
    out = tmp_path / "run"
    words = ["train", *TINY_RUN, *STEPS, *EVERY, "--data", pydoc_data, "--out", out, "--resume"]
    run(*words, ranks=2)
    for ranks, last in ((0, 5), (2, 10)):
        for later in (out / "checkpoints").glob("step-*"):
            if later.name > f"step-{last:08d}":
                shutil.rmtree(later)
        (out / "metrics.jsonl").unlink()
        run(*words, ranks=ranks)
        found = losses(out)
        assert min(found) == last + 1
        for step, value in found.items():
            assert value == pytest.approx(straight[step], rel=5e-4)


def test_old_checkpoints_go_and_every_mth_stays(pydoc_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ["--checkpoint.every=2", "--checkpoint.keep_last=2", "--checkpoint.keep_every=8"]
    run("train", *TINY_RUN, *STEPS, *settings, "--data", pydoc_data, "--out", out)
    kept = sorted(path.name for path in (out / "checkpoints").glob("step-*"))
    assert kept == ["step-00000008", "step-00000016", "step-00000018", "step-00000020"]


def test_other_data_or_another_model_is_refused(pydoc_data: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    short = ["--train.steps=2", "--train.warmup_steps=1", "--checkpoint.every=2"]
    words = ["train", *TINY_RUN, *short, "--out", out]
    run(*words, "--data", pydoc_data)
    run("prepare", "--corpus=pydoc", "--held-out=0.2", "--out", other)
    assert "trained on other data" in run(*words, "--data", other, "--resume", exit_code=2).stderr
    done = run(*words, "--data", pydoc_data, "--resume", "--model.n_layers=1", exit_code=2)
    assert "another model: n_layers 2 instead of 1" in done.stderr
    done = run(*words, "--data", pydoc_data, exit_code=2)
    assert "already holds a run" in done.stderr

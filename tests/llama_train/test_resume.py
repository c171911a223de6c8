"""What survives: a killed run, a preempted one, a torn checkpoint, another number of ranks."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from llama_train.checkpoint import checkpoints, newest
from llama_train.errors import TrainError
from llama_train.prepare import PYDOC, Source, prepare
from tests.fixtures.wrap import PATIENCE_S, wait_until

from .conftest import TINY_RUN, llama_train, run, train_here

STEPS = (
    "--train.steps=20",
    "--train.warmup_steps=2",
    "--train.eval_every=20",
    "--train.micro_batch=1",
    "--model.context=64",
)
EVERY = ("--checkpoint.every=5", "--checkpoint.keep_last=4")


def losses(folder: Path) -> dict[int, tuple[float, float]]:
    """step → (loss, gradient norm); of a step that was done twice, the later."""
    metrics = folder / "metrics.jsonl"
    if not metrics.exists():
        return {}
    whole, _, _ = metrics.read_text().rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    return {line["step"]: (line["loss"], line["grad_norm"]) for line in lines if "lr" in line}


@pytest.fixture(scope="module")
def straight(
    pydoc_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, tuple[float, float]]:
    out = tmp_path_factory.mktemp("straight")
    train_here(*TINY_RUN, *STEPS, *EVERY, data=pydoc_data, out=out)
    return losses(out)


def held(
    step: int, go: Path, *words: str | Path, out: Path, ranks: int = 0
) -> subprocess.Popen[str]:
    """A training that has done all steps before this one, and waits for the file `go`."""
    program = (str(Path(__file__).with_name("held.py")), str(step), str(go))
    job = subprocess.Popen(
        llama_train(*words, "--out", out, ranks=ranks, program=program),
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wait_until(lambda: job.poll() is not None or max(losses(out), default=0) == step - 1)
    return job


def test_a_killed_run_resumes_bit_for_bit(
    pydoc_data: Path, tmp_path: Path, straight: dict[int, tuple[float, float]]
) -> None:
    out = tmp_path / "run"
    words = [*TINY_RUN, *STEPS, *EVERY]
    job = held(13, tmp_path / "go", "train", *words, "--data", pydoc_data, out=out)
    job.kill()
    job.communicate()
    assert max(losses(out)) == 12
    train_here(*words, data=pydoc_data, out=out, resume=True)
    assert losses(out) == straight


def test_a_preempted_run_exits_143_and_loses_nothing(
    pydoc_data: Path, tmp_path: Path, straight: dict[int, tuple[float, float]]
) -> None:
    out = tmp_path / "run"
    words = [*TINY_RUN, *STEPS]
    for step, number in ((4, signal.SIGTERM), (8, signal.SIGUSR1)):
        go = tmp_path / f"go-{number}"
        train = ("train", *words, "--data", pydoc_data, "--resume")
        job = held(step, go, *train, out=out)
        job.send_signal(number)
        go.touch()
        _, errors = job.communicate(timeout=PATIENCE_S)
        assert job.returncode == 143, errors
        # The step that it waited in, and none after it.
        assert (out / "checkpoints" / "latest").read_text() == f"step-{step:08d}"
        assert max(losses(out)) == step
    train_here(*words, data=pydoc_data, out=out, resume=True)
    assert losses(out) == straight


def test_a_torn_checkpoint_is_passed_over(
    pydoc_data: Path,
    tmp_path: Path,
    straight: dict[int, tuple[float, float]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*TINY_RUN, *STEPS, *EVERY]
    train_here(*words, data=pydoc_data, out=tmp_path)
    checkpoints = tmp_path / "checkpoints"
    (shard,) = (checkpoints / "step-00000020").glob("*.distcp")
    os.truncate(shard, shard.stat().st_size // 2)
    (checkpoints / "step-00000015" / "manifest.json").unlink()
    (tmp_path / "metrics.jsonl").unlink()
    train_here(*words, data=pydoc_data, out=tmp_path, resume=True)
    said = capsys.readouterr().err
    assert "step-00000020 is torn (__0_0.distcp has" in said
    assert "step-00000015 is torn (no readable manifest.json)" in said
    assert losses(tmp_path) == {step: value for step, value in straight.items() if step > 10}
    assert (checkpoints / "latest").read_text() == "step-00000020"


def test_nothing_but_torn_checkpoints_is_an_error(pydoc_data: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-00000005").mkdir(parents=True)
    with pytest.raises(TrainError, match=r"No checkpoint .* is whole"):
        train_here(*TINY_RUN, *STEPS, data=pydoc_data, out=tmp_path, resume=True)


def test_ranks_and_layout_may_change_between_checkpoints(
    pydoc_data: Path, tmp_path: Path, straight: dict[int, tuple[float, float]]
) -> None:
    for ranks, first, layout in ((2, 0, []), (1, 5, []), (2, 10, ["--parallel.replicate=2"])):
        words = [*TINY_RUN, *STEPS, *EVERY, *layout]
        for later in (tmp_path / "checkpoints").glob("step-*"):
            if later.name > f"step-{first:08d}":
                shutil.rmtree(later)
        (tmp_path / "metrics.jsonl").unlink(missing_ok=True)
        if first == 0:
            # torchrun is killed: its ranks do not go on alone, and lose nothing.
            go = tmp_path / "go"
            train = ("train", *words, "--data", pydoc_data)
            job = held(7, go, *train, out=tmp_path, ranks=2)
            job.kill()
            job.wait()
            go.touch()
            # Whoever writes to the pipe holds it: this waits for the ranks too.
            _, errors = job.communicate(timeout=PATIENCE_S)
            assert "stopped by a signal" in errors
            latest = (tmp_path / "checkpoints" / "latest").read_text()
            assert (latest, max(losses(tmp_path))) == ("step-00000007", 7)
        elif ranks == 1:
            train_here(*words, data=pydoc_data, out=tmp_path, resume=True)
        else:
            where = ("--data", pydoc_data, "--out", tmp_path, "--resume")
            run("train", *words, *where, ranks=ranks)
        found = losses(tmp_path)
        assert min(found) == first + 1
        for step, value in found.items():
            assert value == pytest.approx(straight[step], rel=5e-4)


def test_old_checkpoints_go_and_every_mth_stays(pydoc_data: Path, tmp_path: Path) -> None:
    keep = ["--checkpoint.every=2", "--checkpoint.keep_last=2", "--checkpoint.keep_every=8"]
    train_here(*TINY_RUN, *STEPS, *keep, data=pydoc_data, out=tmp_path)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    assert kept == ["step-00000008", "step-00000016", "step-00000018", "step-00000020"]


def test_a_torn_checkpoint_of_a_later_step_retires_none(pydoc_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    keep = ["--checkpoint.every=1", "--checkpoint.keep_last=1"]
    words = [*TINY_RUN, "--train.warmup_steps=1", *keep]
    train_here(*words, "--train.steps=1", data=pydoc_data, out=tmp_path)
    (folder / "step-00000009").mkdir()
    train_here(*words, "--train.steps=3", data=pydoc_data, out=tmp_path, resume=True)
    assert [path.name for path in checkpoints(folder)] == ["step-00000003", "step-00000009"]
    assert (folder / "latest").read_text() == newest(tmp_path)[0].name == "step-00000003"


def test_a_torn_checkpoint_is_none_of_those_that_are_kept(pydoc_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    keep = ["--checkpoint.every=9", "--checkpoint.keep_last=2"]
    words = [*TINY_RUN, "--train.warmup_steps=1", *keep]
    train_here(*words, "--train.steps=1", data=pydoc_data, out=tmp_path)
    (folder / "step-00000002").mkdir()
    for steps, kept in ((3, [1, 2, 3]), (4, [3, 4])):
        train_here(*words, f"--train.steps={steps}", data=pydoc_data, out=tmp_path, resume=True)
        assert [path.name for path in checkpoints(folder)] == [f"step-{one:08d}" for one in kept]


def test_what_a_user_puts_beside_the_checkpoints_stays_and_is_none(
    pydoc_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "checkpoints"
    keep = ["--checkpoint.every=1", "--checkpoint.keep_last=1"]
    words = [*TINY_RUN, "--train.warmup_steps=1", *keep]
    train_here(*words, "--train.steps=1", data=pydoc_data, out=tmp_path / "run")
    first = folder / "step-00000001"
    for name in ("step-00000001-good", "step-00000001-good.part", "step-1", "step-best"):
        shutil.copytree(first, folder / name)
    (folder / "step-00000009").write_text("a file")
    (folder / "notes.part").write_text("a file")
    shutil.move(first, tmp_path / "elsewhere")
    first.symlink_to(tmp_path / "elsewhere")
    own = {path.name for path in folder.iterdir()}
    result = train_here(
        *words, "--train.steps=3", data=pydoc_data, out=tmp_path / "run", resume=True
    )
    assert result.progress.step == 3
    assert {path.name for path in folder.iterdir()} == own | {"step-00000003"}
    assert (tmp_path / "elsewhere" / "manifest.json").exists()
    shutil.copytree(folder / "step-00000003", folder / "step-00000003-good")
    assert newest(tmp_path / "run")[0] == folder / "step-00000003"


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    names = ["step-00000002", "step-99999999", "step-100000000"]
    for name in names:
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == names


def test_other_data_or_another_model_is_refused(pydoc_data: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other", tmp_path / "run"
    words = [*TINY_RUN, "--train.steps=2", "--train.warmup_steps=1"]
    train_here(*words, data=pydoc_data, out=out)
    prepare([Source(PYDOC, ())], other, tokenizer=None, vocab_size=512, held_out=0.2)
    with pytest.raises(TrainError, match="trained on other data"):
        train_here(*words, data=other, out=out, resume=True)
    with pytest.raises(TrainError, match="another model: n_layers 2 instead of 1"):
        train_here(*words, "--model.n_layers=1", data=pydoc_data, out=out, resume=True)


def test_another_order_of_the_data_is_refused_and_other_settings_are_not(
    pydoc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY_RUN, "--train.steps=4", "--train.warmup_steps=1"]
    train_here(*words, data=pydoc_data, out=tmp_path)
    other = ["--train.seed=7", "--train.batch_size=4", "--model.context=16"]
    message = (
        "train.seed=0 and not 7, --train.batch_size=8 and not 4, --model.context=32 and not 16"
    )
    with pytest.raises(TrainError, match=message):
        train_here(*words, *other, data=pydoc_data, out=tmp_path, resume=True)
    fewer = ["--train.steps=2", "--train.lr=1e-3", "--train.micro_batch=2"]
    result = train_here(*words, *fewer, data=pydoc_data, out=tmp_path, resume=True)
    assert result.progress.step == 4
    assert "the run is at step 4 of 2: it is done already" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_is_one_line_and_the_one_before_stays(
    pydoc_data: Path, tmp_path: Path
) -> None:
    words = [*TINY_RUN, "--train.warmup_steps=1"]
    train_here(*words, "--train.steps=2", data=pydoc_data, out=tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(TrainError, match="step-00000004 could not be written: ") as caught:
            train_here(*words, "--train.steps=4", data=pydoc_data, out=tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-00000002"]
    again = train_here(*words, "--train.steps=4", data=pydoc_data, out=tmp_path, resume=True)
    assert again.progress.step == 4


def test_a_finished_run_resumes_to_its_result(pydoc_data: Path, tmp_path: Path) -> None:
    words = [*TINY_RUN, "--train.steps=2", "--train.warmup_steps=1"]
    first = train_here(*words, data=pydoc_data, out=tmp_path)
    again = train_here(*words, data=pydoc_data, out=tmp_path, resume=True)
    assert again.held_out == first.held_out
    assert again.progress == first.progress

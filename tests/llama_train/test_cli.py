"""The command line: what it prints, and one line with an exit code for what a user can mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llama_train import cli
from llama_train.tokenizer import Tokenizer

from .conftest import TINY_RUN, train_here


def call(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command, run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["llama_train", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_presets_print_the_reports_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "presets")
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert rows["llama2-7b"] == ["6,738,415,616", "4,096", "no", "2.00T", "3.0e-04"]
    assert rows["llama2-34b"] == ["33,743,970,304", "4,096", "yes", "2.00T", "1.5e-04"]
    assert rows["llama1-65b"] == ["65,285,660,672", "2,048", "no", "1.40T", "1.5e-04"]


def test_the_settings_of_a_preset_are_its_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capsys, "presets", "demo")
    assert "--train.lr=0.004" in out.splitlines()


def test_plan_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--preset=llama2-70b", "--gpus=2048", "--parallel.tensor=8", "--format=json"]
    _, out, _ = call(capsys, *words)
    assert json.loads(out)["gpu_hours"] == pytest.approx(1_720_320, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--preset=dema", "--data=d", "--out=o"], "did you mean demo?"),
        (["train", "--data=/nowhere", "--out=o"], "holds no prepared data"),
        (["train", "--data=d", "--out=o", "--train.lrr=1"], "did you mean train.lr?"),
        (["train", "--data=d", "--out=o", "--overwriet"], "did you mean"),
        (["prepare", "--out=o"], "Nothing to prepare"),
        (["train", "--data=d", "--out=o", "--train.lr=0,0003"], "must be a number"),
        (["prepare", "--out=o", "--corpus=wiki"], "There is pydoc"),
        (["prepare", "--out=o", "--source=nowhere"], "nowhere does not exist"),
        (["prepare", "--out=o", "--source=a/b=nowhere"], "no name that a file could have"),
        (["prepare", "--out=o", "--source=a=nowhere@nan"], "not a number above 0"),
        (["prepare", "--out=/dev/null/o", "--corpus=pydoc"], "cannot be made"),
        (["plan", "--preset=demo", "--device=abacus"], "no accelerator is named 'abacus'"),
        (["generate", "/nowhere", "--prompt=x"], "is neither a run"),
        (["export", "/nowhere", "--out=o"], "is neither a run"),
        (["finetune", "--from=/nowhere", "--data=d", "--out=o"], "is neither a run"),
    ],
)
def test_bad_use_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *words)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_the_disk_refuses_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "index.json").mkdir()
    told = tmp_path / "told.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(told))
    code, _, err = call(capsys, "prepare", "--corpus=pydoc", "--out", tmp_path)
    assert (code, err.splitlines()[-1].startswith("llama_train: Is a directory (")) == (1, True)
    assert json.loads(told.read_text())["message"].startswith("Is a directory (")


@pytest.fixture(scope="module")
def padded(pydoc_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model most of whose ids are beyond the tokenizer's pieces."""
    out = tmp_path_factory.mktemp("padded")
    words = ("--model.vocab_size=4096", "--train.steps=1", "--train.warmup_steps=1")
    train_here(*TINY_RUN, *words, data=pydoc_data, out=out)
    return out


def test_a_temperature_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], padded: Path
) -> None:
    code, _, err = call(capsys, "generate", padded, "--prompt=a", "--tokens=1", "--temperature=nan")
    assert (code, err) == (
        2,
        "llama_train: The temperature is nan; it must be a number from 0 on.\n",
    )


def test_ids_beyond_the_pieces_are_no_text(
    capsys: pytest.CaptureFixture[str], padded: Path
) -> None:
    pieces = Tokenizer(padded / "tokenizer.model")
    yes = pieces.encode("yes")
    assert pieces.decode([pieces.vocab_size, *yes, 4095]) == "yes"
    words = ["--prompt=a", "--tokens=20", "--temperature=1"]
    code, out, err = call(capsys, "generate", padded, *words)
    assert (code, out[:1], err) == (0, "a", "")


def test_a_vocabulary_larger_than_the_models_is_refused(
    capsys: pytest.CaptureFixture[str], pydoc_data: Path, tmp_path: Path
) -> None:
    words = ["train", "--model.vocab_size=100", "--data", pydoc_data, "--out", tmp_path / "run"]
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "has 512 pieces, the model only 100. Add --model.vocab_size=512." in err


def test_a_model_that_cannot_fit_is_refused_before_anything_is_touched(
    capsys: pytest.CaptureFixture[str], pydoc_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    words = ["train", "--preset=llama2-70b", "--model.context=128", "--model.n_layers=8000"]
    words += ["--data", str(pydoc_data), "--out", str(tmp_path), "--overwrite"]
    code, _, err = call(capsys, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert "llama2-70b needs 102,009.8 GiB on each rank for weights, gradients and" in err
    assert (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_processes_that_do_not_know_of_each_other_are_refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    pydoc_data: Path,
    tmp_path: Path,
    name: str,
) -> None:
    monkeypatch.setenv(name, "2")
    words = ["train", *TINY_RUN, "--data", pydoc_data, "--out", tmp_path / "run"]
    code, _, err = call(capsys, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{name} is 2, but RANK, LOCAL_RANK" in err
    assert "Start the ranks with torchrun." in err


def test_a_run_that_is_there_is_neither_continued_nor_replaced_unasked(
    capsys: pytest.CaptureFixture[str], pydoc_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    words = ["train", *TINY_RUN, "--train.steps=1", "--data", pydoc_data, "--out", tmp_path / "run"]
    code, _, err = call(capsys, *words)
    assert (code, "already holds a run. Add --resume or --overwrite." in err) == (2, True)
    (tmp_path / "run" / "notes.txt").touch()
    code, out, _ = call(capsys, *words, "--overwrite")
    assert (code, out.startswith("demo: held-out loss")) == (0, True)
    assert (tmp_path / "run" / "notes.txt").exists()

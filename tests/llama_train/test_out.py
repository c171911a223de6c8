"""The folder of `--out`: no command replaces what it reads, nor, unasked, what is another's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from llama_train.data import TokenData
from llama_train.export import export
from llama_train.tokenizer import Tokenizer
from llama_train.train import would_overwrite
from llama_train.weights import load_pretrained

from .conftest import REWARD_SETTINGS, TINY_RUN
from .test_chat_resume import PPO, SHORT, TUNING, conversations
from .test_cli import call

FLAGS = ((), ("--resume",), ("--overwrite",))


@pytest.fixture
def hf(chat_base: Path, tmp_path: Path) -> Path:
    """A model in Hugging Face's layout."""
    folder = tmp_path / "hf"
    export(load_pretrained(chat_base), folder, Tokenizer(chat_base / "tokenizer.model"))
    return folder


def content(folder: Path) -> Mapping[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("stage", ["train", "finetune", "reward", "rejection", "ppo"])
def test_what_a_training_reads_is_no_place_for_its_run(
    stage: str,
    pydoc_data: Path,
    chat_base: Path,
    rewarded: tuple[Path, Path],
    hf: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs, rm = rewarded
    TokenData(pydoc_data, 32)  # which notes that it has read the shards: not to be written below
    chats = conversations(tmp_path / "chats.jsonl")
    judges = {"--reward": rm, "--safety": rm}
    settings, sources = {
        "train": (["train", *TINY_RUN], {"--data": pydoc_data}),
        "finetune": (
            ["finetune", *TUNING, *SHORT],
            {"--from": chat_base, "--data": chats, "--safety": rm},
        ),
        "reward": (["reward", *REWARD_SETTINGS], {"--from": chat_base, "--data": pairs}),
        "rejection": (
            ["align", "--method=rejection", *TUNING, *SHORT],
            {"--from": chat_base, **judges},
        ),
        "ppo": (["align", "--method=ppo", *PPO, *SHORT], {"--from": chat_base, **judges}),
    }[stage]
    folders = [(option, source) for option, source in sources.items() if source.is_dir()]
    if "--from" in sources:
        folders.append(("--from", hf))
    for option, source in folders:
        out = shutil.copytree(source, tmp_path / f"{option}-{source.name}")
        before = content(out)
        words = [word for pair in {**sources, option: out}.items() for word in pair]
        for flags in FLAGS:
            code, _, said = call(capsys, *settings, *words, "--out", out, *flags)
            message = f"--out {out} would overwrite what {option} {out} reads. Name another folder."
            assert (code, said) == (2, f"llama_train: {message}\n"), flags
            assert content(out) == before


def test_a_file_that_a_run_replaces_is_no_data_for_it(
    chat_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    data = conversations(out / "answers.jsonl")
    before = content(out)
    words = ["finetune", *TUNING, *SHORT, "--from", chat_base, "--data", data, "--out", out]
    for flags in FLAGS:
        code, _, said = call(capsys, *words, *flags)
        assert (code, f"would overwrite what --data {data} reads" in said) == (2, True), said
        assert content(out) == before


def test_a_folder_is_told_by_what_it_is_and_not_by_its_name(tmp_path: Path) -> None:
    base, link = tmp_path / "base", tmp_path / "link"
    base.mkdir()
    link.symlink_to(base)
    around = tmp_path / "around"
    (around / "checkpoints").mkdir(parents=True)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "checkpoints").symlink_to(base / "checkpoints")
    for out, source in (
        (base, base / ".." / "base"),
        (link, base),
        (base, link),
        (linked, base),
        (around, around / "checkpoints" / "base"),
        (base, base / "prompts.jsonl"),
    ):
        assert would_overwrite(out, source), (out, source)
    for out, source in (
        (tmp_path, base),
        (base / "chat", base),
        (base, base / "chats.jsonl"),
        (around, base),
    ):
        assert not would_overwrite(out, source), (out, source)


def test_a_folder_of_something_else_is_only_replaced_if_asked(
    pydoc_data: Path, hf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = shutil.copytree(pydoc_data, tmp_path / "prepared")
    words = ["train", *TINY_RUN, "--train.steps=1", "--train.warmup_steps=1", "--data", pydoc_data]
    for out, name in ((hf, "config.json"), (prepared, "tokenizer.model")):
        before = content(out)
        for flags in ((), ("--resume",)):
            code, _, said = call(capsys, *words, "--out", out, *flags)
            assert (code, f"{out} holds a {name} that is not a run's" in said) == (2, True), said
            assert content(out) == before
    assert call(capsys, *words, "--out", hf, "--overwrite")[0] == 0


def test_prepare_replaces_no_models_tokenizer(
    hf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(hf)
    words = ["prepare", "--corpus=pydoc", "--out", hf]
    code, _, said = call(capsys, *words)
    assert (code, f"{hf}/tokenizer.model is not of prepared data" in said) == (2, True), said
    assert content(hf) == before
    assert call(capsys, *words, "--tokenizer", hf / "tokenizer.model")[0] == 0
    assert content(hf).items() > before.items()

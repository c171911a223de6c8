"""A checkpoint that somebody else wrote may be wrong, and may not run anything."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, MetadataIndex

from .conftest import TINY_RUN, train_here
from .test_cli import call

WORDS = [*TINY_RUN, "--train.steps=1", "--train.warmup_steps=1"]


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def run(pydoc_data: Path, tmp_path: Path) -> Path:
    train_here(*WORDS, data=pydoc_data, out=tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What exists if the payload was called."""
    return tmp_path / "the payload ran"


def newest(run: Path) -> Path:
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    return checkpoint


def in_the_metadata(run: Path, payload: object) -> None:
    """Padded to the old size, so that the manifest holds."""
    path = newest(run) / ".metadata"
    path.write_bytes(pickle.dumps(payload).ljust(path.stat().st_size, b"\0"))


def behind_the_name(run: Path, name: str, saved: bytes) -> None:
    """Honest metadata, in which a value is no tensor but these bytes."""
    checkpoint = newest(run)
    metadata: Metadata = pickle.loads((checkpoint / ".metadata").read_bytes())  # noqa: S301
    metadata.state_dict_metadata[name] = BytesStorageMetadata()
    old = next(at for at in metadata.storage_data if at.fqn == name)
    place = metadata.storage_data.pop(old)
    shard = checkpoint / place.relative_path
    place.offset, place.length = shard.stat().st_size, len(saved)
    metadata.storage_data[MetadataIndex(name)] = place
    shard.write_bytes(shard.read_bytes() + saved)
    (checkpoint / ".metadata").write_bytes(pickle.dumps(metadata))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"] = {
        path.name: path.stat().st_size for path in checkpoint.iterdir() if path.suffix != ".json"
    }
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def as_saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


ATTACKS: dict[str, Callable[[Path, object], None]] = {
    "metadata": in_the_metadata,
    "a weight": lambda run, payload: behind_the_name(run, "model.norm.weight", as_saved(payload)),
    "an optimizer's setting": lambda run, payload: behind_the_name(
        run, "optimizer.param_groups.0.betas", as_saved(payload)
    ),
}


@pytest.mark.parametrize("command", ["generate", "export", "finetune", "--resume"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_foreign_checkpoint_runs_nothing(
    pydoc_data: Path,
    tmp_path: Path,
    run: Path,
    ran: Path,
    capsys: pytest.CaptureFixture[str],
    attack: str,
    command: str,
) -> None:
    ATTACKS[attack](run, Payload(ran))
    out, chats = tmp_path / "out", tmp_path / "chats.jsonl"
    pair = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    chats.write_text("".join(json.dumps({"messages": pair, "n": n}) + "\n" for n in range(40)))
    chat_settings = ["--held-out=0.4", "--model.context=64", "--train.steps=1"]
    words: dict[str, list[str | Path]] = {
        "generate": ["generate", run, "--prompt=a", "--tokens=1"],
        "export": ["export", run, "--out", out],
        "finetune": ["finetune", "--from", run, "--data", chats, "--out", out, *chat_settings],
        "--resume": ["train", *WORDS, "--data", pydoc_data, "--out", run, "--resume"],
    }
    code, _, err = call(capsys, *words[command])
    assert not ran.exists()
    if attack == "an optimizer's setting":
        assert code == 0, "settings are those of the command, not of the file"
    else:
        assert code == 2
        assert err.splitlines()[-1].startswith("llama_train: The weights in ")
        assert "step-00000001 cannot be read: " in err.splitlines()[-1]


@pytest.mark.parametrize(
    "named", [b"pathlib\nPosixPath", b"torch\nSize", b"torch.serialization\n_get_layout"]
)
def test_metadata_changes_no_class_of_this_process(
    run: Path, capsys: pytest.CaptureFixture[str], named: bytes
) -> None:
    """Honest metadata, after a class that it may name has been given another attribute."""
    path = newest(run) / ".metadata"
    change = b"\x80\x02c" + named + b"\nN}Vname\nVevil\ns\x86b0"
    honest = path.read_bytes()
    path.write_bytes(change + honest)
    manifest = path.with_name("manifest.json")
    content = json.loads(manifest.read_text())
    content["files"][".metadata"] = path.stat().st_size
    manifest.write_text(json.dumps(content))
    code, _, err = call(capsys, "generate", run, "--prompt=a", "--tokens=1")
    assert (code, Path("/a/b").name) == (2, "b")
    assert ".metadata changes a " in err.splitlines()[-1]


@pytest.mark.parametrize("count", [0, 10_000])
def test_metadata_that_is_cut_or_no_metadata_is_refused_by_name(
    run: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    in_the_metadata(run, list(range(count)))
    path = newest(run) / ".metadata"
    path.write_bytes(path.read_bytes()[: path.stat().st_size])
    manifest = newest(run) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"][".metadata"] = path.stat().st_size
    manifest.write_text(json.dumps(content))
    code, out, err = call(capsys, "generate", run, "--prompt=a", "--tokens=1")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "step-00000001" in err

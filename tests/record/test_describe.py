"""What a run is called, and that no secret of its command line is kept."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from carbontrack.record import describe
from tests.fixtures.wrap import PATIENCE_S


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["./train.sh", "--lr", "1"], "train.sh"),
        (["python", "-u", "train.py", "--lr", "1"], "train.py"),
        (["/usr/bin/python3.11", "-m", "llama_train", "train"], "llama_train"),
        (["torchrun", "--standalone", "pretrain.py"], "pretrain.py"),
        (["bash"], "bash"),
        (["/bin/sh", "-c", "sleep 4; echo hi"], "sh"),
    ],
)
def test_name_is_the_script_not_its_launcher(command: list[str], name: str) -> None:
    assert describe.default_name(command) == name


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["x", "--api-key=abc", "--lr=1"], ("x", "--api-key=***", "--lr=1")),
        (["x", "--hf-token", "abc", "--lr", "1"], ("x", "--hf-token", "***", "--lr", "1")),
        (["env", "WANDB_API_KEY=abc", "x"], ("env", "WANDB_API_KEY=***", "x")),
        (["x", "postgresql://me:pa55@host/db"], ("x", "postgresql://me:***@host/db")),
        (["x", "--token", "--verbose"], ("x", "--token", "--verbose")),
        (["x", "--tokens", "2048"], ("x", "--tokens", "2048")),
        (["x", "--max_tokens=5", "--tokenizer=a"], ("x", "--max_tokens=5", "--tokenizer=a")),
    ],
)
def test_secrets_are_redacted_and_nothing_else(command: list[str], shown: tuple[str, ...]) -> None:
    assert describe.redact(command) == shown


def test_a_git_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = tmp_path / "git"
    hangs.write_text("#!/bin/sh\nexec sleep 100000\n")
    hangs.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(describe, "_GIT_S", 0.2)
    assert describe.ask_git(str(tmp_path))() == (None, None)


def test_without_git_or_a_folder_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert describe.ask_git(str(tmp_path / "gone"))() == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe.ask_git(str(tmp_path))() == (None, None)


def test_git_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "_GIT_S", PATIENCE_S)
    assert describe.ask_git(str(tmp_path))() == (None, None)

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
        subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True
        )

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "first")
    commit, dirty = describe.ask_git(str(tmp_path))()
    assert commit is not None
    assert (len(commit), dirty) == (40, False)
    (tmp_path / "a").write_text("2")
    assert describe.ask_git(str(tmp_path))() == (commit, True)

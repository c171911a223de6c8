"""Where a run came from, whatever its surroundings are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from carbontrack.record import describe
from tests.fixtures.wrap import PATIENCE_S


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

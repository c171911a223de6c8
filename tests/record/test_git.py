"""Where a run came from, whatever its surroundings are."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from carbontrack.record import git as module
from carbontrack.record.git import ask_git
from carbontrack.record.process_end import is_running
from tests.fixtures.wrap import PATIENCE_S, wait_until


@pytest.fixture(autouse=True)
def reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was killed is waited for: its Popen would say that it still runs."""
    monkeypatch.setattr(module, "_MOMENT_S", PATIENCE_S)


def test_a_git_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = tmp_path / "git"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(module, "_LIMIT_S", 0.2)
    assert ask_git(str(tmp_path))() == (None, None)


def test_a_git_that_hangs_holds_up_no_end_and_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = tmp_path / "git"
    hangs.write_text('#!/bin/sh\nsleep 600 & echo $! >> "$PIDS"\nwait\n')
    hangs.chmod(0o755)
    pids = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(pids))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(module, "_LIMIT_S", PATIENCE_S)
    started = [False]

    def has_ended() -> bool:
        started[0] = started[0] or (pids.exists() and len(pids.read_text().split()) == 2)
        return started[0]

    assert ask_git(str(tmp_path), has_ended)() == (None, None)
    wait_until(lambda: not any(is_running(int(pid)) for pid in pids.read_text().split()))


def test_without_git_or_a_folder_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask_git(str(tmp_path / "gone"))() == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_git(str(tmp_path))() == (None, None)


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One commit of one file. Git may take its time."""
    monkeypatch.setattr(module, "_LIMIT_S", PATIENCE_S)
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    (folder / "a").write_text("1")
    git(folder, "add", "a")
    git(folder, "commit", "-m", "first")
    return folder


def test_git_state(tmp_path: Path, repository: Path) -> None:
    assert ask_git(str(tmp_path))() == (None, None)
    commit, dirty = ask_git(str(repository))()
    assert commit is not None
    assert (len(commit), dirty) == (40, False)
    (repository / "a").write_text("2")
    assert ask_git(str(repository))() == (commit, True)


def test_a_name_that_is_no_text_costs_nothing(repository: Path) -> None:
    git(repository, "config", "core.quotePath", "false")
    name = os.fsdecode(b"\xff\xfe")
    (repository / name).write_text("1")
    git(repository, "add", ".")
    assert ask_git(str(repository))()[1] is True


def test_a_flood_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    floods = tmp_path / "git"
    floods.write_text("#!/bin/sh\nexec yes\n")
    floods.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert ask_git(str(tmp_path))() == (None, None)


@pytest.mark.parametrize("by", ["core.fsmonitor", "filter.evil.clean", "filter.evil.process"])
def test_no_code_of_the_repository_is_run(repository: Path, by: str) -> None:
    evil = repository / "evil.sh"
    evil.write_text("#!/bin/sh\ntouch evil.was.here\n")
    evil.chmod(0o755)
    git(repository, "config", by, "./evil.sh")
    (repository / ".git" / "info").mkdir(exist_ok=True)
    (repository / ".git" / "info" / "attributes").write_text("* filter=evil\n")
    os.utime(repository / "a", (1, 1))  # so that it has to be compared
    commit, dirty = ask_git(str(repository))()
    assert commit is not None
    assert dirty is (None if by.startswith("filter") else False)
    assert not (repository / "evil.was.here").exists()

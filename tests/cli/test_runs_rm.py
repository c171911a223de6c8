"""`carbontrack runs rm`: what it says, asks and refuses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from carbontrack import Ledger
from carbontrack.cli.common import _run_names
from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger import remove
from carbontrack.ledger.verify import verify
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.terminal import Terminal

RUNS = [Recorded(name=name, number=n, count=2) for n, name in enumerate(("a", "b", "c"), start=1)]
CSV = "timestamp, uuid, power.draw [W]\n" + "".join(
    f"2026/01/01 00:00:{n:02}.000, GPU-1, 300.00 W\n" for n in range(60)
)


@pytest.fixture(autouse=True)
def ledger(command: Command, tmp_path: Path) -> Path:
    return write_ledger(tmp_path / "ledger.db", *RUNS)


def names(command: Command) -> list[str]:
    return [run["name"] for run in command("runs", "--format", "json").json["runs"]]


def test_a_dry_run_says_what_would_go_and_removes_nothing(command: Command) -> None:
    done = command("runs", "rm", "a", "b", "a", "--dry-run")
    first, second, last = done.out.splitlines()
    assert first.startswith(f"{RUNS[0].run.id}  a, completed: 4 windows, 20 steps, 0 events")
    assert second.startswith(RUNS[1].run.id)
    assert (done.code, last) == (0, "Nothing was removed: --dry-run.")
    assert names(command) == ["c", "b", "a"]


def test_nobody_to_ask_needs_yes(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", nothing)
        refused = command("runs", "rm", "a", "b")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "To remove these 2 runs cannot be undone, and nobody can be asked. Give --yes." in (
            refused.err
        )
        assert names(command) == ["c", "b", "a"]
        done = command("runs", "rm", "a", RUNS[1].run.id, "--yes")
    assert (done.code, done.out.splitlines()[-1]) == (0, "Removed 2 runs.")
    assert names(command) == ["c"]
    assert _run_names("") == ["c"], "completion offers what is there"


@pytest.mark.parametrize(("answer", "left"), [("n", ["c", "b", "a"]), ("y", ["c", "b"])])
def test_on_a_terminal_it_asks(
    command: Command, ledger: Path, answer: str, left: list[str]
) -> None:
    argv = [sys.executable, "-m", "carbontrack", "runs", "rm", "a", "--db", str(ledger)]
    terminal = Terminal(argv, dict(os.environ))
    terminal.wait_for("Remove this run? It cannot be undone. [y/N]")
    terminal.type(f"{answer}\n")
    terminal.wait_for("Removed 1 run." if answer == "y" else "Nothing was removed.")
    assert terminal.end() == (0 if answer == "y" else 1)
    assert names(command) == left


def test_what_cannot_be_removed_is_said_in_a_line(command: Command) -> None:
    for words, said in (
        (("rm", "a", "d", "--yes"), "There is no run 'd'"),
        (("rm",), "Missing argument"),
        (("--project", "x", "rm", "a"), "runs rm has options of its own: --project"),
        (("mv", "a"), "No such command 'mv'"),
    ):
        refused = command("runs", *words)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert said in refused.err
    assert names(command) == ["c", "b", "a"]


def test_of_several_runs_of_a_name_it_says_which_is_meant(command: Command, ledger: Path) -> None:
    newer = Recorded(name="a", number=9, count=2)
    write_ledger(ledger, newer)
    done = command("runs", "rm", "a", "--dry-run")
    assert f"2 runs are named a; the newest is meant ({newer.run.id[:13]})" in done.err
    assert done.out.startswith(newer.run.id)


def test_what_an_earlier_one_left_goes_even_if_no_such_run_is_listed(
    command: Command, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut_short:
        cut_short.setattr(remove, "sweep", lambda ledger: 0)
        command("runs", "rm", "a", "--yes")
    assert [str(problem) for problem in verify(f"sqlite:///{ledger}")] == [
        f"run {RUNS[0].run.id}: was removed, and not to the end: see carbontrack db recover"
    ]
    assert "There is no run 'a'" in command("runs", "rm", "a", "--yes").err
    assert verify(f"sqlite:///{ledger}") == []


def test_an_import_of_a_removed_run_leaves_it_removed(command: Command, tmp_path: Path) -> None:
    (tmp_path / "power.csv").write_text(CSV)
    assert "x: " in command("import", "power.csv", "--tz", "UTC", "--name", "x").out
    command("runs", "rm", "x", "--yes")
    again = command("import", "power.csv", "--tz", "UTC", "--name", "x")
    assert (again.code, "was removed from this ledger, and stays so" in again.out) == (0, True)
    assert "x" not in names(command)


def test_from_python(ledger: Path) -> None:
    opened = Ledger(str(ledger))
    opened.remove(["a", "b"])
    assert opened.runs()["name"].tolist() == ["c"]
    with pytest.raises(NotFoundError):
        opened.remove(["c", "a"])
    with pytest.raises(CarbontrackError, match="No run is named"):
        opened.remove([])
    opened.remove("c")
    assert len(opened.runs()) == 0

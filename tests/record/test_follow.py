"""A file is followed by its identity: renamed, written again, cut off, in any encoding."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carbontrack.record import follow
from carbontrack.record.file_state import state_of
from carbontrack.record.follow import MAX_LINE, Follower
from carbontrack.units import NS_PER_MS, now_ms


def lines(count: int, first: int = 1) -> str:
    return "".join(f"step {number}\n" for number in range(first, first + count))


def read(follower: Follower, *, ended: bool = False) -> list[str]:
    return follower.read(ended=ended).lines


def test_lines_are_given_once_they_are_complete(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = Follower(str(path))
    assert read(follower) == []
    path.write_text("one\ntw")
    assert read(follower) == ["one"]
    with path.open("a") as file:
        file.write("o\r\nthree\rfou")
    assert read(follower) == ["two", "three"]
    assert read(follower) == []
    assert read(follower, ended=True) == ["fou"]


def test_what_was_there_before_the_run_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    follower = Follower(str(path), before=state_of(str(path)))
    assert read(follower) == []
    with path.open("a") as file:
        file.write("new\n")
    assert read(follower) == ["new"]


def test_a_fresh_log_is_read_from_its_start_whatever_its_clock_says(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = Follower(str(path), before=state_of(str(path)), started_ms=now_ms())
    path.write_text("first\n")
    os.utime(path, (1, 1))  # a file server's clock that is far behind
    assert read(follower) == ["first"]


@pytest.mark.parametrize(
    ("before_the_first_look", "again"),
    [
        (True, lines(3)),
        (True, lines(5)),
        (False, lines(3)),
        (False, lines(5)),
        (False, lines(9, first=100)),
    ],
)
def test_a_log_that_is_written_again_is_read_again(
    tmp_path: Path, before_the_first_look: bool, again: str
) -> None:
    """The same job twice over one log: the same lines, at once, to the same length."""
    path = tmp_path / "log"
    path.write_text(lines(5))
    os.utime(path, (1, 1))
    follower = Follower(str(path), before=state_of(str(path)))
    if not before_the_first_look:
        assert read(follower) == []
    path.write_text(again)
    assert read(follower, ended=True) == again.splitlines()


def test_a_log_that_is_cut_off_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(lines(5))
    follower = Follower(str(path))
    assert len(read(follower)) == 5
    path.write_text(lines(2, first=6))
    assert read(follower) == ["step 6", "step 7"]


@pytest.mark.parametrize("after", [1, 20])
def test_a_log_that_is_renamed_is_read_to_its_end_and_then_the_new_one(
    tmp_path: Path, after: int
) -> None:
    path = tmp_path / "log"
    path.write_text(lines(5))
    follower = Follower(str(path))
    assert len(read(follower)) == 5
    with path.open("a") as file:
        path.rename(tmp_path / "log.1")
        file.write(lines(5, first=6))
    path.write_text(lines(after, first=11))
    found = read(follower)
    assert found == lines(5 + after, first=6).splitlines()


@pytest.mark.parametrize(
    "names",
    [["log.1", "log.2", "log.3"], ["log-20261127", "log-20261128", "log-20261129"]],
    ids=["numbers", "dates"],
)
@pytest.mark.parametrize("times", [2, 3])
def test_all_that_had_the_path_since_the_last_look_are_read_in_order(
    tmp_path: Path, names: list[str], times: int
) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.9").write_text("of an earlier run\n")
    (tmp_path / "log.err").write_text("another program's\n")
    path.write_text(lines(5))
    follower = Follower(str(path))
    assert len(read(follower)) == 5
    with path.open("a") as file:
        file.write(lines(1, first=6))
    rising = names[0] != "log.1"
    for number in range(times):
        if rising:
            path.rename(tmp_path / names[number])
        else:  # each older one moves on
            for at in range(number, 0, -1):
                (tmp_path / names[at - 1]).rename(tmp_path / names[at])
            path.rename(tmp_path / names[0])
        path.write_text(lines(3, first=7 + 3 * number))
        os.utime(path, ns=(10**18, path.stat().st_mtime_ns + number))  # a coarse clock
    (tmp_path / "log.err").write_text("more\n")
    assert read(follower) == lines(1 + 3 * times, first=6).splitlines()
    assert read(follower) == []
    with path.open("a") as file:
        file.write(lines(1, first=7 + 3 * times))
    assert read(follower) == lines(1, first=7 + 3 * times).splitlines()


def test_a_log_that_is_deleted_is_read_as_long_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as file:
        file.write(lines(1))
        file.flush()
        follower = Follower(str(path))
        assert len(read(follower)) == 1
        path.unlink()
        file.write(lines(2))
        file.flush()
        assert len(read(follower)) == 2


@pytest.mark.parametrize("first", [False, True])
def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path, first: bool) -> None:
    path = tmp_path / "log"
    path.write_text(lines(1))
    follower = Follower(str(path))
    if not first:
        assert len(read(follower)) == 1
    path.unlink()
    os.mkfifo(path)
    assert read(follower) == []
    assert follower.problem == f"{path} is not a regular file"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_every_encoding_of_a_log(tmp_path: Path, encoding: str, size: int) -> None:
    path = tmp_path / "log"
    data = "step 1 loss é 2.5\r\nstep 2\r\n".encode(encoding)
    follower = Follower(str(path))
    found = []
    for at in range(0, len(data), size):
        with path.open("ab") as file:
            file.write(data[at : at + size])
        found += read(follower)
    assert [line for line in found if line] == ["step 1 loss é 2.5", "step 2"]


def test_a_line_that_does_not_end_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_MAX_BYTES_A_READ", MAX_LINE // 2)
    path = tmp_path / "log"
    path.write_text(3 * MAX_LINE * "x" + "\nshort\n")
    follower = Follower(str(path))
    found = [line for _ in range(9) for line in read(follower)]
    assert [len(found[0]), *found[1:]] == [MAX_LINE, "short"]


def test_at_the_end_all_of_a_flood_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_MAX_BYTES_A_READ", 100)
    path = tmp_path / "log"
    path.write_text(lines(100))
    follower = Follower(str(path))
    first = read(follower)
    assert 0 < len(first) < 20
    assert first + read(follower, ended=True) == lines(100).splitlines()


def test_what_is_left_of_a_flood_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_MAX_BYTES_AT_END", 100)
    path = tmp_path / "log"
    path.write_text(lines(100))
    assert Follower(str(path)).read(ended=True).unread_bytes == len(lines(100)) - 100


def test_lines_are_of_the_time_since_the_last_ones_came(tmp_path: Path) -> None:
    """As a job with a full buffer writes them: nothing for long, and then many at once."""
    path = tmp_path / "log"
    started_ms = now_ms() - 100_000

    def write(ms_after_start: int) -> None:
        with path.open("a") as file:
            file.write("step\n")
        at_ns = (started_ms + ms_after_start) * NS_PER_MS
        os.utime(path, ns=(at_ns, at_ns))

    follower = Follower(str(path), started_ms=started_ms)
    follower.read()
    write(20_000)
    one = follower.read()
    assert (one.after_ms - started_ms, one.until_ms - started_ms) == (0, 20_000)
    follower.read()
    write(40_000)
    two = follower.read()
    assert (two.after_ms - started_ms, two.until_ms - started_ms) == (20_000, 40_000)

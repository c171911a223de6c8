"""What a user names may be anything: only regular files are opened, and never waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from carbontrack.files import NotAFile, open_regular, read_regular


def test_a_file_is_read_whole_up_to_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "settings"
    path.write_bytes(b"x" * 100)
    assert read_regular(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="larger than 99 bytes"):
        read_regular(path, 99)


def test_a_huge_sparse_file_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "settings"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="larger than"):
        read_regular(path, 1000)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path in (fifo, tmp_path / "socket", tmp_path, Path("/dev/zero"), Path("/dev/tty")):
            with pytest.raises(OSError):
                open_regular(path)
    with pytest.raises(NotAFile):
        open_regular(fifo)
    with pytest.raises(NotAFile):
        open_regular(fifo, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def test_a_job_that_waits_for_a_reader_goes_on_waiting(tmp_path: Path) -> None:
    """Opened and closed, the FIFO would kill it by SIGPIPE."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR)
    os.write(writer, b"kept")
    with pytest.raises(NotAFile):
        open_regular(fifo)
    assert os.read(writer, 10) == b"kept"
    os.close(writer)


def test_a_missing_file_is_made_only_where_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "new")
    os.close(open_regular(tmp_path / "new", os.O_WRONLY | os.O_CREAT))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600

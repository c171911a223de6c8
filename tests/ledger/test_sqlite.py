"""Where a ledger's file lies: no write-ahead log on a filesystem that machines share."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from carbontrack.ledger import engine, read, sqlite
from carbontrack.ledger.transaction import open_ledger
from tests.ledger.test_engine import record

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
systemd-1 /home autofs rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb /home/ada/scratch xfs rw 0 0
mds@o2ib:/lus /lustre lustre rw,flock 0 0
gpfs0 /gpfs gpfs rw 0 0
//nas/share /mnt/a\\040b cifs rw 0 0
ada@host: /mnt/ssh fuse.sshfs rw 0 0
mergerfs /mnt/local fuseblk rw 0 0
tmpfs /homework tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/var/ledger.db", False),
        ("/home/ada/.local/share/carbontrack/ledger.db", True),
        ("/home/ada/scratch/ledger.db", False),
        ("/homework/ledger.db", False),
        ("/lustre/project/ledger.db", True),
        ("/gpfs/x.db", True),
        ("/mnt/a b/x.db", True),
        ("/mnt/a/x.db", False),
        ("/mnt/ssh/x.db", True),
        ("/mnt/local/x.db", False),
    ],
)
def test_a_shared_filesystem_is_known_by_its_mount(
    path: str, network: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(sqlite, "MOUNTS", tmp_path / "mounts")
    assert sqlite.on_network(Path(path)) is network


def test_without_a_table_of_mounts_a_file_is_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "MOUNTS", tmp_path / "none")
    assert not sqlite.on_network(tmp_path / "ledger.db")


def test_a_ledger_on_a_shared_filesystem_is_used_without_a_write_ahead_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = engine.ledger_url(str(tmp_path / "ledger.db"))
    with closing(open_ledger(url)) as local:
        record(local, 1)

    (tmp_path / "mounts").write_text(f"server:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(sqlite, "MOUNTS", tmp_path / "mounts")
    with closing(open_ledger(url)) as shared:
        record(shared, 2)
        assert list(tmp_path.glob("ledger.db-wal")) == []
    writer = engine.open_writer(url)
    with writer.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "truncate"
        assert connection.scalar(text("PRAGMA synchronous")) == 2
    writer.dispose()
    with engine.open_reader(url).connect() as connection:
        assert len(read.list_runs(connection)) == 2

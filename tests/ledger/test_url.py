"""Which ledger is meant, and how it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.url import (
    LedgerUnreachable,
    db_option,
    journal_folders,
    ledger_url,
    redacted_url,
    sqlite_path,
)


def test_a_flag_wins_over_the_environment_over_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("CARBONTRACK_DB", raising=False)
    assert ledger_url() == f"sqlite:///{tmp_path}/data/carbontrack/ledger.db"
    monkeypatch.setenv("CARBONTRACK_DB", str(tmp_path / "env.db"))
    assert ledger_url() == f"sqlite:///{tmp_path}/env.db"
    assert ledger_url(str(tmp_path / "flag.db")) == f"sqlite:///{tmp_path}/flag.db"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:////data/x.db", "/data/x.db"),
        ("/data/100%.db", "/data/100%.db"),
        ("sqlite:///x.db", "{cwd}/x.db"),
        ("x.db", "{cwd}/x.db"),
        ("~/x.db", "{home}/x.db"),
    ],
)
def test_a_file_is_a_file_however_it_is_written(
    text: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert sqlite_path(ledger_url(text)) == Path(path.format(cwd=tmp_path, home="/home/ada"))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_postgresql_means_psycopg(scheme: str) -> None:
    url = ledger_url(f"{scheme}://ada@db.lab/energy")
    assert url == "postgresql+psycopg://ada@db.lab/energy"
    assert sqlite_path(url) is None


@pytest.mark.parametrize(
    "text",
    [
        "mongodb://ada:s3cret@host/x",
        "mysql+pymysql://ada:s3cret@host/x?password=s3cret&a=b",
        "://",
        "sqlite:x.db",
        "sqlite:///",
        "sqlite://",
        ":memory:",
        "sqlite:///:memory:",
        "/",
        "~nobody-of-this-name/x.db",
        "x" * 5000,
    ],
)
def test_what_is_no_address_is_said_in_one_line(text: str) -> None:
    with pytest.raises(CarbontrackError) as raised:
        ledger_url(text)
    assert "\n" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("postgresql://ada:s3cr%25t@db.lab/x", "postgresql+psycopg://ada:***@db.lab/x"),
        ("postgresql://ada:s3:c@r/t@db.lab/x", "postgresql+psycopg://ada:***@db.lab/x"),
        ("postgresql://db.lab:5432/x", "postgresql+psycopg://db.lab:5432/x"),
        ("postgresql:///x?password=s3&user=a", "postgresql+psycopg:///x?password=***&user=a"),
        ("/data/a:b@c.db", "/data/a:b@c.db"),
    ],
)
def test_a_password_is_never_shown(text: str, seen: str) -> None:
    assert redacted_url(ledger_url(text)) == seen


def test_each_ledger_has_a_place_for_its_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert journal_folders(ledger_url("/data/x.db"))[0] == Path("/data/x.db-journals")
    addresses = ["//ada:s3cret@db.lab/x", "//ada:s3cret@db.lab/y", "//ada@db.lab:5433/x"]
    folders = [journal_folders(ledger_url(f"postgresql:{address}"))[0] for address in addresses]
    assert len(set(folders)) == len(addresses)
    for folder in folders:
        assert folder.parent.parent == tmp_path / "carbontrack/servers"
        assert "s3cret" not in str(folder)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql:/ada:S11@h/d",  # one slash: no file of that name
        "postgresql://ada:pass@S11@h/d",
        "mysql://ada:S11@h/d",
        "https://S11@h/d",
        "postgresql:///d?password=S11&x@y",
    ],
)
def test_no_message_shows_a_password(text: str) -> None:
    try:
        url = ledger_url(text)
    except CarbontrackError as error:
        assert "S11" not in str(error)
    else:
        assert "S11" not in redacted_url(url)
        assert not any("S11" in str(folder) for folder in journal_folders(url))


def test_no_journal_folder_shows_a_password() -> None:
    url = ledger_url("postgresql://ada:S11@h/d?sslpassword=S11")
    assert not any("S11" in str(folder) for folder in journal_folders(url))


def test_a_user_without_a_home_has_journals_beside_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose number alone a container was given."""

    def nobody(_uid: int) -> None:
        raise KeyError

    for name in ("HOME", "XDG_DATA_HOME", "CARBONTRACK_DB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    url = ledger_url(str(tmp_path / "x.db"))
    assert journal_folders(url) == (tmp_path / "x.db-journals",)
    assert db_option(url) == f" --db {tmp_path}/x.db"
    with pytest.raises(LedgerUnreachable, match="no home folder") as raised:
        ledger_url()
    assert raised.value.url is None


def test_a_variable_that_names_no_ledger_hides_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONTRACK_DB", "mysql://ada@h/d")
    assert db_option(ledger_url("/data/x.db")) == " --db /data/x.db"

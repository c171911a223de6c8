"""The ledger's address: from a flag, the environment or the default. Imports no database."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from carbontrack.errors import CarbontrackError

ENV = "CARBONTRACK_DB"
_FORMS = "Give a SQLite file, sqlite:///FILE or postgresql://USER@HOST/DATABASE."
_SCHEME = re.compile(r"^([A-Za-z][\w+.-]+:/|sqlite:)", re.ASCII)  # with one slash, a slip
_POSTGRES = re.compile(r"^(postgres|postgresql|postgresql\+psycopg)://")


def ledger_url(flag: str | None = None) -> str:
    """The ledger's SQLAlchemy URL: `flag`, else $CARBONTRACK_DB, else a file in the data directory.

    A plain path means a SQLite file. Raises CarbontrackError for what is not a ledger's address.
    """
    if flag == "":
        raise CarbontrackError("--db is empty: is a variable unset?", hint=_FORMS)
    text = flag or os.environ.get(ENV) or str(default_path())
    if _POSTGRES.match(text):
        _check_userinfo(text)
        return _POSTGRES.sub("postgresql+psycopg://", text)
    if text.startswith("sqlite:///"):
        text = text.removeprefix("sqlite:///")
    elif "://" in text or _SCHEME.match(text):
        raise CarbontrackError(f"Not a ledger's address: {without_password(text)}.", hint=_FORMS)
    if not text or text == ":memory:":
        raise CarbontrackError("A ledger in memory would be lost.", hint=_FORMS)
    try:
        path = Path(text).expanduser().absolute()
        if path.is_dir():
            raise CarbontrackError(f"{path} is a folder.", hint=_FORMS)
    except (OSError, RuntimeError) as error:  # a folder that is closed to us; ~nobody
        raise CarbontrackError(f"The ledger {text} cannot be reached: {error}.") from error
    return f"sqlite:///{path}"


def _check_userinfo(url: str) -> None:
    """Refuse a password with an @ of its own: the rest of it would be taken for the host, and be
    in every message about it.
    """
    _, at, rest = url.partition("@")
    if at and "@" in re.split(r"[/?]", rest, maxsplit=1)[0]:
        raise CarbontrackError(
            f"The ledger's address {without_password(url)} has more than one @ before its host.",
            hint="In a password, write @ as %40, : as %3A, / as %2F and % as %25.",
        )


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL of `ledger_url`; None for a server."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def recorded_in(url: str) -> str:
    """Where a recorder writes what is meant for the ledger at a URL: there, or for a server into a
    file in the data directory, from which it is shipped.

    That is of one server, so that none gets what is meant for another, and of one host: many may
    share a home.
    """
    if sqlite_path(url) is not None:
        return url
    host = _file_name(os.uname().nodename)
    return f"sqlite:///{default_path().with_name('servers') / _name(url) / f'{host}.db'}"


def journal_folders(url: str) -> tuple[Path, ...]:
    """Where measurements wait that could not reach this ledger, or the file of `recorded_in`; the
    best place first.

    Beside the file; where that disk is full or read-only, in the data directory, in a folder of its
    own, so that no ledger takes what is meant for another.
    """
    file = recorded_in(url)
    path = sqlite_path(file)
    assert path is not None
    in_data = default_path().with_name("journals") / _name(file)
    return path.with_name(path.name + "-journals"), in_data


def _name(url: str) -> str:
    return _file_name(redacted_url(url).rpartition("://")[2])


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)


def default_path() -> Path:
    """The ledger of a user who chose none."""
    from platformdirs import user_data_path

    return user_data_path("carbontrack", appauthor=False) / "ledger.db"


def redacted_url(url: str) -> str:
    """A ledger as people know it: the file, or the address without its password."""
    path = sqlite_path(url)
    return str(path) if path is not None else without_password(url)


def db_option(url: str) -> str:
    """The option that names this ledger in a command; empty for the default ledger."""
    return "" if url == ledger_url() else f" --db {shlex.quote(redacted_url(url))}"


def without_password(url: str) -> str:
    """The address as it may be shown."""
    from carbontrack.redact import redact_text  # its patterns take 10 ms

    return redact_text(url)

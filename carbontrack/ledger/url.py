"""The ledger's address: from a flag, the environment or the default. Imports no database."""

from __future__ import annotations

import errno
import os
import stat

from carbontrack.errors import CarbontrackError
from carbontrack.folders import NoHome, user_data, working_folder
from carbontrack.ids import is_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path  # which costs 20 ms, as patterns do: a job waits for `ledger_url`

ENV = "CARBONTRACK_DB"
_FILE = "sqlite:///"
_FORMS = "Give a SQLite file, sqlite:///FILE or postgresql://USER@HOST/DATABASE."
_SERVER = "postgresql+psycopg://"
_POSTGRES = ("postgres://", "postgresql://", _SERVER)


class LedgerUnreachable(CarbontrackError):
    """The ledger's file cannot be looked up, as in a folder that is closed to us.

    `url` is its URL, None where not even its path is known.
    """

    def __init__(self, what: str, *, hint: str = "", url: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.url = url


def ledger_url(flag: str | None = None) -> str:
    """The ledger's SQLAlchemy URL: `flag`, else $CARBONTRACK_DB, else a file in the data directory.

    A plain path means a SQLite file. Raises LedgerUnreachable, and CarbontrackError for what is not
    a ledger's address.
    """
    if flag == "":
        raise CarbontrackError("--db is empty: is a variable unset?", hint=_FORMS)
    try:
        text = flag or os.environ.get(ENV) or _default_path()
    except NoHome as error:
        raise LedgerUnreachable(error.what, hint=error.hint) from None
    if text.startswith(_POSTGRES):
        _check_userinfo(text)
        return _SERVER + text.partition("://")[2]
    if text.startswith(_FILE):
        text = text.removeprefix(_FILE)
    elif ":" in text and _has_scheme(text):
        raise CarbontrackError(f"Not a ledger's address: {without_password(text)}.", hint=_FORMS)
    if not text or text == ":memory:":
        raise CarbontrackError("A ledger in memory would be lost.", hint=_FORMS)
    url: str | None = None
    try:
        path = _absolute(text)
        url = f"{_FILE}{path}"
        if _is_folder(path):
            raise CarbontrackError(f"{path} is a folder.", hint=_FORMS)
    except OSError as error:  # a folder that is closed to us; ~nobody
        reason = error.strerror or error
        raise LedgerUnreachable(
            f"The ledger {text} cannot be reached: {reason}.",
            hint=f"Name another one with --db or {ENV}.",
            url=url,
        ) from error
    return url


def _has_scheme(text: str) -> bool:
    """Whether it looks like an address: with one slash it is a slip."""
    import re

    return "://" in text or bool(re.match(r"[A-Za-z][\w+.-]+:/|sqlite:", text, re.ASCII))


def _absolute(text: str) -> str:
    """As `Path(text).expanduser().absolute()`: `..` stays, for it may follow a link."""
    path = os.path.expanduser(text)  # noqa: PTH111
    if path.startswith("~"):
        raise OSError(errno.ENOENT, f"there is no home folder {path.partition('/')[0]}")
    if not path.startswith("/"):
        if not (folder := working_folder()):
            raise OSError(errno.ENOENT, "the working directory was removed")
        path = f"{folder}/{path}"
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def _is_folder(path: str) -> bool:
    """Raises OSError where that cannot be looked up."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError as error:  # a NUL in it
        raise OSError(errno.EINVAL, str(error)) from error
    return stat.S_ISDIR(mode)


def _check_userinfo(url: str) -> None:
    """Refuse a password with an @ of its own: the rest of it would be taken for the host, and be
    in every message about it.
    """
    _, at, rest = url.partition("@")
    if at and "@" in rest.partition("/")[0].partition("?")[0]:
        raise CarbontrackError(
            f"The ledger's address {without_password(url)} has more than one @ before its host.",
            hint="In a password, write @ as %40, : as %3A, / as %2F and % as %25.",
        )


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL of `ledger_url`; None for a server."""
    from pathlib import Path

    return Path(url.removeprefix(_FILE)) if url.startswith(_FILE) else None


def recorded_in(url: str) -> str:
    """Where a recorder writes what is meant for the ledger at a URL: there, or for a server into a
    file in the data directory, from which it is shipped.

    That is of one server, so that none gets what is meant for another, and of one host: many may
    share a home.
    """
    if url.startswith(_FILE):
        return url
    return f"{_FILE}{user_data()}/servers/{_name(url)}/{_file_name(os.uname().nodename)}.db"


def journal_folders(url: str) -> tuple[Path, ...]:
    """Where measurements wait that could not reach this ledger, or the file of `recorded_in`; the
    best place first.

    Beside the file; where that disk is full or read-only, in the data directory, in a folder of its
    own, so that no ledger takes what is meant for another.
    """
    file = recorded_in(url)
    path = sqlite_path(file)
    assert path is not None
    from pathlib import Path

    beside = path.with_name(path.name + "-journals")
    try:
        return beside, Path(user_data()) / "journals" / _name(file)
    except NoHome:
        return (beside,)


def journal_paths(url: str, recording_id: str) -> list[Path]:
    """The journals that a recording can have in these folders; none with an id that is no UUID and
    may name another file.
    """
    if not is_uuid(recording_id):
        return []
    return [folder / f"{recording_id}.jsonl" for folder in journal_folders(url)]


def _name(url: str) -> str:
    return _file_name(redacted_url(url).rpartition("://")[2])


def _file_name(text: str) -> str:
    import re

    return re.sub(r"[^\w.-]+", "_", text)


def _default_path() -> str:
    """The ledger of a user who chose none."""
    return f"{user_data()}/ledger.db"


def redacted_url(url: str) -> str:
    """A ledger as people know it: the file, or the address without its password."""
    return url.removeprefix(_FILE) if url.startswith(_FILE) else without_password(url)


def db_option(url: str) -> str:
    """The option that names this ledger in a command; empty for the default ledger."""
    import shlex

    try:
        if url == ledger_url():
            return ""
    except LedgerUnreachable as error:
        if url == error.url:
            return ""
    except CarbontrackError:  # the variable names none
        pass
    return f" --db {shlex.quote(redacted_url(url))}"


def without_password(url: str) -> str:
    """The address as it may be shown."""
    from carbontrack.redact import redact_text  # its patterns take 10 ms

    return redact_text(url)

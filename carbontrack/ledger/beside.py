"""Ledgers that recorders wrote beside an older one, which a job could not wait to be upgraded."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import BUSY_TIMEOUT_MS, engine, recover, sqlite
from carbontrack.ledger.merge import Progress, merge, no_progress
from carbontrack.ledger.url import ledger_url, sqlite_path

_FIRST = "1001"  # of the revisions that recorders write beside others: no year is one


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A ledger that was taken in, how many of its runs, and where its file is now."""

    file: Path
    runs: int
    kept_as: Path | None  # None while a run is recorded in it: what comes later is still to do


def files_beside(url: str) -> list[Path]:
    """`NAME-REVISION.db` beside the ledger `NAME.db`, in order; none of a server."""
    path = sqlite_path(url)
    if path is None:
        return []
    revisions = map(str, range(int(_FIRST), int(engine.HEAD) + 1))
    files = [path.with_name(f"{path.stem}-{revision}{path.suffix}") for revision in revisions]
    return [file for file in files if file.is_file() and file.stat().st_size]


def take_in(url: str, progress: Progress = no_progress) -> list[TakenIn]:
    """Merge them, with their journals, into the ledger at `url`, which has our schema. Each is then
    renamed, so that nothing is taken for a ledger of its own.

    Raises CarbontrackError where one is no ledger, or contradicts what is here.
    """
    return [_take(url, file, progress) for file in files_beside(url)]


def _take(url: str, file: Path, progress: Progress) -> TakenIn:
    beside = ledger_url(str(file))
    engine.upgrade(beside)
    recover.recover(beside)
    # Asked before its rows are read: what is written after its end is all there then.
    is_recorded = _is_recorded(file)
    taken = merge(url, [str(file)], progress=progress)
    kept_as = None
    if not is_recorded:
        kept_as = file.with_name(f"{file.name}.merged")
        try:
            file.replace(kept_as)
        except OSError as error:
            what = f"{file} was merged and cannot be renamed: {error.strerror}."
            raise CarbontrackError(what, hint="Move it away.", exit_code=1) from error
    return TakenIn(file, len(taken.added | taken.grew), kept_as)


def _is_recorded(file: Path) -> bool:
    """Whether a run is recorded in it now; if not, all of it is moved into the file itself."""
    with closing(sqlite.connect(file, busy_timeout_ms=BUSY_TIMEOUT_MS)) as connection:
        if sqlite.is_recorded(connection):
            return True
        connection.execute("pragma wal_checkpoint(truncate)").fetchone()
    return False

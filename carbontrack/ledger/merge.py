"""Other ledgers, journals and exports taken into a ledger: all of them, or nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.files import open_ours, open_regular
from carbontrack.ledger.engine import errors_in_one_line
from carbontrack.ledger.ingest import ORDER, Ingest, Taken
from carbontrack.ledger.journals import by_recording, read_entries, waiting, write_entries
from carbontrack.ledger.parquet import is_export
from carbontrack.ledger.parquet_source import open_export
from carbontrack.ledger.recorded_rows import Recording
from carbontrack.ledger.source import Source, open_source
from carbontrack.ledger.sqlite import MAGIC
from carbontrack.ledger.transaction import Transaction, Within, open_ledger
from carbontrack.ledger.url import ledger_url, redacted_url, sqlite_path

Progress = Callable[[str, int, int], None]
"""Hears of what is read (its name), how many of its rows are done and how many there are."""

_KINDS = "Give ledgers, journals (.jsonl), folders of these, or what 'db export --parquet' wrote."


def no_progress(name: str, done: int, total: int) -> None:
    """Ignores progress."""


def merge(
    url: str, sources: Sequence[str], *, dry_run: bool = False, progress: Progress = no_progress
) -> Taken:
    """Take ledgers (files or URLs), journals and folders into the ledger at `url`, which is made if
    there is none. All of it is written, or nothing; with `dry_run` nothing.

    Raises CarbontrackError where one is not what it should be, or contradicts what is here.
    """
    parts = [part for source in sources for part in _parts_of(url, source)]
    taken = Taken()
    for part in parts:
        part.check()
    with (
        _written(url, dry_run) as target,
        errors_in_one_line(target),
        suppress(_DryRun),
        closing(open_ledger(target)) as ledger,
        ledger.begin() as transaction,
    ):
        for part in parts:
            taken.add(part.write(transaction, progress))
        if dry_run:
            raise _DryRun
    return taken


@contextmanager
def merged(sources: Sequence[str], progress: Progress = no_progress) -> Iterator[str]:
    """The URL of a ledger that has all that these have, and is gone afterwards; they stay as they
    are. Raises CarbontrackError as `merge` does.
    """
    with tempfile.TemporaryDirectory(prefix="carbontrack-") as folder:
        url = ledger_url(str(Path(folder) / "ledger.db"))
        merge(url, sources, progress=progress)
        yield url


class _DryRun(Exception):
    """Undoes the transaction."""


@contextmanager
def _written(url: str, dry_run: bool) -> Iterator[str]:
    """The ledger to write: a dry run makes none."""
    path = sqlite_path(url)
    if not dry_run or path is None or path.exists():
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        yield ledger_url(str(Path(folder) / path.name))


@dataclass(frozen=True, slots=True)
class _Rows:
    """A source of rows."""

    opened: Callable[[], AbstractContextManager[Source]]

    def check(self) -> None:
        """Raise CarbontrackError if it cannot be read, before anything is written."""
        with self.opened():
            pass

    def write(self, transaction: Transaction, progress: Progress) -> Taken:
        with self.opened() as source:
            ingest = Ingest(transaction)
            total = sum(map(source.count, ORDER))
            done = 0

            def count(rows: int) -> None:
                nonlocal done
                done += rows
                progress(source.name, done, total)

            with _named(source.name):
                for table in ORDER:
                    ingest.take(table, source.rows(table), count)
                ingest.finish()
            return ingest.taken


@dataclass(frozen=True, slots=True)
class _Journals:
    """The journals of one recording."""

    paths: Sequence[Path]

    def check(self) -> None:
        """Raise CarbontrackError if one is not there, or not our own file."""
        for path in self.paths:
            try:
                os.close(open_ours(path))
            except OSError as error:
                raise CarbontrackError(f"{path} cannot be read: {error.strerror}.") from error

    def write(self, transaction: Transaction, progress: Progress) -> Taken:
        entries = read_entries(self.paths)
        if not entries:
            return Taken()
        run = {entries[-1].run.id}
        is_known = any(
            transaction.ask("select 1 as one from runs where id = :id", {"id": min(run)})
        )
        before = _state(transaction, entries[-1].recording)
        is_written = write_entries(entries, Within(transaction))
        progress(self.paths[0].name, len(entries), len(entries))
        if not is_written:
            return Taken(removed=run)
        if not is_known:
            return Taken(added=run)
        grew = before != _state(transaction, entries[-1].recording)
        return Taken(grew=run) if grew else Taken(known=run)


def _state(transaction: Transaction, recording: Recording) -> list[dict[str, Any]]:
    """What grows with a recording."""
    asked = (
        "select heartbeat_ms, ended_ms, "
        "(select sum(samples) from windows where recording_key = recordings.key) as samples, "
        "(select count(*) from steps where recording_key = recordings.key) as steps, "
        "(select count(*) from events where recording_key = recordings.key) as events "
        "from recordings where id = :id"
    )
    return list(transaction.ask(asked, {"id": recording.id}))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of rows say whose they are."""
    try:
        yield
    except CarbontrackError as error:
        raise CarbontrackError(
            f"{name} is not merged: {error.what}", hint=error.hint, exit_code=error.exit_code
        ) from error
    except (ValueError, TypeError, OverflowError) as error:
        what = f"{name} is not merged: it has values that it cannot have."
        raise CarbontrackError(what, hint="It is damaged, or another program wrote it.") from error


def _parts_of(url: str, source: str) -> list[_Rows | _Journals]:
    """What is to be read of a file, folder or URL. Raises CarbontrackError for anything else."""
    path = Path(source).expanduser()
    if "://" in source or not path.is_dir():
        if path.suffix == ".jsonl":
            return _journals([path])
        return _ledger(url, source)
    if is_export(path):
        return [_Rows(partial(open_export, path))]
    files = sorted(path.iterdir())
    ledgers = [file for file in files if file.suffix in (".db", ".sqlite")]
    journals = _journals([file for file in files if file.suffix == ".jsonl"])
    others = [file for file in ledgers if not _is_same(url, ledger_url(str(file)))]
    found = [part for file in others for part in _ledger(url, str(file))] + journals
    if not found:
        raise CarbontrackError(f"There is no other ledger and no journal in {path}.", hint=_KINDS)
    return found


def _ledger(url: str, source: str) -> list[_Rows | _Journals]:
    """A ledger, with the journals that wait for it."""
    found = ledger_url(source)
    if _is_same(url, found):
        raise CarbontrackError(
            f"{redacted_url(found)} is the ledger that is merged into.",
            hint="Name another one with --db, or leave it out.",
        )
    path = sqlite_path(found)
    if path is not None and path.exists() and not _begins_with_magic(path):
        raise CarbontrackError(f"{path} is not a ledger.", hint=_KINDS)
    return [_Rows(partial(open_source, found)), *_journals(waiting(found))]


def _journals(paths: Sequence[Path]) -> list[_Rows | _Journals]:
    return [_Journals(of_recording) for of_recording in by_recording(paths)]


def _is_same(url: str, other: str) -> bool:
    here, there = sqlite_path(url), sqlite_path(other)
    if here is None or there is None:
        return url == other
    return here.exists() and there.exists() and here.samefile(there)


def _begins_with_magic(path: Path) -> bool:
    try:
        descriptor = open_regular(path)
    except OSError as error:
        raise CarbontrackError(f"{path} cannot be read: {error.strerror}.") from error
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        return file.read(len(MAGIC)) == MAGIC

"""Batches of many nodes written together: one transaction for all that wait, one thread for all.

A commit costs the same for one batch and for hundreds. Where the transaction fails for what one of
them holds, it is halved until that one is alone, and the others are written.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from carbontrack.ledger.engine import met_another, refuses_rows
from carbontrack.ledger.shipped import OtherProject, Reply, Sent
from carbontrack.ledger.transaction import Transaction, WritableLedger

MAX_WAITING = 2_048  # batches; a node whose batch finds no room comes again
_TOGETHER = 512
# What the first may wait for others: longer where the last one was not alone, for the more are
# written together, the less each of them costs.
_COALESCE_S, _COALESCE_MANY_S = 0.05, 0.25


class NoRoom(Exception):
    """Too many batches wait already."""


class Away(Exception):
    """The database cannot be written now: not the batch's fault."""


class Unfit(Exception):
    """The database refuses what this batch holds."""


Write = Callable[[Transaction, Sequence[tuple[Sent, str]]], Sequence[Reply]]
"""Writes what was sent, each of a project. Raises `ledger.shipped.OtherProject`."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    sent: Sent
    project: str
    written: Future[Reply] = field(default_factory=Future)


class Intake:
    """A bounded queue before a ledger, and the thread that empties it."""

    def __init__(self, ledger: WritableLedger, write: Write) -> None:
        self._ledger = ledger
        self._write = write
        self._coalesce_s = _COALESCE_S
        self._most = _TOGETHER
        self._began_s: float | None = None  # the transaction that is not at its end
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many batches wait."""
        return self._queue.qsize()

    @property
    def writing_s(self) -> float:
        """For how long batches have been written that are not yet; 0 if there are none."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def put(self, sent: Sent, project: str) -> Future[Reply]:
        """Queue a batch or a tombstone. The result comes once it is committed; or Away, Unfit,
        OtherProject. Raises NoRoom.
        """
        waiting = _Waiting(sent, project)
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise NoRoom from None
        return waiting.written

    def close(self) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            first = self._queue.get()
            together, open_ = self._gather(first)
            self._coalesce_s = _COALESCE_MANY_S if len(together) > 1 else _COALESCE_S
            if together:
                self._write_all(together)
                self._began_s = None

    def _gather(self, first: _Waiting | None) -> tuple[list[_Waiting], bool]:
        """Those that wait now or come in a moment; and whether more may come after them."""
        together: list[_Waiting] = []
        until_s = time.monotonic() + self._coalesce_s
        one = first
        while one is not None:
            if one.written.set_running_or_notify_cancel():  # else its node has gone
                together.append(one)
            if len(together) >= self._most:
                return together, True
            try:
                one = self._queue.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                return together, True
        return together, False

    def _write_all(self, together: Sequence[_Waiting], *, is_again: bool = False) -> None:
        """In one transaction; where what they hold is refused, in halves. What met another writer
        is tried once more: a deadlock, and one batch alone, whose run may have been being removed.
        """
        self._began_s = time.monotonic()
        try:
            with self._ledger.begin() as transaction:
                replies = self._write(transaction, [(one.sent, one.project) for one in together])
        except Exception as error:
            refused = refuses_rows(error)
            if refused and len(together) > 1:
                middle = len(together) // 2
                self._write_all(together[:middle])
                self._write_all(together[middle:])
            elif (
                not is_again
                and not isinstance(error, OtherProject)
                and (refused or met_another(error))
            ):
                self._write_all(together, is_again=True)
            else:
                # What was too much for the time that a transaction has would be so again.
                self._most = max(1, len(together) // 2)
                for one in together:
                    one.written.set_exception(_said_of(error))
            return
        self._most = min(_TOGETHER, 2 * self._most)
        for one, reply in zip(together, replies, strict=True):
            one.written.set_result(reply)


def _said_of(error: Exception) -> Exception:
    if isinstance(error, OtherProject):
        return error
    return Unfit(_reason(error)) if refuses_rows(error) else Away(str(error))


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:200]}"

"""Shipping a ledger to a target, batch by batch: once by hand, or by a thread of the recorder.

Nothing waits for it. What cannot be delivered stays in the local ledger, which is the queue.
"""

from __future__ import annotations

import hashlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from carbontrack.ledger import backlog, set_aside
from carbontrack.ledger.batch import EVERY_S, Held
from carbontrack.ledger.clock import FAR_MS, is_news
from carbontrack.ledger.recorded_rows import Event
from carbontrack.ledger.rows import ClockOffset
from carbontrack.ledger.shipped_seconds import Seconds
from carbontrack.ledger.transaction import Transaction, WritableLedger, open_ledger
from carbontrack.record.ledger_writer import first_line
from carbontrack.record.target import OTHER_PROJECT, Answer, NotShipped, Target
from carbontrack.redact import redact_text
from carbontrack.report.escape import visible
from carbontrack.units import MS_PER_HOUR, now_ms
from carbontrack.vocabulary import EventKind

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0
_A_PERSONS_PAUSES = 6  # so many doublings at least, where no wait alone helps
_BUSY_TIMEOUT_MS = 250
_PRUNE_EVERY_S = 3600.0
_PRUNE_S = 3.0  # at once: the next post is not to wait


@dataclass(slots=True)
class Shipped:
    """What came of it so far."""

    batches: int = 0
    rows: int = 0
    late_rows: int = 0  # of these, older than what is kept there
    removed: int = 0  # runs, there, for they were removed here
    kept: list[str] = field(default_factory=list)  # names of runs that were removed there only
    set_aside: list[str] = field(default_factory=list)  # why
    clock: ClockOffset | None = None  # the newest that is another than before


class Shipping:
    """Everything that a target lacks of one ledger's file; by the recorder of `recording_id`, that
    recording and those that no recorder ships any more.
    """

    def __init__(
        self,
        url: str,
        target: Target,
        seconds: Seconds,
        *,
        is_queue: bool = False,
        recording_id: str | None = None,
    ) -> None:
        """A file that `is_queue` only waits to be shipped: what is old and there is deleted."""
        self.url = url
        self._is_queue = is_queue
        self._recording_id = recording_id
        self._left: set[str] = set()  # ids of what a token of another project may write
        self._is_alone = False  # whether nothing but the recorder's own recording is shipped
        self._prune_at_s = 0.0  # by the monotonic clock
        self._target = target
        self._seconds = seconds
        self._clocks: dict[str, ClockOffset] = {}  # by recording, what is known
        self._again: set[str] = set()  # recordings that were sent a second time
        self.shipped = Shipped()

    @property
    def name(self) -> str:
        """Where it goes, as people call that."""
        return self._target.name

    def waiting(self) -> list[str]:
        """The ids of the recordings with something to ship."""
        name, own = self._target.name, self._recording_id
        with self._reading() as transaction:
            if own is None:
                return backlog.recordings(transaction, name, self._seconds)
            found = backlog.of_recorder(transaction, name, own, now_ms=now_ms())
        return [id for id in found if id not in self._left]

    def ship_all(self) -> None:
        """All that waits. Raises NotShipped, or the ledger's error."""
        self.remove()
        for recording_id in self.waiting():
            self.ship(recording_id)

    def leave_others(self) -> None:
        """From now on ship a recorder's own recording alone, by any thread."""
        self._is_alone = True

    def remove(self) -> None:
        """The tombstones of runs that were removed here. Raises as `ship_all` does."""
        with self._reading() as transaction:
            waiting = backlog.tombstones(transaction, self._target.name)
        for tombstone in waiting:
            if tombstone.run_id in self._left:
                continue
            answer = self._target.remove(tombstone)
            if self._is_for_another(tombstone.run_id, answer):
                continue
            if answer.is_taken:
                self.shipped.removed += 1
            else:
                self._set_aside(tombstone.run_id, answer)
            with self._writing() as transaction:
                backlog.set_tombstone_shipped(transaction, tombstone.run_id, self._target.name)

    def ship(self, recording_id: str) -> None:
        """All that waits of one recording. Raises as `ship_all` does."""
        while not self._is_alone or recording_id == self._recording_id:
            part, here = self._next(recording_id)
            if part is None:
                return
            if part.before is None:
                with self._writing() as transaction:
                    backlog.begin(transaction, recording_id, self._target.name)
                continue
            answer = self._target.send(part.batch)
            if part.batch.live is not None:  # it goes on, so it is by this clock
                self._note_clock(recording_id, answer.clock)
            if answer.is_removed:
                self.shipped.kept.append(part.batch.run.name)
                with self._writing() as transaction:
                    backlog.set_unwanted(transaction, recording_id, part)
                return
            if self._is_for_another(recording_id, answer):
                return
            if not answer.is_taken:
                self._set_aside(recording_id, answer)
            self.shipped.batches += 1
            self.shipped.rows += part.batch.rows
            self.shipped.late_rows += answer.late_rows
            is_short = answer.held is not None and self._lacks(recording_id, answer.held, here)
            with self._writing() as transaction:
                if is_short:
                    backlog.ship_again(transaction, [recording_id])
                is_marked = backlog.set_mark(transaction, recording_id, part)
            if part.complete and is_marked:
                return

    def prune(self, limit_s: float = math.inf) -> None:
        """Delete what is old in a queue, for so long; what is left goes the next time. Once all is
        gone, not before an hour has passed.
        """
        began_s = time.monotonic()
        if not self._is_queue or began_s < self._prune_at_s:
            return
        from carbontrack.ledger.prune import prune

        with self._open() as ledger:
            for _ in prune(ledger, self.url, self._target.name, now_ms=now_ms()):
                if time.monotonic() - began_s > limit_s:
                    return
        self._prune_at_s = began_s + _PRUNE_EVERY_S

    def retry(self) -> int:
        """Let all be sent again of what was refused: recordings and tombstones; how many."""
        found = [one for one in set_aside.found(self.url) if one.target == self._target.name]
        if found:
            ids = [one.id for one in found]
            with self._writing() as transaction:
                backlog.ship_again(transaction, ids)
                backlog.ship_tombstones_again(transaction, ids)
        for one in found:
            one.path.unlink(missing_ok=True)
        return len(found)

    def everything_again(self) -> None:
        """Forget what was shipped: the target has lost it."""
        with self._writing() as transaction:
            backlog.ship_all_again(transaction, self._target.name)

    def from_the_start(self) -> None:
        """Let all seconds be sent of the runs that are asked for by their ids."""
        if runs := self._seconds.runs:
            with self._writing() as transaction:
                backlog.ship_seconds_again(transaction, self._target.name, runs)

    def close(self) -> None:
        """Leave the connection."""
        self._target.close()

    def _note_clock(self, recording_id: str, now: ClockOffset | None) -> None:
        if now is None or not is_news(now, self._clocks.get(recording_id)):
            return
        self._clocks[recording_id] = self.shipped.clock = now
        with self._writing() as transaction:
            backlog.put_clock(transaction, recording_id, now)

    def _is_for_another(self, id: str, answer: Answer) -> bool:
        """Whether it is not a recorder's own, and its token may not write it: it waits for one that
        may.
        """
        if self._recording_id in (None, id) or answer.status != OTHER_PROJECT:
            return False
        self._left.add(id)
        return True

    def _set_aside(self, id: str, answer: Answer) -> None:
        """Note what was refused of a recording, or of a run that was removed."""
        reason = answer.reason or f"status {answer.status}"
        set_aside.put(self.url, id, self._target.name, reason)
        self.shipped.set_aside.append(reason)

    def _next(self, recording_id: str) -> tuple[backlog.Part | None, Held | None]:
        """What comes next; with the last of a recording, what the ledger holds of it."""
        with self._reading() as transaction:
            part = backlog.next_part(
                transaction,
                recording_id,
                self._target.name,
                seconds=self._seconds,
                now_ms=now_ms(),
            )
            if part is None or not part.batch.final:
                return part, None
            return part, backlog.held(transaction, recording_id)

    def _lacks(self, recording_id: str, there: Held, here: Held | None) -> bool:
        """Whether the target has less than we: once, all is sent again."""
        names = Held.__dataclass_fields__
        if here is None or recording_id in self._again:
            return False
        if not any(getattr(there, name) < getattr(here, name) for name in names):
            return False
        self._again.add(recording_id)
        return True

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        with self._open() as ledger, ledger.reading() as transaction:
            yield transaction

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        with self._open() as ledger, ledger.begin() as transaction:
            yield transaction

    def _open(self) -> closing[WritableLedger]:
        """Each time: the file may have been moved or replaced."""
        return closing(open_ledger(self.url, busy_timeout_ms=_BUSY_TIMEOUT_MS))


class Shipper(threading.Thread):
    """Ships a ledger while a run is recorded, every few seconds, at a phase of its own host."""

    def __init__(
        self,
        shipping: Shipping,
        host: str,
        warn: Callable[[str], None],
        tell: Callable[[Event], None],
    ) -> None:
        """`tell` hears what is to be an event of the run."""
        super().__init__(name="ship", daemon=True)
        self._shipping = shipping
        self._warn = warn
        self._tell = tell
        self._phase_s = int(hashlib.sha256(host.encode()).hexdigest(), 16) % 1000 / 1000 * EVERY_S
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._warned = ""
        self._refused = self._is_far = False
        self._failures = 0
        self._until_s = 0.0

    def run(self) -> None:
        pause_s = _until_phase(self._phase_s)
        while True:
            self._woken.wait(pause_s)
            self._woken.clear()
            if ending := self._ending.is_set():
                self._failures = min(self._failures, 1)  # it is tried again soon
            pause_s = self._once()
            if ending and (not self._failures or time.monotonic() + pause_s > self._until_s):
                return
            if not self._failures and not self._ending.is_set():
                self.prune()
                pause_s = _until_phase(self._phase_s)

    def finish(self, timeout_s: float, *, is_last_chance: bool = False) -> bool:
        """Ship what the end of the recording has added, within a time; the rest stays queued.
        Whether all has arrived. If it `is_last_chance`, nothing of others is shipped any more, and
        what fails is tried again in that time.
        """
        if is_last_chance:
            self._until_s = time.monotonic() + timeout_s
            self._shipping.leave_others()
        self._ending.set()
        self._woken.set()
        self.join(timeout_s)
        return not self.is_alive() and not self._failures

    def prune(self) -> None:
        """Delete what is old, where the file is a queue: for a moment, and never as something that
        could fail.
        """
        with suppress(Exception):  # a recorder has the file: the next time
            self._shipping.prune(_PRUNE_S)

    def _once(self) -> float:
        """Ship what waits; the pause until the next time."""
        try:
            self._shipping.ship_all()
        except NotShipped as error:
            return self._failed(error)
        except Exception as error:  # the ledger is locked, away or full: its writer says so
            self._say(f"nothing is shipped now: {first_line(error)}")
            return self._backed_off()
        if self._failures and self._warned:
            self._warn(f"{self._shipping.name} takes rows again; nothing was lost.")
        self._failures, self._warned = 0, ""
        name = self._shipping.name
        if (refused := self._shipping.shipped.set_aside) and not self._refused:
            self._refused = True  # what is wrong with the first may be with each
            self._warn(f"{name} refused rows, see carbontrack doctor: {visible(refused[0])}.")
        refused.clear()
        if kept := list(dict.fromkeys(self._shipping.shipped.kept)):
            more = f" and {len(kept) - 1} more" if kept[1:] else ""
            self._warn(f"{visible(kept[0])}{more} was removed from {name}; it stays here.")
            self._shipping.shipped.kept.clear()
        if (clock := self._shipping.shipped.clock) is not None:
            self._check(clock)
        return _until_phase(self._phase_s)

    def _check(self, clock: ClockOffset) -> None:
        """Say once if this machine's clock is hours off: reports would count it at other times."""
        is_far = abs(clock.offset_ms) >= FAR_MS
        if is_far and not self._is_far:
            side = "behind" if clock.offset_ms > 0 else "ahead of"
            hours = abs(clock.offset_ms) / MS_PER_HOUR
            what = f"the clock here is {hours:.1f} h {side} the one of {self._shipping.name}"
            self._warn(f"{what}; set it.")
            data = {"offset_ms": clock.offset_ms, "error_ms": clock.error_ms}
            self._tell(Event(clock.time_ms, EventKind.CLOCK_OFF, what, data=data))
        self._is_far = is_far

    def _failed(self, error: NotShipped) -> float:
        if error.is_for_a_person:
            self._failures = max(self._failures, _A_PERSONS_PAUSES)
        self._say(str(error))
        pause_s = self._backed_off()
        asked_s = error.answer.retry_after_s if error.answer is not None else None
        return pause_s if asked_s is None else max(asked_s, pause_s)

    def _backed_off(self) -> float:
        self._failures += 1
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 10))
        return pause_s * random.uniform(0.75, 1.25)

    def _say(self, why: str) -> None:
        """Once, until it works again: a second failure in a row, or one that waiting cannot fix."""
        if not self._warned and self._failures:
            self._warned = why
            self._warn(f"{redact_text(why)}; it is kept here and sent later.")


def _until_phase(phase_s: float) -> float:
    """Seconds until the next time that is this host's."""
    since_s: float = (time.time() - phase_s) % EVERY_S
    return EVERY_S - since_s

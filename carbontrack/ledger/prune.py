"""What is old in a host's file for a ledger on a server, deleted once the server has it.

The file is a queue that people do not read. It is written by recorders meanwhile, so all goes in
short transactions, of which the caller may stop after any.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from carbontrack.ledger import backlog, kept_overlaps, set_aside
from carbontrack.ledger.compact import drop
from carbontrack.ledger.remove import sweep_recording
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_DAY

KEPT_MS = 7 * MS_PER_DAY
_MARKS = {LEVELS_S[0]: "seconds_ms", LEVELS_S[1]: "minutes_ms"}


def prune(ledger: WritableLedger, url: str, target: str, *, now_ms: int) -> Iterator[None]:
    """Delete recordings of the file at `url` that ended seven days ago and that the target has, and
    the old seconds and minutes of those that go on; one transaction at each step.

    What the target lacks or has refused stays, and so does what another target lacks.
    """
    before_ms = now_ms - KEPT_MS
    refused = {one.id for one in set_aside.found(url)}
    with ledger.reading() as transaction:
        arrived = list(backlog.arrived(transaction, target))
    for recording in arrived:
        if recording["id"] in refused:
            continue
        if recording["is_whole"] and recording["end_ms"] < before_ms:
            yield from sweep_recording(ledger, recording["key"])
        elif recording["ended_ms"] is None:
            yield from _drop_old(ledger, recording, before_ms)
    with ledger.begin() as transaction:
        transaction.write(
            "delete from runs where started_ms < :before "
            "and key not in (select run_key from recordings)",
            [{"before": before_ms}],
        )


def _drop_old(ledger: WritableLedger, recording: dict[str, Any], before_ms: int) -> Iterator[None]:
    if recording["started_ms"] > before_ms:
        return
    kept_overlaps.keep(ledger, [recording["key"]])
    for level_s, mark in _MARKS.items():
        for _ in drop(ledger, recording["key"], level_s, min(before_ms, recording[mark])):
            yield

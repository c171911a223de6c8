"""What a tracked block used, read from the ledger of its run."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carbontrack.errors import CarbontrackError
from carbontrack.record.clock import NEWS_MS, Clock
from carbontrack.units import monotonic_ns, wall_ahead_ns

if TYPE_CHECKING:
    from carbontrack.account.result import Estimate
    from carbontrack.account.split import RunRecord
    from carbontrack.ledger.held import Held
    from carbontrack.ledger.imported import Connection
    from carbontrack.ledger.recorded_rows import Run

PATIENCE_S = 5.0  # the recorder commits every 1.6 s
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of time of a run; `ended_ms` is None while it goes on.

    `db` is the URL of its ledger. A whole run has no `name` here. Its times are by a `clock` of its
    own; None: by that of the run.
    """

    run_id: str
    db: str
    name: str | None
    started_ms: int
    ended_ms: int | None = None
    clock: Clock | None = None

    @classmethod
    def begun(cls, run_id: str, db: str, name: str | None, clock: Clock) -> Block:
        """One that began when its clock did."""
        return cls(run_id, db, name, clock.anchor_ms, clock=clock)

    def ended(self) -> Block:
        """The same, which ends now."""
        assert self.clock is not None
        return replace(self, ended_ms=self.clock.wall_ms(monotonic_ns()))


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a block used: energy of the devices before PUE, the rest of the facility. None if
    unknown. `is_final` if it changes no more.
    """

    label: str = "nothing was recorded"
    estimate: Estimate | None = None
    is_final: bool = False

    @property
    def energy_kwh(self) -> float | None:
        return None if self.estimate is None else self.estimate.energy_kwh

    @property
    def tco2e(self) -> float | None:
        return None if self.estimate is None else self.estimate.tco2e

    @property
    def cost(self) -> float | None:
        return None if self.estimate is None else self.estimate.cost

    @property
    def currency(self) -> str | None:
        return None if self.estimate is None else self.estimate.currency

    @property
    def coverage(self) -> float | None:
        return None if self.estimate is None else self.estimate.coverage

    @property
    def hardware(self) -> str | None:
        one = self.estimate
        if one is None or not one.devices:
            return None
        return f"{one.devices} × {', '.join(one.device_names)}"

    @property
    def quality(self) -> str | None:
        return None if self.estimate is None else self.estimate.quality or None

    def line(self) -> str:
        """On one line."""
        values = (f"{value} {name}".strip() for name, value, _ in self._figures())
        return ", ".join([self.label, *values])

    def text(self) -> str:
        """On a few aligned lines."""
        from carbontrack.report.escape import visible

        figures = self._figures()
        width = max((len(value) for _, value, _ in figures), default=0)
        lines = [f"  {name:<9}{value:>{width}}  {note}".rstrip() for name, value, note in figures]
        return "\n".join(map(visible, [self.label, *lines]))

    def html(self) -> str:
        """As a table."""
        from html import escape

        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td><td>{escape(note)}</td></tr>"
            for name, value, note in self._figures()
        )
        return f"<table><caption>{escape(self.label)}</caption>{rows}</table>"

    def _figures(self) -> list[tuple[str, str, str]]:
        """(name, value, what it is of or made with)."""
        from carbontrack import keys
        from carbontrack.report.notes import factor_title
        from carbontrack.report.numbers import (
            format_duration,
            format_energy,
            format_share,
            mass_text,
            money_text,
        )

        one = self.estimate
        if one is None:
            return []
        meter = f"; {one.meter}, {one.scope} only" if one.meter else ""

        def assumed(*others: str) -> str:
            names = [factor_title(name) for name in one.assumed if name not in others]
            return f"assumed: {', '.join(names)}" if names else ""

        found = [
            (
                "energy",
                format_energy(one.energy_kwh),
                f"{self.hardware or 'no device'}{meter}, before PUE",
            ),
            ("CO₂e", mass_text(one.tco2e), assumed(*keys.PRICES)),
        ]
        if one.cost is not None:
            found.append(("cost", money_text(one.cost, one.currency), assumed("intensity")))
        return [
            *found,
            ("coverage", format_share(one.coverage), "of the device-seconds"),
            ("duration", format_duration(one.duration_s or 0.0), ""),
        ]


UNKNOWN = Tracked()


def read_block(block: Block, patience_s: float = 0.0) -> Tracked:
    """What the ledger has of a block; its end is waited for, so long at most. Raises
    CarbontrackError where a block that has ended cannot be read.
    """
    from carbontrack.ledger import engine
    from carbontrack.ledger.url import recorded_in

    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            with engine.open_reader(recorded_in(block.db)).connect() as connection:
                found = _read(connection, block)
            if found.is_final or time.monotonic() > give_up_s:
                return found
        except CarbontrackError:
            if block.ended_ms is None:  # it is not there yet
                return UNKNOWN
            if time.monotonic() > give_up_s:
                raise
        time.sleep(_LOOK_S)


def _read(connection: Connection, block: Block) -> Tracked:
    from carbontrack import config
    from carbontrack.ledger import read
    from carbontrack.ledger.held import Held
    from carbontrack.query import price
    from carbontrack.vocabulary import Method

    run = read.resolve_run(connection, block.run_id)
    held = Held(connection, [run])
    whole = price.record_of(held, run)
    block = _as_recorded(held, run, block)
    record: RunRecord | None = whole
    label, is_final = run.name, run.ended_ms is not None
    if block.name is not None:
        label = f"{block.name} (part of {run.name})"
        is_final = block.ended_ms is not None and (is_final or run.end_ms >= block.ended_ms)
        record = _part(held, whole, block)
    if record is None:
        return Tracked(label, None, is_final)
    (estimate,) = price.estimates_of(held, record, config.flags(), [Method.MEASURED])
    return Tracked(label, estimate, is_final)


def _as_recorded(held: Held, run: Run, block: Block) -> Block:
    """The block by the clock of what records the run here, where that of the system was set since
    one of them began.
    """
    from carbontrack.ledger.node_clocks import last_set_ms
    from carbontrack.ledger.true_time import true_ms
    from carbontrack.record.this_node import hostname

    here = [one for one in held.recordings(run) if one.host == hostname()]
    if block.clock is None or not here:
        return block
    newest = max(here, key=lambda one: one.started_ms)
    set_ms = last_set_ms(held.connection, newest.key) - block.clock.set_ms(wall_ahead_ns())
    if abs(set_ms) <= NEWS_MS:
        set_ms = 0
    started_ms, ended_ms = block.started_ms - set_ms, block.ended_ms
    return replace(
        block,
        started_ms=true_ms(newest.shifts, started_ms),
        ended_ms=None if ended_ms is None else true_ms(newest.shifts, ended_ms - set_ms),
    )


def _part(held: Held, whole: RunRecord, block: Block) -> RunRecord | None:
    """The run during the block; None of a block without any time in it."""
    from carbontrack.account.phases import Timeline
    from carbontrack.ledger.recorded_rows import Event
    from carbontrack.query.phases import split_by
    from carbontrack.vocabulary import EventKind

    run = whole.run
    inside = [Event(block.started_ms, EventKind.PHASE, "", data={"name": _INSIDE})]
    if block.ended_ms is not None:
        inside.append(Event(block.ended_ms, EventKind.PHASE, ""))
    line = Timeline.of(inside, from_ms=run.started_ms, to_ms=run.end_ms)
    return split_by(held, whole, line).get(_INSIDE)


_INSIDE = "inside"

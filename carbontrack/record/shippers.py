"""Where a recording is shipped while it goes on: to the server of its ledger, to a collector."""

from __future__ import annotations

import os
import shlex
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from carbontrack.config import Settings, value
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Event
from carbontrack.ledger.url import db_option, redacted_url
from carbontrack.record import ship_to
from carbontrack.record.grace import LAST_S, grace_s
from carbontrack.record.messages import Plan
from carbontrack.units import NS_PER_S, monotonic_ns

if TYPE_CHECKING:
    from carbontrack.ledger.shipped_seconds import Seconds
    from carbontrack.record.ship import Shipper
    from carbontrack.record.target import Target

_SUMMARY_S = 0.3  # of what the job's end may wait for us


class Shippers:
    """The threads that ship the file `db` of a recording, where that is asked for."""

    def __init__(
        self,
        plan: Plan,
        db: str,
        host: str,
        warn: Callable[[str], None],
        alarm: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._db = db
        self._host = host
        self._warn = warn
        self._alarm = alarm
        self._told: deque[Event] = deque()
        self._server: Shipper | None = None
        self._left = ""  # the command for what no server gets
        self._collector: Shipper | None = None
        self._ended_ns = 0
        self._ends_with_wrapper = False

    def start(self, settings: Settings) -> None:
        """Begin. The settings name the collector where the plan has none, and which seconds it
        gets.
        """
        self._server = self._to_server()
        if (named := ship_to.named(self._plan.ship, settings)) is not None:
            self._collector = self._to_collector(*named, value(settings, "ship_seconds"))

    def events(self) -> list[Event]:
        """What happened since the last call; the other threads add to it."""
        return [self._told.popleft() for _ in range(len(self._told))]

    def end(self, ended_ns: int, *, ends_with_wrapper: bool) -> None:
        """The job has ended; where we end with its wrapper, that waits until all is shipped."""
        self._ended_ns = ended_ns
        self._ends_with_wrapper = ends_with_wrapper

    def last_to_server(self) -> str:
        """Let what the job's end has added arrive, as long as the job's end may wait; the command
        that sends what has not, or nothing.
        """
        if self._server is None:
            return self._left
        if self._finish(self._server, max(0.0, self._grace_s() - _SUMMARY_S)):
            return ""
        self._warn(
            f"{redacted_url(self._plan.db)} does not have all of this run yet; what is missing is "
            "kept here, and comes with the next run."
        )
        return "db ship"

    def finish(self) -> None:
        """Let the rest arrive, when the job's end waits for nothing any more; or, where the end of
        the wrapper is ours, as long as that waits since the job's.
        """
        if self._collector is not None:
            arrived = self._finish(self._collector, self._left_s())
            if not arrived and self._ends_with_wrapper:
                self._warn(
                    "the collector does not have all of this run; what is missing is in "
                    f"{redacted_url(self._db)}, and lost with this container if that is."
                )
        if self._server is not None:
            self._finish(self._server, self._left_s())
            self._server.prune()

    def _finish(self, shipper: Shipper, timeout_s: float) -> bool:
        return shipper.finish(timeout_s, is_last_chance=self._ends_with_wrapper)

    def _grace_s(self) -> float:
        return grace_s(ends_with_wrapper=self._ends_with_wrapper)[0]

    def _left_s(self) -> float:
        if not self._ends_with_wrapper:
            return LAST_S
        waited_s = (monotonic_ns() - self._ended_ns) / NS_PER_S
        return max(0.0, self._grace_s() - _SUMMARY_S - waited_s)

    def _to_server(self) -> Shipper | None:
        """What ships all that is written, where the ledger is on a server; None if it is not."""
        if self._db == self._plan.db:
            return None
        from carbontrack.ledger.engine import connect
        from carbontrack.ledger.shipped_seconds import EVERY_SECOND
        from carbontrack.record.server import Server

        try:
            connect(self._plan.db).dispose()  # the address alone: it connects when it is used
        except CarbontrackError as error:
            file = redacted_url(self._db)
            self._left = f"db merge {shlex.quote(file)}"
            takes = f"'carbontrack {self._left}{db_option(self._plan.db)}' takes it"
            self._alarm(f"{error} This run is recorded in {file}; {takes}.")
            return None
        target = Server(self._plan.db)
        return self._started(target, EVERY_SECOND, is_queue=True)

    def _to_collector(self, url: str, where: str, seconds: str | None) -> Shipper | None:
        """What ships to a collector; None if that cannot be."""
        from carbontrack.ledger.shipped_seconds import Seconds, younger_ms
        from carbontrack.record.collector import Collector
        from carbontrack.record.plain_job import TOKEN, TOKEN_FILE

        plan = self._plan
        given = {TOKEN: plan.ship_token, TOKEN_FILE: plan.ship_token_file}
        secrets = {name: value for name, value in given.items() if value}
        try:
            at = ship_to.address(url, insecure=plan.ship_insecure, where=where)
            ship_to.token_of(secrets)
            ship_to.check_seconds(os.environ)
        except CarbontrackError as error:
            self._alarm(f"nothing is shipped: {error}")
            return None
        target = Collector(at, lambda: ship_to.token_of(secrets))
        wanted = Seconds(younger_ms=younger_ms(seconds))
        return self._started(target, wanted)

    def _started(self, target: Target, seconds: Seconds, *, is_queue: bool = False) -> Shipper:
        from carbontrack.ledger.transaction import recorders_url
        from carbontrack.record.ship import Shipper, Shipping

        shipping = Shipping(
            recorders_url(self._db),
            target,
            seconds,
            is_queue=is_queue,
            recording_id=self._plan.recording_id,
        )
        shipper = Shipper(shipping, self._host, self._warn, self._told.append)
        shipper.start()
        return shipper

"""Starting a collector: its database, its socket, and its end."""

from __future__ import annotations

import gc
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from socket import socket

import uvicorn

from carbontrack.collect.access import Access
from carbontrack.collect.app import Collector
from carbontrack.collect.intake import Intake
from carbontrack.collect.metrics import Metrics
from carbontrack.collect.retention import Retention
from carbontrack.collect.sweeper import Sweeper
from carbontrack.ledger.batch import EVERY_S
from carbontrack.ledger.engine import errors_in_one_line
from carbontrack.ledger.kept import Keep
from carbontrack.ledger.rights import check_rights
from carbontrack.ledger.shipped import take
from carbontrack.ledger.tokens import listing
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import db_option, sqlite_path
from carbontrack.listening import address, listen
from carbontrack.record.warning import warn
from carbontrack.report.escape import visible
from carbontrack.serving import Server

_CONNECTIONS = 4_096  # that may wait to be accepted: all nodes come back at once
_GRACE_S = 10
_KEEP_ALIVE_S = 3 * round(EVERY_S)  # a node posts again on the connection that it has
_BUSY_TIMEOUT_MS = 5_000
# After which a server's answer to a question, or to a transaction of many batches, will not come.
_ASKED_S, _WRITTEN_S = 10.0, 60.0


def collect(
    url: str,
    host: str,
    port: int,
    *,
    tls_cert: Path | None,
    tls_key: Path | None,
    oldest_days: float,
    keep: Keep,
) -> None:
    """Take batches into the ledger at `url` until interrupted; the address is printed. On a server
    windows are kept so long as `keep` says; a file is left to `compact`.

    Raises CarbontrackError if the port is in use, or the database cannot be written, also for want
    of rights.
    """
    options = ("--listen", "--listen")
    is_server = sqlite_path(url) is None
    with ExitStack() as stack:
        opens = partial(open_ledger, url, busy_timeout_ms=_BUSY_TIMEOUT_MS)
        with errors_in_one_line(url):
            written = stack.enter_context(closing(opens(deadline_s=_WRITTEN_S)))
            asked = stack.enter_context(closing(opens(deadline_s=_ASKED_S)))
            if is_server:
                check_rights(asked, url)
                kept = stack.enter_context(closing(opens()))
            with asked.reading() as transaction:
                tokens = sum(token.revoked_ms is None for token in listing(transaction))
        listening = listen(host, port, options=options, backlog=_CONNECTIONS)
        stack.callback(listening.close)
        if not tokens:
            make = f"carbontrack collect token add PROJECT{db_option(url)}"
            _say(f"no token lets anybody write; make one: {make}")
        intake = Intake(written, take)
        stack.callback(intake.close)
        metrics = Metrics(lambda: intake.waiting)
        if is_server:
            Retention(kept, keep, metrics, _say).start()
        else:  # a file keeps all until `db compact`
            keep = {}
        collector = Collector(
            intake,
            Access(asked),
            Sweeper(partial(opens, deadline_s=_WRITTEN_S), _say),
            oldest_days=oldest_days,
            keep=keep,
            metrics=metrics,
            log=_say,
        )
        at = address(listening, host, scheme="https" if tls_cert else "http")
        _serve(collector, listening, at, tls_cert, tls_key)


def _serve(
    collector: Collector,
    listening: socket,
    at: str,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    settings = uvicorn.Config(
        collector.app(),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    gc.freeze()  # what was imported stays
    Server(settings, lambda: print(at, flush=True)).run(sockets=[listening])


def _say(message: str) -> None:
    warn(visible(message))

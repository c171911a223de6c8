"""`carbontrack serve`: the live page."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.common import DbOption
from carbontrack.cli.factor_options import Flags, takes_factors
from carbontrack.errors import CarbontrackError


@takes_factors
def serve(
    flags: Flags,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; beyond loopback with a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 takes any that is free.")] = 8720,
    db: DbOption = None,
) -> None:
    """Serve a page that shows runs while they go on. Stop it with Ctrl-C.

    Example: carbontrack serve --port 8720
    """
    from carbontrack.ledger.url import ledger_url

    try:
        from dashboards.live import server
    except ModuleNotFoundError as error:
        raise CarbontrackError(
            f"serve needs the package {error.name}.", hint="pip install 'carbontrack[live]'"
        ) from error

    server.serve(ledger_url(db), flags, host=host, port=port)

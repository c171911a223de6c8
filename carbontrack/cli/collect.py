"""`carbontrack collect`: take what nodes ship into a team's ledger."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from carbontrack.cli import parse
from carbontrack.cli.common import DbOption, FormatOption, print_json
from carbontrack.errors import CarbontrackError
from carbontrack.ledger import KEEP
from carbontrack.vocabulary import Format

app = typer.Typer(invoke_without_command=True)
token_app = typer.Typer(help="The tokens by which nodes may write.", no_args_is_help=True)
app.add_typer(token_app, name="token")
_PORT = 8477


@app.callback()
def collect(
    context: typer.Context,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; 0.0.0.0 for other machines.")
    ] = f"127.0.0.1:{_PORT}",
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificate chain; without it, put a proxy before it."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Private key of the certificate.")
    ] = None,
    oldest_days: Annotated[
        float, typer.Option(metavar="DAYS", help="Refuse rows that are older than this.")
    ] = 400.0,
    keep: Annotated[
        str,
        typer.Option(
            metavar="LEVEL:AGE,...",
            help="How long PostgreSQL keeps windows of 1s and of 60s: ages in h, d or w, or all.",
        ),
    ] = KEEP,
    db: DbOption = None,
) -> None:
    """Collect what nodes ship, into a team's ledger.

    Batches of many nodes are written together; a node gets its answer after the commit.

    Example: carbontrack collect --listen 0.0.0.0:8477 --tls-cert chain.pem --tls-key key.pem
    """
    if context.invoked_subcommand is not None:
        command = f"collect {context.invoked_subcommand}"
        parse.check_alone(context, command, (), why="has options of its own")
        return
    for name in ("starlette", "uvicorn", "msgspec"):
        if find_spec(name) is None:
            raise CarbontrackError(
                f"collect needs the package {name}.", hint="pip install 'carbontrack[collect]'"
            )
    host, port = _host_and_port(listen)
    _check_tls(tls_cert, tls_key)
    if not oldest_days > 0:
        raise CarbontrackError(f"--oldest-days {oldest_days:g} must be above 0.")
    from carbontrack.collect.server import collect as run
    from carbontrack.ledger.kept import parse_keep
    from carbontrack.ledger.url import ledger_url

    url = ledger_url(db)
    _check_folder(url, db)
    run(
        url,
        host,
        port,
        tls_cert=tls_cert,
        tls_key=tls_key,
        oldest_days=oldest_days,
        keep=parse_keep(keep),
    )


@token_app.command("add")
def add(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="What it lets write into.")],
    db: DbOption = None,
) -> None:
    """Make a token of a project, and print it: it is shown only once.

    Example: carbontrack collect token add nlp
    """
    from carbontrack.ledger import tokens
    from carbontrack.ledger.transaction import changing
    from carbontrack.ledger.url import ledger_url
    from carbontrack.report.escape import visible
    from carbontrack.units import now_ms

    with changing(ledger_url(db)) as changes:
        secret = tokens.add(changes, project, now_ms())
    typer.echo(f"Token of project {visible(project)}, shown only now: {secret}")


@token_app.command("list")
def list_tokens(db: DbOption = None, format: FormatOption = Format.TEXT) -> None:
    """List the tokens by the beginning of their hashes, which is how to revoke one."""
    from dataclasses import asdict

    from carbontrack.ledger import tokens
    from carbontrack.ledger.transaction import changing
    from carbontrack.ledger.url import db_option, ledger_url
    from carbontrack.report.escape import visible
    from carbontrack.report.numbers import local_time_of

    url = ledger_url(db)
    with changing(url) as found:
        known = tokens.listing(found)
    if format is Format.JSON:
        print_json({"tokens": [asdict(token) for token in known]})
        return
    for token in known:
        state = "" if token.revoked_ms is None else f"  revoked {local_time_of(token.revoked_ms)}"
        made = f"made {local_time_of(token.made_ms)}"
        typer.echo(f"{tokens.name_of(token)}  {made}  {visible(token.project)}{state}")
    if not known:
        make = f"carbontrack collect token add PROJECT{db_option(url)}"
        typer.echo(f"No tokens. Make one: {make}")


@token_app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="HASH", help="The beginning of its hash.")],
    db: DbOption = None,
) -> None:
    """Let a token write no longer; a collector that runs knows it within seconds."""
    from carbontrack.ledger import tokens
    from carbontrack.ledger.transaction import changing
    from carbontrack.ledger.url import ledger_url
    from carbontrack.report.escape import visible
    from carbontrack.units import now_ms

    with changing(ledger_url(db)) as changes:
        token = tokens.revoke(changes, name, now_ms())
    typer.echo(f"Token {tokens.name_of(token)} of project {visible(token.project)} is revoked.")


def _host_and_port(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or "/" in host or not port.isdecimal():
        raise CarbontrackError(
            f"--listen {listen}: not HOST:PORT.", hint=f"Example: --listen 0.0.0.0:{_PORT}"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_folder(url: str, db: str | None) -> None:
    """A server's address without its scheme looks like a file in a folder that is not there."""
    import os

    from carbontrack.ledger.url import sqlite_path

    path = sqlite_path(url)
    if path is not None and (db or os.environ.get("CARBONTRACK_DB")) and not path.parent.is_dir():
        raise CarbontrackError(
            f"There is no folder {path.parent} for the ledger {path.name}.",
            hint="Make it; or, for a server, write postgresql://USER@HOST/DATABASE.",
        )


def _check_tls(cert: Path | None, key: Path | None) -> None:
    if (cert is None) != (key is None):
        raise CarbontrackError("--tls-cert and --tls-key go together.")
    if cert is None or key is None:
        return
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise CarbontrackError(
            f"--tls-cert {cert}, --tls-key {key}: {error.strerror or error}.",
            hint="Both are PEM files, and the key is not encrypted.",
        ) from None

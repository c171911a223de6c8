"""`carbontrack quota`: what projects have used of their quotas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carbontrack.cli import parse
from carbontrack.cli.common import DbOption, say, say_written
from carbontrack.cli.factor_options import (
    Flags,
    OutOption,
    QuietOption,
    TableFormatOption,
    takes_factors,
)


@takes_factors
def quota(
    flags: Flags,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="WHEN",
            help="The period that this is in: 2026-01, last-month, yesterday. Default: now.",
        ),
    ] = None,
    project: Annotated[str | None, typer.Option("--project", help="Only of this project.")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Exit code 1, and a line on stderr, if a quota is spent or not known."
        ),
    ] = False,
    db: DbOption = None,
    format: TableFormatOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Print what projects have used of their quotas, and what the period will come to at this pace.

    Quotas stand in carbontrack.toml: a table quota.PROJECT with kwh, kg, cost or gpu_hours, and
    per: month, quarter or year. They are shown and checked; no job is stopped by one.

    Example: carbontrack quota --at 2026-01 --project nlp --zone FRA
    """
    from carbontrack import config
    from carbontrack.errors import CarbontrackError
    from carbontrack.ledger import engine
    from carbontrack.ledger.url import ledger_url
    from carbontrack.query.quota import standing
    from carbontrack.quotas import EXAMPLE, quotas_of
    from carbontrack.report import render
    from carbontrack.report.quota import failures, quota_data, quota_lines, quota_table
    from carbontrack.units import now_ms

    quotas = quotas_of(config.surroundings())
    if not quotas:
        raise CarbontrackError(f"No quota is set in {config.PROJECT_FILE}.", hint=EXAMPLE)
    if project is not None and project not in quotas:
        hint = config.nearest(project, list(quotas))
        raise CarbontrackError(f"--project {project}: no quota.", hint=hint)
    now = now_ms()
    at_ms = parse.moment_ms(at, "--at")
    with engine.open_reader(ledger_url(db)).connect() as connection:
        found = standing(
            connection,
            quotas,
            flags,
            at_ms=now if at_ms is None else at_ms,
            now_ms=now,
            only=None if project is None else (project,),
        )
    written = render.show_lines(
        quota_table(found),
        quota_data(found),
        quota_lines(found.uses),
        format,
        out=None if out is None else Path(out),
    )
    say_written(written, quiet=quiet)
    if check and (wrong := failures(found.uses)):
        say(wrong)
        raise typer.Exit(1)

"""`carbontrack doctor`: is everything in order here?"""

from __future__ import annotations

import os
from dataclasses import asdict

import typer

from carbontrack.cli.common import DbOption, FormatOption, print_json
from carbontrack.vocabulary import Format

_SIGNS = {"ok": "[green]✓[/]", "note": "[yellow]–[/]", "problem": "[red]✗[/]"}


def doctor(db: DbOption = None, format: FormatOption = Format.TEXT) -> None:
    """Check what can be measured here and how well, the ledger, and say how to fix what is wrong.

    Exit code 1 if there is something to fix.

    Example: carbontrack doctor --db postgresql://team@ledger/carbontrack
    """
    from carbontrack.ledger.url import ledger_url
    from carbontrack.report.doctor import findings
    from carbontrack.vocabulary import Verdict

    found = list(findings(ledger_url(db), os.environ))
    problems = sum(finding.verdict is Verdict.PROBLEM for finding in found)
    if format is Format.JSON:
        print_json({"findings": [asdict(finding) for finding in found], "problems": problems})
        raise typer.Exit(int(problems > 0))

    from rich.markup import escape
    from rich.table import Table

    from carbontrack.report.escape import visible
    from carbontrack.report.terminal import console

    table = Table.grid(padding=(0, 1))
    for finding in found:
        fix = f"\n[bold]fix:[/] {escape(visible(finding.fix))}" if finding.fix else ""
        table.add_row(_SIGNS[finding.verdict], finding.area, escape(visible(finding.what)) + fix)
    terminal = console(markup=True)
    terminal.print(table)
    terminal.print(f"\n{problems} to fix." if problems else "\nReady to record.")
    raise typer.Exit(int(problems > 0))

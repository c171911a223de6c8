"""`carbontrack show`: one run with its devices, nodes and events."""

from __future__ import annotations

from typing import Annotated

from carbontrack.cli.common import (
    DbOption,
    FormatOption,
    find_runs,
    print_json,
    run_argument,
    warn_of_journals,
)
from carbontrack.vocabulary import Format

RunArgument = Annotated[
    str,
    run_argument("RUN", "A run's id, a unique prefix of it, its name (the newest), or last."),
]


def show(
    run: RunArgument = "last",
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Show one run: outcome, devices with energy and coverage, phases, attempts, nodes,
    events.

    Example: carbontrack show llama2-7b
    """
    from carbontrack.ledger import engine, read
    from carbontrack.ledger.held import Held
    from carbontrack.query.attempts import tried
    from carbontrack.query.phases import phases_of
    from carbontrack.report.show import print_detail, run_detail

    url = engine.ledger_url(db)
    warn_of_journals(url)
    reader = engine.open_reader(url)
    with reader.connect() as connection:
        (found,) = find_runs(connection, [run])
        held = Held(connection, [found])
        item = run_detail(
            found,
            held.sensors(found),
            held.totals(found),
            held.step_totals(found),
            held.recordings(found),
            read.clocks(connection, found),
            read.events(connection, found),
            phases_of(held, found),
            tried(held, found),
            read.imports(connection, found),
            held.stated(found),
        )
    if format is Format.JSON:
        print_json(item)
    else:
        print_detail(item)

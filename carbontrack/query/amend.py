"""What may be amended of a run, checked before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from carbontrack import config
from carbontrack.account.project import amount
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.amended import TAG, facility_of, note_of
from carbontrack.ledger.names import check_lengths, check_name, check_project
from carbontrack.ledger.recorded_rows import Amendment, Run
from carbontrack.query.price import pricing
from carbontrack.redact import redact_label, redact_tags
from carbontrack.vocabulary import AmendedField

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection

Count = int | str
"""A count of tokens: 2_000_000, or 2T."""


def amend(
    url: str,
    reference: str,
    flags: config.Layer,
    *,
    name: str | None = None,
    project: str | None = None,
    tags: Mapping[str, str] | None = None,
    tokens: Count | None = None,
    planned_tokens: Count | None = None,
    note: str | None = None,
) -> tuple[Run, list[Amendment]]:
    """Amend what is not None of a run, and its settings that `flags` have; the run as it was, and
    what differs from it. An empty project, note or value of a tag takes away what there is.

    Raises CarbontrackError, and writes nothing, for a run that is not there, where nothing is
    given, and for a value that cannot be.
    """
    from carbontrack.ledger import amend, engine, read

    given: dict[str, Any] = {
        AmendedField.NAME: None if name is None else redact_label(name),
        AmendedField.PROJECT: None if project is None else redact_label(project),
        **{f"{TAG}{key}": value for key, value in redact_tags(tags or {}).items()},
        AmendedField.TOKENS: count_of(tokens, "--tokens"),
        AmendedField.PLANNED_TOKENS: count_of(planned_tokens, "--planned-tokens"),
        AmendedField.NOTE: note,
        **config.values(config.resolve([flags])),
    }
    given = {str(field): value for field, value in given.items() if value is not None}
    if not given:
        raise CarbontrackError("Nothing to amend is given.", hint="Give --name, --zone, --pue, …")
    check_name(name)
    check_project(project)
    check_lengths({field: value for field, value in given.items() if isinstance(value, str)})
    with engine.open_reader(url).connect() as connection:
        run = read.resolve_run(connection, reference)
        _check_settings(connection, run, flags)
        before = _now(connection, run)
    wanted = {field: None if value == "" else value for field, value in given.items()}
    changes = {
        field: (before.get(field), value)
        for field, value in wanted.items()
        if value != before.get(field)
    }
    return run, amend.amend(url, run, changes) if changes else []


def undo(url: str, reference: str) -> tuple[Run, list[Amendment]]:
    """Undo the newest amendments that stand of a run: what one call amended together; the run as
    it was, and what is undone.

    Raises CarbontrackError for a run that is not there, and where there is nothing to undo.
    """
    from carbontrack.ledger import amend, engine, read

    with engine.open_reader(url).connect() as connection:
        run = read.resolve_run(connection, reference)
    undone = {row.after for row in amend.undo(url, run)}
    return run, [one for one in run.amended if one.id in undone]


def count_of(given: Count | None, where: str) -> int | None:
    """Raises CarbontrackError, which says `where` it was given, for what is no count above 0."""
    return None if given is None else round(amount(str(given), where=where))


def _check_settings(connection: Connection, run: Run, flags: config.Layer) -> None:
    """Raises CarbontrackError where one of these is unknown."""
    from carbontrack.ledger.held import Held

    if flags.values:
        given = config.Layer(flags.origin, config.values(config.resolve([flags])))
        pricing(Held(connection, [run]), run, given, [], embodied=False)


def _now(connection: Connection, run: Run) -> dict[str, Any]:
    """What is said of the run until now, by the names of fields."""
    from carbontrack.ledger import read

    return {
        AmendedField.NAME: run.name,
        AmendedField.PROJECT: run.project,
        **{f"{TAG}{key}": value for key, value in run.tags.items()},
        AmendedField.TOKENS: read.step_totals(connection, run).tokens,
        AmendedField.PLANNED_TOKENS: run.model.get(AmendedField.PLANNED_TOKENS),
        AmendedField.NOTE: note_of(run),
        **facility_of(run),
    }

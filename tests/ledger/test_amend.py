"""Amendments: which stand, and that runs are found, listed and read as they say."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger import amended, read
from carbontrack.ledger.amend import amend, undo
from carbontrack.ledger.recorded_rows import Amendment, Run
from carbontrack.ledger.tables import AMENDMENTS
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.window import LAST_MS
from carbontrack.ledger.write import RunWriter
from carbontrack.vocabulary import AmendedField
from tests.fixtures.runs import Recorded, recording_of

RUNS = [
    Recorded(name="a", number=1, count=2, project="nlp", tags={"team": "x", "seed": "1"}),
    Recorded(name="b", number=2, count=2, project="nlp"),
    Recorded(name="c", number=3, count=2, steps=7, tokens_per_step=100),
]
RUN = RUNS[0].run


@pytest.fixture
def runs(ledger: WritableLedger) -> None:
    for one in RUNS:
        writer = RunWriter(ledger, one.begun, recording_of(one.begun), one.sensors)
        writer.commit(windows=one.windows, steps=one.step_rows, heartbeat_ms=one.end_ms)
        writer.finish(status=one.status, exit_code=0, ended_ms=one.end_ms)


def resolved(reader: Connection, name: str) -> Run:
    """A run as the ledger has it now, and not when it was asked before."""
    reader.rollback()
    return read.resolve_run(reader, name)


def change(
    number: int, field: str, after: object, *, time_ms: int = 0, run: Run = RUN, user: str = "ada"
) -> Amendment:
    """One whose id has this number, and by default its time."""
    made = f"00000000-0000-4000-8000-{number:012}"
    return Amendment(made, run.id, time_ms or number, user, field, None, after)


def written(ledger: WritableLedger, *amendments: Amendment) -> None:
    with ledger.begin() as transaction:
        transaction.write(AMENDMENTS.insert_once, [AMENDMENTS.written(one) for one in amendments])


def test_the_newest_counts_by_time_and_of_one_time_by_id() -> None:
    said = [
        change(1, "name", "first"),
        change(3, "name", "third", time_ms=2),
        change(2, "name", "second", time_ms=2),
    ]
    for order in itertools.permutations(said):
        run = amended.applied(RUN, order)
        assert (run.name, [one.after for one in run.amended]) == (
            "third",
            ["first", "second", "third"],
        )


def test_one_that_was_undone_does_not_stand_whatever_came_after_it() -> None:
    first, second = change(1, "name", "first"), change(2, "name", "second")
    undoing = change(9, AmendedField.UNDO, first.id)
    for order in itertools.permutations([first, second, undoing]):
        assert amended.applied(RUN, order).name == "second"
    both = [first, second, undoing, change(10, AmendedField.UNDO, second.id)]
    assert amended.applied(RUN, both).name == "a"
    assert len(amended.applied(RUN, both).amended) == 4, "all are there to be named"


def test_tags_project_and_the_model_card_are_amended_and_settings_stay_as_recorded() -> None:
    recorded = replace(RUN, facility={"zone": "FRA", "pue": 1.3}, model={"name": "x"})
    run = amended.applied(
        recorded,
        [
            change(1, "project", None),
            change(2, "tag:seed", None),
            change(3, "tag:team", "y"),
            change(4, "planned_tokens", 2_000),
            change(5, "pue", 1.1),
            change(6, "note", "moved"),
        ],
    )
    assert (run.project, run.tags) == (None, {"team": "y"})
    assert run.model == {"name": "x", "planned_tokens": 2_000}
    assert run.facility == {"zone": "FRA", "pue": 1.3}
    assert amended.facility_of(run) == {"zone": "FRA", "pue": 1.1}
    assert amended.note_of(run) == "moved"


def test_a_newer_answer_to_the_same_question_silences_the_older_one() -> None:
    recorded = replace(RUN, facility={"zone": "FRA"})
    intensity, zone = change(1, "intensity", 0.1), change(2, "zone", "DEU")
    assert amended.facility_of(amended.applied(recorded, [intensity])) == {"intensity": 0.1}
    assert amended.facility_of(amended.applied(recorded, [intensity, zone])) == {"zone": "DEU"}


def test_what_one_call_amends_is_undone_together(
    ledger_url: str, reader: Connection, runs: None
) -> None:
    amend(ledger_url, resolved(reader, "a"), {"name": ("a", "z"), "note": (None, "one")})
    amend(ledger_url, resolved(reader, "z"), {"pue": (None, 1.2), "note": ("one", "two")})
    undo(ledger_url, resolved(reader, "z"))
    run = resolved(reader, "z")
    assert (amended.note_of(run), amended.facility_of(run)) == ("one", {})
    undo(ledger_url, run)
    run = resolved(reader, "a")
    assert (amended.note_of(run), len(run.amended)) == (None, 8)
    with pytest.raises(CarbontrackError, match="no amendment to undo"):
        undo(ledger_url, run)


def test_runs_are_found_by_what_is_said_of_them_now(
    ledger: WritableLedger, reader: Connection, runs: None
) -> None:
    b = RUNS[1].run
    written(
        ledger,
        change(1, "name", "zebra"),
        change(2, "project", "vision"),
        change(3, "tag:team", "y"),
        change(4, "project", None, run=b),
        change(5, "tag:team", "x", run=b),
        change(6, "name", "taken back", run=b),
        change(7, AmendedField.UNDO, change(6, "", "").id, run=b),
    )

    def listed(**wanted: object) -> list[str]:
        return [run.name for run in read.list_runs(reader, **wanted)]  # type: ignore[arg-type]

    assert listed() == ["c", "b", "zebra"]
    assert (listed(name="zebra"), listed(name="a"), listed(name="taken back")) == (
        ["zebra"],
        [],
        [],
    )
    assert (listed(project="vision"), listed(project="nlp")) == (["zebra"], [])
    assert (listed(tags=[("team", "y")]), listed(tags=[("team", "x")])) == (["zebra"], ["b"])
    assert listed(tags=[("team", "y"), ("seed", "1")]) == ["zebra"]
    assert read.resolve_run(reader, "zebra").id == RUN.id
    assert read.resolve_run(reader, RUN.id[:8]).name == "zebra"
    with pytest.raises(NotFoundError):
        read.resolve_run(reader, "a")
    assert read.projects(reader) == ["vision"]
    assert read.names(reader, beginning="z", limit=9) == ["zebra"]
    assert read.names(reader, beginning="a", limit=9) == []

    def found(**wanted: object) -> list[str]:
        return [run.name for run in read.find_runs(reader, limit=9, **wanted)[0]]  # type: ignore[arg-type]

    assert (found(search="zebra vision"), found(search="nlp")) == (["zebra"], [])
    assert (found(project="vision"), found(project="nlp")) == (["zebra"], [])
    assert found(sort="name", down=False) == ["b", "c", "zebra"]


def test_the_database_and_python_agree_on_which_stand(
    ledger: WritableLedger, reader: Connection, runs: None
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    said: list[Amendment] = []
    for number in range(1, 120):
        run = chance.choice(RUNS).run
        if said and chance.random() < 0.4:
            undone = chance.choice(said)
            of = next(one.run for one in RUNS if one.run.id == undone.run_id)
            made = change(number, AmendedField.UNDO, undone.id, time_ms=number // 4 + 1, run=of)
        else:
            after = chance.choice(["p", "q", "r"])
            field = chance.choice(["name", "project", "tag:team"])
            made = change(number, field, after, time_ms=number // 4 + 1, run=run)
        said.append(made)
    written(ledger, *chance.sample(said, len(said)))
    runs_now = read.list_runs(reader)
    for run in runs_now:
        recorded = next(one.run for one in RUNS if one.run.id == run.id)
        alone = amended.applied(recorded, [one for one in said if one.run_id == run.id])
        assert (run.name, run.project, run.tags) == (alone.name, alone.project, alone.tags)
    for value in "pqrabcxy":
        by_name = {run.id for run in read.list_runs(reader, name=value)}
        assert by_name == {run.id for run in runs_now if run.name == value}
        by_project = {run.id for run in read.list_runs(reader, project=value)}
        assert by_project == {run.id for run in runs_now if run.project == value}
        by_tag = {run.id for run in read.list_runs(reader, tags=[("team", value)])}
        assert by_tag == {run.id for run in runs_now if run.tags.get("team") == value}


def test_tokens_are_those_of_all_steps_and_of_each_in_proportion(
    ledger: WritableLedger, reader: Connection, runs: None
) -> None:
    c = RUNS[2].run
    assert read.step_totals(reader, resolved(reader, "c")).tokens == 700
    written(ledger, change(1, "tokens", 8 * 700, run=c))
    run = resolved(reader, "c")
    assert {step.tokens for step in read.steps(reader, run)} == {800}
    assert {tokens for _, tokens in read.tokens_of_steps(reader, run)} == {800}
    assert read.tokens_until(reader, run, [3]) == [2400]
    third_ms = read.steps(reader, run)[2].time_ms
    assert read.step_totals(reader, run, (third_ms, LAST_MS)).tokens == 5 * 800
    written(ledger, change(2, "tokens", 1_000, run=c))  # no whole number of each step
    assert read.step_totals(reader, resolved(reader, "c")).tokens == 1_000
    logged = {step.tokens_per_s for step in RUNS[2].step_rows}
    assert {step.tokens_per_s for step in read.steps(reader, run)} == logged, "as logged"


def test_tokens_of_a_run_that_logged_none(ledger: WritableLedger, reader: Connection) -> None:
    one = Recorded(name="silent", number=4, count=2)
    RunWriter(ledger, one.run, recording_of(one.run), one.sensors)
    written(ledger, change(1, "tokens", 5_000, run=one.run))
    run = resolved(reader, "silent")
    assert read.step_totals(reader, run).tokens == 5_000
    assert read.step_totals(reader, run, (0, LAST_MS)).tokens is None, "of a part nothing is known"

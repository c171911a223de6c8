"""A run that goes on is equally long wherever it is shown."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from carbontrack import config
from carbontrack.ledger import engine, read
from carbontrack.ledger.recorded_rows import Run
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.write import RunWriter
from carbontrack.query import price, project
from carbontrack.query.phases import Phases
from carbontrack.report.runs import run_item
from carbontrack.report.show import run_detail
from carbontrack.units import now_ms
from carbontrack.vocabulary import Method, Status
from dashboards import data
from dashboards.live.view import View
from tests.fixtures.runs import Recorded, recording_of

ONE = Recorded(count=2, seconds=7200.0)


def begun_at(started_ms: int, heartbeat_ms: int | None, ended_ms: int | None = None) -> Run:
    return replace(
        ONE.begun,
        started_ms=started_ms,
        heartbeat_ms=heartbeat_ms,
        ended_ms=ended_ms,
        exit_code=None,
    )


@pytest.mark.parametrize(
    ("heartbeat_ms", "ended_ms", "end_ms"),
    [
        (None, None, 1000),  # no heartbeat yet
        (5000, None, 5000),
        (5000, 4000, 4000),  # the recorder outlives the job
        (None, 4000, 4000),
        (900, None, 1000),  # another host's clock is behind
        (0, 0, 1000),
    ],
)
def test_it_ends_at_its_end_else_at_its_last_sign_of_life(
    heartbeat_ms: int | None, ended_ms: int | None, end_ms: int
) -> None:
    run = begun_at(1000, heartbeat_ms, ended_ms)
    assert (run.end_ms, run.duration_s) == (end_ms, (end_ms - 1000) / 1000)


def test_runs_show_table_page_and_figure_agree_on_a_run_that_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    started = now_ms()  # its heartbeat is ahead: it goes on for as long as this may last
    moved = [
        (uuid, replace(w, start_ms=w.start_ms + started - ONE.start_ms)) for uuid, w in ONE.windows
    ]
    ledger = open_ledger(url)
    begun = replace(ONE.begun, started_ms=started)
    writer = RunWriter(ledger, begun, recording_of(begun), ONE.sensors)
    writer.commit(windows=moved, heartbeat_ms=started + 7_200_000)
    ledger.close()

    flags = config.flags()
    with engine.open_reader(url).connect() as connection:
        run = read.resolve_run(connection, "last")
        sensors, totals = read.sensors(connection, run), read.totals(connection, run)
        item = run_item(run, sensors, totals)
        steps = read.step_totals(connection, run)
        shown = run_detail(run, sensors, totals, steps, [], {}, [], Phases(), [], [])
        (row,) = price.estimates(connection, [run], flags, [Method.MEASURED])
        figure = data.load(connection, run, flags)
        curve_end_ms = project.curve(connection, run).times_ms[-1]
    view = View(url, flags)
    page = view.run(view.find("last"))
    view.close()

    assert run.status is Status.RUNNING
    lengths = [item["duration_s"], shown["duration_s"], row.duration_s, page["duration_s"]]
    assert [*lengths, figure.run.duration_s, figure.estimate.duration_s] == [7200.0] * 6
    assert curve_end_ms == figure.curve.times_ms[-1] == run.end_ms == started + 7_200_000
    assert [item["coverage"], shown["coverage"], row.coverage, page["coverage"]] == [1.0] * 4


def test_no_other_place_decides_when_a_run_ended() -> None:
    root = Path(__file__).parents[2]
    others = [
        path
        for folder in ("carbontrack", "dashboards")
        for path in (root / folder).rglob("*.py")
        if re.search(r"\b(ended_ms|heartbeat_ms) or\b", path.read_text())
    ]
    assert [path.name for path in others] == []

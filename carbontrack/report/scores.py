"""Scores in benchmarks beside what they took, and beside what reports print: rows for every format.

What a score took is all of the run in which it was logged, the evaluation included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carbontrack.account import scores
from carbontrack.account.result import Estimate
from carbontrack.account.scores import PER_CENT, PublishedScore, Score, per
from carbontrack.errors import CarbontrackError
from carbontrack.report.notes import notes_of
from carbontrack.report.numbers import NO_VALUE, mass_text
from carbontrack.report.table import Column, Table
from carbontrack.vocabulary import Agreement

TABLES = ("table3", "table4")
"""The tables of the Llama 2 report that `--like` knows."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One run to show: what it took, and its scores."""

    estimate: Estimate
    scores: Sequence[Score]


def listing(runs: Sequence[Scored]) -> tuple[Table, list[dict[str, Any]]]:
    """Each score of the runs with its amounts, and what is published of the same benchmarks; the
    same as rows for programs. Raises CarbontrackError where no run has a score.
    """
    own = [(run.estimate, score) for run in runs for score in scores.latest(run.scores)]
    if not own:
        names = ", ".join(run.estimate.label for run in runs)
        raise CarbontrackError(
            f"No scores in {names}.", hint="Record llama_train evaluate in the run: it logs them."
        )
    tasks = dict.fromkeys(scores.folded(score.task) for _, score in own)
    known = [row for task in tasks for row in scores.published_of(task)]
    rows = [*(_run_row(*one) for one in own), *map(_published_row, known)]
    return _table(rows, [estimate for estimate, _ in own], known), rows


def like(name: str, runs: Sequence[Scored]) -> tuple[Table, list[dict[str, Any]]]:
    """A table of the Llama 2 report as it is printed, with the runs in front."""
    known = [row for row in scores.published_scores() if f"table{row.table}" == name]
    benchmarks = list(dict.fromkeys(row.benchmark for row in known))
    models = list(dict.fromkeys(row.model for row in known))
    printed = {(row.model, row.benchmark): row.printed for row in known}
    latest = [(run, scores.latest(run.scores)) for run in runs]
    columns = [
        Column("model", "", (*(run.estimate.label for run in runs), *models), left=True),
        *(
            Column(
                *_two_lines(benchmark),
                (
                    *(_own_cell(found, benchmark) for _, found in latest),
                    *(printed.get((model, benchmark), NO_VALUE) for model in models),
                ),
            )
            for benchmark in benchmarks
        ),
    ]
    notes = ["scores in per cent, the published ones as printed"]
    notes += _sources(known) + _differing(known)
    own = [_run_row(run.estimate, score) for run, found in latest for score in found]
    table = Table(tuple(columns), has_total=False, notes=tuple(notes))
    return table, [*own, *map(_published_row, known)]


def data_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For JSON: the scores of runs, and the published ones, each with the keys that it has."""
    return {
        key: [{k: v for k, v in row.items() if k not in other} for row in rows if row["of"] == of]
        for key, of, other in (("scores", _RUN, _OF_REPORTS), ("published", _REPORT, _OF_RUNS))
    }


_RUN, _REPORT = "run", "report"
_OF_RUNS = ("of", "run_id", "metric", "stderr", "chance", "questions", "step", "facility_kwh",
            "cost", "currency", "score_per_kwh", "score_per_cost")  # fmt: skip
_OF_REPORTS = ("of", "setting", "gpu_hours", "report", "table", "status", "source",
               "source_read", "note")  # fmt: skip


def _run_row(estimate: Estimate, score: Score) -> dict[str, Any]:
    value = score.score if scores.is_share(score.metric) else None
    return _row(
        of=_RUN,
        name=estimate.label,
        run_id=estimate.run_ids[0],
        benchmark=score.task,
        metric=score.metric,
        score=score.score,
        stderr=score.stderr,
        chance=score.chance,
        questions=score.questions,
        step=score.step,
        facility_kwh=estimate.facility_kwh,
        tco2e=estimate.tco2e,
        cost=estimate.cost,
        currency=estimate.currency if estimate.cost is not None else None,
        score_per_kwh=per(value, estimate.facility_kwh),
        score_per_tco2e=per(value, estimate.tco2e),
        score_per_cost=per(value, estimate.cost),
    )


def _published_row(row: PublishedScore) -> dict[str, Any]:
    return _row(
        of=_REPORT,
        name=row.model,
        benchmark=row.benchmark,
        setting=row.setting,
        score=row.score,
        tco2e=row.tco2e,
        gpu_hours=row.gpu_hours,
        score_per_tco2e=per(row.score, row.tco2e),
        report=row.report,
        table=row.table or None,
        status=row.agreement.value,
        source=row.source,
        source_read=row.read,
        note=row.note,
    )


def _row(**values: Any) -> dict[str, Any]:
    """A row with all keys in one order, as a line of CSV needs it."""
    names = ("of", "name", "run_id", "benchmark", "metric", "setting", "score", "stderr", "chance",
             "questions", "step", "facility_kwh", "tco2e", "cost", "currency", "gpu_hours",
             "score_per_kwh", "score_per_tco2e", "score_per_cost", "report", "table", "status",
             "source", "source_read", "note")  # fmt: skip
    return {name: values.get(name) for name in names}


def _table(
    rows: Sequence[Mapping[str, Any]],
    estimates: Sequence[Estimate],
    known: Sequence[PublishedScore],
) -> Table:
    def column(head: str, unit: str, cell: Callable[[Mapping[str, Any]], str]) -> Column:
        return Column(head, unit, tuple(map(cell, rows)))

    currencies = {row["currency"] for row in rows if row["currency"]}
    columns = [
        Column("run or model", "", tuple(row["name"] for row in rows), left=True),
        Column("benchmark", "", tuple(row["benchmark"] for row in rows), left=True),
        Column("metric", "", tuple(row["metric"] or row["setting"] for row in rows), left=True),
        column("score", "%", lambda row: _share(row["score"], row["metric"])),
        column("±", "", lambda row: _share(row["stderr"], row["metric"])),
        column("chance", "%", lambda row: _share(row["chance"], row["metric"])),
        column(
            "questions", "", lambda row: f"{row['questions']:,}" if row["questions"] else NO_VALUE
        ),
        column("CO₂e", "", lambda row: mass_text(row["tco2e"])),
        column("points", "per kWh", lambda row: _points(row["score_per_kwh"])),
        column("points", "per tCO₂e", lambda row: _points(row["score_per_tco2e"])),
    ]
    if currencies:
        unit = f"per {currencies.pop()}" if len(currencies) == 1 else "per money"
        columns.append(column("points", unit, lambda row: _points(row["score_per_cost"])))
    if known:
        status = tuple(row["status"] or NO_VALUE for row in rows)
        columns.append(Column("status", "", status, left=True))
    notes = [
        "points: per cent of the score, over the facility energy, CO₂e and money of the whole run "
        "in which it was logged",
        *_sources(known),
        *_differing(known),
        *notes_of(estimates),
    ]
    return Table(tuple(columns), has_total=False, notes=tuple(notes))


def _own_cell(found: Sequence[Score], benchmark: str) -> str:
    same = scores.pick(found, benchmark)
    return _share(same[-1].score, same[-1].metric) if same else NO_VALUE


def _share(value: float | None, metric: str | None) -> str:
    """Per cent with one decimal, two if small; what is no share as it is."""
    if value is None:
        return NO_VALUE
    if metric is not None and not scores.is_share(metric):
        return f"{value:.4g}"
    per_cent = value * PER_CENT
    return f"{per_cent:.2f}" if 0 < abs(per_cent) < 10 else f"{per_cent:.1f}"


def _points(share: float | None) -> str:
    return NO_VALUE if share is None else f"{share * PER_CENT:,.4g}"


def _two_lines(benchmark: str) -> tuple[str, str]:
    first, _, second = benchmark.partition(" ")
    return first, second


def _sources(known: Sequence[PublishedScore]) -> list[str]:
    notes = [f"published: {source}" for source in dict.fromkeys(row.source for row in known)]
    unusual = dict.fromkeys(f"{row.model} {row.accounting}" for row in known if row.accounting)
    notes += [f"published CO₂e: {', '.join(unusual)}"] if unusual else []
    unread = dict.fromkeys(row.model for row in known if not row.read)
    return [*notes, f"{', '.join(unread)}: the source was not read"] if unread else notes


def _differing(known: Sequence[PublishedScore]) -> list[str]:
    """What reports print of one model in one benchmark, where it is not the same."""
    pairs = dict.fromkeys(
        (row.model, row.benchmark) for row in known if row.agreement is Agreement.DIFFERS
    )
    if not pairs:
        return []
    shown = [f"{model} in {benchmark} {_printed(model, benchmark)}" for model, benchmark in pairs]
    return [f"published figures of one model differ between reports: {'; '.join(shown)}"]


def _printed(model: str, benchmark: str) -> str:
    same = [row for row in scores.published_of(benchmark) if row.model == model]
    return ", ".join(dict.fromkeys(f"{row.printed} ({row.report}, {row.setting})" for row in same))

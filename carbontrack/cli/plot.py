"""`carbontrack plot`: a figure of one run, or of several over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from carbontrack.cli.common import DbOption, find_runs, run_argument, say_written
from carbontrack.cli.factor_options import Flags, QuietOption, takes_factors
from carbontrack.errors import CarbontrackError
from carbontrack.vocabulary import Against, FigureKind, FigureStyle, LogAxes

_SUFFIXES = (".png", ".svg", ".pdf")


_OF_SEVERAL = (FigureKind.LOSS, FigureKind.EFFICIENCY, FigureKind.COMPARE)
# What some kinds take; the same as in dashboards.figures, which is slow to import.
_OPTIONS: Mapping[str, Sequence[FigureKind]] = {
    "each": (FigureKind.OVERVIEW, FigureKind.POWER),
    "smooth": (FigureKind.OVERVIEW, FigureKind.LOSS, FigureKind.COMPARE),
    "log": (FigureKind.LOSS, FigureKind.COMPARE),
    "against": (FigureKind.COMPARE,),
    "group": (FigureKind.COMPARE,),
    "metric": (FigureKind.COMPARE,),
}


@takes_factors
def plot(
    flags: Flags,
    runs: Annotated[
        list[str] | None,
        run_argument(
            "RUN…",
            "A run's id, a unique prefix of it, its name (the newest), or last. Several for "
            "loss, efficiency and compare.",
        ),
    ] = None,
    kind: Annotated[
        FigureKind, typer.Option("--kind", "-k", help="What to draw.")
    ] = FigureKind.OVERVIEW,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help=".png, .svg or .pdf. Default: NAME.png."),
    ] = None,
    style: Annotated[
        FigureStyle, typer.Option("--style", help="A column of a paper, or a slide.")
    ] = FigureStyle.PAPER,
    width: Annotated[
        float | None,
        typer.Option(
            metavar="INCHES",
            help="Default: 3.5, a column of two; 13.3 for a slide. From 2 to 60. The type keeps "
            "its size.",
        ),
    ] = None,
    title: Annotated[
        bool, typer.Option("--title/--no-title", help="Without, for a paper that has a caption.")
    ] = True,
    each: Annotated[
        bool,
        typer.Option("--each", help="A line for each device, not their mean and range."),
    ] = False,
    smooth: Annotated[
        int | None,
        typer.Option(
            metavar="STEPS", min=1, help="Draw the loss as the mean of the last so many steps."
        ),
    ] = None,
    log: Annotated[
        LogAxes | None,
        typer.Option(
            help="Logarithmic axes of loss and compare. Default: x, where the loss would be an L."
        ),
    ] = None,
    against: Annotated[
        Against | None,
        typer.Option(help="What compare draws the loss against. Default: energy and CO2e."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Compare groups, mean and sd: runs that differ in a tag only (tag:seed), or those "
            "of one tag:KEY, model, … A name is then all runs that have it.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE",
            help="Compare scores in this benchmark, TASK or TASK/METRIC, and published models.",
        ),
    ] = None,
    quiet: QuietOption = False,
    db: DbOption = None,
) -> None:
    """Draw a run: power, loss, energy and CO2e over time, or one of the other kinds.

    Example: carbontrack plot small large --kind compare --zone FRA --out compare.pdf
    """
    from carbontrack import config
    from carbontrack.ledger import engine
    from carbontrack.ledger.url import ledger_url
    from carbontrack.query import replicas

    references = runs or ["last"]
    if out is not None:
        _check(out)
    if width is not None:
        width = config.number("--width", width, "inches", low=2, high=60)
    if len(references) > 1 and kind not in _OF_SEVERAL:
        raise CarbontrackError(
            f"--kind {kind} shows one run, not {len(references)}.",
            hint=f"Several go with {', '.join(_OF_SEVERAL)}.",
        )
    given = {
        "each": each or None,
        "smooth": smooth,
        "log": log,
        "against": against,
        "group": group,
        "metric": metric,
    }
    own: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name in own:
        if kind not in _OPTIONS[name]:
            fitting = " or ".join(_OPTIONS[name])
            raise CarbontrackError(f"--{name} goes with --kind {fitting}, not {kind}.")
    with engine.open_reader(ledger_url(db)).connect() as connection:
        groups = None
        if group is None:
            found = find_runs(connection, references)
        else:
            found = replicas.named(connection, references)
            groups = replicas.groups_of(connection, found, group)

        from dashboards import data, figures
        from dashboards import style as look

        loaded = [data.load(connection, run, flags) for run in found]
    path = out or Path(f"{'-'.join(run.name for run in found).replace('/', '_')}.png")
    if groups is not None:
        own["group"] = groups
    figure = figures.draw(kind, loaded, style=style, width=width, title=title, **own)
    try:
        look.save(figure, path)
    except OSError as error:
        raise CarbontrackError(f"{path} cannot be written: {error.strerror}.") from error
    say_written([path], quiet=quiet)


def _check(path: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise CarbontrackError(
            f"--out {path}: not a kind of picture.", hint=f"End it in {', '.join(_SUFFIXES)}."
        )
    if not path.parent.is_dir():
        raise CarbontrackError(f"--out {path}: there is no folder {path.parent}.", hint="Make it.")

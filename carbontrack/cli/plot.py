"""`carbontrack plot`: the figure of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carbontrack.cli.common import DbOption
from carbontrack.cli.factor_options import IntensityOption, ProviderOption, PueOption, ZoneOption
from carbontrack.cli.show import RunArgument
from carbontrack.errors import CarbontrackError

_SUFFIXES = (".png", ".svg", ".pdf")


def plot(
    run: RunArgument = "last",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help=".png, .svg or .pdf. Default: NAME.png."),
    ] = None,
    pue: PueOption = None,
    provider: ProviderOption = None,
    intensity: IntensityOption = None,
    zone: ZoneOption = None,
    db: DbOption = None,
) -> None:
    """Draw power, loss, energy and CO2e of a run over time.

    Example: carbontrack plot last --zone FRA --out run.pdf
    """
    from carbontrack import config
    from carbontrack.ledger import engine, read
    from carbontrack.ledger.url import ledger_url
    from carbontrack.report import gather

    if out is not None:
        _check(out)
    flags = config.flags(pue=pue, provider=provider, intensity=intensity, zone=zone)
    with engine.open_reader(ledger_url(db)).connect() as connection:
        found = read.resolve_run(connection, run)
        (estimate,) = gather.estimates(connection, [found], flags, ["measured"])
        path = out or Path(f"{found.name.replace('/', '_')}.png")

        from dashboards import data, figures

        figure = figures.overview(data.load(connection, found), estimate)
    try:
        figure.savefig(path)
    except OSError as error:
        raise CarbontrackError(f"{path} cannot be written: {error.strerror}.") from error
    typer.echo(path)


def _check(path: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise CarbontrackError(
            f"--out {path}: not a kind of picture.", hint=f"End it in {', '.join(_SUFFIXES)}."
        )
    if not path.parent.is_dir():
        raise CarbontrackError(f"--out {path}: there is no folder {path.parent}.", hint="Make it.")

"""From the ledger to estimates: reads runs with their hours, and prices each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from carbontrack import config
from carbontrack.account import catalog
from carbontrack.account.curve import EnergyCurve
from carbontrack.account.estimate import duration_s, estimate_run
from carbontrack.account.factors import resolve
from carbontrack.account.intensity import IntensitySeries, Interval
from carbontrack.account.result import Estimate
from carbontrack.account.total import combine
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.rows import Repeated, Run
from carbontrack.units import MS_PER_S

if TYPE_CHECKING:
    from carbontrack.account.project import Projection
    from carbontrack.ledger.factors import Connection

_NO_GROUP = "–"
_CURVE_POINTS = 20_000
_PRICE_KEY = {"gpu_hour": "price_per_gpu_hour", "kwh": "tariff"}


def estimates(
    connection: Connection,
    runs: Sequence[Run],
    flags: config.Layer,
    methods: Sequence[str],
    *,
    embodied: bool = False,
) -> list[Estimate]:
    """Each run by each method; flags win over what the run recorded, that over files here."""
    from carbontrack.ledger import read

    around = config.surroundings()
    found = []
    for run in runs:
        chosen = config.resolve([flags, config.snapshot(run.facility), *around])
        settings = with_price(connection, chosen)
        sensors = read.sensors(connection, run)
        hours = read.hours(connection, run)
        steps = read.step_totals(connection, run)
        series = _series(connection, run, settings)
        for method in methods:
            factors = resolve(settings, method=method, embodied=embodied, series=series)
            found.append(
                estimate_run(run, sensors, hours, steps, factors, method=method, embodied=embodied)
            )
    return found


def with_price(connection: Connection, settings: config.Settings) -> config.Settings:
    """The imported price that is named by BOOK:ITEM, as the price and currency it stands for.

    Raises CarbontrackError where there is none, or it is in another currency than was asked for.
    """
    from carbontrack.ledger import factors

    named = settings.get("price")
    if named is None:
        return settings
    for row in factors.prices(
        connection, contains=named.value.partition(":")[2], as_of=_as_of(settings)
    ):
        if f"{row['book']}:{row['item']}" == named.value:
            _check_currency(named, row["currency"], settings.get("currency"))
            origin = f"{named.value}, {row['as_of']}"
            price = {
                _PRICE_KEY[row["unit"]]: config.Setting(row["price"], origin),
                "currency": config.Setting(row["currency"], origin),
            }
            return {**settings, **price}
    raise CarbontrackError(
        f"no imported price {named.value!r}.", hint="See: carbontrack factors list price --imported"
    )


def _check_currency(named: config.Setting, currency: str, stated: config.Setting | None) -> None:
    """A book has its own currency: one stated beside the price, or above it, must be the same."""
    if stated is None or stated.value == currency or stated.origin not in ("flag", named.origin):
        return
    raise CarbontrackError(
        f"price {named.value} is in {currency} ({named.origin}), "
        f"but the currency is {stated.value} ({stated.origin}).",
        hint="Leave the currency out.",
    )


def _as_of(settings: config.Settings) -> str | None:
    return settings["factors_as_of"].value if "factors_as_of" in settings else None


def _series(connection: Connection, run: Run, settings: config.Settings) -> IntensitySeries | None:
    """The imported intensity of the run's zone while it ran; None where a year was asked for."""
    from carbontrack.ledger import factors

    zone = settings.get("zone")
    if zone is None or "@" in zone.value:
        return None
    code = catalog.zone_code(zone.value) or zone.value
    end_ms = run.started_ms + round(duration_s(run) * MS_PER_S)
    found = factors.intensity(
        connection, code, from_ms=run.started_ms, to_ms=end_ms, as_of=_as_of(settings)
    )
    return IntensitySeries(tuple(Interval(**row) for row in found)) if found else None


def choose(
    connection: Connection,
    references: Sequence[str],
    *,
    project: str | None = None,
    tag: tuple[str, str] | None = None,
    since_ms: int | None = None,
    status: str | None = None,
    limit: int | None = None,
) -> list[Run]:
    """The runs that are named, else those that match, newest first."""
    from carbontrack.ledger import read

    if references:
        named = [read.resolve_run(connection, reference) for reference in references]
        runs = list({run.id: run for run in named}.values())
        runs = [run for run in runs if project in (None, run.project)]
        runs = [run for run in runs if since_ms is None or run.started_ms >= since_ms]
        runs = [run for run in runs if tag is None or run.tags.get(tag[0]) == tag[1]]
    else:
        runs = read.list_runs(connection, project=project, tag=tag, since_ms=since_ms)
    return [run for run in runs if status in (None, run.status)][:limit]


def grouped(
    connection: Connection, runs: Sequence[Run], rows: Sequence[Estimate], by: str
) -> list[Estimate]:
    """One row for each group and method. Raises CarbontrackError for an unknown `by`."""
    from carbontrack.ledger import shared

    groups: dict[tuple[str, str], list[Estimate]] = {}
    labels = {run.id: _group(connection, run, by) for run in runs}
    for row in rows:
        groups.setdefault((labels[row.run_ids[0]], row.method), []).append(row)
    repeated = {
        label: shared.repeated(connection, [run for run in runs if labels[run.id] == label])
        for label in dict.fromkeys(labels.values())
    }
    return [
        combine(members, label=label, repeated=repeated[label])
        for (label, _), members in groups.items()
    ]


def curve(connection: Connection, run: Run) -> EnergyCurve:
    """The run's cumulative energy, as fine as the ledger has it."""
    from carbontrack.ledger import read

    end_ms = run.started_ms + round(duration_s(run) * MS_PER_S)
    length_s = math.ceil(duration_s(run))
    for points in (_CURVE_POINTS, length_s // 60 + 2, 1):
        series = read.series(connection, run, points=points)
        if series.columns["start_ms"]:  # fine levels may have been dropped
            break
    return EnergyCurve.of(series, from_ms=run.started_ms, to_ms=end_ms)


def projected(
    connection: Connection,
    run: Run,
    measured: Estimate,
    *,
    tokens: str | None = None,
    steps: int | None = None,
    model: str | None = None,
) -> Projection:
    """The run at a target, from its steady state; without a target, at the tokens it planned.

    Raises CarbontrackError where the run tells too little.
    """
    from carbontrack.account.curve import steady_state
    from carbontrack.account.project import project, target_of
    from carbontrack.ledger import read

    rows = read.steps(connection, run)
    state = steady_state(rows, curve(connection, run), name=run.name)
    counts = [row.tokens for row in rows if row.tokens]
    target = target_of(
        run.model, sum(counts) / len(counts), tokens=tokens, steps=steps, to_model=model
    )
    return project(measured, state, target)


def _group(connection: Connection, run: Run, by: str) -> str:
    from carbontrack.ledger import read

    if by == "host":
        return "+".join(node.host for node in read.nodes(connection, run)) or _NO_GROUP
    if by == "month":
        return datetime.fromtimestamp(run.started_ms / MS_PER_S, UTC).strftime("%Y-%m")
    if by.startswith("tag:"):
        return run.tags.get(by.removeprefix("tag:")) or _NO_GROUP
    known = {
        "name": run.name,
        "project": run.project,
        "user": run.user,
        "model": run.model.get("name"),
        "status": run.status,
    }
    if by not in known:
        names = ", ".join([*known, "host", "month", "tag:KEY"])
        raise CarbontrackError(f"--by {by}: unknown.", hint=f"Give {names}.")
    return str(known[by] or _NO_GROUP)


def totals(
    rows: Sequence[Estimate], repeated: Mapping[str, Sequence[Repeated]] | None = None
) -> list[Estimate]:
    """The total by each method, in the order the methods appear; see `combine`."""
    methods = dict.fromkeys(row.method for row in rows)
    return [
        combine([row for row in rows if row.method == method], repeated=repeated)
        for method in methods
    ]

"""From the ledger to estimates: reads runs with their hours, and prices each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from carbontrack import config
from carbontrack.account import catalog
from carbontrack.account.curve import EnergyCurve
from carbontrack.account.estimate import duration_s, estimate_run
from carbontrack.account.factors import resolve
from carbontrack.account.intensity import IntensitySeries, Interval
from carbontrack.account.parts import Recording, by_host, by_month, months_of, span_of_month
from carbontrack.account.pricing import unpriced
from carbontrack.account.result import Estimate
from carbontrack.account.total import combine
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.rows import Repeated, Run, StepTotals
from carbontrack.units import MS_PER_S

if TYPE_CHECKING:
    from carbontrack.account.project import Projection
    from carbontrack.ledger.factors import Connection

_NO_GROUP = "–"
_CURVE_POINTS = 20_000
_PRICE_KEY = {"gpu_hour": "price_per_gpu_hour", "kwh": "tariff"}


class _Price(Protocol):
    def __call__(self, part: Recording, method: str, whole: Estimate | None = None) -> Estimate: ...


def estimates(
    connection: Connection,
    runs: Sequence[Run],
    flags: config.Layer,
    methods: Sequence[str],
    *,
    embodied: bool = False,
) -> list[Estimate]:
    """Each run by each method; flags win over what the run recorded, that over files here.

    A run whose recorded zone, provider or price cannot be found has neither carbon nor money, and
    a note; for one that was chosen here CarbontrackError is raised.
    """
    around = config.surroundings()
    return [
        estimate
        for run in runs
        for estimate in _by_methods(
            connection, recording_of(connection, run), flags, around, methods, embodied=embodied
        )
    ]


def estimates_of(
    connection: Connection, recording: Recording, flags: config.Layer, methods: Sequence[str]
) -> list[Estimate]:
    """As `estimates`, of one run that has been read already."""
    return _by_methods(connection, recording, flags, config.surroundings(), methods)


def _by_methods(
    connection: Connection,
    recording: Recording,
    flags: config.Layer,
    around: Sequence[config.Layer],
    methods: Sequence[str],
    *,
    embodied: bool = False,
) -> list[Estimate]:
    price = _pricing(connection, recording.run, flags, around, embodied=embodied)
    return [price(recording, method) for method in methods]


def recording_of(connection: Connection, run: Run) -> Recording:
    """What the ledger holds of a run for an estimate."""
    from carbontrack.ledger import read

    return Recording(
        run,
        read.sensors(connection, run),
        read.hours(connection, run),
        read.step_totals(connection, run),
    )


def _pricing(
    connection: Connection,
    run: Run,
    flags: config.Layer,
    around: Sequence[config.Layer],
    *,
    embodied: bool,
) -> _Price:
    """How the run, or a part of it, becomes an estimate by a method.

    A part takes the intensity of its hours only where the whole run could.
    """
    recorded = config.snapshot(run.facility)
    settings: config.Settings = config.resolve([flags, recorded, *around])

    def of_run(names: Sequence[str]) -> set[str]:
        return {n for n in names if n in settings and settings[n].origin == recorded.origin}

    notes, lost = [], ""
    try:
        settings = with_price(connection, settings)
    except CarbontrackError as error:
        if not of_run(["price"]):
            raise
        notes.append(f"no cost: {error.what} It was recorded with the run.")
    series = _series(connection, run, settings)
    try:
        resolve(settings, method="measured", series=series)
    except CarbontrackError as error:
        unknown = of_run(["zone", "provider"])
        settings = {name: value for name, value in settings.items() if name not in unknown}
        if not unknown:
            raise
        lost = f"neither CO₂e nor cost: {error.what} It was recorded with the run; give another."

    def price(part: Recording, method: str, whole: Estimate | None = None) -> Estimate:
        told = {sensor.name: sensor.rated_power_w for sensor in part.sensors}
        factors = resolve(settings, method=method, embodied=embodied, series=series, devices=told)
        if whole is not None and whole.factors is not None:
            factors = replace(factors, series=whole.factors.series)
        estimate = estimate_run(
            part.run,
            part.sensors,
            part.hours,
            part.steps,
            factors,
            method=method,
            embodied=embodied,
        )
        if lost:
            return unpriced(estimate, lost)
        return replace(estimate, notes=(*estimate.notes, *notes))

    return price


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
    tags: Sequence[tuple[str, str]] = (),
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
        runs = [run for run in runs if all(run.tags.get(k) == v for k, v in tags)]
    else:
        runs = read.list_runs(connection, project=project, tags=tags, since_ms=since_ms)
    return [run for run in runs if status in (None, run.status)][:limit]


@dataclass(frozen=True, slots=True)
class _Member:
    """What a run adds to a group, by each method. `uuids`: of these devices only; None: of all."""

    run: Run
    estimates: Sequence[Estimate]
    uuids: frozenset[str] | None = None


def grouped(
    connection: Connection,
    runs: Sequence[Run],
    rows: Sequence[Estimate],
    by: str,
    flags: config.Layer,
    *,
    embodied: bool = False,
) -> list[Estimate]:
    """One row for each group and method; `rows` are the `estimates` of the runs.

    By month or host, a run of several is split. Raises CarbontrackError for an unknown `by`.
    """
    from carbontrack.ledger import shared

    wholes: dict[str, list[Estimate]] = {run.id: [] for run in runs}
    for row in rows:
        wholes[row.run_ids[0]].append(row)
    groups: dict[str, list[_Member]] = {}
    for run in runs:
        for group, part in _parts(connection, run, by).items():
            member = _Member(run, wholes[run.id])
            if part is not None:
                price = _pricing(connection, run, flags, config.surroundings(), embodied=embodied)
                estimates = [price(part, whole.method, whole) for whole in wholes[run.id]]
                member = _Member(run, estimates, frozenset(s.uuid for s in part.sensors))
            groups.setdefault(group, []).append(member)
    if by == "month":
        groups = dict(sorted(groups.items(), reverse=True))
    found = []
    for group, members in groups.items():
        span_ms = span_of_month(group) if by == "month" else None
        repeated = shared.repeated(connection, [member.run for member in members], span_ms)
        for member in members:
            if member.uuids is not None and member.run.id in repeated:
                here = [one for one in repeated[member.run.id] if one.uuid in member.uuids]
                repeated[member.run.id] = here
        found += [
            combine(list(estimates), label=group, repeated=repeated)
            for estimates in zip(*(member.estimates for member in members), strict=True)
        ]
    return found


def _parts(connection: Connection, run: Run, by: str) -> Mapping[str, Recording | None]:
    """The groups that a run belongs to, with the part of it that does; None: the whole run."""
    from carbontrack.ledger import read

    if by == "month":
        months = months_of(run)
        if len(months) == 1:
            return dict.fromkeys(months)

        def steps_between(from_ms: int, to_ms: int) -> StepTotals:
            return read.step_totals(connection, run, from_ms=from_ms, to_ms=to_ms)

        return by_month(recording_of(connection, run), steps_between)
    if by == "host":
        hosts = [node.host for node in read.nodes(connection, run)]
        if len(hosts) < 2:
            return dict.fromkeys(hosts or [_NO_GROUP])
        return by_host(recording_of(connection, run)) or {"+".join(hosts): None}
    return {_group(run, by): None}


def curve(connection: Connection, run: Run) -> EnergyCurve:
    """The run's cumulative energy, as fine as the ledger has it."""
    from carbontrack.ledger import read

    end_ms = run.started_ms + round(duration_s(run) * MS_PER_S)
    most_rows = _CURVE_POINTS * max(1, len(read.sensors(connection, run)))
    series = read.series(connection, run, points=_CURVE_POINTS, most_rows=most_rows)
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


def _group(run: Run, by: str) -> str:
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

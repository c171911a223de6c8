"""Pricing: runs as the ledger has them, each estimated with its factors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from carbontrack import config
from carbontrack.account import sanity
from carbontrack.account.by_hour import energy_by_hour
from carbontrack.account.estimate import estimate_devices, estimate_run
from carbontrack.account.pricing import unpriced
from carbontrack.account.result import Estimate
from carbontrack.account.split import RunRecord, part_in, reaches_beyond
from carbontrack.account.stated import estimate_stated, kwh_by_hour_of
from carbontrack.errors import CarbontrackError
from carbontrack.factors import catalog
from carbontrack.factors.catalog import Factor
from carbontrack.factors.resolve import resolve
from carbontrack.factors.series import IntensitySeries, Interval
from carbontrack.keys import LOOKED_UP_BY, PRICES
from carbontrack.ledger.amended import layers, tokens_of
from carbontrack.ledger.recorded_rows import Devices, Run, Span, StepTotals, inner_span
from carbontrack.vocabulary import UNATTRIBUTED, Method, PriceUnit, RunKind

if TYPE_CHECKING:
    from carbontrack.ledger.held import Held, ManyHeld
    from carbontrack.ledger.imported import Connection

PART = "only what is in the range counts, in whole hours; the loss is that of its last steps there"
"""The note on a run that reaches beyond the range of time that is asked for."""
_LOST = "neither CO₂e nor cost"
_PRICES = {
    PriceUnit.GPU_HOUR: ("price_per_gpu_hour", "GPU-hour"),
    PriceUnit.KWH: ("tariff", "kWh"),
}


Prices = Callable[[str, str | None], Sequence[Mapping[str, Any]]]


class _Price(Protocol):
    def __call__(self, part: RunRecord, method: str, whole: Estimate | None = None) -> Estimate: ...


def estimates(
    connection: Connection,
    runs: Sequence[Run],
    flags: config.Layer,
    methods: Sequence[str],
    *,
    embodied: bool = False,
    own_factors: bool = False,
    span_ms: Span | None = None,
    held: ManyHeld | None = None,
) -> list[Estimate]:
    """Each run by each method, or what of it is in a span of whole hours; flags win over what the
    run recorded, that over files here.

    Several methods take the same factors; with `own_factors` each the defaults of its own.
    A run whose recorded zone, provider or price cannot be found, or not as of the day that was
    recorded with it, or whose own settings cannot be, has neither carbon nor money, and a note;
    for one that was chosen here CarbontrackError is raised. `held` holds what has been read of
    these runs, where anything has.
    """
    from carbontrack.ledger.held import ManyHeld

    around = config.surroundings()
    whose = defaults(methods, own_factors)
    rows = []
    many = held or ManyHeld(connection, runs, span_ms)
    for held_of, run in many.each(lambda held: will_split(held, span_ms)):
        price = pricing(held_of, run, flags, around, embodied=embodied, defaults=whose)
        part = part_of(held_of, run, span_ms)
        record = part or whole_of(held_of, run)
        found = [price(record, method) for method in methods]
        rows += [replace(row, notes=(*row.notes, PART)) for row in found] if part else found
    return rows


def estimates_of(
    held: Held,
    record: RunRecord,
    flags: config.Layer,
    methods: Sequence[str],
    around: Sequence[config.Layer] | None = None,
) -> list[Estimate]:
    """As `estimates`, of one run that has been read already; `around` are the layers outside the
    command line, where they have been, too.
    """
    if around is None:
        around = config.surroundings()
    whose = defaults(methods)
    price = pricing(held, record.run, flags, around, embodied=False, defaults=whose)
    return [price(record, method) for method in methods]


def defaults(methods: Collection[str], own_factors: bool = False) -> str:
    """Whose defaults the factors have: of methods side by side those of the measured one; empty
    for each method its own.
    """
    return Method.MEASURED if len(set(methods)) > 1 and not own_factors else ""


def record_of(held: Held, run: Run) -> RunRecord:
    """What the ledger holds of a run, hour by hour, so that it can be split."""
    return replace(summed_record_of(held, run), usages=held.hours(run), by_hour=None)


def will_split(held: Held, span_ms: Span | None) -> None:
    """Have what `part_of` and `whole_of` need of many runs read of all of them."""
    beyond = {run.key: span_ms for run in held.runs if reaches_beyond(run, span_ms)}
    alone = [run for run in held.runs if summed_of(held, run, beyond.get(run.key)) is None]
    held.will_look_at(alone)
    held.will_split(run for run in alone if run.key in beyond)
    if span_ms is not None:
        parts = [run for run in held.runs if run.key in beyond]
        held.sum_steps((run, inner_span(run, span_ms)) for run in parts)


def summed_of(held: Held, run: Run, span_ms: Span | None = None) -> Devices | None:
    """What the devices of a run used together: in a span of whole hours, or in all; None where
    they must be looked at one by one.
    """
    summed = held.devices(run, span_ms)
    if summed is None or not sanity.is_none_odd(summed) or held.stated(run):
        return None
    return summed.devices


def part_of(
    held: Held, run: Run, span_ms: Span | None, *, by_device: bool = False
) -> RunRecord | None:
    """What of a run is in a span of whole hours; None where that is all of it. With `by_device` it
    can be split by more than time.
    """
    if span_ms is None or not reaches_beyond(run, span_ms):
        return None
    whole = None if by_device else together_of(held, run, span_ms)
    return part_in(whole or record_of(held, run), span_ms, partial(held.step_totals, run))


def whole_of(held: Held, run: Run) -> RunRecord:
    """What the ledger holds of a run, for an estimate of all of it."""
    return together_of(held, run) or summed_record_of(held, run)


def together_of(held: Held, run: Run, span_ms: Span | None = None) -> RunRecord | None:
    """A run with what its devices used, as `summed_of`."""
    from carbontrack.query.attempts import lost_of

    devices = summed_of(held, run, span_ms)
    if devices is None:
        return None
    return RunRecord(
        run,
        [],
        [],
        StepTotals() if span_ms else held.step_totals(run),
        by_hour=partial(held.kwh_by_hour, run),
        lost_kwh=None if span_ms else lost_of(held, run),
        devices=devices,
    )


def summed_record_of(held: Held, run: Run) -> RunRecord:
    """What the ledger holds of a run, of each device added up by the database."""
    from carbontrack.query.attempts import lost_of

    if stated := held.stated(run):
        steps, by_hour = held.step_totals(run), kwh_by_hour_of(stated)
        return RunRecord(run, [], [], steps, by_hour=lambda: by_hour, stated=stated)
    return RunRecord(
        run,
        held.sensors(run),
        held.totals(run),
        held.step_totals(run),
        by_hour=lambda: energy_by_hour(held.hours_of_all(run)),
        lost_kwh=lost_of(held, run),
    )


def pricing(
    held: Held,
    run: Run,
    flags: config.Layer,
    around: Sequence[config.Layer],
    *,
    embodied: bool,
    defaults: str = "",
) -> _Price:
    """How the run, or a part of it, becomes an estimate by a method; `defaults` as in `resolve`.

    A part takes the intensity of its hours only where the whole run could.
    """
    own = layers(run)
    origins = {layer.origin for layer in own}
    settings, lost = _settings(flags, own, around)

    def of_run(names: Sequence[str]) -> set[str]:
        return {n for n in names if n in settings and settings[n].origin in origins}

    notes = [] if tokens_of(run) is None else ["tokens are stated, not logged"]
    rent_or_tariff = None
    try:
        settings, rent_or_tariff = with_price(held.prices, settings)
    except CarbontrackError as error:
        if not of_run(["price"]):
            raise
        notes.append(f"no cost: {error.what} It was {settings['price'].origin}.")
    series = _series(held, run, settings)
    if series is None and _is_only_imported(held, settings):
        lost = f"{_LOST}: no hours of {settings['zone'].value} were imported for its time"
        if as_of := _as_of(settings):
            lost += f" by {as_of}"
        settings = {name: value for name, value in settings.items() if name != "zone"}
    try:
        resolve(settings, method=Method.MEASURED, series=series)
    except CarbontrackError as error:
        unknown = of_run(LOOKED_UP_BY)
        said = " and ".join(sorted({settings[name].origin for name in unknown}))
        settings = {name: value for name, value in settings.items() if name not in unknown}
        resolve(settings, method=Method.MEASURED, series=series)  # raises for what is given here
        lost = f"{_LOST}: {error.what} It was {said}; give another."

    kind = UNATTRIBUTED if run.kind is RunKind.WATCH else ""

    def with_notes(estimate: Estimate) -> Estimate:
        return replace(estimate, kind=kind, notes=(*estimate.notes, *notes))

    def price(part: RunRecord, method: str, whole: Estimate | None = None) -> Estimate:
        of_devices = part.sensors if part.devices is None else part.devices.alike
        rated_w = {one.name: one.rated_power_w for one in of_devices}
        rated_w |= {row.device_name: row.power_w for row in part.stated}
        found = resolve(
            settings,
            method=method,
            embodied=embodied,
            series=series,
            devices=rated_w,
            price=rent_or_tariff,
            defaults=defaults,
        )
        if whole is not None and whole.factors is not None:
            hours = whole.factors.hourly
            found = replace(found, series=whole.factors.series, hourly=hours)
        if part.stated:
            estimate = estimate_stated(
                part.run, part.stated, part.steps, found, method=method, embodied=embodied
            )
            return unpriced(estimate, lost) if lost else with_notes(estimate)
        own: dict[str, Any] = {
            "method": method,
            "embodied": embodied,
            "spans_ms": part.spans_ms,
            "by_hour": part.by_hour,
            "lost_kwh": part.lost_kwh,
        }
        if part.devices is not None:
            estimate = estimate_devices(part.run, part.devices, part.steps, found, **own)
        else:
            estimate = estimate_run(part.run, part.sensors, part.usages, part.steps, found, **own)
        return replace(unpriced(estimate, lost), kind=kind) if lost else with_notes(estimate)

    return price


def _settings(
    flags: config.Layer, own: Sequence[config.Layer], around: Sequence[config.Layer]
) -> tuple[config.Settings, str]:
    """What a run is priced by; the flags alone, and why, where its own settings cannot be: what one
    shipped or merged into a ledger must not keep others from pricing the rest of it.

    Raises CarbontrackError for flags of money in another currency than that of the run, and for
    settings around it that contradict each other.
    """
    try:
        settings = config.resolve([flags, *own, *around])
    except CarbontrackError as error:
        config.resolve([flags, *around])  # raises where those contradict each other already
        if {"currency", *PRICES} & flags.values.keys():
            raise
        return config.resolve([flags]), f"{_LOST}: {error.what}"
    origins = {layer.origin for layer in own}
    for name, setting in settings.items():
        if setting.origin in origins:
            try:
                config.check(name, setting.value, where=name)
            except CarbontrackError as error:
                said = f"{error.what} It was {setting.origin}; give another."
                return config.resolve([flags]), f"{_LOST}: {said}"
    return settings, ""


def with_price(prices: Prices, settings: config.Settings) -> tuple[config.Settings, Factor | None]:
    """The settings with the currency of the imported price that BOOK:ITEM names, and that price.
    `prices` are those with a text in them, as of a day: `imported.prices`.

    Raises CarbontrackError where there is none, or it is in another currency than was asked for.
    """
    named = settings.get("price")
    if named is None:
        return settings, None
    item = named.value.partition(":")[2]
    for row in prices(item, _as_of(settings)):
        if f"{row['book']}:{row['item']}" == named.value:
            _check_currency(named, row["currency"], settings.get("currency"))
            currency = config.Setting(row["currency"], named.origin)
            return {**settings, "currency": currency}, _price_factor(named.value, row)
    raise CarbontrackError(
        f"no imported price {named.value!r}.", hint="See: carbontrack factors list price --imported"
    )


def _price_factor(name: str, row: Mapping[str, Any]) -> Factor:
    key, unit = _PRICES[row["unit"]]
    return Factor(
        name=key,
        value=row["price"],
        unit=f"{row['currency']}/{unit}",
        source=f"{name} of {row['as_of']}, {row['source']}",
        version=row["version"],
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
    as_of: str | None = config.value(settings, "factors_as_of")
    return as_of


def _series(held: Held, run: Run, settings: config.Settings) -> IntensitySeries | None:
    """The imported intensity of the run's zone while it ran; None where a year was asked for."""
    zone = settings.get("zone")
    if zone is None or "@" in zone.value:
        return None
    code = catalog.zone_code(zone.value) or zone.value
    found = held.intensity(code, run, _as_of(settings))
    return IntensitySeries(tuple(Interval(**row) for row in found)) if found else None


def _is_only_imported(held: Held, settings: config.Settings) -> bool:
    """Whether the intensity is that of a zone of which nothing but imported hours is known."""
    zone = settings.get("zone")
    if zone is None or "intensity" in settings or catalog.zone_code(zone.value) is not None:
        return False
    return held.has_intensity(zone.value)

"""Grid intensity from a live provider: the one place that uses a network, and only when asked to.

What a provider answers is written down as a table of its own layout, each time of the asked range a
row, with or without a value; `factors.intensity_csv` reads it like a file from disk.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from carbontrack.decimals import decimal
from carbontrack.errors import CarbontrackError
from carbontrack.factors import catalog

_NOTHING = "Nothing was imported."
_GB_REGIONS = range(1, 18)
_TIMEOUT_S = 30.0  # of each read
# Of a whole answer, unpacked: a month of half-hours is less than half a MB.
_MAX_BYTES = 16 * 2**20
_MAX_S = 120.0

Found = dict[datetime, float]  # gCO2e/kWh, by the start of its interval


@dataclass(frozen=True, slots=True)
class Provider:
    """Who is asked, and how. `path` and `values` are of one request, of at most `days`."""

    name: str
    url: str
    step: timedelta
    days: int
    path: Callable[[str, datetime, datetime], tuple[str, Mapping[str, str]]]
    values: Callable[[Any], Found]
    columns: Callable[[str], Mapping[str, str]]  # of its layout: time, value, then constant ones
    token: str = ""  # the variable of the environment that holds it


def fetch(provider: Provider, zone: str, start: datetime, end: datetime) -> str:
    """A table of the zone's intensity in [start, end), times in UTC, as text in CSV.

    Raises CarbontrackError for a missing package or token, an empty range, an invalid answer, or a
    zone that the provider does not have.
    """
    if start >= end:
        raise CarbontrackError(f"--from {start:%Y-%m-%d %H:%MZ} is not before --to.", hint=_NOTHING)
    found: Found = {}
    with _client(provider) as client:
        for begin, until in _spans(start, end, timedelta(days=provider.days)):
            path, parameters = provider.path(zone, begin, until)
            found |= provider.values(_ask(client, provider, path, parameters))
    first = _floor(start, provider.step)
    asked = {first + n * provider.step for n in range((end - first) // provider.step + 1)}
    times = sorted(time for time in asked | found.keys() if first <= time < end)
    text = io.StringIO()
    writer = csv.writer(text)
    columns = provider.columns(zone)
    writer.writerow(columns)
    for at in times:  # asked for and not answered: a row without a value, which is a gap
        writer.writerow([at.isoformat(), found.get(at, ""), *list(columns.values())[2:]])
    return text.getvalue()


def _client(provider: Provider) -> Any:
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise CarbontrackError(
            f"fetching needs the package {error.name}.", hint="pip install 'carbontrack[providers]'"
        ) from error
    headers = {"Accept": "application/json"}
    if provider.token:
        token = os.environ.get(provider.token)
        if not token:
            raise CarbontrackError(
                f"{provider.name} needs a token.", hint=f"Put it into {provider.token}. {_NOTHING}"
            )
        headers["auth-token"] = token
    return httpx2.Client(base_url=provider.url, headers=headers, timeout=_TIMEOUT_S)


def _ask(client: Any, provider: Provider, path: str, parameters: Mapping[str, str]) -> Any:
    import httpx2

    try:
        with client.stream("GET", path, params=parameters) as answer:
            answer.raise_for_status()
            return json.loads(_bounded(answer.iter_bytes()))
    except RecursionError:
        why = "gave no answer: nested too deeply"
    except httpx2.HTTPStatusError as error:
        why = f"answered {error.response.status_code} {error.response.reason_phrase}"
    except (httpx2.HTTPError, ValueError) as error:
        why = f"gave no answer: {error or type(error).__name__}"
    raise CarbontrackError(
        f"{provider.name} {why}. ({provider.url}{path})", hint=_NOTHING, exit_code=1
    )


def _bounded(chunks: Iterable[bytes]) -> bytes:
    """All of an answer. Raises ValueError for one that is too large or takes too long."""
    answer, until_s = bytearray(), time.monotonic() + _MAX_S
    for chunk in chunks:
        answer += chunk
        if len(answer) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES // 2**20} MiB")
        if time.monotonic() > until_s:
            raise ValueError(f"it is not complete after {_MAX_S:g} s")
    return bytes(answer)


def _spans(start: datetime, end: datetime, most: timedelta) -> Iterator[tuple[datetime, datetime]]:
    while start < end:
        until = min(end, start + most)
        yield start, until
        start = until


def _floor(time: datetime, step: timedelta) -> datetime:
    midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (time - midnight) // step * step


def _gb_region(zone: str) -> str | None:
    """The number of GB-13; None for Great Britain as a whole."""
    if catalog.zone_code(zone) == "GBR":
        return None
    number = zone.upper().removeprefix("GB-")
    if number.isdecimal() and int(number) in _GB_REGIONS:
        return number
    raise CarbontrackError(
        f"the GB grid operator has no zone {zone!r}.", hint="Give GB or GB-1 to GB-17."
    )


def _gb_path(zone: str, start: datetime, end: datetime) -> tuple[str, Mapping[str, str]]:
    span = f"{start:%Y-%m-%dT%H:%MZ}/{end:%Y-%m-%dT%H:%MZ}"
    region = _gb_region(zone)
    if region is None:
        return f"/intensity/{span}", {}
    return f"/regional/intensity/{span}/regionid/{region}", {}


def _gb_values(answer: Any) -> Found:
    """Of the whole the `actual`; of a region the operator only has its `forecast`."""
    rows = _part(answer, "data")
    regional = isinstance(rows, Mapping)
    key = "forecast" if regional else "actual"
    rows = _part(rows, "data") if regional else rows
    return _known(rows, lambda row: (_part(row, "from"), _part(row, "intensity").get(key)))


def _gb_columns(zone: str) -> Mapping[str, str]:
    number = _gb_region(zone)
    if number is None:
        return {"from": "", "actual": ""}
    found = {"zone": f"GB-{number}", "basis": "direct average, forecast"}
    return {"time": "", "g_per_kwh": "", **found}


def _maps_zone(zone: str) -> str:
    """Electricity Maps writes countries with two letters."""
    known = catalog.versions(zone)
    return (known[0]["alias"] if known else "") or zone


def _maps_path(zone: str, start: datetime, end: datetime) -> tuple[str, Mapping[str, str]]:
    span = {"start": f"{start:%Y-%m-%dT%H:%MZ}", "end": f"{end:%Y-%m-%dT%H:%MZ}"}
    wanted = {"zone": _maps_zone(zone), "emissionFactorType": "lifecycle"}
    wanted["disableEstimations"] = "true"  # what was not measured yet is a gap
    return "/carbon-intensity/past-range", {**wanted, **span}


def _maps_values(answer: Any) -> Found:
    rows = _part(answer, "data")
    return _known(rows, lambda row: (_part(row, "datetime"), row.get("carbonIntensity")))


def _maps_columns(zone: str) -> Mapping[str, str]:
    value = "Carbon intensity gCO₂eq/kWh (Life cycle)"
    return {"Datetime (UTC)": "", value: "", "Zone id": _maps_zone(zone)}


def _known(rows: Any, pair: Callable[[Any], tuple[str, Any]]) -> Found:
    try:
        return {
            datetime.fromisoformat(time).astimezone(UTC): decimal(value)
            for time, value in map(pair, rows)
            if value is not None
        }
    except (TypeError, ValueError, AttributeError) as error:
        raise _strange(str(error)) from None


def _part(answer: Any, key: str) -> Any:
    if not isinstance(answer, Mapping) or key not in answer:
        raise _strange(f"no {key!r} in it")
    return answer[key]


def _strange(why: str) -> CarbontrackError:
    return CarbontrackError(
        f"the provider's answer is not of its layout: {why}.", hint=_NOTHING, exit_code=1
    )


PROVIDERS = {
    "gb": Provider(
        "the GB grid operator",
        "https://api.carbonintensity.org.uk",
        timedelta(minutes=30),
        13,  # the operator gives 14, and counts both ends
        _gb_path,
        _gb_values,
        _gb_columns,
    ),
    "electricitymaps": Provider(
        "Electricity Maps",
        "https://api.electricitymaps.com/v3",
        timedelta(hours=1),
        10,
        _maps_path,
        _maps_values,
        _maps_columns,
        token="ELECTRICITYMAPS_TOKEN",
    ),
}

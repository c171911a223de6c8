"""Imported factors in SQLite and PostgreSQL: idempotent, newest first, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from carbontrack.errors import CarbontrackError
from carbontrack.factors.series import IntensitySeries, Interval
from carbontrack.ledger import imported

HOUR_MS = 3_600_000


def intensity(
    connection: Connection, zone: str, *, from_ms: int, to_ms: int, as_of: str | None = None
) -> list[Mapping[str, Any]]:
    """Of a stretch of time, also as part of all that the ledger has."""
    span = {"from_ms": from_ms, "to_ms": to_ms}
    own = imported.intensities(connection, zone, **span, as_of=as_of)
    always = imported.intensities(connection, zone, from_ms=0, to_ms=10**15, as_of=as_of)
    assert own.between(from_ms, to_ms) == always.between(from_ms, to_ms)
    return own.between(from_ms, to_ms)


def interval(hour: int, kg: float | None = 0.1, **changes: Any) -> dict[str, Any]:
    row = {
        "zone": "FRA",
        "start_ms": hour * HOUR_MS,
        "length_ms": HOUR_MS,
        "intensity_kg_per_kwh": kg,
        "basis": "life-cycle average",
        "source": "grid.csv",
        "version": "2026-01-01",
    }
    return {**row, **changes}


def price(item: str, value: float, version: str = "2026-01-01") -> dict[str, Any]:
    return {
        "book": "aws",
        "item": item,
        "version": version,
        "unit": "gpu_hour",
        "price": value,
        "currency": "USD",
        "as_of": version,
        "source": "aws.csv: A100",
    }


def test_intervals_come_back_in_order_and_only_those_that_touch(
    writer: Engine, reader: Connection
) -> None:
    imported.put_intensity(writer, [interval(h, h / 10) for h in (3, 1, 2, 0)])
    found = intensity(reader, "FRA", from_ms=HOUR_MS + 1, to_ms=3 * HOUR_MS)
    assert [row["intensity_kg_per_kwh"] for row in found] == [0.1, 0.2]
    assert intensity(reader, "DEU", from_ms=0, to_ms=9 * HOUR_MS) == []


def test_the_same_file_twice_is_there_once_and_a_newer_version_goes_before(
    writer: Engine, reader: Connection
) -> None:
    for _ in range(2):
        imported.put_intensity(writer, [interval(0), interval(1)])
    imported.put_intensity(writer, [interval(1, 0.9, version="2026-02-01")])
    zones = imported.zones(reader)
    assert [(zone["version"], zone["intervals"]) for zone in zones] == [
        ("2026-01-01", 2),
        ("2026-02-01", 1),
    ]
    found = intensity(reader, "FRA", from_ms=HOUR_MS, to_ms=2 * HOUR_MS)
    assert [row["intensity_kg_per_kwh"] for row in found] == [0.9]
    then = {"from_ms": HOUR_MS, "to_ms": 2 * HOUR_MS}
    found = intensity(reader, "FRA", as_of="2026-01-31", **then)
    assert [row["intensity_kg_per_kwh"] for row in found] == [0.1], "as it was known in January"
    assert intensity(reader, "FRA", as_of="2025-12-31", **then) == []
    earlier = intensity(reader, "FRA", from_ms=0, to_ms=HOUR_MS)
    assert [row["version"] for row in earlier] == ["2026-01-01"]


def test_files_of_two_months_are_one_series(writer: Engine, reader: Connection) -> None:
    imported.put_intensity(writer, [interval(0, 0.1), interval(1, 0.2)])
    imported.put_intensity(writer, [interval(h, h / 10, version="2026-02-01") for h in (2, 3)])
    found = intensity(reader, "FRA", from_ms=0, to_ms=4 * HOUR_MS)
    assert [row["intensity_kg_per_kwh"] for row in found] == [0.1, 0.2, 0.2, 0.3]


NEWER = "2026-02-01"


@pytest.mark.parametrize(
    ("older_h", "newer_h"),
    [(0.5, [1, 1, 1, 1]), (1, [4]), (4, [0.5] * 8), (1, [1, 2, 1]), (2, [1, 3])],
    ids=["1 h over 0.5 h", "4 h over 1 h", "0.5 h over 4 h", "a bridged hole", "across"],
)
def test_a_newer_version_of_another_step_goes_before_wherever_it_is(
    writer: Engine, reader: Connection, older_h: float, newer_h: list[float]
) -> None:
    """Four hours of which both have all, and two of the older one's alone."""
    length_ms = round(older_h * HOUR_MS)
    starts = range(0, 6 * HOUR_MS, length_ms)
    older = [interval(0, 0.3, start_ms=at, length_ms=length_ms) for at in starts]
    imported.put_intensity(writer, older)
    at_ms = 0
    for hours in newer_h:
        length_ms = round(hours * HOUR_MS)
        row = interval(0, 0.5, start_ms=at_ms, length_ms=length_ms, version=NEWER)
        imported.put_intensity(writer, [row])
        at_ms += length_ms
    found = intensity(reader, "FRA", from_ms=0, to_ms=6 * HOUR_MS)
    series = IntensitySeries(tuple(Interval(**row) for row in found))
    hours_ms = range(0, 6 * HOUR_MS, HOUR_MS)
    means = [series.mean(at, at + HOUR_MS) for at in hours_ms]
    assert means == pytest.approx([0.5] * 4 + [0.3] * 2)


@given(
    versions=st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=8), max_size=4
    ),
    first=st.integers(0, 40),
    length=st.integers(1, 40),
)
def test_each_moment_is_of_the_newest_version_that_has_it(
    versions: list[list[tuple[int, int]]], first: int, length: int
) -> None:
    """Versions of gaps and lengths of any step, whose value is their number."""
    rows = []
    for number, steps in enumerate(versions):
        at = 0
        for gap, lasts in steps:
            span = {"start_ms": at + gap, "length_ms": lasts}
            rows.append(interval(0, number, version=f"2026-01-0{number + 1}", **span))
            at += gap + lasts
    rows.sort(key=lambda row: int(row["start_ms"]))
    longest_ms = max((row["length_ms"] for row in rows), default=0)
    found = imported.Intensities(rows, longest_ms).between(first, first + length)

    def covering(some: Sequence[Mapping[str, Any]], at: int) -> list[int]:
        return [
            row["intensity_kg_per_kwh"]
            for row in some
            if row["start_ms"] <= at < row["start_ms"] + row["length_ms"]
        ]

    for at in range(first, first + length):
        assert covering(found, at) == sorted(covering(rows, at))[-1:]
    starts = [row["start_ms"] for row in found]
    assert starts == sorted(starts)


def test_bases_are_never_mixed(writer: Engine, reader: Connection) -> None:
    imported.put_intensity(writer, [interval(0), interval(1)])
    marginal = interval(1, 0.7, basis="direct marginal", version="2026-02-01")
    imported.put_intensity(writer, [marginal])
    found = intensity(reader, "FRA", from_ms=0, to_ms=2 * HOUR_MS)
    assert [(row["start_ms"], row["basis"]) for row in found] == [(HOUR_MS, "direct marginal")]


def test_a_row_that_cannot_be_leaves_nothing_behind(writer: Engine, reader: Connection) -> None:
    with pytest.raises(IntegrityError):
        imported.put_intensity(writer, [interval(0), interval(1, None)])
    assert imported.zones(reader) == []


def test_prices_are_found_by_any_part_and_the_newest_counts(
    writer: Engine, reader: Connection
) -> None:
    imported.put_prices(writer, [price("p4de@us-east-1", 5.12), price("p5_x@us-east-1", 12.0)])
    imported.put_prices(writer, [price("p4de@us-east-1", 4.0, "2026-06-01")])
    assert [row["price"] for row in imported.prices(reader, contains="P4DE")] == [4.0]
    then = imported.prices(reader, contains="p4de", as_of="2026-05-31")
    assert [row["price"] for row in then] == [5.12]
    assert [row["item"] for row in imported.prices(reader, contains="5_x")] == ["p5_x@us-east-1"]
    assert imported.prices(reader, contains="4_e") == [], "an underscore is no wildcard"
    assert len(imported.prices(reader)) == 2


@pytest.mark.parametrize(
    ("clash", "why"),
    [
        ({"basis": "direct marginal"}, "life-cycle average, not direct marginal"),
        ({"length_ms": 4 * HOUR_MS}, "overlaps"),
    ],
)
def test_one_version_never_mixes_bases_or_overlaps(
    writer: Engine, reader: Connection, clash: dict[str, Any], why: str
) -> None:
    imported.put_intensity(writer, [interval(hour) for hour in (0, 2, 3, 4)])
    with pytest.raises(CarbontrackError, match=why):
        imported.put_intensity(writer, [interval(1, 0.7, source="b.csv", **clash)])
    assert [zone["intervals"] for zone in imported.zones(reader)] == [4]
    imported.put_intensity(writer, [interval(1, 0.7, version="2026-01-02", **clash)])


def test_a_file_corrects_its_own_intervals(writer: Engine, reader: Connection) -> None:
    imported.put_intensity(writer, [interval(hour) for hour in range(3)])
    imported.put_intensity(writer, [interval(hour, basis="direct average") for hour in range(3)])
    assert [zone["basis"] for zone in imported.zones(reader)] == ["direct average"]

"""Numbers for people."""

from __future__ import annotations

import pytest

from carbontrack.report.numbers import (
    ENERGY,
    MASS,
    count_text,
    decimals_text,
    digits_text,
    hours_text,
    mass_text,
    money_text,
    number_text,
    unit_of,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0"),
        (512, "512"),
        (468_992, "469 k"),
        (999_999, "1.00 M"),
        (6_537_216, "6.54 M"),
        (1.5e9, "1.50 B"),
        (2e12, "2.00 T"),
    ],
)
def test_counts(count: float | None, text: str) -> None:
    assert count_text(count) == text


@pytest.mark.parametrize(
    ("tonnes", "text"),
    [
        (None, "–"),
        (12_345.6, "12,300 t"),
        (291.4222, "291 t"),
        (0.0123, "12.3 kg"),
        (1.975e-6, "1.98 g"),
        (4.3e-10, "0.430 mg"),
        (1e-17, "<0.000001 mg"),
        (0.0, "0 mg"),
    ],
)
def test_masses(tonnes: float | None, text: str) -> None:
    assert mass_text(tonnes) == text


@pytest.mark.parametrize(
    ("cost", "currency", "text"),
    [
        (None, "USD", "–"),
        (0.0, "USD", "$0.00"),
        (1204.5, "USD", "$1,204.50"),
        (0.00034739, "USD", "<$0.01"),
        (0.2, "JPY", "<1 JPY"),
        (12.3456, "KWD", "12.346 KWD"),
        (2.5e6, "EUR", "€2,500,000"),
        (12.0, "CHF", "12.00 CHF"),
    ],
)
def test_money(cost: float | None, currency: str, text: str) -> None:
    assert money_text(cost, currency) == text


def test_hours() -> None:
    assert [hours_text(h) for h in (None, 0.0135, 12.5, 123.4, 1_720_320)] == [
        "–", "0.0135", "12.5", "123", "1,720,320",
    ]  # fmt: skip


def test_one_unit_suits_a_column() -> None:
    """The median chooses it, unless another number would get long."""
    assert unit_of([7.37e-6, 2.987e-7], MASS)[1] == "g"
    assert unit_of([1.44, 1.44, 8.3e-5, 86.4, 1036.8], ENERGY)[1] == "kWh"
    assert unit_of([1e-9, 1e-9, 5.65], MASS)[1] == "kg"
    assert unit_of([None, 0.0], ENERGY)[1] == "mWh"
    assert unit_of([None, None], ENERGY)[1] == "kWh"
    assert unit_of([None], MASS)[1] == "t", "not milligrams of what nobody knows"
    assert unit_of([0.9996], ENERGY)[1] == "kWh", "as it is shown: 1.00"


@pytest.mark.parametrize(
    ("value", "short", "long"),
    [
        (291.4222, "291", "291.42"),
        (1036.8, "1,040", "1,036.80"),
        (0.03742, "0.0374", "0.0374"),
        (0.0999999, "0.100", "0.100"),
        (5e-9, "<0.000001", "<0.000001"),
        (0.0, "0", "0.00"),
        (None, "–", "–"),
    ],
)
def test_three_digits_for_people_and_two_decimals_in_a_document(
    value: float | None, short: str, long: str
) -> None:
    assert digits_text(value) == short
    assert decimals_text(value) == long


def test_what_is_not_zero_does_not_read_as_zero() -> None:
    assert number_text(0.004, 2) == "<0.01"
    assert number_text(0.0, 2) == "0.00"
    assert number_text(0.006, 2) == "0.01"

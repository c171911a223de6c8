"""Numbers for people."""

from __future__ import annotations

import pytest

from carbontrack.report.numbers import count_text, hours_text, mass_text, money_text, number_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (468_992, "468,992"),
        (9_999_999, "9,999,999"),
        (10_000_000, "10 M"),
        (1.5e9, "1.5 B"),
        (2e12, "2 T"),
    ],
)
def test_counts(count: float | None, text: str) -> None:
    assert count_text(count) == text


@pytest.mark.parametrize(
    ("tonnes", "text"),
    [
        (None, "–"),
        (12_345.6, "12,346 t"),
        (291.4222, "291.4 t"),
        (0.0123, "12.3 kg"),
        (1.975e-6, "1.975 g"),
        (4.3e-10, "0.43 mg"),
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
        (0.00034739, "USD", "$0.00035"),
        (2.5e6, "EUR", "€2,500,000"),
        (12.0, "CHF", "12.00 CHF"),
    ],
)
def test_money(cost: float | None, currency: str, text: str) -> None:
    assert money_text(cost, currency) == text


def test_hours() -> None:
    assert [hours_text(h) for h in (None, 0.0135, 12.5, 123.4, 1_720_320)] == [
        "–", "0.0135", "12.5", "123.4", "1,720,320",
    ]  # fmt: skip


def test_what_is_not_zero_does_not_read_as_zero() -> None:
    assert number_text(0.004, 2) == "<0.01"
    assert number_text(0.0, 2) == "0.00"
    assert number_text(0.006, 2) == "0.01"

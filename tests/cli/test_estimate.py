"""`carbontrack estimate`: GPU-hours × watts without a run."""

from __future__ import annotations

import pytest

from tests.fixtures.command import Command

LLAMA2_70B = ("estimate", "--gpu-hours", "1720320", "--power", "400")


def test_llama2_70b_prints_its_figure(command: Command) -> None:
    done = command(*LLAMA2_70B, "--pue", "1.1", "--intensity", "0.385")
    assert [cell in done.out.split() for cell in ("291", "688", "757")] == [True] * 3
    assert "1,720,320" in done.out
    row = command(*LLAMA2_70B, "--pue", "1.1", "--intensity", "0.385", "--format", "json").json[
        "rows"
    ][0]
    assert row["tco2e"] == pytest.approx(291.422208, abs=1e-9)
    assert (row["assumed"], row["method"]) == (["tariff"], "report")
    assert row["devices"] is None, "of GPU-hours nobody knows on how many"


def test_the_reports_factors_are_the_default_and_assumed(command: Command) -> None:
    row = command(*LLAMA2_70B, "--format", "json").json["rows"][0]
    assert row["tco2e"] == pytest.approx(291.422208)
    assert row["assumed"] == ["pue", "intensity", "tariff"]


def test_a_gpu_by_name_gives_its_rated_power(command: Command) -> None:
    options = ("--gpu-hours", "1000", "--gpu", "h100", "--embodied", "--format", "json")
    row = command("estimate", *options).json["rows"][0]
    assert row["power_w"] == pytest.approx(700)
    assert row["embodied_tco2e"] == pytest.approx(1000 * 164 / (6 * 8760 * 0.85) / 1000)


def test_minus_zero_is_zero(command: Command) -> None:
    asked = ("estimate", "--gpu-hours", "-0", "--power", "400", "--format")
    assert "-0" not in command(*asked, "csv").out
    assert "-0" not in command(*asked, "text").out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--gpu-hours"),
        (("--gpu-hours", "1"), "--power"),
        (("--gpu-hours", "1", "--gpu", "abacus"), "abacus"),
        (("--gpu-hours", "-1", "--power", "400"), "negative"),
        (("--gpu-hours", "nan", "--power", "400"), "not a number"),
        (("--gpu-hours", "1", "--power", "-400"), "-400"),
        (("--gpu-hours", "1", "--power", "400", "--intensity", "385"), "0.385"),
        (("--gpu-hours", "1", "--power", "400", "--currency", "euro"), "EUR"),
        (("--gpu-hours", "1", "--power", "400", "--embodied"), "--gpu"),
    ],
)
def test_mistakes_are_one_line(command: Command, options: tuple[str, ...], says: str) -> None:
    done = command("estimate", *options)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert says in done.err

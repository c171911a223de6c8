"""Totals: what adds up does, and what is unlike has sub-totals."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack.account.pricing import unpriced
from carbontrack.account.result import Estimate, Price, Used
from carbontrack.account.total import combine, minus_overlap, parts_of
from carbontrack.ledger.rows import Overlap
from tests.account.test_estimate import measured, requeued
from tests.fixtures.runs import Recorded

NVML = measured(Recorded(name="nvml", number=1))
POWER = measured(Recorded(name="power", number=2, quality="power"))
SIM = measured(Recorded(name="sim", number=3, meter="sim", quality="simulated"))
CPU = measured(
    Recorded(name="cpu", number=4, kind="cpu", meter="cpu-model", quality="estimate", device="C")
)
EUR = measured(Recorded(name="eur", number=5), tariff=0.2, currency="EUR")
EMPTY = measured(Recorded(name="empty", number=6, count=0))
FREE = measured(Recorded(name="free", number=7), currency="CHF")  # nobody knows a tariff
ROWS = (NVML, POWER, SIM, CPU, EUR, EMPTY, FREE)


def kinds(*rows: Estimate) -> dict[str, list[str]]:
    return {part.kind: [i[:8] for i in part.run_ids] for part in combine(rows).parts}


def test_rows_of_one_kind_have_one_total() -> None:
    """However it was measured; a run without devices or without a price goes with the others."""
    for rows in ([NVML], [NVML, POWER], [EMPTY, NVML], [FREE, NVML, EMPTY], [SIM, SIM]):
        assert combine(rows).parts == ()


def test_unlike_rows_have_a_total_each() -> None:
    ids = {row.label: row.run_ids[0][:8] for row in ROWS}
    assert kinds(NVML, SIM, POWER) == {
        "measured": [ids["nvml"], ids["power"]],
        "simulated": [ids["sim"]],
    }
    assert kinds(NVML, CPU) == {"measured, gpu": [ids["nvml"]], "estimate, cpu": [ids["cpu"]]}
    assert kinds(EUR, NVML, FREE) == {"EUR": [ids["eur"], ids["free"]], "USD": [ids["nvml"]]}
    assert list(kinds(EMPTY, SIM, NVML)) == ["simulated", "measured", "no device"]


def test_one_run_in_another_currency_does_not_blank_the_cost() -> None:
    month = combine([NVML, EUR, POWER], label="2026-05")
    costs = {part.kind: (part.label, part.cost, part.currency) for part in month.parts}
    assert costs == {
        "USD": ("2026-05", pytest.approx(2 * (NVML.cost or 0)), "USD"),
        "EUR": ("2026-05", EUR.cost, "EUR"),
    }


def test_the_sci_of_a_total_is_of_all_its_carbon_or_unknown() -> None:
    """The carbon of a run that logged no tokens is not of the tokens of another."""
    one, other = (
        replace(row, tco2e=1e-2, embodied_tco2e=2e-3, tokens=tokens, sci_g_per_mtok=12e3 / mtok)
        for row, tokens, mtok in ((NVML, 10**9, 1e3), (POWER, 3 * 10**9, 3e3))
    )
    silent = replace(other, tco2e=1.0, tokens=None, sci_g_per_mtok=None)
    both, mixed = combine([one, other]), combine([one, silent])
    assert both.sci_g_per_mtok == pytest.approx(24e3 / 4e3)
    assert (mixed.tokens, mixed.sci_g_per_mtok) == (10**9, None)
    assert "SCI is not added up: it is unknown for 1 of 2 rows" in mixed.notes
    whole = replace(SIM, tco2e=1e-2, embodied_tco2e=2e-3, tokens=10**9, sci_g_per_mtok=12.0)
    assert combine([mixed, whole]).sci_g_per_mtok is None, "nor of a group's"
    # A phase of a run in which no token is logged is of the run's tokens.
    quiet = replace(one, tokens=None, sci_g_per_mtok=None)
    assert combine([one, quiet]).sci_g_per_mtok == pytest.approx(24e3 / 1e3)
    assert not [note for note in combine([one, quiet]).notes if note.startswith("SCI")]


def test_a_run_without_a_device_is_counted_in_the_coverage() -> None:
    total = combine([NVML, EMPTY, POWER])
    assert (total.coverage, total.runs_watched, len(total.run_ids)) == (1.0, 2, 3)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.sampled_from(ROWS), min_size=1, max_size=8))
def test_the_parts_are_the_whole_and_each_is_of_one_kind(rows: list[Estimate]) -> None:
    total = combine(rows)
    for name in ("energy_kwh", "tco2e", "gpu_hours", "tokens", "sampled_s", "runs_watched"):
        found = [getattr(part, name) for part in parts_of([total])]
        assert sum(one or 0 for one in found) == pytest.approx(getattr(total, name) or 0), name
    for part in total.parts:
        assert part.parts == ()
        assert part.cost is None or part.currency is not None
        assert ", " not in part.scope
        assert not ("simulated" in part.quality and "counter" in part.quality)


def test_every_field_says_how_it_adds_up() -> None:
    """Or is the total's own: its name, its notes, its parts."""
    bare = {one.name for one in fields(Estimate) if "adds" not in one.metadata}
    assert bare == {
        "label",
        "group",
        "method",
        "kind",
        "notes",
        "parts",
        "final_loss",
        "final_loss_steps",
    }
    assert {one.name for one in (*fields(Used), *fields(Price))} < {
        one.name for one in fields(Estimate)
    }


def test_without_factors_there_is_no_price_at_all() -> None:
    bare = NVML.with_price(Price())
    assert [getattr(bare, one.name) for one in fields(Price)] == [
        one.default for one in fields(Price)
    ]
    assert [getattr(bare, one.name) for one in fields(Used)] == [
        getattr(NVML, one.name) for one in fields(Used)
    ]


def test_all_of_an_overlap_leaves_nothing_of_a_run_with_a_pause() -> None:
    run = requeued()
    whole = [Overlap(uuid, 3600 * 360.0, 3600.0) for uuid in run.uuids]
    left = minus_overlap(run, whole)
    for name in ("gpu_hours", "node_hours", "energy_kwh", "node_kwh", "facility_kwh", "cost"):
        assert getattr(left, name) == pytest.approx(0.0), name
        assert getattr(run, name) > 0, name


def test_what_has_no_factors_is_in_no_ratio_and_is_said() -> None:
    lost = unpriced(NVML.with_price(Price()), "zone ATLANTIS is unknown")
    total = combine([lost, POWER])
    assert total.energy_kwh == pytest.approx(2 * 5.76)
    assert total.unpriced_kwh == pytest.approx(5.76)
    assert total.pue == pytest.approx(POWER.pue)
    assert "facility energy of the total is too low: it is unknown for 1 of 2 rows" in total.notes
    assert combine([lost, lost]).pue is None
    assert combine([POWER, POWER]).unpriced_kwh == 0.0


def test_half_of_an_overlap_is_half_of_all_that_hours_make() -> None:
    half = [Overlap(uuid, 3600 * 360.0, 3600.0) for uuid in NVML.uuids]
    left = minus_overlap(NVML, half)
    for name in ("gpu_hours", "device_hours", "energy_kwh", "facility_kwh", "tco2e", "cost"):
        assert getattr(left, name) == pytest.approx(getattr(NVML, name) / 2), name
    assert left.duration_s == NVML.duration_s
    assert replace(left, notes=()).row().keys() == NVML.row().keys()

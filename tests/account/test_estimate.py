"""From the rows of a run to its estimate; always several devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from carbontrack import config
from carbontrack.account.estimate import estimate_rated, estimate_run
from carbontrack.account.project import Target, project
from carbontrack.account.result import Estimate
from carbontrack.account.steady import Range, SteadyState
from carbontrack.account.total import combine
from carbontrack.factors import catalog
from carbontrack.factors.resolve import Factors, resolve
from carbontrack.ledger.recorded_rows import StepTotals
from carbontrack.ledger.rows import Overlap
from carbontrack.units import MS_PER_HOUR
from tests.fixtures.runs import Recorded

DEVICES = {"NVIDIA A100-SXM4-80GB": 400.0}


def factors(
    method: str = "measured",
    *,
    embodied: bool = False,
    devices: Mapping[str, float | None] = DEVICES,
    **given: Any,
) -> Factors:
    settings = config.resolve([config.flags(**given)])
    return resolve(settings, method=method, embodied=embodied, devices=devices)


def measured(recorded: Recorded, method: str = "measured", **given: Any) -> Estimate:
    used = factors(method, devices={recorded.device: recorded.rated_w}, **given)
    return estimate_run(
        recorded.run, recorded.sensors, recorded.usages, recorded.step_totals, used, method=method
    )


def test_eight_gpus_for_two_hours() -> None:
    row = measured(Recorded(), pue=1.25, intensity=0.4, tariff=0.1)
    assert row.devices == 8
    assert row.gpu_hours == pytest.approx(16)
    assert row.power_w == pytest.approx(360)
    assert row.energy_kwh == pytest.approx(8 * 2 * 0.36)
    assert row.facility_kwh == pytest.approx(8 * 2 * 0.36 * 1.25)
    assert row.tco2e == pytest.approx(8 * 2 * 0.36 * 1.25 * 0.4 / 1000)
    assert row.cost == pytest.approx(8 * 2 * 0.36 * 1.25 * 0.1)
    assert row.coverage == 1.0
    assert row.assumed == ()
    assert (row.tokens, row.final_loss) == (20 * 1024, 1.7)


def test_what_nobody_chose_is_assumed() -> None:
    assert measured(Recorded()).assumed == ("pue", "intensity", "tariff")
    assert measured(Recorded(), price_per_gpu_hour=2.0, pue=1.2, zone="FRA").assumed == ()


def test_report_takes_rated_power_and_the_reports_factors() -> None:
    row = measured(Recorded(), "report")
    assert row.power_w == pytest.approx(400)
    assert row.energy_kwh == pytest.approx(16 * 0.4)
    assert (row.pue, row.intensity_kg_per_kwh) == (1.1, 0.385)
    assert {"pue", "intensity"} <= set(row.assumed)
    assert row.quality == "rated power"


def test_report_without_a_rating_is_unknown_and_not_zero() -> None:
    row = measured(Recorded(device="Mystery 9000", rated_w=None), "report")
    assert row.energy_kwh is None
    assert row.tco2e is None
    assert "Mystery 9000" in row.notes[0]


def test_the_drivers_rating_serves_where_the_table_has_none() -> None:
    row = measured(Recorded(device="Mystery 9000", rated_w=500.0), "report")
    assert row.power_w == pytest.approx(500)


def test_power_is_over_the_time_that_energy_accounts_for() -> None:
    half = measured(Recorded(coverage=0.5))
    assert half.power_w == pytest.approx(360)
    assert half.coverage == pytest.approx(0.5)
    assert half.energy_kwh == pytest.approx(8 * 0.36)


def test_a_run_without_energy_is_unknown_and_not_zero() -> None:
    one = Recorded()
    row = estimate_run(one.run, one.sensors, [], one.step_totals, factors())
    assert (row.energy_kwh, row.tco2e, row.cost, row.coverage) == (None, None, None, 0.0)
    assert row.notes == ("no energy was measured",)
    empty = estimate_run(one.run, [], [], one.step_totals, factors())
    assert (empty.devices, empty.gpu_hours, empty.coverage) == (0, 0.0, None)


def test_a_cpu_run_has_no_gpu_hours_and_no_rent() -> None:
    cpus = Recorded(kind="cpu", count=2, meter="cpu-model", quality="estimate", device="Some CPU")
    row = measured(cpus, price_per_gpu_hour=2.0)
    assert row.gpu_hours == 0.0
    assert row.devices == 2
    assert row.cost is None
    assert "a price per GPU-hour says nothing of a run without GPUs" in row.notes[0]
    assert row.meter == "cpu-model (estimate)"
    assert row.scope == "cpu"


def test_scope_names_all_that_was_metered_and_power_only_the_gpus() -> None:
    gpus, cpus = Recorded(), Recorded(kind="cpu", count=2, power_w=100.0, meter="rapl")
    sensors = [*cpus.sensors, *(replace(s, device_key=s.device_key + 10) for s in gpus.sensors)]
    usages = [*cpus.usages, *(replace(u, device_key=u.device_key + 10) for u in gpus.usages)]
    row = estimate_run(gpus.run, sensors, usages, gpus.step_totals, factors())
    assert row.scope == "gpu+cpu"
    assert row.devices == 8
    assert row.power_w == pytest.approx(360)
    assert row.energy_kwh == pytest.approx(16 * 0.36 + 4 * 0.1)


def test_a_mig_slice_counts_as_its_share() -> None:
    one = Recorded(count=2)
    slices = [replace(s, share=3 / 7, mig_parent="GPU-1") for s in one.sensors]
    row = estimate_run(
        one.run, slices, one.usages, one.step_totals, factors("report"), method="report"
    )
    assert row.gpu_hours == pytest.approx(2 * 2 * 3 / 7)
    assert row.power_w == pytest.approx(400)


def test_a_running_run_counts_to_its_last_heartbeat() -> None:
    one = Recorded()
    running = one.begun
    row = estimate_run(running, one.sensors, one.usages, one.step_totals, factors())
    assert row.duration_s == pytest.approx(7200)


def test_rent_replaces_electricity_and_hardware() -> None:
    rented = measured(Recorded(), price_per_gpu_hour=2.0, gpu_price=30_000)
    assert rented.cost == pytest.approx(16 * 2.0)


def test_own_hardware_is_written_off() -> None:
    own = measured(
        Recorded(), pue=1.0, tariff=0.1, gpu_price=35_040, lifetime_years=4, utilisation=0.5
    )
    assert own.cost == pytest.approx(16 * 0.36 * 0.1 + 16 * 35_040 / (4 * 8760 * 0.5))


def test_market_based_stands_beside_location_based() -> None:
    row = measured(Recorded(), pue=1.0, intensity=0.4, contract_intensity=0.0)
    assert row.tco2e == pytest.approx(16 * 0.36 * 0.4 / 1000)
    assert row.tco2e_market == 0.0


def test_embodied_is_of_each_gpu_by_its_name_and_never_nothing() -> None:
    a100, h100 = Recorded(), Recorded(device="NVIDIA H100 80GB HBM3", count=4, meter="sim")
    sensors = [*a100.sensors, *(replace(s, device_key=s.device_key + 20) for s in h100.sensors)]
    used = factors(embodied=True, devices={a100.device: None, h100.device: None})
    row = estimate_run(a100.run, sensors, [], a100.step_totals, used, embodied=True)
    life_h = 6 * 8760 * 0.85
    assert row.embodied_tco2e == pytest.approx((16 * 150 + 8 * 164) / life_h / 1000)
    for recorded, note in (
        (Recorded(device="Mystery 9000"), "embodied: unknown for Mystery 9000; set embodied_kg"),
        (Recorded(kind="cpu", count=2), "embodied: unknown for a run without GPUs"),
    ):
        known = factors(embodied=True, devices={recorded.device: None})
        one = estimate_run(
            recorded.run, recorded.sensors, recorded.usages, StepTotals(), known, embodied=True
        )
        assert one.embodied_tco2e is None
        assert note in one.notes
        total = combine([row, one])
        assert total.embodied_tco2e is None
        assert any(note.startswith("embodied CO₂e is not added up") for note in total.notes)


def test_a_given_embodied_kg_holds_for_any_gpu() -> None:
    mystery = Recorded(device="Mystery 9000")
    known = factors(embodied=True, devices={mystery.device: None}, embodied_kg=200)
    row = estimate_run(
        mystery.run, mystery.sensors, mystery.usages, StepTotals(), known, embodied=True
    )
    assert row.embodied_tco2e == pytest.approx(16 * 200 / (6 * 8760 * 0.85) / 1000)


def test_rated_over_measured_is_of_the_same_devices_in_the_same_seconds() -> None:
    """Neither coverage nor the CPUs beside the GPUs nor a MIG share change it."""
    assert measured(Recorded(coverage=0.4), "report").rated_over_measured == pytest.approx(
        400 / 360
    )
    gpus, cpus = Recorded(), Recorded(kind="cpu", count=2, power_w=100.0, meter="rapl")
    sensors = [*gpus.sensors, *(replace(s, device_key=s.device_key + 10) for s in cpus.sensors)]
    usages = [*gpus.usages, *(replace(u, device_key=u.device_key + 10) for u in cpus.usages)]
    used = factors("report")
    row = estimate_run(gpus.run, sensors, usages, StepTotals(), used, method="report")
    assert row.rated_over_measured == pytest.approx(400 / 360)
    mig = [replace(s, share=3 / 7) for s in gpus.sensors]
    drawn = [replace(u, energy_j=(u.energy_j or 0) * 3 / 7) for u in gpus.usages]
    row = estimate_run(gpus.run, mig, drawn, StepTotals(), used, method="report")
    assert row.rated_over_measured == pytest.approx(400 / 360)
    unseen = estimate_run(gpus.run, gpus.sensors, [], StepTotals(), used, method="report")
    assert unseen.rated_over_measured is None
    assert measured(gpus).rated_over_measured is None


def test_rent_is_owed_even_where_no_energy_is_known() -> None:
    one = Recorded()
    row = estimate_run(one.run, one.sensors, [], StepTotals(), factors(price_per_gpu_hour=2.0))
    assert (row.energy_kwh, row.cost) == (None, pytest.approx(32.0))


def test_the_node_model_is_added_only_when_set() -> None:
    plain = measured(Recorded(), pue=1.2)
    modelled = measured(Recorded(), pue=1.2, node_w_per_device=50, node_w=200)
    assert plain.node_kwh == 0.0
    assert modelled.node_kwh == pytest.approx(2 * (8 * 50 + 200) / 1000)
    assert modelled.energy_kwh == plain.energy_kwh
    assert modelled.facility_kwh == pytest.approx((16 * 0.36 + 1.2) * 1.2)


def test_hours_are_those_in_which_a_node_and_its_devices_were_recorded() -> None:
    """A run that was put back in the queue: an hour on one node, and ten hours later another."""
    one = requeued()
    assert (one.devices, one.nodes, one.device_hours, one.node_hours) == (2, 2, 2.0, 2.0)
    assert one.duration_s == 12 * 3600
    assert one.node_kwh == pytest.approx(2 * (300 + 60) / 1000)
    assert one.facility_kwh == pytest.approx(2 * (0.36 + 0.36))
    run = replace(one, tokens=7_200_000)
    state = SteadyState(Range(0.36, 0.36, 0.36), Range(1e3, 1e3, 1e3), 100, 0)
    ahead = project(run, state, Target("more", 36_000_000)).estimate
    assert ahead.duration_s == 10 * 3600
    assert (ahead.devices, ahead.nodes) == (1, 1), "as many as the run had at a time"
    assert (ahead.gpu_hours, ahead.node_hours) == (10.0, 10.0)
    assert ahead.node_kwh == pytest.approx(10 * 0.36)


def test_an_instance_is_projected_as_its_share() -> None:
    whole, share = requeued(), requeued(share=1 / 7)
    state = SteadyState(Range(0.36, 0.36, 0.36), Range(1e3, 1e3, 1e3), 100, 0)
    target = Target("more", 36_000_000)
    ahead = project(share, state, target).estimate
    assert ahead.devices == 1
    assert ahead.gpu_hours == pytest.approx(project(whole, state, target).estimate.gpu_hours / 7)
    assert ahead.node_kwh == pytest.approx(10 * (300 + 60 / 7) / 1000)


def requeued(*, share: float = 1.0) -> Estimate:
    """Priced with a node model and a rent."""
    whole = replace(Recorded(seconds=12 * 3600.0).run, tags={})
    hours = [(whole.started_ms, "node1"), (whole.started_ms + 11 * MS_PER_HOUR, "node2")]
    sensors = [
        replace(
            Recorded(host=host).sensors[number],
            share=share,
            spans_ms=((at_ms, at_ms + MS_PER_HOUR),),
        )
        for number, (at_ms, host) in enumerate(hours)
    ]
    usages = [
        replace(Recorded(count=1, seconds=3600).usages[0], device_key=one.device_key)
        for one in sensors
    ]
    used = factors(pue=1.0, node_w=300, node_w_per_device=60, price_per_gpu_hour=2.0)
    return estimate_run(whole, sensors, usages, StepTotals(), used)


def test_an_unknown_currency_has_no_assumed_tariff() -> None:
    row = measured(Recorded(), currency="EUR")
    assert (row.cost, row.currency) == (None, "EUR")


def test_bare_gpu_hours() -> None:
    row = estimate_rated("70B", 1_720_320, 400, factors("report", pue=1.1, intensity=0.385))
    assert row.tco2e == pytest.approx(291.422208)
    assert (row.devices, row.gpu_hours, row.power_w) == (None, 1_720_320, 400), "of hours alone"


def test_the_total_of_llama2_is_made_of_unrounded_rows() -> None:
    printed = [(184_320, 400), (368_640, 400), (1_038_336, 350), (1_720_320, 400)]
    used = factors("report")
    total = combine([estimate_rated("x", h, w, used) for h, w in printed])
    assert total.gpu_hours == 3_311_616
    assert total.tco2e == pytest.approx(539.00, abs=0.005)
    assert total.power_w == pytest.approx(384.3228, abs=1e-4)


def test_total_counts_a_device_once_and_weighs_coverage_by_device_seconds() -> None:
    rows = [
        measured(Recorded(number=1, seconds=3600.0)),
        measured(Recorded(number=2, seconds=10_800.0, coverage=0.5)),
    ]
    total = combine(rows)
    assert total.devices == 8
    assert total.coverage == pytest.approx((1 + 3 * 0.5) / 4)
    assert total.tco2e == pytest.approx(sum(row.tco2e or 0 for row in rows))
    assert total.status == "completed"


@pytest.mark.parametrize("method", ["measured", "report"])
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_what_two_runs_recorded_of_a_device_counts_once(method: str, share: float) -> None:
    chosen = {"price_per_gpu_hour": 2.0, "zone": "FRA"}
    first = measured(Recorded(number=1, seconds=3600.0), method, **chosen)
    second = measured(Recorded(number=2, seconds=3600.0), method, **chosen)
    twice = [Overlap(uuid, share * 3600 * 360.0, share * 3600) for uuid in sorted(second.uuids)]
    total = combine([first, second], overlaps={second.run_ids[0]: twice})
    for name in ("energy_kwh", "facility_kwh", "tco2e", "cost", "gpu_hours", "primary_kwh"):
        whole = getattr(first, name)
        assert getattr(total, name) == pytest.approx((2 - share) * whole), name
    assert total.power_w == pytest.approx(first.power_w)
    assert "counts once" in total.notes[0]
    assert combine([first, second]).notes == ()


def test_mixed_currencies_are_not_added() -> None:
    rows = [
        measured(Recorded(number=1), tariff=0.2, currency="EUR"),
        measured(Recorded(number=2), tariff=0.2, currency="USD"),
    ]
    total = combine(rows)
    assert (total.cost, total.currency) == (None, None)
    assert "EUR and USD" in total.notes[0]


def test_mixed_bases_are_not_added() -> None:
    """Life-cycle and direct intensities are different things with similar numbers."""
    total = combine(
        [measured(Recorded(), zone="FRA"), measured(Recorded(number=2), zone="US-CAMX")]
    )
    assert total.tco2e is None
    assert total.energy_kwh is not None
    assert "direct average" in total.notes[0]
    one_basis = combine(
        [measured(Recorded(), zone="FRA"), measured(Recorded(number=2), zone="DEU")]
    )
    assert one_basis.tco2e is not None
    bare = combine([measured(Recorded(), zone="FRA"), measured(Recorded(number=2), intensity=0.3)])
    assert bare.tco2e is None
    assert "life-cycle average and as given" in bare.notes[0]


def test_a_market_total_of_some_rows_is_blank_with_a_note() -> None:
    rows = [measured(Recorded(), contract_intensity=0.0), measured(Recorded(number=2))]
    total = combine(rows)
    assert total.tco2e_market is None
    assert "market-based CO₂e is not added up: it is unknown for 1 of 2 rows" in total.notes


def test_a_row_without_energy_is_named_in_the_total() -> None:
    one = Recorded(number=2)
    empty = estimate_run(one.run, one.sensors, [], one.step_totals, factors())
    total = combine([measured(Recorded()), empty])
    assert total.energy_kwh == pytest.approx(16 * 0.36)
    assert "1 of 2 rows" in total.notes[0]


def test_rows_by_different_methods_are_never_added() -> None:
    with pytest.raises(ValueError, match="measured"):
        combine([measured(Recorded()), measured(Recorded(), "report")])


def test_a_total_of_gpus_and_cpus_has_no_mean_power() -> None:
    cpus = Recorded(number=2, kind="cpu", count=2, meter="rapl", power_w=100.0)
    total = combine([measured(Recorded()), measured(cpus)])
    assert total.power_w is None
    assert total.energy_kwh == pytest.approx(16 * 0.36 + 4 * 0.1)


def test_a_simulated_gpu_has_the_numbers_of_what_it_simulates() -> None:
    simulated = Recorded(device="Simulated NVIDIA A100-SXM4-80GB", rated_w=None, meter="sim")
    assert measured(simulated, "report").power_w == pytest.approx(400)


def test_a_module_of_two_devices_is_noted() -> None:
    """MI250X: job systems count two devices per 500 W module."""
    item = catalog.hardware("MI250X")
    assert item is not None
    assert "two GCDs" in item.note

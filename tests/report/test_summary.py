"""What is printed when a job has ended."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from carbontrack.ledger.recorded_rows import StepTotals
from carbontrack.report.summary import summary_text
from tests.fixtures.runs import Recorded


def summary(recorded: Recorded) -> str:
    return summary_text(recorded.run, recorded.sensors, recorded.usages, recorded.step_totals)


def test_a_measured_run() -> None:
    text = summary(Recorded())
    assert len(text.splitlines()) in range(4, 8)
    for words in (
        "llama2-7b",
        "completed after 2 h 00 min",
        "5.76 kWh",
        "8 × NVIDIA A100-SXM4-80GB, 360 W each",
        "coverage 100.0 %",
        "gpu only",
        "4.07 kg",
        "PUE 1.54 (assumed)",
        "0.45829 kg/kWh (assumed)",
        "$0.76",
        "20.5 k tokens",
        "carbontrack table",
    ):
        assert words in text


def test_an_estimate_says_what_is_not_in_it_and_which_meter_was_missing() -> None:
    one = Recorded(kind="cpu", meter="cpu-model", quality="estimate", device="CPU")
    missing = {"nvml": "no NVIDIA driver is installed here (x); y.", "rapl": "no packages: a VM."}
    given = (one.run, one.sensors, one.usages, one.step_totals)
    text = summary_text(*given, missing=missing)
    assert "idle power is not in it" in text
    said = "no better meter: nvml (no NVIDIA driver is installed here), rapl (no packages); see:"
    assert text.count(said) == 1
    measured = Recorded()
    given = (measured.run, measured.sensors, measured.usages, measured.step_totals)
    assert "note" not in summary_text(*given, missing=missing)


def test_the_columns_are_aligned() -> None:
    lines = summary(Recorded()).splitlines()[1:4]
    assert len({line.index("  ", 18) for line in lines}) == 1


def test_estimates_and_simulations_say_so() -> None:
    assert "cpu-model (estimate)" in summary(
        Recorded(kind="cpu", count=2, meter="cpu-model", quality="estimate")
    )
    assert "sim (simulated)" in summary(Recorded(meter="sim", quality="simulated"))


def test_a_run_in_a_known_facility_assumes_nothing() -> None:
    text = summary(Recorded(facility={"zone": "FRA", "pue": 1.1, "price_per_gpu_hour": 2.0}))
    assert "assumed" not in text
    assert "France 2025" in text
    assert "$32.00" in text


def test_budgets_are_shown_with_what_is_spent() -> None:
    one = Recorded(facility={"zone": "FRA", "pue": 1.0, "price_per_gpu_hour": 2.0})
    limits = {"kg": 10.0, "money": 35.0, "kwh": 5.0}
    text = summary_text(one.run, one.sensors, one.usages, one.step_totals, budget=limits)
    assert "budget       2 %  0.2387 of 10 kg CO₂e: within" in text
    assert "budget      91 %  32 of 35 USD: nearly spent" in text
    assert "budget     115 %  5.76 of 5 kWh: spent" in text
    large = {"kg": 1_500_000.0, "money": 1234567.5}
    text = summary_text(one.run, one.sensors, one.usages, one.step_totals, budget=large)
    assert "0.2387 of 1,500,000 kg CO₂e: within" in text
    assert "32 of 1,234,567.5 USD: within" in text
    euros = Recorded(facility={"price_per_gpu_hour": 2.0, "currency": "EUR"})
    text = summary_text(euros.run, euros.sensors, euros.usages, euros.step_totals, budget=limits)
    assert "budget in USD is not watched: this run's money is EUR." in text
    assert "of 35 USD" not in text
    imported = Recorded(facility={"price": "aws:p5"})
    args = (imported.sensors, imported.usages, imported.step_totals)
    assert "an imported price is read by reports" in summary_text(
        imported.run, *args, budget=limits
    )
    cpus = Recorded(kind="cpu", facility={"price_per_gpu_hour": 2.0})
    text = summary_text(cpus.run, cpus.sensors, cpus.usages, cpus.step_totals, budget=limits)
    assert "says nothing of a run without GPUs." in text


def test_a_failed_run_says_how_it_ended() -> None:
    assert "failed (exit code 9)" in summary(Recorded(status="failed", exit_code=9))


def test_a_run_without_energy_or_devices_prints_dashes() -> None:
    one = Recorded()
    text = summary_text(one.run, one.sensors, [], StepTotals())
    assert "–" in text
    assert "steps" not in text
    assert "nothing was measured" in summary_text(replace(one.run), [], [], StepTotals())


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, carbontrack.report.summary; "
        "print({'pandas', 'sqlalchemy', 'rich', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_zone_that_only_the_ledger_knows_is_no_reason_to_say_nothing() -> None:
    text = summary(Recorded(facility={"zone": "our-solar-roof", "pue": 1.1}))
    assert "5.76 kWh" in text
    assert "zone 'our-solar-roof' is unknown. Not used here." in text
    assert "PUE 1.1 ×" in text
    assert "0.45829 kg/kWh (assumed)" in text


def test_a_day_before_the_first_factors_is_not_used_and_said() -> None:
    early = {"factors_as_of": "2024-01-01"}
    for facility in (early, early | {"zone": "FRA"}, early | {"provider": "gcp"}):
        text = summary(Recorded(facility=facility))
        assert "4.07 kg" in text
        assert "known on 2024-01-01 (factors_as_of). Not used here." in text

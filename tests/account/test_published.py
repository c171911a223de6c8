"""The conformance suite: every published row, and the mistakes that published tables made."""

from __future__ import annotations

import re

import pytest

from carbontrack.account import published
from carbontrack.account.published import PublishedRow
from carbontrack.errors import CarbontrackError
from carbontrack.factors import data
from carbontrack.report.published import as_printed
from carbontrack.vocabulary import Reproduction

ROWS = published.all_rows()


def find(report: str, model: str) -> PublishedRow:
    return next(row for row in ROWS if row.report == report and row.model.startswith(model))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.report}: {row.model}")
def test_every_published_row_has_the_status_that_was_reviewed(row: PublishedRow) -> None:
    assert row.status.value == row.expected
    for figure in (row.energy, row.tco2e):
        assert figure is None or figure.printed >= 0
    if row.status is not Reproduction.NO_INPUTS:
        assert (
            row.factors in ("stated", "stated from memory", "assumed", "fitted")
            or row.tco2e is None
            or not row.kg_per_kwh
        )
    if row.status is Reproduction.DIFFERS:
        assert row.note, "a row that does not follow says why"


def test_the_suite_is_whole() -> None:
    assert len(ROWS) == 156
    assert len(published.names()) == 62


@pytest.mark.parametrize(
    ("model", "gpu_hours", "power_w", "printed"),
    [
        ("Llama 2 7B", 184_320, 400, "31.22"),
        ("Llama 2 13B", 368_640, 400, "62.44"),
        ("Llama 2 34B", 1_038_336, 350, "153.90"),
        ("Llama 2 70B", 1_720_320, 400, "291.42"),
        ("Llama 2 total", 3_311_616, 384.3228, "539.00"),
    ],
)
def test_llama2_table_2(model: str, gpu_hours: int, power_w: float, printed: str) -> None:
    row = find("Llama 2", model)
    assert (row.gpu_hours, row.power_w, row.factors) == (gpu_hours, power_w, "assumed")
    assert row.status is Reproduction.REPRODUCES
    assert row.tco2e is not None
    assert as_printed(row.tco2e)[0] == printed


def test_rows_that_do_not_follow_are_known_and_no_factor_is_bent() -> None:
    wrong = [(row.report, row.model) for row in ROWS if row.status is Reproduction.DIFFERS]
    assert wrong == [
        ("Llama 3.3", "Llama 3.3 70B (card of 2025-02-12)"),
        ("BLOOM paper, Table 4", "GPT-3 (before PUE)"),
        ("BLOOM paper, Table 4", "OPT-175B (before PUE)"),
        ("Morrison 2025", "OLMo 2 13B"),
    ]


def test_a_row_of_whose_carbon_nothing_follows_does_not_reproduce() -> None:
    rows = [row for row in ROWS if row.status is Reproduction.ENERGY_ONLY]
    assert [row.model for row in rows] == [
        "FLM-101B",
        "GLM-130B (as estimated there)",
        "Segment Anything ViT-H",
        "SAM 2",
    ]
    for row in ROWS:
        carbon = row.tco2e
        if row.status is Reproduction.REPRODUCES and carbon is not None:
            assert carbon.recomputed is not None, row.model


def test_every_row_names_a_document() -> None:
    """A transcription of it is none."""
    for row in ROWS:
        assert row.source, row.model
        assert "transcription" not in row.source, row.model


def test_a_row_without_carbon_does_not_say_how_carbon_was_accounted() -> None:
    odd = [row.model for row in ROWS if row.tco2e is None and row.accounting == "location-based"]
    assert odd == []


@pytest.mark.parametrize(
    ("report", "model", "devices", "printed_h"),
    [
        ("SmolLM", "SmolLM3-3B", 384, 24.0),
        ("BloombergGPT", "BloombergGPT", 512, 24.0),
        ("MPT", "MPT-7B", 440, 2.4),
        ("XLM-R (Wu et al. via LLMCarbon)", "XLM", 512, 2.4),
        ("SAM", "Segment Anything", 256, 1.0),
        ("SAM 2", "SAM 2", 256, 1.0),
        ("Gopher", "Gopher", 4096, 1.0),
        ("Phi", "phi-4", 1920, 24.0),
        ("Phi", "Phi-3-vision", 512, 2.4),
        ("MiniMax", "MiniMax-M1", 512, 7 * 24.0),
    ],
)
def test_hours_made_from_printed_days_are_rounded_as_the_days_are(
    report: str, model: str, devices: int, printed_h: float
) -> None:
    rows = data.rows("published")
    row = next(r for r in rows if r["report"] == report and r["model"].startswith(model))
    assert float(row["gpu_hours_step"]) == pytest.approx(devices * printed_h)
    steps = float(row["gpu_hours"]) / float(row["gpu_hours_step"])
    assert steps == pytest.approx(round(steps), abs=0.001)


def test_whatever_says_devices_times_days_knows_how_they_were_rounded() -> None:
    made = re.compile(r"\d (GPUs|chips) x (about )?([\d.]+ [dh]\b|\w+ weeks)")
    rows = [row for row in data.rows("published") if row["gpu_hours"] and made.search(row["note"])]
    assert len(rows) > 20
    assert [row["model"] for row in rows if not row["gpu_hours_step"]] == []


def test_morrisons_rows_add_up_to_its_total_in_energy_and_in_carbon() -> None:
    rows = published.rows_of("Morrison 2025")
    total = find("Morrison 2025", "final runs, total")
    runs = rows[: rows.index(total)]
    assert sum(row.energy.printed for row in runs if row.energy) == pytest.approx(913.4)
    assert total.energy is not None
    assert total.energy.recomputed == pytest.approx(913.4)
    lumi = find("Morrison 2025", "OLMo 7B (LUMI)")
    assert lumi.energy is not None
    assert lumi.tco2e is not None
    assert (lumi.energy.printed, lumi.tco2e.printed, lumi.accounting) == (149, 0, "market-based")
    everything = find("Morrison 2025", "all of the report")
    assert everything.tco2e is not None
    assert (everything.tco2e.printed, everything.water_kl) == (493, 2769)
    assert everything.status is Reproduction.REPRODUCES
    places = {
        row.model.split(",")[0]: row.source.split(", arXiv")[0].rpartition("(ICLR) ")[2]
        for row in rows
    }
    assert places["final runs"] == "Table 2"
    assert places["development runs"] == "Table 1"
    assert places["embodied"] == "section 4.1"


@pytest.mark.parametrize(
    ("report", "model", "gpu_hours", "energy_mwh", "tco2e"),
    [
        ("DINOv3", "DINOv3 ViT-7B", 61_440, 47, 18),
        ("DINOv3", "MetaCLIP ViT-G", 368_640, 160, 62),
        ("DINOv3", "whole project", 9_000_000, None, 2600),
        ("SAM 2", "SAM 2", 27_648, 12.16512, 3.89),
        ("Pleias", "Pleias-3b-Preview", 92_160, None, 16),
        ("DAViD", "DAViD Large", 528, None, 0.07524),
        ("OpenBA", "OpenBA-15B", 38_214, 17, 6.5),
        ("gpt-oss", "gpt-oss-120b", 2_100_000, None, None),
        ("DeepSeek", "DeepSeek-R1", 147_000, None, None),
    ],
)
def test_reports_of_2024_to_2026(
    report: str, model: str, gpu_hours: float, energy_mwh: float | None, tco2e: float | None
) -> None:
    row = find(report, model)
    assert row.gpu_hours == gpu_hours
    assert (row.energy.printed if row.energy else None) == energy_mwh
    assert (row.tco2e.printed if row.tco2e else None) == tco2e


def test_a_figure_that_a_summary_contradicts_is_flagged() -> None:
    row = find("GPT-NeoX", "GPT-NeoX-20B")
    assert not row.read
    assert "short tons" in row.note


def test_water_is_carried_as_printed() -> None:
    assert {row.model: row.water_kl for row in ROWS if row.water_kl is not None} == {
        "OLMo 2 7B": 202,
        "OLMo 2 13B": 892,
        "all of the report (final runs, development, embodied)": 2769,
        "whole development (7B and 32B, all stages)": 15_887,
        "Mistral Large 2 (training + 18 months of use)": 281_000,
    }


def test_what_is_stated_from_memory_says_so() -> None:
    unread = [row.report for row in ROWS if row.factors == "stated from memory"]
    assert unread == ["PaLM", "StarCoder", "GPT-NeoX"]


def test_an_unknown_table_names_the_nearest() -> None:
    with pytest.raises(CarbontrackError, match="Llama 2"):
        published.rows_of("lama 2")
    assert published.rows_of("llama 2") == published.rows_of("Llama 2")


class TestTypicalMistakes:
    """Each was made by a published table; this program must not make it."""

    def test_1_pue_is_neither_applied_twice_nor_forgotten(self) -> None:
        """GPT-3's 1287 MWh is after PUE, BLOOM's 433 before: the row knows."""
        gpt3, bloom = find("Patterson 2021", "GPT-3"), find("BLOOM", "BLOOM-176B dynamic x PUE")
        assert (gpt3.energy_pue, bloom.energy_pue) == ("after", "before")
        assert gpt3.tco2e is not None
        assert gpt3.tco2e.recomputed == pytest.approx(552.1, rel=0.005)
        assert bloom.tco2e is not None
        assert bloom.tco2e.recomputed == pytest.approx(433.196 * 1.2 * 0.057)

    def test_2_two_sources_one_pue_apart_are_both_shown(self) -> None:
        paper, later = find("OLMo 2", "OLMo 2 13B"), find("Morrison 2025", "OLMo 2 13B")
        assert paper.energy is not None
        assert later.energy is not None
        assert paper.energy.printed == pytest.approx(later.energy.printed * 1.12, rel=0.01)
        assert (paper.status, later.status) == (Reproduction.REPRODUCES, Reproduction.DIFFERS)

    def test_3_a_neighbours_row_is_marked(self) -> None:
        assert "ERROR" in find("Luccioni 2025 survey table", "Llama 7B").note

    def test_4_pounds_are_not_kilograms(self) -> None:
        row = find("Strubell 2019", "NAS")
        assert row.kg_per_kwh == pytest.approx(0.954 * 0.45359237, rel=1e-5)
        assert row.status is Reproduction.REPRODUCES

    def test_5_rounded_and_cut_agree_within_one_unit_of_the_last_place(self) -> None:
        cut, rounded = find("LLaMA 1", "LLaMA-65B"), find("LLaMA 1", "LLaMA-7B")
        assert cut.energy is not None
        assert rounded.tco2e is not None
        assert as_printed(cut.energy) == ("449", "cut")
        assert as_printed(rounded.tco2e) == ("14", "rounded")

    def test_6_a_total_is_made_of_unrounded_rows(self) -> None:
        rows = [row.tco2e for row in published.rows_of("Llama 2")]
        printed = [figure.printed for figure in rows if figure is not None]
        unrounded = [figure.recomputed or 0 for figure in rows if figure is not None]
        assert sum(printed[:-1]) == pytest.approx(538.98)
        assert sum(unrounded[:-1]) == pytest.approx(539.001)
        assert unrounded[-1] == pytest.approx(sum(unrounded[:-1]), abs=0.001)

    def test_6_a_total_of_rounded_rows_is_told_from_one_that_reproduces(self) -> None:
        """2,290 = 390 + 1,900; from the hours it is 2,282.7: its last zero is no rounding."""
        total = find("Llama 3", "Llama 3 total")
        assert total.tco2e is not None
        assert total.tco2e.unit == 1.0
        assert total.tco2e.recomputed == pytest.approx(2282.67, abs=0.01)
        assert total.status is Reproduction.INPUT_ROUNDING
        assert "sum of the two rounded rows" in total.note

    def test_7_an_edited_figure_with_unedited_inputs_is_found(self) -> None:
        before, after = published.rows_of("Llama 3.3")
        assert before.gpu_hours == after.gpu_hours
        assert before.status is Reproduction.INPUT_ROUNDING
        assert after.status is Reproduction.DIFFERS

    def test_8_machine_watts_go_with_wall_clock_hours(self) -> None:
        """Strubell's 1415.78 W is the machine with 8 GPUs, its 12 h are not GPU-hours."""
        row = find("Strubell 2019", "Transformer base")
        assert "wall-clock hours" in row.note
        assert row.status in (Reproduction.REPRODUCES, Reproduction.INPUT_ROUNDING)

    def test_13_market_based_figures_are_told_apart(self) -> None:
        lumi = find("OLMo 1", "OLMo-7B on LUMI")
        assert (lumi.accounting, lumi.kg_per_kwh) == ("market-based", 0.0)
        net = find("Patterson 2021", "GShard-600B, net")
        assert net.accounting == "hourly-matched-net"

    def test_14_a_life_cycle_total_has_no_recomputation(self) -> None:
        mistral = find("Mistral", "Mistral Large 2")
        assert (mistral.accounting, mistral.status) == ("lca", Reproduction.NO_INPUTS)

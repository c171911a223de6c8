"""`carbontrack table --published`: tables of reports, computed again from their inputs."""

from __future__ import annotations

from tests.fixtures.command import Command


def test_published_table_of_llama2_to_the_printed_digit(command: Command) -> None:
    answer = command("table", "--published", "llama 2", "--format", "json").json
    printed = [row["tco2e"]["recomputed_as_printed"] for row in answer["rows"]]
    assert printed == ["31.22", "62.44", "153.90", "291.42", "539.00"]
    assert [row["tco2e"]["how"] for row in answer["rows"]][1:3] == ["cut", "cut"]
    assert {row["factors"] for row in answer["rows"]} == {"assumed"}
    text = command("table", "--published", "llama 2").out
    assert "3,311,616" in text
    assert "neither PUE nor intensity" in text


def test_published_energy_says_whether_pue_is_in_it(command: Command) -> None:
    text = command("table", "--published", "BLOOM", "--format", "markdown").out
    head, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    at = [cell.strip() for cell in head.split("|")].index("PUE (in MWh)")
    assert [row.split("|")[at].strip() for row in rows] == ["no", "no", "yes", "–", "–"]
    assert head.count("off by") == 2, "of the energy and of the carbon"
    assert "MWh after PUE" in command("table", "--published", "llama 1").out
    sam = command("table", "--published", "sam", "--format", "json").json["rows"][0]
    assert (sam["status"], sam["energy_mwh"]["status"]) == ("energy only", "reproduces")


def test_published_list_and_all(command: Command) -> None:
    names = [
        entry["name"]
        for entry in command("table", "--published", "list", "--format", "json").json["published"]
    ]
    assert {"LLaMA 1", "Llama 2", "Patterson 2021", "BLOOM", "OLMo 2"} <= set(names)
    answer = command("table", "--published", "all", "--format", "json").json
    assert answer["rows"] == 156 == sum(answer["by_status"].values())
    assert answer["by_status"]["does not follow"] == 4
    assert "does not follow" in command("table", "--published", "all").out

"""`co2_eq_emissions` of a model card, as huggingface_hub writes and reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbontrack.integrations.model_card import write_emissions
from carbontrack.record.track import Track
from carbontrack.record.tracked import Block
from tests.fixtures.runs import Recorded, write_ledger

KEYS = {"emissions", "source", "training_type", "geographical_location", "hardware_used"}
MORE = {"training_type": "fine-tuning", "geographical_location": "Quebec, Canada"}


@pytest.fixture
def track(tmp_path: Path) -> Track:
    """Of a run that has ended: eight A100s for two hours."""
    one = Recorded(count=8, seconds=7200.0)
    path = write_ledger(tmp_path / "ledger.db", one)
    found = Track()
    found._block = Block(one.run.id, f"sqlite:///{path}", None, one.start_ms, one.end_ms)
    return found


def test_the_card_has_what_the_hub_reads_and_keeps_the_rest(track: Track, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard, metadata_load

    path = tmp_path / "README.md"
    path.write_text("---\nlicense: mit\ntags:\n- llama\n---\n# Mine\n")
    assert write_emissions(path, track, **MORE)
    found = metadata_load(path)
    emissions = found["co2_eq_emissions"]
    assert set(emissions) == KEYS
    assert track.tco2e is not None
    assert emissions["emissions"] == pytest.approx(track.tco2e * 1e6)  # g
    assert emissions["emissions"] == pytest.approx(8 * 0.36 * 2 * 1.54 * 458.29, rel=0.01)
    assert emissions["source"] == "carbontrack (counter)"
    assert emissions["hardware_used"] == "8 × NVIDIA A100-SXM4-80GB"
    assert (found["license"], found["tags"]) == ("mit", ["llama"])
    card = ModelCard.load(path)
    assert card.text.strip() == "# Mine"
    assert card.data.co2_eq_emissions == emissions


def test_a_card_is_made_where_there_is_none_and_none_of_what_is_unknown(
    track: Track, tmp_path: Path
) -> None:
    from huggingface_hub import metadata_load

    assert write_emissions(tmp_path / "new.md", track)
    assert set(metadata_load(tmp_path / "new.md")["co2_eq_emissions"]) == KEYS - set(MORE)
    assert not write_emissions(tmp_path / "none.md", Track())
    assert not (tmp_path / "none.md").exists()

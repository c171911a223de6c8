"""What a training emitted, in the words of the Hugging Face Hub's model cards.

See https://huggingface.co/docs/hub/model-cards-co2. Nothing here opens a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbontrack.record.track import Track

_G_PER_T = 1e6


def co2_eq_emissions(track: Track, **more: str) -> dict[str, Any] | None:
    """The card's `co2_eq_emissions`: `emissions` in g CO2e, `source`, `hardware_used`, and of
    `more` `training_type` and `geographical_location`. None where nothing is known.
    """
    tco2e = track.tco2e
    if tco2e is None:
        return None
    return {
        "emissions": tco2e * _G_PER_T,
        "source": f"carbontrack ({track.quality})",
        **more,
        "hardware_used": track.hardware,
    }


def write_emissions(path: Path, track: Track, **more: str) -> bool:
    """Put it into the metadata of a model card, which is made if it is not there; whether it did.

    Raises OSError, or ValueError for a card whose metadata cannot be read.
    """
    from huggingface_hub import ModelCard, ModelCardData

    emissions = co2_eq_emissions(track, **more)
    if emissions is None:
        return False
    card = ModelCard.load(path) if path.exists() else ModelCard("---\n{}\n---\n")
    card.data = ModelCardData(**{**card.data.to_dict(), "co2_eq_emissions": emissions})
    card.save(path)
    return True

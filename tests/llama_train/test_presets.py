"""The models that have a name: their sizes to the unit, and the report's recipe."""

from __future__ import annotations

import pytest
import torch

from llama_train.errors import TrainError
from llama_train.model import Transformer
from llama_train.presets import PRESETS, preset

PARAMETERS = {
    "demo": 869_504,
    "llama1-7b": 6_738_415_616,
    "llama1-13b": 13_015_864_320,
    "llama1-33b": 32_528_943_616,
    "llama1-65b": 65_285_660_672,
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-34b": 33_743_970_304,
    "llama2-70b": 68_976_648_192,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_to_the_unit(name: str) -> None:
    assert PRESETS[name].model.parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_the_model_has_the_parameters_that_the_formula_says(name: str) -> None:
    with torch.device("meta"):
        model = Transformer(PRESETS[name].model)
    assert sum(p.numel() for p in model.parameters()) == PRESETS[name].model.parameters


def test_the_report_trains_on_two_trillion_tokens() -> None:
    config = preset("llama2-7b")
    assert config.tokens_per_step == 4_194_304
    assert config.train.steps == 476_837
    assert config.tokens == pytest.approx(2e12, rel=1e-6)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(TrainError, match=r"did you mean llama2-7b\?"):
        preset("lama2-7b")

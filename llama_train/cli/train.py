"""`train`: pretraining."""

from __future__ import annotations

from functools import partial

import typer

from llama_train import host
from llama_train.cli.options import (
    DataOption,
    OutOption,
    OverwriteOption,
    PresetOption,
    ResumeOption,
)
from llama_train.cli.training import run
from llama_train.errors import TrainError


def train(
    context: typer.Context,
    data: DataOption,
    out: OutOption,
    preset: PresetOption = "demo",
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Pretrain. Any setting of the preset can be replaced: --train.lr=1e-4 --model.context=256 …

    `presets NAME` lists them. Under torchrun the ranks share the work.
    """
    from llama_train import config as configs
    from llama_train import presets as models
    from llama_train.data import TokenData
    from llama_train.train import fit

    config = configs.override(models.preset(preset), context.args)
    verify = host.rank() == 0
    tokens = TokenData(data, config.model.context, seed=config.train.seed, verify=verify)
    if tokens.vocab_size > config.model.vocab_size:
        raise TrainError(
            f"{tokens.tokenizer} has {tokens.vocab_size} pieces, the model only "
            f"{config.model.vocab_size}.",
            hint=f"Add --model.vocab_size={tokens.vocab_size}.",
        )
    begin = partial(fit, config, tokens, out, resume=resume, overwrite=overwrite)
    run(config, out, begin, sources={"--data": data}, resume=resume, overwrite=overwrite)

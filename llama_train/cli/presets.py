"""`presets`: the models that have a name."""

from __future__ import annotations

from typing import Annotated

import typer


def presets(
    name: Annotated[str | None, typer.Argument(help="List the settings of this one.")] = None,
) -> None:
    """The models, as in Table 1 of the Llama 2 report; or all settings of one."""
    from llama_train import config as configs
    from llama_train import presets as models
    from llama_train.stages import CHATS

    if name is not None and name in CHATS:
        base = models.preset(CHATS[name].base)
        for stage, constants in CHATS[name].stages.items():
            for key, value in configs.keys(constants.config(stage, base.model, 1)).items():
                listed = key in _STAGE_KEYS or key.startswith(("reward.", "sampling.", "ppo."))
                if listed and key not in constants.unused:
                    print(f"{stage:<10} --{key}={value}")
            if constants.iterations:
                print(f"{stage:<10} --train.steps={constants.iterations}")
            else:
                print(f"{stage:<10} {constants.epochs:g} × the data")
        return
    if name:
        for key, value in configs.keys(models.preset(name)).items():
            print(f"--{key}={value}")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in ("preset", "parameters", "context", "GQA", "tokens", "peak LR"):
        table.add_column(heading, justify="left" if heading in ("preset", "GQA") else "right")
    for config in models.PRESETS.values():
        shape = config.model
        table.add_row(
            config.name,
            f"{shape.parameters:,}",
            f"{shape.context:,}",
            "yes" if shape.n_kv_heads < shape.n_heads else "no",
            _short(config.tokens),
            f"{config.train.lr:.1e}",
        )
    Console(soft_wrap=True).print(table)
    print(f"for finetune, reward and align: {', '.join(CHATS)}")


_STAGE_KEYS = ("train.lr", "train.min_lr_ratio", "train.batch_size", "train.micro_batch")
"""What of a stage does not depend on its data."""


def _short(tokens: int) -> str:
    for size, sign in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if tokens >= size:
            return f"{tokens / size:.2f}{sign}"
    return str(tokens)

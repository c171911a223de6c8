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


def _short(tokens: int) -> str:
    for size, sign in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if tokens >= size:
            return f"{tokens / size:.2f}{sign}"
    return str(tokens)

"""`generate`: text from a model."""

from __future__ import annotations

from typing import Annotated

import typer

from llama_train.cli.options import ModelArgument


def generate(
    folder: ModelArgument,
    prompt: Annotated[str, typer.Option(help="Text to go on from.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to add, at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: always the likeliest.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    seed: int = 0,
) -> None:
    """Continue a prompt, to see what a checkpoint has learnt."""
    from llama_train import generate as generation
    from llama_train.tokenizer import Tokenizer
    from llama_train.weights import load_pretrained

    pieces = Tokenizer(folder / "tokenizer.model")
    start = [pieces.bos, *pieces.encode(prompt)]
    added = generation.generate(
        load_pretrained(folder),
        start,
        count=tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stop=pieces.eos,
    )
    print(pieces.decode([*start, *added]))

"""`generate`: text from a model."""

from __future__ import annotations

from typing import Annotated

import typer

from llama_train.cli.options import ModelArgument


def generate(
    folder: ModelArgument,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text to go on from; may be repeated.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Each prompt is a question to a chat model.")
    ] = False,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to add, at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: always the likeliest.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    seed: int = 0,
) -> None:
    """Continue prompts, on the GPU if there is one, to see what a checkpoint has learnt."""
    import torch

    from llama_train.chat import prompt as asked
    from llama_train.generate import sample
    from llama_train.tokenizer import tokenizer_beside
    from llama_train.weights import open_pretrained

    pretrained = open_pretrained(folder)
    pieces = tokenizer_beside(folder, pretrained.shape.vocab_size)
    model = pretrained.model("cuda" if torch.cuda.is_available() else "cpu")
    texts = [asked(text) if chat else text for text in prompt or [""]]
    starts = [[pieces.bos, *pieces.encode(text)] for text in texts]
    answers = sample(
        model,
        starts,
        count=tokens,
        temperature=temperature,
        top_p=top_p,
        keys=[f"{seed}/{number}" for number in range(len(starts))],
        stop=pieces.eos,
    )
    for start, answer in zip(starts, answers, strict=True):
        print(pieces.decode([*start, *answer]))

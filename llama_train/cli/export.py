"""`export`: a model as Hugging Face reads it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llama_train.cli.options import ModelArgument, OutOption
from llama_train.vocabulary import Dtype


def export(
    folder: ModelArgument,
    out: OutOption,
    dtype: Annotated[
        Dtype, typer.Option(metavar="float32|bfloat16", help="Of the weights: bfloat16 is half.")
    ] = Dtype.FLOAT32,
) -> None:
    """Write weights, tokenizer and chat template as Hugging Face's libraries read them."""
    import torch

    from llama_train.export import export as write
    from llama_train.tokenizer import tokenizer_beside
    from llama_train.weights import open_pretrained

    pretrained = open_pretrained(folder)
    has_tokenizer = (folder / "tokenizer.model").is_file()
    pieces = tokenizer_beside(folder, pretrained.shape.vocab_size) if has_tokenizer else None
    write(pretrained.model(), out, pieces, dtype=getattr(torch, dtype))
    if pieces is not None and not pieces.is_llamas_kind:
        print("the tokenizer is not of Llama's kind: only its .model is exported", file=sys.stderr)
    print(f"{folder} -> {out}")

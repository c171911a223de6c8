"""`finetune`: a chat model from a pretrained one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama_train.cli.options import WEIGHTS, OutOption, OverwriteOption, ResumeOption
from llama_train.cli.training import check_vocabulary, run

if TYPE_CHECKING:
    from llama_train.config import Config


def finetune(
    context: typer.Context,
    base: Annotated[Path, typer.Option("--from", metavar="DIR", help=WEIGHTS)],
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="Chat JSONL.")],
    out: OutOption,
    epochs: Annotated[float, typer.Option(help="Times that each conversation is seen.")] = 2.0,
    held_out: Annotated[float, typer.Option(help="Share of the conversations.")] = 0.05,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Fine-tune on conversations: {"messages": [{"role": "user", "content": …}, …]} on each line.

    Loss on the answers only, in Llama 2's chat template. Settings can be replaced as in `train`.
    """
    from llama_train import config as configs
    from llama_train.chat import ChatData, recipe
    from llama_train.weights import open_pretrained

    pretrained = open_pretrained(base)
    tokenizer, name = base / "tokenizer.model", f"{base.name}-chat"

    def settings(sequences: int) -> Config:
        return configs.override(recipe(name, pretrained.shape, sequences, epochs), context.args)

    first = settings(1)
    chats = ChatData(data, tokenizer, first.model.context, held_out=held_out, seed=first.train.seed)
    config = settings(chats.sequences)
    check_vocabulary(tokenizer, chats.vocab_size, config)
    if chats.too_long:
        print(f"{chats.too_long} conversations are longer than the context", file=sys.stderr)
    run(
        config,
        chats,
        out,
        resume=resume,
        overwrite=overwrite,
        initial=pretrained.read,
    )

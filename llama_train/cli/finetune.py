"""`finetune`: a chat model from a pretrained one."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama_train.cli.options import (
    BaseOption,
    ChatPresetOption,
    OutOption,
    OverwriteOption,
    ResumeOption,
)
from llama_train.cli.training import check_vocabulary, run
from llama_train.errors import TrainError

if TYPE_CHECKING:
    from llama_train.config import Config


def finetune(
    context: typer.Context,
    base: BaseOption,
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="Chat JSONL.")],
    out: OutOption,
    preset: ChatPresetOption = "chat-7b",
    epochs: Annotated[
        float | None,
        typer.Option(help="Times that each conversation is seen. Default: the preset's, 2."),
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of the conversations.")] = 0.05,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Fine-tune on conversations: {"messages": [{"role": "user", "content": …}, …]} on each line.

    Loss on the answers only, in Llama 2's chat template. A line with "ghost_attention": true or a
    "preprompt" may end with a question: its answer is drawn from the model first. Settings can be
    replaced as in `train`.
    """
    from llama_train import config as configs
    from llama_train import rejection
    from llama_train.chat import ChatData
    from llama_train.stages import chat
    from llama_train.tokenizer import tokenizer_beside
    from llama_train.train import fit
    from llama_train.weights import open_pretrained

    pretrained, stage = open_pretrained(base), chat(preset).finetune
    tokenizer, name = base / "tokenizer.model", f"{base.name}-chat"

    def settings(sequences: int) -> Config:
        config = stage.config(name, pretrained.shape, sequences, epochs)
        return configs.override(config, context.args)

    first = settings(1)
    assert first.sampling is not None
    context_tokens, pieces = first.model.context, tokenizer_beside(base)
    check_vocabulary(tokenizer, pieces.vocab_size, first)
    waiting = rejection.read_waiting(data, pieces, context_tokens - first.sampling.tokens)
    if waiting:
        if first.parallel.tensor > 1:
            raise TrainError("parallel.tensor must be 1 where answers are drawn.")
        begin = partial(
            rejection.finetune,
            settings,
            waiting,
            data,
            out,
            base=pretrained,
            tokenizer=tokenizer,
            source=rejection.identity(base),
            held_out=held_out,
            resume=resume,
            overwrite=overwrite,
        )
        run(first, out, begin, resume=resume, overwrite=overwrite)
        return
    chats = ChatData([data], tokenizer, context_tokens, held_out=held_out, seed=first.train.seed)
    config = settings(chats.sequences)
    if chats.too_long:
        print(f"{chats.too_long} conversations are longer than the context", file=sys.stderr)
    train = partial(
        fit, config, chats, out, initial=pretrained.read, resume=resume, overwrite=overwrite
    )
    run(config, out, train, resume=resume, overwrite=overwrite)

"""`finetune`: a chat model from a pretrained one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from llama_train.cli.options import (
    BaseOption,
    ChatPresetOption,
    OutOption,
    OverwriteOption,
    ResumeOption,
)
from llama_train.cli.training import check_tensor_ranks, run, settings_of
from llama_train.wording import say_left_out


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
    safety: Annotated[
        Path | None,
        typer.Option(
            "--safety",
            metavar="DIR",
            help="A run of `reward`: learn a distilled answer only if that scores it higher than "
            "the model's own.",
        ),
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
    from llama_train import tuning
    from llama_train.chat import ChatData
    from llama_train.judge import open_models
    from llama_train.stages import chat
    from llama_train.tokenizer import Tokenizer
    from llama_train.train import fit

    models = open_models(base, None, safety)
    tokenizer, shape, stage = models.tokenizer, models.base.shape, chat(preset).finetune
    settings = settings_of(stage, f"{base.name}-chat", shape, context.args, epochs)
    first = settings(1)
    assert first.sampling is not None
    context_tokens, pieces = first.model.context, Tokenizer(tokenizer)
    waiting = tuning.read_waiting(data, pieces, context_tokens - first.sampling.tokens)
    sources = {"--from": base, "--data": data, "--safety": safety}
    going: dict[str, Any] = {"held_out": held_out, "resume": resume, "overwrite": overwrite}
    if waiting:
        check_tensor_ranks(first)
        begin = partial(tuning.finetune, settings, waiting, data, out, models=models, **going)
        run(first, out, begin, sources=sources, resume=resume, overwrite=overwrite)
        return
    chats = ChatData([data], tokenizer, context_tokens, held_out=held_out, seed=first.train.seed)
    config = settings(chats.sequences)
    say_left_out(chats.too_long, "conversation", "longer than the context")
    train = partial(
        fit, config, chats, out, initial=models.base.read, resume=resume, overwrite=overwrite
    )
    run(config, out, train, sources=sources, resume=resume, overwrite=overwrite)

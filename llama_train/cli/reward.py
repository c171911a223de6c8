"""`reward`: a reward model from a chat model and pairs of answers."""

from __future__ import annotations

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
from llama_train.cli.training import run, settings_of
from llama_train.wording import say_left_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_train.train import Result
    from llama_train.world import World


def reward(
    context: typer.Context,
    base: BaseOption,
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="JSONL of pairs.")],
    out: OutOption,
    preset: ChatPresetOption = "chat-7b",
    epochs: Annotated[
        float | None,
        typer.Option(help="Times that each pair is seen. Default: the preset's, 1."),
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of the questions.")] = 0.1,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a reward model: {"messages": […], "chosen": …, "rejected": …, "preference": "better"}.

    "preference" is significantly, better, slightly or negligibly; "kind" is helpful or safe. The
    trunk begins as the chat model's. Settings can be replaced as in `train`.
    """
    from llama_train.reward import PairData, ranking, with_scalar_head, write_prompts
    from llama_train.stages import chat
    from llama_train.tokenizer import tokenizer_beside
    from llama_train.train import fit
    from llama_train.weights import open_pretrained

    stage, tokenizer = chat(preset).reward, base / "tokenizer.model"
    pretrained = open_pretrained(base)
    tokenizer_beside(base, pretrained.shape.vocab_size)  # or it is refused
    shape = with_scalar_head(pretrained, 0).shape
    settings = settings_of(stage, f"{base.name}-reward", shape, context.args, epochs)
    first = settings(1)
    pairs = PairData(data, tokenizer, first.model.context, held_out=held_out, seed=first.train.seed)
    config = settings(pairs.sequences)
    say_left_out(pairs.too_long, "pair", "longer than the context")
    assert config.reward is not None
    objective, measures = ranking(config.reward.margin)
    train = partial(
        fit,
        initial=with_scalar_head(pretrained, config.train.seed).read,
        objective=objective,
        measures=measures,
        resume=resume,
        overwrite=overwrite,
    )

    def begin(here: World, stop_asked: Callable[[], bool]) -> Result:
        result = train(config, pairs, out, here, stop_asked)
        if here.rank == 0:
            write_prompts(pairs, out)
        return result

    sources = {"--from": base, "--data": data}
    run(config, out, begin, sources=sources, resume=resume, overwrite=overwrite)

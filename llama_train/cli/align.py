"""`align`: a chat model by the answers that reward models prefer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from llama_train import host
from llama_train.cli.options import (
    BaseOption,
    ChatPresetOption,
    OutOption,
    OverwriteOption,
    ResumeOption,
)
from llama_train.cli.training import check_tensor_ranks, run, settings_of
from llama_train.errors import TrainError
from llama_train.vocabulary import Method
from llama_train.wording import counted, say_left_out


def align(
    context: typer.Context,
    base: BaseOption,
    reward: Annotated[
        Path, typer.Option("--reward", metavar="DIR", help="A run of `reward`, for helpfulness.")
    ],
    out: OutOption,
    method: Annotated[
        Method,
        typer.Option(metavar="rejection|ppo", help="Learn the best of N answers, or by PPO."),
    ],
    safety: Annotated[
        Path | None, typer.Option("--safety", metavar="DIR", help="A run of `reward`, for safety.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="JSONL of prompts. Default: what the reward models were trained on.",
        ),
    ] = None,
    preset: ChatPresetOption = "chat-7b",
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Answers to a prompt (rejection). Default: the preset's, 16."),
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of the prompts or answers.")] = 0.1,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Align a chat model with reward models, by rejection sampling or PPO.

    A prompt is {"messages": [… user], "kind": "helpful" or "safe"}. Settings can be replaced as in
    `train`.
    """
    from llama_train import ppo, rejection
    from llama_train.judge import open_models
    from llama_train.prompts import read_prompts
    from llama_train.stages import chat
    from llama_train.tokenizer import Tokenizer
    from llama_train.train import PROMPTS

    recipe, models = chat(preset), open_models(base, reward, safety)
    stage = recipe.rejection if method is Method.REJECTION else recipe.ppo
    words = context.args if samples is None else [f"--sampling.samples={samples}", *context.args]
    settings = settings_of(stage, f"{base.name}-{method}", models.base.shape, words)
    config = settings(1)
    assert config.sampling is not None
    check_tensor_ranks(config)
    files = [data] if data else [folder / PROMPTS for folder in (reward, safety) if folder]
    # Behind the answer there is an EOS, where the reward is read.
    longest = config.model.context - config.sampling.tokens - 1
    if longest < 1:
        raise TrainError(
            f"Answers of {counted(config.sampling.tokens, 'token')} leave no room for a prompt in "
            f"the context of {config.model.context}.",
            hint="Lower --sampling.tokens, or take --preset chat-demo for a model of that size.",
        )
    prompts, too_long = read_prompts(files, Tokenizer(models.tokenizer), longest)
    say_left_out(too_long, "prompt", "no room for an answer in the context")
    sources = {"--from": base, "--reward": reward, "--safety": safety, "--data": data}
    going: dict[str, Any] = {"models": models, "resume": resume, "overwrite": overwrite}
    if method is Method.REJECTION:
        # The models that draw and judge are gone before one is trained, which needs more.
        begin = partial(rejection.align, settings, prompts, out, held_out=held_out, **going)
        run(config, out, begin, sources=sources, resume=resume, overwrite=overwrite)
        return
    ppo.check(config, host.ranks()[0])
    asked = ppo.prompt_data(prompts, models, config, held_out)
    # Beside what is trained: the reward models, and the first policy.
    beside = 1 + len(models.judges)
    begin = partial(ppo.align, config, asked, out, **going)
    run(
        config,
        out,
        begin,
        sources=sources,
        resume=resume,
        overwrite=overwrite,
        frozen=beside,
    )

"""`align`: a chat model by the answers that reward models prefer."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama_train import host
from llama_train.cli.options import (
    BaseOption,
    ChatPresetOption,
    OutOption,
    OverwriteOption,
    ResumeOption,
)
from llama_train.cli.training import run
from llama_train.errors import TrainError
from llama_train.vocabulary import Method

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_train.config import Config
    from llama_train.train import Result
    from llama_train.world import World


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
        int | None, typer.Option(min=1, help="Answers to a prompt. Default: the preset's, 16.")
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
    from llama_train.config import override
    from llama_train.stages import chat
    from llama_train.tokenizer import tokenizer_beside
    from llama_train.train import PROMPTS
    from llama_train.weights import open_pretrained

    recipe, pretrained = chat(preset), open_pretrained(base)
    pieces = tokenizer_beside(base)
    stage = recipe.rejection if method is Method.REJECTION else recipe.ppo
    judges = [
        rejection.open_judge(folder, base, pretrained)
        for folder in (reward, safety)
        if folder is not None
    ]

    def settings(sequences: int) -> Config:
        config = stage.config(f"{base.name}-{method}", pretrained.shape, sequences)
        if samples is not None and config.sampling is not None:
            config = replace(config, sampling=replace(config.sampling, samples=samples))
        return override(config, context.args)

    config = settings(1)
    assert config.sampling is not None
    files = [data] if data else [folder / PROMPTS for folder in (reward, safety) if folder]
    # Behind the answer there is an EOS, where the reward is read.
    longest = config.model.context - config.sampling.tokens - 1
    prompts, too_long = rejection.read_prompts(files, pieces, longest)
    if too_long:
        print(f"{too_long} prompts leave no room for an answer in the context", file=sys.stderr)
    identities = [rejection.identity(folder) for folder in (base, reward, safety) if folder]
    source = hashlib.sha256(json.dumps(identities).encode()).hexdigest()
    ranks = host.ranks()[0]
    if config.parallel.tensor > 1:
        raise TrainError("parallel.tensor must be 1 to align: an answer grows by one token a step.")

    if method is Method.REJECTION:

        def begin(here: World, stop_asked: Callable[[], bool]) -> Result:
            return rejection.align(
                settings,
                prompts,
                out,
                here,
                stop_asked,
                base=pretrained,
                judges=judges,
                tokenizer=base / "tokenizer.model",
                source=source,
                held_out=held_out,
                resume=resume,
                overwrite=overwrite,
            )
    else:
        ppo.check(config, ranks)
        asked, kept = rejection.split(prompts, held_out)
        tokenizer, seed = base / "tokenizer.model", config.train.seed
        prompt_data = ppo.PromptData(asked, kept, tokenizer, seed, source)

        def begin(here: World, stop_asked: Callable[[], bool]) -> Result:
            return ppo.align(
                config,
                prompt_data,
                out,
                here,
                stop_asked,
                base=pretrained,
                judges=judges,
                resume=resume,
                overwrite=overwrite,
            )

    # Beside what is trained: the judges, and PPO's first policy. To draw, nothing is trained yet.
    frozen = 1 + len(judges) if method is Method.PPO else 0
    run(config, out, begin, resume=resume, overwrite=overwrite, frozen=frozen)

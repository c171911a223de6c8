"""Fine-tuning on conversations, some of which the model has to answer first.

The answers that lines of ghost attention and context distillation wait for are drawn from the model
itself. With a reward model of safety, a distilled answer is learnt only where that scores it higher
than what the model answers without the preprompt (section 4.2.4 of the Llama 2 report).
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from llama_train.chat import KINDS, ChatData, answered, json_lines, question, waits
from llama_train.config import Config
from llama_train.drawing import Choose, Drawing, draw
from llama_train.judge import Models, frozen, scores_of
from llama_train.metrics import RunLog
from llama_train.model import Transformer
from llama_train.prompts import Prompt, by_length, digest
from llama_train.tokenizer import Tokenizer
from llama_train.train import Result, fit
from llama_train.vocabulary import EventKind, Phase
from llama_train.wording import counted, say_left_out
from llama_train.world import World


def read_waiting(path: Path, pieces: Tokenizer, longest: int) -> list[Prompt]:
    """The conversations of a file that wait for an answer of the model (see `chat`), by length.

    Raises TrainError for a line that is not a conversation, or one that waits and is longer than
    `longest` tokens.
    """
    parse = partial(_waiting, pieces=pieces, longest=longest)
    return by_length([found for _, found in json_lines(path, "a conversation", parse) if found])


def _waiting(row: Mapping[str, Any], pieces: Tokenizer, longest: int) -> Prompt | None:
    if not waits(row):
        answered(row, pieces)
        return None
    messages, ghost = row["messages"], row.get("ghost_attention") is True
    plain = None
    if (preprompt := row.get("preprompt")) is not None:
        if not isinstance(preprompt, str) or not preprompt.strip():
            raise ValueError("'preprompt' is empty")
        if messages[0].get("role") == "system":
            raise ValueError("with a 'preprompt' there can be no system message")
        plain = question(messages, pieces)
        messages = [{"role": "system", "content": preprompt}, *messages]
    elif messages[0].get("role") != "system":
        raise ValueError("'ghost_attention' needs a system message")
    tokens = question(messages, pieces, every=ghost)
    if len(tokens) > longest:
        raise ValueError(f"its {len(tokens)} tokens leave no room for an answer in the context")
    line = {"messages": row["messages"], "ghost_attention": ghost}
    return Prompt(tokens, KINDS[0], line, plain)


def finetune(
    settings: Callable[[int], Config],
    waiting: Sequence[Prompt],
    data: Path,
    out: Path,
    here: World,
    stop_asked: Callable[[], bool],
    *,
    models: Models,
    held_out: float,
    resume: bool,
    overwrite: bool,
) -> Result:
    """Draw the answers that conversations wait for, and fine-tune on all."""
    tuning = Tuning(settings, models, held_out, out, here, stop_asked, resume, overwrite)

    def chooser() -> Choose:
        return first_spoken(frozen(models.safe, tuning.config, here) if models.safe else None)

    report = partial(_report, distilled=sum(prompt.plain is not None for prompt in waiting))
    return tuning.learn([data, tuning.draw(waiting, chooser, report)])


@dataclass(frozen=True, slots=True)
class Tuning:
    """A run that draws answers from a model, and fine-tunes it on them."""

    settings: Callable[[int], Config]
    """The configuration for so many sequences."""
    models: Models
    held_out: float
    out: Path
    here: World
    stop_asked: Callable[[], bool]
    resume: bool
    overwrite: bool

    @property
    def config(self) -> Config:
        """For what does not depend on the number of sequences."""
        return self.settings(1)

    def draw(
        self,
        prompts: Sequence[Prompt],
        chooser: Callable[[], Choose],
        report: Callable[[Path, RunLog], None],
    ) -> Path:
        """Write the answers that are chosen; the models that this takes are gone afterwards."""
        return draw(
            lambda: (frozen(self.models.base, self.config, self.here), chooser()),
            prompts,
            Tokenizer(self.models.tokenizer),
            self.config,
            self.out,
            self.here,
            self.stop_asked,
            source=f"{self.models.source}/{digest(prompts)}",
            report=report,
            overwrite=self.overwrite and not self.resume,
        )

    def learn(self, files: Sequence[Path]) -> Result:
        """Fine-tune on the conversations of these files."""
        # Those that were drawn from may be in reference cycles, which wait for a collection.
        gc.collect()
        torch.cuda.empty_cache()
        config = self.config
        chats = ChatData(
            files,
            self.models.tokenizer,
            config.model.context,
            held_out=self.held_out,
            seed=config.train.seed,
        )
        # An answer that was drawn fits; a conversation of the user's may not.
        say_left_out(chats.too_long, "conversation", "longer than the context")
        return fit(
            self.settings(chats.sequences),
            chats,
            self.out,
            self.here,
            self.stop_asked,
            resume=self.resume,
            initial=self.models.base.read,
        )


def first_spoken(safe: Transformer | None) -> Choose:
    """The first answer that is not empty; of context distillation, if it is the safer one."""

    def choose(
        drawing: Drawing, prompts: Sequence[Prompt], first: int
    ) -> Sequence[Mapping[str, Any]]:
        samples = drawing.sampling.samples
        answers = drawing.answers(
            [prompt.tokens for prompt in prompts for _ in range(samples)],
            [
                f"waiting/{first + number}/{one}"
                for number in range(len(prompts))
                for one in range(samples)
            ],
        )
        found: dict[int, list[int]] = {}
        for number in range(len(prompts)):
            own = answers[number * samples : (number + 1) * samples]
            spoken = next((answer for answer in own if drawing.text(answer)), None)
            if spoken is not None:
                found[number] = spoken
        for number in _less_safe(safe, drawing, prompts, found, first) if safe else ():
            del found[number]
        return [
            drawing.line(
                prompts[number],
                drawing.text(answer),
                first + number,
                is_distilled=prompts[number].plain is not None,
            )
            for number, answer in found.items()
        ]

    return choose


def _less_safe(
    safe: Transformer,
    drawing: Drawing,
    prompts: Sequence[Prompt],
    found: Mapping[int, list[int]],
    first: int,
) -> list[int]:
    """The numbers of distilled answers that do not score higher than the model's own without the
    preprompt. Both are judged without it.
    """
    asked = {n: plain for n in found if (plain := prompts[n].plain) is not None}
    if not asked:
        return []
    own = drawing.answers(list(asked.values()), [f"plain/{first + number}" for number in asked])
    dialogues = [[*plain, *found[number]] for number, plain in asked.items()]
    dialogues += [[*plain, *answer] for plain, answer in zip(asked.values(), own, strict=True)]
    with drawing.log.phase(Phase.SCORE):
        distilled, original = scores_of(safe, dialogues, **drawing.asking).chunk(2)
    return [n for n, safer in zip(asked, (distilled > original).tolist(), strict=True) if not safer]


def _report(path: Path, log: RunLog, *, distilled: int) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = sum(line["is_distilled"] for line in lines)
    if distilled:
        log.event(
            EventKind.DISTILLED,
            f"{kept:,} of {counted(distilled, 'distilled answer')} learnt",
            distilled=distilled,
            kept=kept,
        )

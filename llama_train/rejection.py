"""Rejection sampling: of several answers to each prompt the best, from which the model learns.

Section 3.2.3 of the Llama 2 report. The answers are kept in `answers.jsonl` of the run, as
conversations for fine-tuning.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_train.config import Config
from llama_train.drawing import Choose, Drawing
from llama_train.judge import Judge, Models
from llama_train.metrics import RunLog
from llama_train.prompts import Prompt
from llama_train.train import Result
from llama_train.tuning import Tuning
from llama_train.vocabulary import EventKind, Phase
from llama_train.world import World


def align(
    settings: Callable[[int], Config],
    prompts: Sequence[Prompt],
    out: Path,
    here: World,
    stop_asked: Callable[[], bool],
    *,
    models: Models,
    held_out: float,
    resume: bool,
    overwrite: bool,
) -> Result:
    """Draw, choose, and fine-tune on the best answers; fails and stops like any training.

    `settings` gives the configuration for so many sequences of answers.
    """
    tuning = Tuning(settings, models, held_out, out, here, stop_asked, resume, overwrite)

    def chooser() -> Choose:
        return best_of(Judge.of(models, tuning.config, here))

    return tuning.learn([tuning.draw(prompts, chooser, report)])


def best_of(judge: Judge) -> Choose:
    """The answer that scores most; no line for a prompt whose answers are all empty."""

    def choose(
        drawing: Drawing, prompts: Sequence[Prompt], first: int
    ) -> Sequence[Mapping[str, Any]]:
        samples = drawing.sampling.samples
        asked = [prompt for prompt in prompts for _ in range(samples)]
        answers = drawing.answers(
            [prompt.tokens for prompt in asked],
            [
                f"rejection/{first + number}/{one}"
                for number in range(len(prompts))
                for one in range(samples)
            ],
        )
        with drawing.log.phase(Phase.SCORE):
            scores = judge.scores(
                [[*prompt.tokens, *answer] for prompt, answer in zip(asked, answers, strict=True)],
                [prompt.kind for prompt in asked],
                **drawing.asking,
            ).tolist()
        lines = []
        for number, prompt in enumerate(prompts):
            own = range(number * samples, (number + 1) * samples)
            texts = {at: drawing.text(answers[at]) for at in own}
            if spoken := [at for at in own if texts[at]]:
                best = max(spoken, key=lambda at: scores[at])
                rewards = [round(scores[at], 6) for at in own]
                lines.append(drawing.line(prompt, texts[best], first + number, rewards=rewards))
        return lines

    return choose


def report(path: Path, log: RunLog) -> None:
    """The mean reward of the best of the first 1, 2, 4 … answers, and of the median one."""
    rows = [json.loads(line)["rewards"] for line in path.read_text().splitlines()]
    samples = len(rows[0]) if rows else 0
    sizes = [2**power for power in range(samples.bit_length()) if 2**power <= samples]
    best = {n: statistics.fmean(max(row[:n]) for row in rows) for n in sizes}
    middle = {n: statistics.fmean(statistics.median(row[:n]) for row in rows) for n in sizes}
    said = ", ".join(f"{value:.2f} ({n})" for n, value in best.items())
    log.event(
        EventKind.EVAL,
        f"reward of the best of N: {said}",
        best={str(n): value for n, value in best.items()},
        median={str(n): value for n, value in middle.items()},
    )

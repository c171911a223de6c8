"""`evaluate`: the scores of a model in benchmarks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama_train.cli.options import ModelArgument
from llama_train.errors import TrainError
from llama_train.vocabulary import EventKind, Format, Phase
from llama_train.wording import counted

if TYPE_CHECKING:
    from llama_train.evaluate import Score


def evaluate(
    folder: ModelArgument,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="NAME[,NAME…]",
            help="Tasks of lm-eval, whose data come from Hugging Face; or by path, offline: "
            "bigbench:DIR/NAME, local:FILE.jsonl, humaneval:FILE.",
        ),
    ],
    limit: Annotated[
        int | None, typer.Option(help="Ask only the first questions of each task.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="Solved questions before each. Default: the task's own.")
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Allow tasks that run programs that the model writes.")
    ] = False,
    form: Annotated[
        Format, typer.Option("--format", metavar="text|json", help="For people, or for programs.")
    ] = Format.TEXT,
) -> None:
    """Ask a model benchmark questions with lm-eval; print each score with chance and error.

    Under `carbontrack run` the scores are events of the run, and *evaluation* is a phase.
    """
    if limit is not None and limit < 1:
        raise TrainError(f"--limit is {limit}; it must be above 0.")
    if shots is not None and shots < 0:
        raise TrainError(f"--shots is {shots}; it must be 0 or more.")
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise TrainError("--tasks names no task.")

    from carbontrack import log_event, phase

    with phase(Phase.EVALUATION):
        step, scores = _ask(folder, names, limit=limit, shots=shots, unsafe=unsafe)
    for score in scores:
        log_event(EventKind.SCORE, _line(score), step=step, shots=shots, **asdict(score))
    if form is Format.JSON:
        print(json.dumps({"step": step, "scores": [asdict(s) for s in scores]}, indent=1))
    else:
        _show(scores)


def _ask(
    folder: Path, names: Sequence[str], *, limit: int | None, shots: int | None, unsafe: bool
) -> tuple[int | None, list[Score]]:
    """The step of the checkpoint, if it is a run's, and its scores."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # lm-eval's bars; read when torch imports tqdm
    import torch

    from llama_train import evaluate as evaluation
    from llama_train.weights import open_pretrained

    evaluation.prepare_harness()
    pretrained = open_pretrained(folder)
    pieces = evaluation.tokenizer_of(folder, pretrained.shape.vocab_size)
    opened = evaluation.open_tasks(names, shots=shots, unsafe=unsafe)

    from llama_train.harness import Llama

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Llama(pretrained.model(device), pieces)
    scores = evaluation.ask(model, opened, limit=limit)
    if model.cut:
        print(
            f"{counted(model.cut, 'text')} cut at the beginning: longer than the context of "
            f"{counted(model.max_length, 'token')}",
            file=sys.stderr,
        )
    return pretrained.step, scores


def _show(scores: Sequence[Score]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in ("task", "metric", "score", "±", "chance", "questions"):
        table.add_column(heading, justify="left" if heading in ("task", "metric") else "right")
    for one in scores:
        numbers = (_text(one.score), _text(one.stderr), _text(one.chance))
        table.add_row(one.task, one.metric, *numbers, f"{one.questions:,}")
    Console(soft_wrap=True, markup=False, highlight=False).print(table)


def _line(one: Score) -> str:
    stderr = "" if one.stderr is None else f" ± {one.stderr:.3f}"
    chance = "" if one.chance is None else f", chance {one.chance:.3f}"
    questions = counted(one.questions, "question")
    return f"{one.task} {one.metric} {one.score:.3f}{stderr}{chance}, {questions}"


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

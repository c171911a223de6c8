"""Answers that a model draws to learn from them: `answers.jsonl` of a run, line by line.

What is drawn for a prompt follows from the seed and its number, so a drawing that was interrupted
goes on where it was. Which of a prompt's answers is learnt is said by whoever draws.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from llama_train.config import Config, Sampling
from llama_train.errors import TrainError
from llama_train.generate import sample
from llama_train.metrics import RunLog
from llama_train.model import Transformer
from llama_train.prompts import Prompt
from llama_train.tokenizer import Tokenizer
from llama_train.train import ANSWERS, DRAWN, Preempted, remove_run
from llama_train.vocabulary import EventKind, Phase
from llama_train.wording import counted
from llama_train.world import World

PROMPTS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Drawing:
    """A model that answers prompts as the configuration says."""

    model: Transformer
    pieces: Tokenizer
    config: Config
    here: World
    log: RunLog

    @property
    def sampling(self) -> Sampling:
        assert self.config.sampling is not None
        return self.config.sampling

    def answers(self, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> list[list[int]]:
        """An answer to each, which follows from its key."""
        with self.log.phase(Phase.GENERATE):
            return sample(
                self.model,
                prompts,
                count=self.sampling.tokens,
                temperature=self.sampling.temperature,
                top_p=self.sampling.top_p,
                keys=[f"{self.config.train.seed}/{key}" for key in keys],
                stop=self.pieces.eos,
                ranks=self.here.size,
            )

    def text(self, answer: Sequence[int]) -> str:
        return self.pieces.decode(answer).strip()

    @property
    def asking(self) -> dict[str, int]:
        """How reward models are asked."""
        train = self.config.train
        return {
            "eos": self.pieces.eos,
            "micro_batch": train.micro_batch,
            "ranks": self.here.size,
        }

    def line(self, prompt: Prompt, answer: str, number: int, **more: Any) -> dict[str, Any]:
        """A conversation for fine-tuning."""
        messages = [*prompt.line["messages"], {"role": "assistant", "content": answer}]
        return {**prompt.line, "messages": messages, "prompt": number, **more}


Choose = Callable[[Drawing, Sequence[Prompt], int], Sequence[Mapping[str, Any]]]
"""(drawing, some prompts, the number of the first) → a line for each that gets an answer.

Every rank calls it alike.
"""


def draw(
    open_models: Callable[[], tuple[Transformer, Choose]],
    prompts: Sequence[Prompt],
    pieces: Tokenizer,
    config: Config,
    out: Path,
    here: World,
    stop_asked: Callable[[], bool],
    *,
    source: str,
    report: Callable[[Path, RunLog], None],
    overwrite: bool,
) -> Path:
    """Write the answers that are chosen to `answers.jsonl`; returns its path.

    Goes on where an interrupted drawing from the same `source` stopped, and opens no model if
    nothing is left to draw; raises TrainError if the file is of another. `overwrite` removes the
    run that is there instead. Raises Preempted after a stop signal, when what was drawn is on disk.
    """
    path, sampling, leads = out / ANSWERS, config.sampling, here.rank == 0
    assert sampling is not None
    header = {"of": source, "seed": config.train.seed, **asdict(sampling)}
    found: list[Any] = [_note(path) if leads and not overwrite else None]
    dist.broadcast_object_list(found)
    if (note := found[0]) is not None:
        if note["of"] != header:
            raise TrainError(
                f"{path} was drawn from other models, prompts or settings.", hint="Use --overwrite."
            )
        if note["is_whole"]:
            return path
    model, choose = open_models()
    if leads and overwrite:  # now that all is read
        remove_run(out)
    begin: list[Any] = [_resume(path, header) if leads else None]
    dist.broadcast_object_list(begin)
    with RunLog(out, steps=len(prompts), first_step=begin[0], writes=leads) as log:
        drawing = Drawing(model, pieces, config, here, log)
        answers = counted(sampling.samples, "answer")
        log.print(f"{counted(len(prompts), 'prompt')}, {answers} to each")
        for first in range(begin[0], len(prompts), PROMPTS_AT_ONCE):
            stops: list[Any] = [stop_asked()]
            dist.broadcast_object_list(stops)
            if stops[0]:
                log.event(EventKind.PREEMPTED, f"stopped by a signal after {first:,} prompts")
                raise Preempted
            lines = choose(drawing, prompts[first : first + PROMPTS_AT_ONCE], first)
            if leads:
                with path.open("a", encoding="utf-8") as file:
                    file.write("".join(json.dumps(line) + "\n" for line in lines))
        if leads:
            report(path, log)
            _write_note(path, header, is_whole=True)
    dist.barrier()
    return path


def _resume(path: Path, header: Mapping[str, Any]) -> int:
    """The number of the first prompt to draw for.

    The last group of prompts that has a line may not be whole: it is drawn again, as it was.
    """
    if _note(path) is None:
        path.unlink(missing_ok=True)
        _write_note(path, header, is_whole=False)
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n") if path.exists() else ("",) * 3
    lines = [line for line in whole.split("\n") if line]
    numbers = [json.loads(line)["prompt"] for line in lines]
    start = numbers[-1] // PROMPTS_AT_ONCE * PROMPTS_AT_ONCE if numbers else 0
    kept = [line for line, number in zip(lines, numbers, strict=True) if number < start]
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    return start


def _note(path: Path) -> Any:
    """What is known of the answers in a file; None if nothing is."""
    note = path.with_name(DRAWN)
    return json.loads(note.read_text()) if note.exists() else None


def _write_note(path: Path, header: Mapping[str, Any], *, is_whole: bool) -> None:
    part = path.with_name(DRAWN + ".part")
    part.write_text(json.dumps({"of": header, "is_whole": is_whole}))
    part.replace(path.with_name(DRAWN))

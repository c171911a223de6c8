"""Conversations that wait for an answer, which a model is to give."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llama_train.chat import json_lines, kind_of, question
from llama_train.data import Sequenced, shuffled
from llama_train.documents import is_held_out
from llama_train.errors import TrainError
from llama_train.tokenizer import Tokenizer
from llama_train.wording import counted


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that waits for an answer."""

    tokens: list[int]
    """What the answer is drawn after."""
    kind: str
    line: Mapping[str, Any]
    """What is learnt with the answer: the messages, and what else the line says of them."""
    plain: list[int] | None = None
    """The tokens of what is learnt, where the answer is drawn after more (context distillation)."""


def read_prompts(
    files: Sequence[Path], pieces: Tokenizer, longest: int
) -> tuple[list[Prompt], int]:
    """The prompts of at most `longest` tokens by length, each once, and how many are longer.

    Raises TrainError for a line that is not a prompt, or if none fits.
    """
    found: dict[str, Prompt] = {}
    for path in files:
        for _, prompt in json_lines(path, "a prompt", partial(_prompt, pieces=pieces)):
            found.setdefault(json.dumps(prompt.line), prompt)
    fitting = [prompt for prompt in found.values() if len(prompt.tokens) <= longest]
    if not fitting:
        raise TrainError(
            f"{files[0]} holds no prompt of at most {counted(longest, 'token')}, which is what the "
            f"context leaves beside an answer, and {counted(len(found), 'longer one')}.",
            hint="Lower --sampling.tokens, or give other prompts.",
        )
    return by_length(fitting), len(found) - len(fitting)


def _prompt(row: Mapping[str, Any], pieces: Tokenizer) -> Prompt:
    tokens = question(row.get("messages"), pieces)
    kind = kind_of(row)
    return Prompt(tokens, kind, {"messages": row["messages"], "kind": kind})


def by_length(prompts: Sequence[Prompt]) -> list[Prompt]:
    """So that those which are drawn for together are about as long."""
    return sorted(prompts, key=lambda prompt: len(prompt.tokens))


def split(prompts: Sequence[Prompt], share: float) -> tuple[list[Prompt], list[Prompt]]:
    """(to train on, held out). Raises TrainError if one of them is empty."""
    sides: tuple[list[Prompt], list[Prompt]] = [], []
    for prompt in prompts:
        sides[is_held_out(json.dumps(prompt.line["messages"]), share)].append(prompt)
    if not sides[0] or not sides[1]:
        raise TrainError(
            f"{counted(len(sides[0]), 'prompt')} to train on and {len(sides[1])} held out.",
            hint="Give more prompts, or another --held-out.",
        )
    return sides


def digest(prompts: Sequence[Prompt]) -> str:
    """What tells these prompts from others."""
    return hashlib.sha256(str([prompt.tokens for prompt in prompts]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PromptData:
    """Prompts by number; those of an iteration are a function of the seed and its number."""

    prompts: Sequence[Prompt]
    held_out_prompts: Sequence[Prompt]
    tokenizer: Path
    seed: int
    sources: str
    """What the models and the prompts are: a run is not resumed with others."""
    tokens_per_sequence: int
    """At most: an answer may end before."""

    @property
    def fingerprint(self) -> str:
        asked = [prompt.tokens for prompt in (*self.prompts, *self.held_out_prompts)]
        return hashlib.sha256(f"{asked}/{self.sources}".encode()).hexdigest()

    @property
    def held_out_sequences(self) -> int:
        return len(self.held_out_prompts)

    @property
    def computed(self) -> None:
        """None: an answer's token goes through several models, several times."""

    def prompt(self, number: int) -> Prompt:
        epoch, position = divmod(number, len(self.prompts))
        key = f"{self.seed}/prompts/{epoch}"
        return self.prompts[shuffled(position, len(self.prompts), key)]

    def sequence(self, number: int) -> Sequenced:
        return (np.array(self.prompt(number).tokens),)

    def held_out(self, number: int) -> Sequenced:
        return (np.array(self.held_out_prompts[number].tokens),)

    def predicted(self, numbers: range) -> int:
        return len(numbers)

    losses = predicted

"""Reward models: the trunk of a chat model with a scalar head, trained on pairs of answers.

Section 3.2 of the Llama 2 report. A line of the file is `{"messages": [… user], "chosen": …,
"rejected": …, "preference": "significantly|better|slightly|negligibly", "kind": "helpful|safe"}`.
The score of an answer is read at the EOS behind it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llama_train.chat import conversation, json_lines, kind_of, question
from llama_train.data import Batch, Sequenced, shuffled
from llama_train.documents import is_held_out, unicode_fault
from llama_train.errors import TrainError
from llama_train.model import IGNORE, Transformer, initial_weight
from llama_train.tokenizer import Tokenizer
from llama_train.train import PROMPTS, Measures, Objective
from llama_train.weights import Pretrained, Weights
from llama_train.wording import counted

GRADES = ("negligibly", "slightly", "better", "significantly")
"""How much better the chosen answer is, as the report's annotators were asked."""

MARGINS: Mapping[str, tuple[float, ...]] = {
    "none": (0, 0, 0, 0),
    "small": (0, 1 / 3, 2 / 3, 1),
    "large": (0, 1, 2, 3),
}
"""By how much the chosen answer should score more, for each grade (the report's table 27)."""


def pair_loss(chosen: Tensor, rejected: Tensor, margin: Tensor) -> Tensor:
    """-log σ(chosen - rejected - margin) of each pair: equation 2 of the report."""
    return -F.logsigmoid(chosen - rejected - margin)


def scores(model: Transformer, tokens: Tensor, ends: Tensor) -> Tensor:
    """What the head gives at each sequence's end: tokens (B, T), ends (B) → (B)."""
    each: Tensor = model(tokens)[..., 0]
    return each.gather(1, ends[:, None])[:, 0]


def ranking(margins: str) -> tuple[Objective, Measures]:
    """The objective of pairs with these margins, and the means that are taken of held-out ones."""
    table = torch.tensor(MARGINS[margins])

    def compare(model: Transformer, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tokens, ends, grades = batch
        chosen, rejected = scores(model, tokens.flatten(0, 1), ends.flatten()).view(-1, 2).unbind(1)
        counted = grades != IGNORE
        margin = table.to(grades.device)[grades.clamp(min=0)]
        losses = pair_loss(chosen, rejected, margin) * counted
        return losses.sum(), counted, (chosen > rejected) & counted, grades

    def objective(model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, counted, _, _ = compare(model, batch)
        return loss, counted.sum()

    def measures(model: Transformer, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        loss, counted, right, grades = compare(model, batch)
        found = {"loss": (loss, counted.sum()), "accuracy": (right.sum(), counted.sum())}
        for number, grade in enumerate(GRADES):
            of = grades == number
            found[grade] = ((right & of).sum(), of.sum())
        return found

    return objective, measures


def with_scalar_head(pretrained: Pretrained, seed: int) -> Pretrained:
    """The same trunk, with a new head in place of the next token's."""
    shape = replace(pretrained.shape, head="scalar")

    def read() -> Weights:
        name, size = "output.weight", torch.Size((1, shape.dim))
        head = initial_weight(name, size, shape, seed, torch.device("cpu"))
        return {**pretrained.read(), name: head}

    return Pretrained(shape, read)


class PairData:
    """Pairs of conversations that differ in their last answer, for the train loop.

    Each as tokens (2, T), the chosen first, padded to the longest of the file; the places of their
    ends (2); and the grade. Raises TrainError for a line that is not a pair, or if none fits.
    `too_long` counts the pairs that are longer than the context and were left out.
    """

    def __init__(
        self, path: Path, tokenizer: Path, context: int, *, held_out: float, seed: int = 0
    ) -> None:
        pieces = Tokenizer(tokenizer)
        self.tokenizer = tokenizer
        self._eos = pieces.eos
        self._seed = seed
        sides: tuple[list[_Pair], list[_Pair]] = [], []
        self.too_long = 0
        for _, pair in json_lines(path, "a pair of answers", partial(_pair, pieces=pieces)):
            if pair.longest > context:
                self.too_long += 1
                continue
            # By the question, so that no question is on both sides.
            sides[is_held_out(json.dumps(pair.prompt["messages"]), held_out)].append(pair)
        self.prompts = [pair.prompt for side in sides for pair in side]
        self._train, self._held_out = sides
        if not self._train or not self._held_out:
            raise TrainError(
                f"{path}: {counted(len(self._train), 'pair')} to train on and "
                f"{len(self._held_out)} held out; {self.too_long} longer than the context of "
                f"{counted(context, 'token')}.",
                hint="Give more pairs, or another --held-out.",
            )
        self._width = max(pair.longest for side in sides for pair in side)
        self.sequences = len(self._train)
        self.tokens_per_sequence = sum(pair.tokens for pair in self._train) / self.sequences
        self.computed = 2, self._width
        self.held_out_sequences = len(self._held_out)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        recipe = f"{content}/{pieces.sha256}/{context}/{held_out}"
        self.fingerprint = hashlib.sha256(recipe.encode()).hexdigest()

    def sequence(self, number: int) -> Sequenced:
        return self._padded(self._train[self._place(number)])

    def held_out(self, number: int) -> Sequenced:
        return self._padded(self._held_out[number])

    def predicted(self, numbers: range) -> int:
        """Tokens of both answers and what is before them."""
        return sum(self._train[self._place(number)].tokens for number in numbers)

    def losses(self, numbers: range) -> int:
        return len(numbers)

    def _place(self, number: int) -> int:
        epoch, position = divmod(number, self.sequences)
        return shuffled(position, self.sequences, f"{self._seed}/pairs/{epoch}")

    def _padded(self, pair: _Pair) -> Sequenced:
        tokens = np.full((2, self._width), self._eos, dtype=np.int64)
        both = (pair.chosen, pair.rejected)
        for row, side in zip(tokens, both, strict=True):
            row[: len(side)] = side
        ends = np.array([len(side) - 1 for side in both], dtype=np.int64)
        return tokens, ends, np.array(pair.grade, dtype=np.int64)


def write_prompts(pairs: PairData, out: Path) -> None:
    """The questions that this reward model has seen, on which a model can be aligned."""
    lines = dict.fromkeys(json.dumps(prompt) for prompt in pairs.prompts)
    (out / PROMPTS).write_text("".join(f"{line}\n" for line in lines))


@dataclass(frozen=True, slots=True)
class _Pair:
    chosen: list[int]
    rejected: list[int]
    grade: int
    prompt: Mapping[str, Any]
    """The messages and the kind, as a line of prompts has them."""

    @property
    def tokens(self) -> int:
        return len(self.chosen) + len(self.rejected)

    @property
    def longest(self) -> int:
        return max(len(self.chosen), len(self.rejected))


def _pair(row: Mapping[str, Any], pieces: Tokenizer) -> _Pair:
    """Raises ValueError with the reason if it is not one."""
    question(row.get("messages"), pieces)
    prompt = {"messages": row["messages"], "kind": kind_of(row)}
    if row.get("preference") not in GRADES:
        raise ValueError(f"'preference' is not one of {', '.join(GRADES)}")
    sides = []
    for name in ("chosen", "rejected"):
        answer = row.get(name)
        if not isinstance(answer, str) or not answer.strip():
            raise ValueError(f"'{name}' is empty")
        if (fault := unicode_fault(answer)) is not None:
            raise ValueError(f"'{name}' {fault}")
        messages = [*row["messages"], {"role": "assistant", "content": answer}]
        sides.append([token for token, _ in conversation(messages, pieces)])
    if sides[0] == sides[1]:
        raise ValueError("'chosen' and 'rejected' are the same")
    return _Pair(sides[0], sides[1], GRADES.index(row["preference"]), prompt)

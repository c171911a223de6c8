"""Llama 2-Chat's first step: supervised fine-tuning on conversations, with loss on the answers.

A line of the file is `{"messages": [{"role": "user", "content": …}, {"role": "assistant", …}, …]}`,
with an optional system message first. Conversations are packed whole into sequences; the loop, the
accounting and the checkpoints are those of pretraining.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from llama_train.config import Checkpoints, Config, ModelShape, Train
from llama_train.data import Sequenced, shuffled
from llama_train.documents import is_held_out, unicode_fault
from llama_train.errors import TrainError
from llama_train.model import IGNORE
from llama_train.tokenizer import Tokenizer

# A token and whether it is predicted.
Marked = list[tuple[int, bool]]


def recipe(name: str, shape: ModelShape, sequences: int, epochs: float) -> Config:
    """Section 3.1 of the Llama 2 report: two epochs, 64 sequences a step, cosine from 2e-5.

    The length of the warm-up is our choice: a twentieth.
    """
    if not 0 < epochs < math.inf:
        raise TrainError(f"--epochs is {epochs}; it must be above 0.")
    steps = max(1, math.ceil(epochs * sequences / 64))
    train = Train(
        steps=steps,
        batch_size=64,
        lr=2e-5,
        warmup_steps=max(1, steps // 20),
        eval_every=max(1, steps // 4),
    )
    return Config(
        name=name, model=shape, train=train, checkpoint=Checkpoints(every=max(1, steps // 2))
    )


def conversation(messages: Any, pieces: Tokenizer) -> Marked:
    """Meta's chat format: BOS [INST] user [/INST] answer EOS, for each turn in one piece.

    Only the answer, the space after it and its EOS are predicted. Raises ValueError with
    the reason if the messages are not a conversation.
    """
    system, turns = _turns(messages)
    marked: Marked = []
    for user, assistant in zip(turns[::2], turns[1::2], strict=True):
        question = prompt(system + user)
        tokens = pieces.encode(f"{question} {assistant.strip()} ")
        given = _common(tokens, pieces.encode(question))
        marked += [(token, False) for token in (pieces.bos, *tokens[:given])]
        marked += [(token, True) for token in (*tokens[given:], pieces.eos)]
        system = ""
    return marked


def prompt(text: str) -> str:
    """A question as the model was trained to answer it."""
    return f"[INST] {text.strip()} [/INST]"


def _turns(messages: Any) -> tuple[str, list[str]]:
    """(what the system message adds to the first question, question, answer, question, …)."""
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' is not a list of messages")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError(f"message {number} has no text under 'content'")
        if (fault := unicode_fault(message["content"])) is not None:
            raise ValueError(f"message {number} {fault}")
    roles = [message.get("role") for message in messages]
    system = roles[0] == "system"
    wanted = ["user", "assistant"] * (len(messages[system:]) // 2)
    if not wanted or roles[system:] != wanted:
        raise ValueError("after an optional system message, user and assistant must alternate")
    texts = [message["content"] for message in messages]
    return (f"<<SYS>>\n{texts.pop(0)}\n<</SYS>>\n\n" if system else ""), texts


def _common(tokens: Sequence[int], start: Sequence[int]) -> int:
    """How many tokens the two begin with alike."""
    pairs = zip(tokens, start, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(start)))


class ChatData:
    """Packed conversations as sequences of `context` tokens, for the train loop.

    Raises TrainError for a line that is not a conversation, or if nothing fits. `too_long` counts
    the conversations that are longer than the context and were left out.
    """

    def __init__(
        self, path: Path, tokenizer: Path, context: int, *, held_out: float, seed: int = 0
    ) -> None:
        pieces = Tokenizer(tokenizer)
        self.tokenizer = tokenizer
        self.vocab_size = pieces.vocab_size
        self._context = context
        self._seed = seed
        sides: tuple[list[Marked], list[Marked]] = [], []
        self.too_long = 0
        for line, marked in _conversations(path, pieces):
            if len(marked) > context + 1:
                self.too_long += 1
            else:
                sides[is_held_out(line, held_out)].append(marked)
        self._train, self._held_out = (list(_pack(side, context + 1, pieces.eos)) for side in sides)
        if not self._train or not self._held_out:
            raise TrainError(
                f"{path}: {len(sides[0])} conversations to train on and {len(sides[1])} held out; "
                f"{self.too_long} are longer than the context of {context} tokens.",
                hint="Give more conversations, or another --held-out.",
            )
        self.sequences = len(self._train)
        self._predicted = [sum(answer for _, answer in packed[1:]) for packed in self._train]
        self.held_out_sequences = len(self._held_out)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        recipe = f"{content}/{pieces.sha256}/{context}/{held_out}"
        self.fingerprint = hashlib.sha256(recipe.encode()).hexdigest()

    def sequence(self, number: int) -> Sequenced:
        return _targets(self._train[self._place(number)])

    def predicted(self, numbers: range) -> int:
        return sum(self._predicted[self._place(number)] for number in numbers)

    losses = predicted

    def _place(self, number: int) -> int:
        epoch, position = divmod(number, self.sequences)
        return shuffled(position, self.sequences, f"{self._seed}/chat/{epoch}")

    def held_out(self, number: int) -> Sequenced:
        return _targets(self._held_out[number])


def _conversations(path: Path, pieces: Tokenizer) -> Iterator[tuple[str, Marked]]:
    try:
        # Not splitlines: a JSON text may hold what that takes for the end of a line, like U+2028.
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise TrainError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise TrainError(f"{path} is not UTF-8 text: {error}.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield line, conversation(row.get("messages") if isinstance(row, dict) else None, pieces)
        except (ValueError, RecursionError) as error:
            raise TrainError(f"{path}, line {number}: not a conversation: {error}.") from error


def _pack(conversations: Iterable[Marked], length: int, fill: int) -> Iterator[Marked]:
    """Whole conversations, in order, until the next does not fit; the rest is padding."""
    packed: Marked = []
    for marked in conversations:
        if len(packed) + len(marked) > length:
            yield packed + [(fill, False)] * (length - len(packed))
            packed = []
        packed = packed + marked
    if packed:
        yield packed + [(fill, False)] * (length - len(packed))


def _targets(packed: Marked) -> Sequenced:
    tokens = np.array([token for token, _ in packed[:-1]], dtype=np.int64)
    targets = [token if predicted else IGNORE for _, (token, predicted) in pairwise(packed)]
    return tokens, np.array(targets, dtype=np.int64)

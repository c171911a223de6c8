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

import numpy as np
from numpy.typing import NDArray

from llama_train.config import Checkpoints, Config, ModelShape, Train
from llama_train.data import shuffled
from llama_train.errors import TrainError
from llama_train.model import IGNORE
from llama_train.prepare import is_held_out
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


def conversation(messages: Sequence[dict[str, str]], pieces: Tokenizer) -> Marked:
    """Llama 2's chat template: BOS [INST] user [/INST] answer EOS, for each turn.

    Only the answer and its EOS are predicted. Raises ValueError if the roles do not alternate.
    """
    system, turns = "", list(messages)
    if turns and turns[0]["role"] == "system":
        system = f"<<SYS>>\n{turns.pop(0)['content']}\n<</SYS>>\n\n"
    roles = [turn["role"] for turn in turns]
    if not turns or len(turns) % 2 or roles != ["user", "assistant"] * (len(turns) // 2):
        raise ValueError("after an optional system message, user and assistant must alternate")
    marked: Marked = []
    for user, assistant in zip(turns[::2], turns[1::2], strict=True):
        prompt = pieces.encode(f"[INST] {system}{user['content'].strip()} [/INST]")
        answer = pieces.encode(assistant["content"].strip())
        marked += [(token, False) for token in (pieces.bos, *prompt)]
        marked += [(token, True) for token in (*answer, pieces.eos)]
        system = ""
    return marked


class ChatData:
    """Packed conversations as sequences of `context` tokens, for the train loop.

    Raises TrainError for a line that is no conversation, or if nothing fits. `too_long` counts the
    conversations that are longer than the context and were left out.
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
        self.held_out_sequences = len(self._held_out)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        recipe = f"{content}/{pieces.sha256}/{context}/{held_out}"
        self.fingerprint = hashlib.sha256(recipe.encode()).hexdigest()

    def sequence(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        epoch, position = divmod(number, self.sequences)
        return _targets(
            self._train[shuffled(position, self.sequences, f"{self._seed}/chat/{epoch}")]
        )

    def held_out(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
            yield line, conversation(json.loads(line)["messages"], pieces)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainError(f"{path}, line {number}: no conversation ({error}).") from error


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


def _targets(packed: Marked) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    tokens = np.array([token for token, _ in packed[:-1]], dtype=np.int64)
    targets = [token if predicted else IGNORE for _, (token, predicted) in pairwise(packed)]
    return tokens, np.array(targets, dtype=np.int64)

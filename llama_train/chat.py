"""Llama 2-Chat's first step: supervised fine-tuning on conversations, with loss on the answers.

A line of the file is `{"messages": [{"role": "user", "content": …}, {"role": "assistant", …}, …]}`,
with an optional system message first. Conversations are packed whole into sequences; the loop, the
accounting and the checkpoints are those of pretraining.

Two kinds of line may end with a question, whose answer is then drawn from the model itself. With
`"ghost_attention": true` the whole conversation follows its system message, which is put on every
question to draw, and is on the first alone to learn, with loss on the last answer only (section
3.3 of the Llama 2 report). With `"preprompt": …` the answer is drawn after that as a system
message, and learnt without it: context distillation (section 4.2.4).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from llama_train.data import Sequenced, shuffled
from llama_train.documents import is_held_out, unicode_fault
from llama_train.errors import TrainError
from llama_train.model import IGNORE
from llama_train.tokenizer import Tokenizer
from llama_train.wording import counted

# A token and whether it is predicted.
Marked = list[tuple[int, bool]]
T = TypeVar("T")

KINDS = ("helpful", "safe")
"""What a prompt, and an answer to it, is judged by."""


def conversation(messages: Any, pieces: Tokenizer, *, last_only: bool = False) -> Marked:
    """Meta's chat format: BOS [INST] user [/INST] answer EOS, for each turn in one piece.

    Only the answer (or the last one), the space after it and its EOS are predicted. Raises
    ValueError with the reason if the messages are not a conversation.
    """
    system, turns = _turns(messages)
    marked: Marked = []
    for user, assistant in zip(turns[::2], turns[1::2], strict=True):
        if last_only:
            marked = [(token, False) for token, _ in marked]
        asked = prompt(system + user)
        tokens = pieces.encode(f"{asked} {assistant.strip()} ")
        given = _common(tokens, pieces.encode(asked))
        marked += [(token, False) for token in (pieces.bos, *tokens[:given])]
        marked += [(token, True) for token in (*tokens[given:], pieces.eos)]
        system = ""
    return marked


def question(messages: Any, pieces: Tokenizer, *, every: bool = False) -> list[int]:
    """The tokens of a conversation that waits for an answer, to be continued with it.

    `every` puts the system message on every question, not on the first alone. Raises ValueError
    with the reason if the messages are not such a conversation.
    """
    system, turns = _turns(messages, waiting=True)
    tokens: list[int] = []
    for user, assistant in zip(turns[:-1:2], turns[1::2], strict=True):
        text = f"{prompt(system + user)} {assistant.strip()} "
        tokens += [pieces.bos, *pieces.encode(text), pieces.eos]
        system = system if every else ""
    return [*tokens, pieces.bos, *pieces.encode(prompt(system + turns[-1]))]


def prompt(text: str) -> str:
    """A question as the model was trained to answer it."""
    return f"[INST] {text.strip()} [/INST]"


def kind_of(row: Mapping[str, Any]) -> str:
    """Whether a prompt asks for help or tries to get what is unsafe. Raises ValueError if neither.

    A line that does not say is of the first.
    """
    kind = row.get("kind", KINDS[0])
    if kind not in KINDS:
        raise ValueError(f"'kind' is not one of {', '.join(KINDS)}")
    return str(kind)


def _turns(messages: Any, *, waiting: bool = False) -> tuple[str, list[str]]:
    """(what the system message adds to the first question, question, answer, question, …).

    `waiting`: the last question has no answer yet.
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' is not a list of messages")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError(f"message {number} has no text under 'content'")
        if (fault := unicode_fault(message["content"])) is not None:
            raise ValueError(f"message {number} {fault}")
        if message.get("role") == "assistant" and not message["content"].strip():
            raise ValueError(f"message {number} is an empty answer")
    roles = [message.get("role") for message in messages]
    system = roles[0] == "system"
    wanted = ["user", "assistant"] * (len(messages[system:]) // 2) + ["user"] * waiting
    if not wanted or roles[system:] != wanted:
        end = ", and the last message be a user's" if waiting else ""
        raise ValueError(
            f"after an optional system message, user and assistant must alternate{end}"
        )
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
        self,
        files: Sequence[Path],
        tokenizer: Path,
        context: int,
        *,
        held_out: float,
        seed: int = 0,
    ) -> None:
        pieces = Tokenizer(tokenizer)
        self.tokenizer = tokenizer
        self._seed = seed
        sides: tuple[list[Marked], list[Marked]] = [], []
        self.too_long = 0
        parse = partial(answered, pieces=pieces)
        for line, marked in chain.from_iterable(
            json_lines(path, "a conversation", parse) for path in files
        ):
            if marked is None:
                continue
            if len(marked) > context + 1:
                self.too_long += 1
            else:
                sides[is_held_out(line, held_out)].append(marked)
        self._train, self._held_out = (list(_pack(side, context + 1, pieces.eos)) for side in sides)
        if not self._train or not self._held_out:
            raise TrainError(
                f"{files[0]}: {counted(len(sides[0]), 'conversation')} to train on and "
                f"{len(sides[1])} held out; {self.too_long} longer than the context of "
                f"{counted(context, 'token')}.",
                hint="Give more conversations, or another --held-out.",
            )
        self.sequences = len(self._train)
        self._predicted = [sum(answer for _, answer in packed[1:]) for packed in self._train]
        self.tokens_per_sequence = sum(self._predicted) / self.sequences
        self.computed = 1, context
        self.held_out_sequences = len(self._held_out)
        content = "/".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
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


def waits(row: Mapping[str, Any]) -> bool:
    """Whether an answer is to be drawn for this line."""
    messages = row.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    asks = isinstance(last, dict) and last.get("role") == "user"
    return asks and (row.get("ghost_attention") is True or "preprompt" in row)


def answered(row: Mapping[str, Any], pieces: Tokenizer) -> Marked | None:
    """The conversation of a line; None for one that waits for its answer.

    Raises ValueError with the reason if it is not one.
    """
    if waits(row):
        return None
    ghost = row.get("ghost_attention") is True
    return conversation(row.get("messages"), pieces, last_only=ghost)


def json_lines(
    path: Path, what: str, parse: Callable[[Mapping[str, Any]], T]
) -> Iterator[tuple[str, T]]:
    """Each line of the file and what it means; raises TrainError for one that is not `what`."""
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
            yield line, parse(row if isinstance(row, dict) else {})
        except (ValueError, RecursionError) as error:
            raise TrainError(f"{path}, line {number}: not {what}: {error}.") from error


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

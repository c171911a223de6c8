"""Prepared tokens: memory-mapped shards, and batches that are a function of (seed, step).

A prepared folder holds `index.json`, `tokenizer.model` and `shards/*.bin`. A shard is a plain array
of little-endian uint16 tokens, document after document, each BOS … EOS. The sequences of a step
depend on nothing but the seed and the step, so the order is the same for any number of ranks, and
the loader has no state to save.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from llama_train.errors import TrainError
from llama_train.wording import counted

FORMAT = "llama_train shards 1"
SHARDS = "shards"
TOKEN = np.dtype("<u2")
MAX_VOCAB = 2**16

Sequenced = tuple[NDArray[np.int64], ...]
"""What is known of one sequence, for example (tokens, targets); the last part may be IGNOREd."""
T = TypeVar("T")
Batch = tuple[torch.Tensor, ...]
"""The parts of several sequences, each stacked."""

# Sequences after which the mixture of the sources repeats: the first at which each has a share.
_CYCLES = (1000, 100_000)


class Data(Protocol):
    """What the train loop asks of data: sequences by number, in parts for the objective."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def tokenizer(self) -> Path: ...
    @property
    def held_out_sequences(self) -> int: ...
    @property
    def tokens_per_sequence(self) -> float:
        """How many tokens of a training sequence are learnt from, on average."""
        ...

    @property
    def computed(self) -> tuple[int, int] | None:
        """How many rows of how many tokens the model computes for a training sequence, padding too.

        None if that is not all that a sequence takes.
        """
        ...

    def sequence(self, number: int) -> Sequenced: ...
    def held_out(self, number: int) -> Sequenced: ...
    def predicted(self, numbers: range) -> int:
        """How many tokens of these training sequences are learnt from."""
        ...

    def losses(self, numbers: range) -> int:
        """Of how many losses that of these training sequences is the mean."""
        ...


def held_out_sample(data: Data, most: int) -> list[int]:
    """The numbers of at most so many held-out sequences, drawn evenly and alike in every run."""
    size = data.held_out_sequences
    return [shuffled(place, size, "held out") for place in range(min(most, size))]


def stack(pairs: Sequence[Sequenced], *, pinned: bool = False) -> Batch:
    """Sequences to tensors, such as tokens (B, T) and targets (B, T); pinned for a GPU to fetch."""
    parts = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))
    return tuple(part.pin_memory() if pinned else part for part in parts)


class Prefetch(Generic[T]):
    """Makes the next item in a thread, while the last one is used."""

    def __init__(self, make: Callable[[int], T], stop: int) -> None:
        self._make, self._stop = make, stop
        self._thread = ThreadPoolExecutor(1, "prefetch")
        self._next: tuple[int, Future[T]] | None = None

    def take(self, number: int) -> T:
        """The item of this number; those that follow up to `stop` are begun ahead."""
        ahead, self._next = self._next, None
        item = ahead[1].result() if ahead and ahead[0] == number else self._make(number)
        if number < self._stop:
            self._next = number + 1, self._thread.submit(self._make, number + 1)
        return item

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Stream:
    """The shards of one source, read as one long array of tokens."""

    arrays: tuple[NDArray[np.uint16], ...]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.arrays else 0

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        parts = []
        shard = int(np.searchsorted(self.ends, start, side="right"))
        offset = start - (int(self.ends[shard - 1]) if shard else 0)
        while count:
            part = self.arrays[shard][offset : offset + count]
            parts.append(part)
            count, shard, offset = count - len(part), shard + 1, 0
        return np.concatenate(parts).astype(np.int64)


class TokenData:
    """Training and held-out sequences of `context` tokens from a prepared folder.

    Raises TrainError if the folder is not one, a shard or the tokenizer is missing or differs from
    the index, or there is too little text for one sequence. With `verify`, which one rank of many
    is enough for, what shards hold is hashed when they are first seen.
    """

    def __init__(self, folder: Path, context: int, *, seed: int = 0, verify: bool = True) -> None:
        index = read_index(folder)
        self.fingerprint: str = index["fingerprint"]
        self.tokenizer = folder / "tokenizer.model"
        self.vocab_size: int = index["tokenizer"]["vocab_size"]
        self._context = context
        self.tokens_per_sequence = context
        self.computed = 1, context
        self._seed = seed
        _same_tokenizer(self.tokenizer, index["tokenizer"]["sha256"])
        self._train = [_open(folder, source["train"]) for source in index["sources"]]
        self._held_out = [_open(folder, source["held_out"]) for source in index["sources"]]
        if verify:
            _verify(folder, index)
        self._counts = [self._sequences(stream) for stream in self._train]
        self._held_out_counts = [self._sequences(stream) for stream in self._held_out]
        self.held_out_sequences = sum(self._held_out_counts)
        for source, count in zip(index["sources"], self._counts, strict=True):
            if not count:
                raise TrainError(
                    f"The context of {counted(context, 'token')} is longer than source "
                    f"{source['name']!r} in {folder}.",
                    hint="Use a smaller --model.context, or prepare more text.",
                )
        if not self.held_out_sequences:
            raise TrainError(
                f"The held-out documents in {folder} are shorter than one context of "
                f"{counted(context, 'token')}.",
                hint="Prepare with a larger --held-out, or use a smaller --model.context.",
            )
        self._mixture = Mixture([float(source["weight"]) for source in index["sources"]])

    def sequence(self, number: int) -> Sequenced:
        source, own = self._mixture.pick(number)
        epoch, position = divmod(own, self._counts[source])
        key = f"{self._seed}/{source}/{epoch}"
        return self._cut(self._train[source], shuffled(position, self._counts[source], key))

    def predicted(self, numbers: range) -> int:
        return len(numbers) * self._context

    losses = predicted

    def held_out(self, number: int) -> Sequenced:
        for stream, count in zip(self._held_out, self._held_out_counts, strict=True):
            if number < count:
                return self._cut(stream, number)
            number -= count
        raise IndexError(number)

    def _sequences(self, stream: Stream) -> int:
        return max(0, (len(stream) - 1) // self._context)

    def _cut(self, stream: Stream, sequence: int) -> Sequenced:
        tokens = stream.read(sequence * self._context, self._context + 1)
        return tokens[:-1], tokens[1:]


class Mixture:
    """Which source each sequence comes from: evenly in proportion to the weights.

    Raises TrainError for a weight so small that its source would never come.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        for cycle in _CYCLES:
            self._slots, self._quota = _slots(weights, cycle)
            if all(self._quota):
                return
        source = self._quota.index(0) + 1
        raise TrainError(
            f"The weight of source {source}, {weights[source - 1]:g}, is less than one in "
            f"{_CYCLES[-1]:,} of all: none of it would be read.",
            hint="Give it a larger weight, or leave it out.",
        )

    def pick(self, number: int) -> tuple[int, int]:
        """(source, how many of that source came before) of the sequence with this number."""
        cycle, slot = divmod(number, len(self._slots))
        source, before = self._slots[slot]
        return source, cycle * self._quota[source] + before


def _slots(weights: Sequence[float], cycle: int) -> tuple[list[tuple[int, int]], list[int]]:
    """(source, how many of it came before) of each sequence of a cycle, and how many each has."""
    shares = np.asarray(weights) / sum(weights)
    due = np.zeros(len(weights))
    taken = np.zeros(len(weights), dtype=np.int64)
    slots = []
    for _ in range(cycle):
        due += shares
        source = int(np.argmax(due - taken))
        slots.append((source, int(taken[source])))
        taken[source] += 1
    return slots, taken.tolist()


def shuffled(position: int, size: int, key: str) -> int:
    """Where a permutation of range(size) puts `position`, without the memory for the permutation.

    A Feistel network permutes the next power of four; walking its cycle until the value is below
    `size` permutes range(size) (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    bits = max(1, (size - 1).bit_length() + 1 >> 1)
    mask = (1 << bits) - 1
    while True:
        left, right = position >> bits, position & mask
        for turn in range(4):
            digest = hashlib.blake2b(f"{key}/{turn}/{right}".encode(), digest_size=8).digest()
            left, right = right, left ^ int.from_bytes(digest, "big") & mask
        position = left << bits | right
        if position < size:
            return position


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a prepared folder; raises TrainError if it is none, or was edited."""
    path = folder / "index.json"
    try:
        index = json.loads(path.read_text())
    except OSError:
        raise TrainError(
            f"{folder} holds no prepared data (no readable index.json).",
            hint=f"Make it with: python -m llama_train prepare --out {folder}",
        ) from None
    except ValueError:
        index = None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise TrainError(f"{path} is not an index of llama_train shards.")
    if index.get("fingerprint") != fingerprint(index):
        raise TrainError(f"{path} does not match its fingerprint: it was edited or damaged.")
    return index


def fingerprint(index: Mapping[str, Any]) -> str:
    """SHA-256 of the index, which holds the SHA-256 of every shard and of the tokenizer."""
    content = {key: value for key, value in index.items() if key != "fingerprint"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _open(folder: Path, shards: Sequence[Mapping[str, Any]]) -> Stream:
    arrays = []
    for shard in shards:
        path, tokens = folder / SHARDS / shard["file"], shard["tokens"]
        if not path.is_file():
            raise TrainError(f"Shard {path} is missing.", hint="Run prepare again.")
        if path.stat().st_size != tokens * TOKEN.itemsize:
            raise TrainError(
                f"Shard {path} has {counted(path.stat().st_size, 'byte')} instead of "
                f"{tokens * TOKEN.itemsize:,}: it is truncated or foreign.",
                hint="Run prepare again.",
            )
        if tokens:
            arrays.append(np.memmap(path, TOKEN, mode="r"))
    return Stream(tuple(arrays), np.cumsum([len(array) for array in arrays], dtype=np.int64))


def _same_tokenizer(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise TrainError(f"Tokenizer {path} is missing.", hint="Run prepare again.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise TrainError(
            f"{path} is not the tokenizer that made the shards beside it.",
            hint="Run prepare again.",
        )


def _verify(folder: Path, index: Mapping[str, Any]) -> None:
    """Hash the shards that have changed, by size and time, since they were last hashed."""
    note, vocab_size = folder / "verified.json", index["tokenizer"]["vocab_size"]
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):
        known = {}
    shards = [s for source in index["sources"] for s in (*source["train"], *source["held_out"])]
    seen = {}
    for shard in shards:
        path = folder / SHARDS / shard["file"]
        seen[shard["file"]] = [shard["sha256"], path.stat().st_mtime_ns]
        if not shard["tokens"] or known.get(shard["file"]) == seen[shard["file"]]:
            continue
        tokens = np.memmap(path, TOKEN, mode="r")
        if hashlib.sha256(tokens.data).hexdigest() != shard["sha256"] or tokens.max() >= vocab_size:
            raise TrainError(
                f"Shard {path} differs from the index: it is foreign or damaged.",
                hint="Run prepare again.",
            )
    if seen != known:
        with suppress(OSError):  # a folder that may only be read is hashed each time
            note.write_text(json.dumps(seen))

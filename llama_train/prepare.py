"""Text to shards: tokenise documents in parallel and write what `data` reads.

The work is cut into units, each of which becomes a training shard and a held-out shard. One that is
already on disk is not done again, so an interrupted `prepare` goes on where it was. The index is
written last: a folder without one is not ready.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from llama_train.data import FORMAT, MAX_VOCAB, SHARDS, TOKEN, fingerprint
from llama_train.documents import (
    PART_BYTES,
    NotText,
    Part,
    documents,
    find_files,
    is_held_out,
    parts,
)
from llama_train.errors import TrainError, make_folder
from llama_train.metrics import progress_bar
from llama_train.tokenizer import Tokenizer, train_tokenizer

TOKENIZER_SAMPLE_BYTES = 64 * 2**20
PYDOC = "pydoc"
"""The stdlib's own documentation, `pydoc_data.topics`: English prose that every CPython carries."""

PYDOC_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Source:
    """Files whose sequences get a share of the batches in proportion to `weight`."""

    name: str
    files: tuple[tuple[Path, bool], ...]
    """Each with whether it was found in a folder. Empty for the built-in corpus `pydoc`."""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Unit:
    """What one process tokenises at once."""

    source: str
    number: int
    parts: tuple[Part, ...]
    """Empty for the built-in corpus."""
    text_key: str
    held_out: float

    @property
    def name(self) -> str:
        return f"{self.source}-{self.number:05d}"

    def identity(self, tokenizer_sha256: str) -> str:
        """Changes with anything that would change the shards."""
        content = json.dumps([asdict(self), tokenizer_sha256], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def parse_source(text: str) -> Source:
    """`NAME=PATH[,PATH…][@WEIGHT]`, or a bare PATH; of a folder, the files that can be read."""
    name, equals, rest = text.partition("=")
    if not equals:
        name, rest = Path(text.rpartition("@")[0] or text).stem, text
    places, at, share = rest.rpartition("@")
    try:
        weight = float(share) if at else 1.0
    except ValueError:
        weight = -1.0
    if not 0 < weight < math.inf:
        raise TrainError(f"The weight of source {text!r} is not a number above 0.")
    if "/" in name:
        raise TrainError(f"Source {text!r} has no name that a file could have.")
    files, lines = find_files((places if at else rest).split(","))
    for line in lines:
        print(line, file=sys.stderr)
    return Source(name, tuple(files), weight)


def prepare(
    sources: Sequence[Source],
    out: Path,
    *,
    tokenizer: Path | None,
    vocab_size: int,
    held_out: float,
    text_key: str = "text",
    jobs: int = 1,
) -> dict[str, Any]:
    """Write a prepared folder and return its index. Raises TrainError for what cannot be read."""
    if not 0 < held_out < 1:
        raise TrainError(f"--held-out is {held_out}; it must be between 0 and 1.")
    if len({source.name for source in sources}) < len(sources):
        raise TrainError("Two sources have the same name.", hint="Name them: --source NAME=PATH.")
    shards = out / SHARDS
    _check_place(out, tokenizer)
    make_folder(shards)
    units = [unit for source in sources for unit in _units(source, text_key, held_out)]
    pieces = _tokenizer(units, out / "tokenizer.model", tokenizer, vocab_size)

    work = partial(tokenise, tokenizer_model=out / "tokenizer.model", shards=shards)
    with (
        progress_bar("Tokenising", total=len(units), unit="pieces of text") as advance,
        _mapped(jobs) as mapped,
    ):
        done = {}
        for unit, record in zip(units, mapped(work, units), strict=True):
            done[unit.name] = record
            advance()
    for line in sorted({line for record in done.values() for line in record["skipped"]}):
        print(line, file=sys.stderr)

    index: dict[str, Any] = {
        "format": FORMAT,
        "tokenizer": {"sha256": pieces.sha256, "vocab_size": pieces.vocab_size},
        "sources": [
            {
                "name": source.name,
                "weight": source.weight,
                **{
                    split: [done[unit.name][split] for unit in units if unit.source == source.name]
                    for split in ("train", "held_out")
                },
            }
            for source in sources
        ],
    }
    index["fingerprint"] = fingerprint(index)
    _write(out / "index.json", json.dumps(index, indent=1).encode())
    return index


@contextmanager
def _mapped(jobs: int) -> Iterator[Callable[..., Iterator[dict[str, Any]]]]:
    """`map`, here or over processes."""
    if jobs == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield pool.map


def _documents(unit: Unit, skipped: list[str]) -> Iterator[str]:
    """The documents of a unit, in order; files of folders that are not text go to `skipped`."""
    if not unit.parts:
        yield from pydoc_documents()
    for part in unit.parts:
        try:
            yield from documents(part, unit.text_key)
        except NotText as error:
            if not part.in_folder:
                raise
            skipped.append(f"skipped: {error}")


def pydoc_documents() -> Iterator[str]:
    """The topics, a long one cut at blank lines: the held-out ones are then a fair sample."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        paragraphs: list[str] = []
        for paragraph in topics[name].split("\n\n"):
            paragraphs.append(paragraph)
            if sum(map(len, paragraphs)) >= PYDOC_CHARACTERS:
                yield "\n\n".join(paragraphs)
                paragraphs = []
        if paragraphs:
            yield "\n\n".join(paragraphs)


def tokenise(unit: Unit, tokenizer_model: Path, shards: Path) -> dict[str, Any]:
    """Write the unit's shards, then its record; return the record. Once is enough."""
    pieces = _loaded(tokenizer_model)
    identity = unit.identity(pieces.sha256)
    if known := _record(shards, unit.name, identity):
        return known
    tokens: dict[str, list[np.ndarray[Any, np.dtype[np.uint16]]]] = {"train": [], "held_out": []}
    skipped: list[str] = []
    for text in _documents(unit, skipped):
        split = "held_out" if is_held_out(text, unit.held_out) else "train"
        tokens[split].append(np.asarray(pieces.document(text), TOKEN))
    record: dict[str, Any] = {"identity": identity, "skipped": skipped}
    for split, found in tokens.items():
        blob = b"".join(document.tobytes() for document in found)
        file = f"{unit.name}.{split}.bin"
        _write(shards / file, blob)
        record[split] = {
            "file": file,
            "tokens": len(blob) // TOKEN.itemsize,
            "documents": len(found),
            "sha256": hashlib.sha256(blob).hexdigest(),
        }
    _write(shards / f"{unit.name}.json", json.dumps(record).encode())
    return record


def _record(shards: Path, name: str, identity: str) -> dict[str, Any] | None:
    """What an earlier run wrote for the same unit, if its shards are still there and whole."""
    try:
        record: dict[str, Any] = json.loads((shards / f"{name}.json").read_text())
        if record["identity"] != identity:
            return None
        for split in ("train", "held_out"):
            with (shards / record[split]["file"]).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != record[split]["sha256"]:
                    return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record


def _check_place(out: Path, given: Path | None) -> None:
    """Raise TrainError if the folder is a model's, whose tokenizer would be replaced."""
    path = out / "tokenizer.model"
    is_ours = (out / SHARDS).exists()  # which are begun before it is written
    if path.exists() and not is_ours and (given is None or given.resolve() != path.resolve()):
        raise TrainError(
            f"{path} is not of prepared data and would be replaced.",
            hint="Name another folder with --out.",
        )


def _tokenizer(units: Sequence[Unit], path: Path, given: Path | None, vocab_size: int) -> Tokenizer:
    """The given model, copied beside the shards; or one trained on the documents not held out."""
    if given is not None:
        tokenizer = Tokenizer(given)
        if given.resolve() != path.resolve():
            shutil.copyfile(given, path)
    else:
        texts = (
            text
            for unit in units
            for text in _documents(unit, [])
            if not is_held_out(text, unit.held_out)
        )
        tokenizer = train_tokenizer(_at_most(texts, TOKENIZER_SAMPLE_BYTES), path, vocab_size)
    if tokenizer.vocab_size > MAX_VOCAB:
        raise TrainError(
            f"{given} has {tokenizer.vocab_size} pieces; a shard holds up to {MAX_VOCAB}."
        )
    return tokenizer


def _at_most(texts: Iterator[str], count: int) -> Iterator[str]:
    for text in texts:
        yield text
        count -= len(text)
        if count <= 0:
            return


def _units(source: Source, text_key: str, held_out: float) -> Iterator[Unit]:
    """Parts, packed in order until a unit has about PART_BYTES."""
    packed: list[Part] = []
    size = number = 0
    for file in source.files:
        for part, part_bytes in parts(*file):
            packed.append(part)
            size += part_bytes
            if size >= PART_BYTES:
                yield Unit(source.name, number, tuple(packed), text_key, held_out)
                packed, size, number = [], 0, number + 1
    if packed or not source.files:
        yield Unit(source.name, number, tuple(packed), text_key, held_out)


@cache
def _loaded(path: Path) -> Tokenizer:
    return Tokenizer(path)


def _write(path: Path, blob: bytes) -> None:
    """Whole or not at all, also if the machine stops."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)

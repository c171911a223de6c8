"""Documents out of files: text, Markdown, JSONL and Parquet; the first three also compressed."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from llama_train.errors import TrainError
from llama_train.wording import counted

PART_BYTES = 64 * 2**20
"""About so much of a file is read at once; a text file always whole."""

SUFFIXES = (".txt", ".md", ".jsonl", ".parquet")
COMPRESSIONS = (".gz", ".zst")
_KNOWN = f"{', '.join(SUFFIXES)} (all but the last also with {' or '.join(COMPRESSIONS)})"


class Part(NamedTuple):
    """Of one file: bytes of JSONL, a row group of Parquet, or the whole."""

    path: str
    start: int
    stop: int
    version: int
    """mtime in ns: a changed file is tokenised again."""
    in_folder: bool
    """Found in a folder, in which files that are not text are skipped."""


class NotText(TrainError):
    """A file that is not UTF-8."""


def find_files(places: Sequence[str]) -> tuple[list[tuple[Path, bool]], list[str]]:
    """Each file and whether it was found in a folder; and a line for what is skipped."""
    files, lines = list[tuple[Path, bool]](), list[str]()
    for place in places:
        path = Path(place)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.is_file())
            files += [(file, True) for file in found if _kind(file)]
            other = Counter(file.suffix or "no suffix" for file in found if not _kind(file))
            if len(found) == other.total():
                raise TrainError(f"{path} holds no file that ends in {_KNOWN}.")
            if other:
                kinds = ", ".join(f"{count} {suffix}" for suffix, count in other.most_common(5))
                lines.append(f"{path}: {counted(other.total(), 'file')} skipped ({kinds})")
        elif not path.is_file():
            raise TrainError(f"{path} does not exist.")
        elif not _kind(path):
            raise TrainError(f"{path} does not end in one of {_KNOWN}.")
        else:
            files.append((path, False))
    return files, lines


def parts(path: Path, in_folder: bool) -> Iterator[tuple[Part, int]]:
    """The parts of a file, each with about its number of bytes."""
    stat = path.stat()
    where, version, size = str(path.resolve()), stat.st_mtime_ns, stat.st_size
    if _kind(path) == ".parquet":
        groups = _parquet_file(path).num_row_groups
        for group in range(groups):
            yield Part(where, group, group + 1, version, in_folder), size // groups
    elif path.suffix.lower() == ".jsonl":
        for start in range(0, size, PART_BYTES):
            stop = min(start + PART_BYTES, size)
            yield Part(where, start, stop, version, in_folder), stop - start
    else:
        yield Part(where, 0, size, version, in_folder), size


def documents(part: Part, text_key: str) -> Iterator[str]:
    """The documents of a part, in order. Raises TrainError, with the place, for an invalid one."""
    path = Path(part.path)
    kind = _kind(path)
    if kind == ".parquet":
        yield from _parquet(part, text_key)
    elif kind == ".jsonl":
        yield from _jsonl(part, text_key)
    else:
        with _opened(path) as file:
            blob = file.read()
        try:
            yield blob.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NotText(f"{path} is not UTF-8 text: {error}.") from error


def unicode_fault(text: str) -> str | None:
    """Why a string cannot be encoded, as JSON's "\\ud83d" alone; None if it can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"has half of a surrogate pair, {text[error.start]!a}, at letter {error.start}"
    return None


def is_held_out(text: str, share: float) -> bool:
    """A document's side is a function of its text: a copy of it never lands on the other."""
    return zlib.crc32(text.encode()) < share * 2**32


def _kind(path: Path) -> str:
    """The suffix that says how the file is read; empty if it is not read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        del suffixes[-1]
        if suffixes[-1:] == [".parquet"]:
            return ""
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ""


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's content, decompressed."""
    compression = path.suffix.lower()
    try:
        if compression == ".gz":
            with gzip.open(path) as file:
                yield io.BufferedReader(file)
        elif compression == ".zst":
            with _pyarrow().input_stream(str(path), compression="zstd") as stream:
                yield io.BufferedReader(stream)
        else:
            with path.open("rb") as plain:
                yield plain
    except (EOFError, zlib.error, OSError) as error:
        raise TrainError(f"{path} cannot be read: {error}.") from error


def _jsonl(part: Part, text_key: str) -> Iterator[str]:
    """The lines that begin in [start, stop); of a compressed file all."""
    path = Path(part.path)
    whole = path.suffix.lower() in COMPRESSIONS
    with _opened(path) as file:
        at = part.start
        if at:
            file.seek(at - 1)
            at += len(file.readline()) - 1
        while (whole or at < part.stop) and (line := file.readline()):
            if line.strip():
                yield _text_of(line, text_key, f"{path}, the line at byte {at}")
            at += len(line)


def _text_of(line: bytes, text_key: str, place: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TrainError(f"{place}: invalid JSON ({error}).") from error
    return _checked(row.get(text_key) if isinstance(row, dict) else None, text_key, place)


def _checked(text: Any, text_key: str, place: str) -> str:
    if not isinstance(text, str):
        raise TrainError(
            f"{place}: no text under {text_key!r}.", hint="Name the key or column with --text-key."
        )
    if fault := unicode_fault(text):
        raise TrainError(f"{place}: the text {fault}.")
    return text


def _parquet(part: Part, text_key: str) -> Iterator[str]:
    table = _parquet_file(Path(part.path))
    if text_key not in table.schema_arrow.names:
        raise TrainError(f"{part.path} has no column {text_key!r}.", hint="Name it by --text-key.")
    column = table.read_row_group(part.start, columns=[text_key]).column(0)
    for row, text in enumerate(column.to_pylist()):
        yield _checked(text, text_key, f"{part.path}, row {row} of row group {part.start}")


def _parquet_file(path: Path) -> Any:
    parquet = _pyarrow("parquet")
    try:
        return parquet.ParquetFile(path)
    except _pyarrow().ArrowInvalid as error:
        raise TrainError(f"{path} is not a Parquet file.") from error


def _pyarrow(part: str = "") -> Any:
    import importlib

    try:
        return importlib.import_module(f"pyarrow.{part}".rstrip("."))
    except ImportError as error:
        raise TrainError(
            "Reading Parquet and .zst needs pyarrow.", hint="pip install 'carbontrack[parquet]'"
        ) from error

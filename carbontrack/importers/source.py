"""The file that is read: its text in blocks of whole lines, in memory that is bounded."""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from carbontrack.encoding import binary_of, encoding_of
from carbontrack.files import NotAFile, open_regular
from carbontrack.importers.model import Refused

_HEAD_BYTES = 64 << 10
_BLOCK_BYTES = 512 << 10
_MAX_LINE_BYTES = 1 << 20
_WHOLE_BYTES = 256 << 20  # of a document that can only be read as a whole


class Source:
    """A file that another tool wrote. Reading it once gives its SHA-256."""

    def __init__(self, path: Path, progress: Callable[[int], None] = lambda _: None) -> None:
        """`progress` is called with the bytes read so far. Raises Refused if it cannot be read."""
        self.path = path
        self.name = path.name
        self._progress = progress
        self._hash = hashlib.sha256()
        self._read = 0
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                head = file.read(_HEAD_BYTES)
        except NotAFile:
            raise Refused(f"{path} is not a file.", "Write it to a file first.") from None
        except OSError as error:
            raise Refused(f"{path}: {error.strerror or error}.") from None
        if binary := binary_of(head):
            raise Refused(f"{path} is {binary}, not text.", "Unpack it, or save it as CSV, first.")
        self._encoding = encoding_of(head)
        # The last line may be cut, and a character in it.
        self.head = self._decoder().decode(head[len(self._encoding.mark) :])

    @property
    def sha256(self) -> str:
        """Of all that was read so far."""
        return self._hash.hexdigest()

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines as UTF-8, with the row number of the first; half a MB at a time.

        Lines end in LF, CR LF or (progress bars) CR.
        """
        decoder = self._decoder()
        mark, is_utf8 = self._encoding.mark, self._encoding.name == "utf-8"
        row, rest = 1, b""
        with os.fdopen(open_regular(self.path), "rb") as file:
            while data := file.read(_BLOCK_BYTES):
                self._hash.update(data)
                self._read += len(data)
                data, mark = data.removeprefix(mark), b""
                text = data if is_utf8 else decoder.decode(data).encode()
                at = text.rfind(b"\n") + 1
                if at == 0 and len(rest) + len(text) <= _MAX_LINE_BYTES + _BLOCK_BYTES:
                    rest += text
                    continue
                block, rest = _lines(rest + text[:at]), text[at:]
                yield row, block
                row += block.count(b"\n")
                self._progress(self._read)
        if rest:
            yield row, _lines(rest)

    def _decoder(self) -> codecs.IncrementalDecoder:
        return codecs.getincrementaldecoder(self._encoding.name)("replace")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Each line with its number, without its end; empty ones are left out."""
        for first, block in self.blocks():
            text = block.decode("utf-8", "replace")
            for row, line in enumerate(text.split("\n"), start=first):
                if line and not line.isspace():
                    yield row, line

    def text(self) -> str:
        """All of it. Raises Refused for one that is too large to be read as a whole."""
        if self.size > _WHOLE_BYTES:
            limit = f"{_WHOLE_BYTES >> 20} MiB"
            raise Refused(f"{self.name} is larger than {limit}, and cannot be read in parts.")
        return b"".join(block for _, block in self.blocks()).decode("utf-8", "replace")


def _lines(block: bytes) -> bytes:
    return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block

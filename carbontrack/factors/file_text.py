"""The text of a file of factors that a user names, in any of a spreadsheet's usual encodings."""

from __future__ import annotations

import os
from pathlib import Path

from carbontrack.encoding import HEAD_BYTES, binary_of, encoding_of
from carbontrack.errors import CarbontrackError
from carbontrack.factors.strict_csv import refused
from carbontrack.files import read_regular

_STDIN = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_MAX_BYTES = 256 << 20  # a year of 5-minute values of 50 zones is a tenth of it


def read_text(file: Path) -> str:
    """The text of a regular file, or of /dev/stdin.

    Raises CarbontrackError for one that cannot be read, is too large, or is not text.
    """
    try:
        return decode(_bytes(file), file.name)
    except OSError as error:
        what = error.strerror or str(error)
        raise CarbontrackError(f"{file}: {what}.", hint="Nothing was imported.") from None


def decode(content: bytes, name: str) -> str:
    """The text by its byte-order mark, UTF-8 without one. `name` is the file's, for errors.

    Raises CarbontrackError for bytes that are not text in that encoding.
    """
    if binary := binary_of(content[:HEAD_BYTES]):
        raise refused(name, f"it is {binary}, not text.", "Save it as CSV or JSON.")
    encoding = encoding_of(content[:HEAD_BYTES])
    try:
        return encoding.decode(content)
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start + len(encoding.mark)) + 1
        what = f"row {row}: not valid {encoding.name.upper()} text."
        raise refused(name, what, "Save the file as UTF-8.") from None


def _bytes(file: Path) -> bytes:
    if os.fspath(file) not in _STDIN:
        return read_regular(file, _MAX_BYTES)
    with open(0, "rb", closefd=False) as stdin:
        data = stdin.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise OSError(f"larger than {_MAX_BYTES:,} bytes")
    return data

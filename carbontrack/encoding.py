"""The encoding of a text, by the first bytes of its file. Pure."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

HEAD_BYTES = 4
"""As many of the first bytes show it; fewer are enough where the file has no more."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The name of a codec, and the byte-order mark that the file begins with, perhaps none."""

    name: str
    mark: bytes = b""

    def decode(self, content: bytes) -> str:
        """A whole file's text, without its mark. Raises UnicodeDecodeError."""
        return content[len(self.mark) :].decode(self.name)


_BY_MARK = tuple(
    Encoding(name, mark)
    for mark, name in (  # longest first: UTF-32's little-endian mark begins with UTF-16's
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF8, "utf-8"),
    )
)


_BINARY = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet",
    b"%PDF": "PDF",
    b"PAR1": "Parquet",
    b"SQLi": "an SQLite database",
}


def binary_of(head: bytes) -> str:
    """What a file is that is no text, by its first bytes; empty for what may be one."""
    return next((name for magic, name in _BINARY.items() if head.startswith(magic)), "")


def encoding_of(head: bytes) -> Encoding:
    """By the mark; without one UTF-16 if every other byte is zero, as Windows' shells write it,
    else UTF-8.
    """
    for encoding in _BY_MARK:
        if head.startswith(encoding.mark):
            return encoding
    first_two_are_zero = [byte == 0 for byte in head[:2]]
    if first_two_are_zero == [False, True]:
        return Encoding("utf-16-le")
    if first_two_are_zero == [True, False]:
        return Encoding("utf-16-be")
    return Encoding("utf-8")

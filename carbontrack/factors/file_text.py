"""The text of a file of factors, whichever of the usual encodings a spreadsheet gave it. Pure."""

from __future__ import annotations

import codecs

from carbontrack.factors.strict_csv import refused

_BY_MARK = (  # longest first: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def encoding_of(head: bytes) -> str:
    """The encoding by the byte-order mark that a file begins with; UTF-8 without one."""
    return next((code for mark, code in _BY_MARK if head.startswith(mark)), "utf-8")


def decode(content: bytes, name: str) -> str:
    """The text by its byte-order mark, UTF-8 without one. `name` is the file's, for errors.

    Raises CarbontrackError for bytes that are not text in that encoding.
    """
    encoding = encoding_of(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        what = f"row {row}: not valid {encoding.removesuffix('-sig').upper()} text."
        raise refused(name, what, "Save the file as UTF-8.") from None

"""The ids of runs and recordings: UUIDs (RFC 9562). Light: uuid costs 5 ms to import."""

from __future__ import annotations

import os
from collections.abc import Sequence

from carbontrack.units import now_ms

_SHOWN = 13
_DIGITS = "0123456789abcdef"
_NAMESPACE = bytes.fromhex("8b4a3f4ed8c55dd29b7b5e2c1f0c6d71")


def uuid5(parts: Sequence[object]) -> str:
    """Version 5: the same for the same parts, which JSON can hold, wherever it is computed."""
    import json
    from hashlib import sha1

    name = json.dumps(parts).encode()
    digest = sha1(_NAMESPACE + name, usedforsecurity=False).digest()[:16]
    return _uuid(int.from_bytes(digest, "big"), version=5)


def uuid7() -> str:
    """Version 7: sorts by time, unique without a server."""
    return _uuid(now_ms() << 80 | int.from_bytes(os.urandom(10), "big"), version=7)


def is_uuid(id: str) -> bool:
    """Whether an id is a UUID, as each of ours is written: of a file or a sender of another, it can
    be anything.
    """
    groups = id.split("-")
    is_long = [len(group) for group in groups] == [8, 4, 4, 4, 12]
    return is_long and set().union(*groups) <= set(_DIGITS)


def short_id(id: str) -> str:
    """As lists show it, and commands take it: of a version 7, the time to the millisecond."""
    return id[:_SHOWN]


def _uuid(value: int, *, version: int) -> str:
    value = value & ~(0xF << 76) | version << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

"""Answers that are worked out once, however many pages ask for them at the same time."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool

_KEPT = 512
_LEAST_PACKED = 1000  # bytes; less is not worth it
_LEVEL = 1  # 9, the default, takes 30 ms for a chart and saves little


@dataclass(frozen=True, slots=True)
class Body:
    """An answer as it is sent: plain, and packed with gzip where that saves something."""

    plain: bytes
    packed: bytes | None
    media_type: str

    @classmethod
    def of(cls, plain: bytes, media_type: str) -> Body:
        packed = gzip.compress(plain, _LEVEL) if len(plain) >= _LEAST_PACKED else None
        return cls(plain, packed, media_type)


@dataclass(slots=True)
class _Kept:
    value: Any = None
    version: Any = None
    until_s: float = 0.0
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


class Cache:
    """For one event loop: it alone touches what is kept, and only the work runs in a thread.

    Who asks for what is being worked out waits without holding a thread, so that one slow answer
    delays nobody who asks for another.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    async def get(
        self, key: Hashable, work: Callable[[], Any], *, lasts_s: float, version: Any = None
    ) -> Any:
        """What `work` gave for this key and version within the last `lasts_s` seconds."""
        kept = self._kept.setdefault(key, _Kept())
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        async with kept.busy:
            if kept.until_s <= time.monotonic() or kept.version != version:
                kept.value = await run_in_threadpool(work)
                kept.version, kept.until_s = version, time.monotonic() + lasts_s
            return kept.value

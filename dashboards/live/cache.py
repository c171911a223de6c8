"""The caches of answers and of what is known of runs, within a budget of memory."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from cachetools import TLRUCache, TTLCache
from starlette.concurrency import run_in_threadpool

from carbontrack.ledger.recorded_rows import Run

BUDGET_BYTES = 64 << 20
"""Of all caches together."""
ANSWERS_BYTES = BUDGET_BYTES // 2
_SMALL_BYTES = 4096  # of a value whose size is not known: a run, a line of the list
_LEAST_PACKED = 1000  # bytes; less is not worth it
_LEVEL = 1  # 9, the default, takes 30 ms for a chart and saves little
T = TypeVar("T")


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

    @property
    def size_bytes(self) -> int:
        return len(self.plain) + len(self.packed or b"")


@dataclass(frozen=True, slots=True)
class _Answer:
    value: Any
    version: Any
    until_s: float


class AnswerCache:
    """Answers that are worked out once, however many pages ask for them at the same time.

    For one event loop: it alone touches the cache, and only the work runs in a thread. Who asks for
    what is being worked out waits without holding a thread, so that one slow answer delays no
    other.
    """

    def __init__(self, max_bytes: int = ANSWERS_BYTES) -> None:
        self._answers: TLRUCache[Hashable, _Answer] = _cache(max_bytes, _answer_bytes)
        self._busy: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @property
    def size_bytes(self) -> int:
        """What the cache holds now."""
        return int(self._answers.currsize)

    async def get(
        self, key: Hashable, work: Callable[[], Any], *, lasts_s: float, version: Any = None
    ) -> Any:
        """What `work` gave for this key and version within the last `lasts_s` seconds."""
        busy = self._busy.setdefault(key, asyncio.Lock())
        async with busy:
            known = self._answers.get(key)
            if known is not None and known.version == version:
                return known.value
            value = await run_in_threadpool(work)
            _put(self._answers, key, _Answer(value, version, time.monotonic() + lasts_s))
            return value


@dataclass(frozen=True, slots=True)
class _OfRun(Generic[T]):
    run: Run
    until_s: float
    value: T


class RunCache(Generic[T]):
    """One value a run. For any thread: two may do the same work.

    A value lasts `lasts_s`; if `until_changed`, only as long as the run is as it was. `size_of`
    gives the bytes of a value.
    """

    def __init__(
        self,
        lasts_s: float,
        *,
        max_bytes: int,
        size_of: Callable[[T], int] = lambda _: _SMALL_BYTES,
        until_changed: bool = True,
    ) -> None:
        self._lasts_s = lasts_s
        self._until_changed = until_changed
        self._lock = threading.Lock()
        self._values: TLRUCache[str, _OfRun[T]] = _cache(
            max_bytes, lambda known: size_of(known.value)
        )

    @property
    def size_bytes(self) -> int:
        """What the cache holds now."""
        return int(self._values.currsize)

    def get_all(self, runs: Sequence[Run], work: Callable[[Sequence[Run]], Iterable[T]]) -> list[T]:
        """The value of each; `work` makes those that are missing together, in order."""
        known = {run.id: self._known(run) for run in runs}
        missing = [run for run in runs if known[run.id] is None]
        made = dict(zip((run.id for run in missing), work(missing), strict=True))
        for run in missing:
            self._put(run, made[run.id])
        found = {key: of.value for key, of in known.items() if of is not None} | made
        return [found[run.id] for run in runs]

    def _known(self, run: Run) -> _OfRun[T] | None:
        with self._lock:
            known = self._values.get(run.id)
        return known if known and (known.run == run or not self._until_changed) else None

    def get(self, run: Run, work: Callable[[T | None], T]) -> T:
        """The value, or what `work` makes of the one before; None if there is none that it may
        build on.
        """
        with self._lock:
            known = self._values.get(run.id)
        if known is not None and (known.run == run or not self._until_changed):
            return known.value
        until_s = None if known is None else known.until_s
        return self._put(run, work(None if known is None else known.value), until_s)

    def _put(self, run: Run, value: T, until_s: float | None = None) -> T:
        lasts = time.monotonic() + self._lasts_s if until_s is None else until_s
        with self._lock:
            _put(self._values, run.id, _OfRun(run, lasts, value))
        return value


class Lasting(Generic[T]):
    """The newest values, each for a while. For any thread: two may do the same work."""

    def __init__(self, lasts_s: float, most: int) -> None:
        self._lock = threading.Lock()
        self._values: TTLCache[Hashable, T] = TTLCache(most, lasts_s, time.monotonic)

    def get(self, key: Hashable, work: Callable[[], T]) -> T:
        with self._lock:
            value = self._values.get(key)
        if value is not None:
            return value
        value = work()
        with self._lock:
            self._values[key] = value
        return value


def _answer_bytes(answer: _Answer) -> int:
    return answer.value.size_bytes if isinstance(answer.value, Body) else _SMALL_BYTES


def _cache(max_bytes: int, size_of: Callable[[Any], int]) -> TLRUCache[Any, Any]:
    """Least recently used first out, and whatever is older than its `until_s`."""
    return TLRUCache(
        max_bytes,
        ttu=lambda _key, value, _now: value.until_s,
        timer=time.monotonic,
        getsizeof=size_of,
    )


def _put(cache: TLRUCache[Any, Any], key: Hashable, value: Any) -> None:
    cache.pop(key, None)  # an older one must not stay where the new one is too large
    if cache.getsizeof(value) <= cache.maxsize:
        cache[key] = value

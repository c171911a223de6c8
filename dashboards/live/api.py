"""The answers of the API, each worked out once for all the pages that ask for it."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool

from carbontrack.ledger.recorded_rows import Run
from dashboards.live.cache import AnswerCache, Body
from dashboards.live.view import WIDTHS, View

TICK_S = 0.25
_FRESH_S = TICK_S * 0.8  # a page that ticks finds its own last answer too old
_LIST_S = 0.9
_SUMS_S = 9.0
_FLEET_S = 1.9
_LASTS_S = 60.0  # what hangs on an unchanged run changes only by new factors


class Answers:
    """A run is looked at once a tick, and asked for more only if it has changed since."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._cache = AnswerCache()

    async def runs(self, **asked: Any) -> Body:
        """The list; `asked` as `View.runs` has it."""
        key = ("runs", *sorted(asked.items(), key=lambda item: item[0]))
        body: Body = await self._cache.get(
            key, lambda: _body(self._view.runs(**asked)), lasts_s=_LIST_S
        )
        return body

    async def totals(self, **asked: Any) -> Body:
        """Sums over runs; `asked` as `View.totals` has it."""
        key = ("totals", *sorted(asked.items(), key=lambda item: item[0]))
        body: Body = await self._cache.get(
            key, lambda: _body(self._view.totals(**asked)), lasts_s=_SUMS_S
        )
        return body

    async def fleet(self) -> Body:
        """All devices now."""
        body: Body = await self._cache.get(
            ("fleet",), lambda: _body(self._view.fleet()), lasts_s=_FLEET_S
        )
        return body

    async def run(self, reference: str) -> Body:
        run = await self._now(reference)
        return await self._of(run, ("run",), lambda: _body(self._view.run(run)))

    async def explain(self, reference: str, *, method: str) -> Body:
        run = await self._now(reference)
        return await self._of(
            run, ("explain", method), lambda: _body(self._view.explain(run, method=method))
        )

    async def table(self, reference: str, *, method: str, format: str) -> Body:
        run = await self._now(reference)
        text = await run_in_threadpool(self._view.table, run, method=method, format=format)
        return Body.of(text.encode(), "text/plain; charset=utf-8")

    async def series(
        self,
        reference: str,
        *,
        from_ms: int | None,
        to_ms: int | None,
        last_s: int | None,
        px: int,
    ) -> Body:
        """Of [from, to], or of the newest `last_s` seconds; as wide as the next of WIDTHS."""
        run = await self._now(reference)
        points = width_for(px)
        if last_s is not None:
            to_ms = run.end_ms
            from_ms = to_ms - last_s * 1000
        view = self._view
        return await self._of(
            run,
            ("series", from_ms, to_ms, points),
            lambda: _body(view.series(run, from_ms=from_ms, to_ms=to_ms, points=points)),
        )

    async def progress(self, reference: str, *, px: int) -> Body:
        run = await self._now(reference)
        points = width_for(px)
        return await self._of(
            run, ("progress", points), lambda: _body(self._view.progress(run, points=points))
        )

    async def _now(self, reference: str) -> Run:
        run: Run = await self._cache.get(
            ("find", reference), lambda: self._view.find(reference), lasts_s=_FRESH_S
        )
        return run

    async def _of(self, run: Run, key: tuple[Any, ...], work: Any) -> Body:
        body: Body = await self._cache.get((run.id, *key), work, lasts_s=_LASTS_S, version=run)
        return body


def width_for(px: int) -> int:
    """The next wider of WIDTHS, the widest at most."""
    return next((width for width in WIDTHS if width >= px), WIDTHS[-1])


def _body(value: Any) -> Body:
    """As JSON; NaN and infinities are null."""
    return Body.of(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), "application/json")

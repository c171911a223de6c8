"""The web application: static files, a JSON API that only reads, and server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.engine import NoLedger
from dashboards.live.guard import LOOPBACK, Guard
from dashboards.live.view import TICK_S, Unavailable, View

_STATIC = Path(__file__).parent / "static"
_KEEP_ALIVE_TICKS = 15
_MAX_RUNS = 500
_COMPRESSION = 4  # 9, the default, takes 30 ms for a chart and saves little


def create_app(
    view: View, *, hosts: Collection[str] = LOOPBACK, token: str | None = None
) -> Starlette:
    """The application. Without `hosts` every Host is served: then give a token."""
    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/api/runs", _runs),
            Route("/api/runs/{id}", _run),
            Route("/api/runs/{id}/series", _series),
            Route("/api/runs/{id}/table", _table),
            Route("/api/runs/{id}/events", _events),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[
            Middleware(Guard, hosts=hosts, token=token),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=_COMPRESSION),
        ],
        exception_handlers={CarbontrackError: _explained},
    )
    app.state.view = view
    app.state.stopping = False
    return app


async def _page(request: Request) -> Response:
    return FileResponse(_STATIC / "index.html")


async def _runs(request: Request) -> Response:
    view: View = request.app.state.view
    limit = max(1, min(_number(request, "limit") or 200, _MAX_RUNS))
    asked = {name: request.query_params.get(name, "") for name in ("search", "status")}
    try:
        found = await run_in_threadpool(view.runs, **asked, limit=limit)
    except NoLedger as error:
        found = {"runs": [], "matching": 0, "message": str(error)}
    return JSONResponse(found)


async def _run(request: Request) -> Response:
    view: View = request.app.state.view
    return JSONResponse(await run_in_threadpool(view.run, request.path_params["id"]))


async def _series(request: Request) -> Response:
    view: View = request.app.state.view
    columns = await run_in_threadpool(
        view.series,
        request.path_params["id"],
        from_ms=_number(request, "from"),
        to_ms=_number(request, "to"),
        points=_number(request, "px") or 1000,
    )
    return JSONResponse(columns)


async def _table(request: Request) -> Response:
    view: View = request.app.state.view
    asked = request.query_params
    text = await run_in_threadpool(
        view.table,
        request.path_params["id"],
        method=asked.get("method", "measured"),
        format=asked.get("format", "markdown"),
    )
    return PlainTextResponse(text)


async def _events(request: Request) -> Response:
    view: View = request.app.state.view
    run_id = request.path_params["id"]
    await run_in_threadpool(view.run, run_id)  # an unknown run is an error, not a silent stream
    return StreamingResponse(_ticks(request.app, run_id), media_type="text/event-stream")


async def _ticks(app: Starlette, run_id: str) -> AsyncIterator[str]:
    """The run whenever it has changed. The newest state is all that a page needs, so one that
    comes back after a lost connection has caught up with the first message.
    """
    view: View = app.state.view
    sent, silent_ticks = "", 0
    while not app.state.stopping:
        try:
            kind, body = "run", await run_in_threadpool(view.run, run_id)
        except CarbontrackError as error:
            kind, body = "trouble", {"error": str(error)}
        text = f"event: {kind}\ndata: {json.dumps(body, allow_nan=False)}\n\n"
        if text != sent:
            sent, silent_ticks = text, 0
            yield text
        elif silent_ticks >= _KEEP_ALIVE_TICKS:
            silent_ticks = 0
            yield ": still here\n\n"
        silent_ticks += 1
        await asyncio.sleep(TICK_S)


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise CarbontrackError(f"{name}={text}: not a whole number.") from None


async def _explained(request: Request, error: Exception) -> Response:
    body = {"error": str(error)}
    if isinstance(error, Unavailable):
        return JSONResponse(body, 503)
    missing = isinstance(error, NoLedger) or "no run" in str(error)
    return JSONResponse(body, 404 if missing else 400)

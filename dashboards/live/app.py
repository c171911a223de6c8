"""The web application: static files, a JSON API that only reads, and server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger.engine import NoLedger
from carbontrack.units import now_ms
from carbontrack.vocabulary import Method, TableFormat
from dashboards.live.api import TICK_S, Answers
from dashboards.live.cache import Body
from dashboards.live.fleet import fleet_of
from dashboards.live.guard import LOOPBACK, Guard
from dashboards.live.reader import Unavailable
from dashboards.live.view import View

_STATIC = Path(__file__).parent / "static"
_CLOCK_S = 5.0  # the server's time, which also keeps a silent stream alive
_MAX_RUNS = 500
_LARGEST = 10**15  # as ms, the year 33,658


def create_app(
    view: View, *, hosts: Collection[str] = LOOPBACK, token: str | None = None
) -> Starlette:
    """The application. Without `hosts` every Host is served: then give a token."""
    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/api/runs", _runs),
            Route("/api/totals", _totals),
            Route("/api/fleet", _fleet),
            Route("/api/runs/{id}", _run),
            Route("/api/runs/{id}/series", _series),
            Route("/api/runs/{id}/progress", _progress),
            Route("/api/runs/{id}/explain", _explain),
            Route("/api/runs/{id}/table", _table),
            Route("/api/runs/{id}/events", _events),
            Mount("/static", GZipMiddleware(StaticFiles(directory=_STATIC), minimum_size=1000)),
        ],
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers={CarbontrackError: _explained},
    )
    app.state.answers = Answers(view)
    app.state.stopping = False
    return app


async def _page(request: Request) -> Response:
    return FileResponse(_STATIC / "index.html")


async def _runs(request: Request) -> Response:
    asked = request.query_params
    limit = _number(request, "limit")
    try:
        body = await _answers(request).runs(
            **_filters(request),
            sort=asked.get("sort", "started").removeprefix("-"),
            down=asked.get("sort", "-started").startswith("-"),
            limit=max(1, min(200 if limit is None else limit, _MAX_RUNS)),
        )
    except NoLedger as error:
        nothing = {"runs": [], "matching": 0, "sorted": "all", "projects": [], "users": []}
        return JSONResponse({**nothing, "message": error.what})
    return _sent(request, body)


async def _totals(request: Request) -> Response:
    by = request.query_params.get("by", "")
    try:
        return _sent(request, await _answers(request).totals(by=by, **_filters(request)))
    except NoLedger:
        return JSONResponse({"groups": [], "total": None, "summed": 0, "matching": 0, "tags": []})


async def _fleet(request: Request) -> Response:
    try:
        return _sent(request, await _answers(request).fleet())
    except NoLedger as error:
        return JSONResponse({**fleet_of([], {}, (), now_ms=now_ms()), "message": error.what})


def _filters(request: Request) -> dict[str, Any]:
    """Which runs are asked for, as `View.runs` and `View.totals` take it."""
    words = ("search", "status", "project", "user")
    named = {name: request.query_params.get(name, "") for name in words}
    return {**named, "since_ms": _number(request, "since"), "until_ms": _number(request, "until")}


async def _run(request: Request) -> Response:
    return _sent(request, await _answers(request).run(request.path_params["id"]))


async def _series(request: Request) -> Response:
    body = await _answers(request).series(
        request.path_params["id"],
        from_ms=_number(request, "from"),
        to_ms=_number(request, "to"),
        last_s=_number(request, "last"),
        px=_number(request, "px") or 1000,
    )
    return _sent(request, body)


async def _progress(request: Request) -> Response:
    px = _number(request, "px") or 1000
    return _sent(request, await _answers(request).progress(request.path_params["id"], px=px))


async def _explain(request: Request) -> Response:
    method = request.query_params.get("method", Method.MEASURED)
    return _sent(request, await _answers(request).explain(request.path_params["id"], method=method))


async def _table(request: Request) -> Response:
    asked = request.query_params
    body = await _answers(request).table(
        request.path_params["id"],
        method=asked.get("method", Method.MEASURED),
        format=asked.get("format", TableFormat.MARKDOWN),
    )
    return _sent(request, body)


async def _events(request: Request) -> Response:
    run_id = request.path_params["id"]
    await _answers(request).run(run_id)  # an unknown run is an error, not a silent stream
    return StreamingResponse(_ticks(request, run_id), media_type="text/event-stream")


async def _ticks(request: Request, run_id: str) -> AsyncIterator[bytes]:
    """The run whenever it has changed. The newest state is all that a page needs, so one that
    comes back after a lost connection has caught up with the first message.
    """
    answers = _answers(request)
    sent, silent_s = b"", _CLOCK_S
    while not request.app.state.stopping:
        try:
            text = b"event: run\ndata: %b\n\n" % (await answers.run(run_id)).plain
        except CarbontrackError as error:
            text = f"event: trouble\ndata: {json.dumps({'error': str(error)})}\n\n".encode()
        if text != sent:
            sent = text
            yield text
        if silent_s >= _CLOCK_S:
            silent_s = 0.0
            yield b"event: clock\ndata: %d\n\n" % now_ms()
        silent_s += TICK_S
        await asyncio.sleep(TICK_S)


def _answers(request: Request) -> Answers:
    answers: Answers = request.app.state.answers
    return answers


def _sent(request: Request, body: Body) -> Response:
    headers = {"Vary": "Accept-Encoding"}
    if body.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(body.packed, media_type=body.media_type, headers=headers)
    return Response(body.plain, media_type=body.media_type, headers=headers)


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        raise CarbontrackError(f"{name}={text}: not a whole number.") from None
    if abs(number) > _LARGEST:
        raise CarbontrackError(f"{name}={text}: too large.")
    return number


async def _explained(request: Request, error: Exception) -> Response:
    body = {"error": str(error)}
    if isinstance(error, Unavailable):
        return JSONResponse(body, 503)
    return JSONResponse(body, 404 if isinstance(error, NotFoundError) else 400)

"""The web application: static files, a JSON API that only reads, and server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.engine import NoLedger
from dashboards.live.guard import LOOPBACK, Guard
from dashboards.live.view import TICK_S, View

_STATIC = Path(__file__).parent / "static"
_KEEP_ALIVE_TICKS = 15
_MAX_RUNS = 500


def create_app(
    view: View, *, hosts: Collection[str] = LOOPBACK, token: str | None = None
) -> Starlette:
    """The application. Without `hosts` every Host is served: then give a token."""
    return Starlette(
        routes=[
            Route("/", _page),
            Route("/api/runs", _runs),
            Route("/api/runs/{id}", _run),
            Route("/api/runs/{id}/series", _series),
            Route("/api/runs/{id}/events", _events),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[
            Middleware(Guard, hosts=hosts, token=token),
            Middleware(GZipMiddleware, minimum_size=1000),
        ],
        exception_handlers={CarbontrackError: _said},
        lifespan=None,
    ).__class__ and _with_view(
        Starlette(
            routes=[],
        ),
        view,
    )

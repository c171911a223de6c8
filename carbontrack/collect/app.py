"""The collector's HTTP interface: batches in, and how it is doing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from carbontrack.collect import wire
from carbontrack.collect.access import Access
from carbontrack.collect.intake import Away, Intake, NoRoom, Unfit
from carbontrack.collect.metrics import Metrics
from carbontrack.collect.sweeper import Sweeper
from carbontrack.ledger.batch import (
    LATE_HEADER,
    PATH,
    TIME_HEADER,
    TOMBSTONES_PATH,
    VERSION,
    Batch,
)
from carbontrack.ledger.kept import Keep, without_late
from carbontrack.ledger.rows import Tombstone
from carbontrack.ledger.shipped import OtherProject, Reply, Sent
from carbontrack.redact import redact_text
from carbontrack.report.escape import visible
from carbontrack.units import MS_PER_DAY, now_ms

_Sent = TypeVar("_Sent", Batch, Tombstone)
_RETRY_S = {429: 10, 503: 5}
_QUIET = (*_RETRY_S, 410)  # nobody has to do anything
_LONGEST_S = 30  # that a body may take to arrive, or to be written
_SILENT_S = 15  # of a transaction, after which the database does not seem to answer
_SMALL_BYTES = 16 << 10  # of a body that is decoded in less time than another thread would take


class Answer(Exception):
    """A refusal: its status, and one line that says why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Collector:
    """Takes batches for a ledger. `oldest_days` is how far back the time of a row may lie; windows
    that the ledger does not `keep` any more are counted, and the rest of their batch is taken.
    """

    def __init__(
        self,
        intake: Intake,
        access: Access,
        sweeper: Sweeper,
        *,
        oldest_days: float,
        keep: Keep,
        metrics: Metrics,
        log: Callable[[str], None],
    ) -> None:
        self._intake = intake
        self._access = access
        self._sweeper = sweeper
        self._oldest_ms = round(oldest_days * MS_PER_DAY)
        self._keep = keep
        self._log = log
        self._metrics = metrics
        self._away = ""  # why the database could not be written last
        # For what takes long: beside the loop, which has to answer the others, and one at a time.
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")

    def app(self) -> Starlette:
        """As ASGI."""
        return Starlette(
            routes=[
                Route(PATH, self.batch, methods=["POST"]),
                Route(TOMBSTONES_PATH, self.tombstone, methods=["POST"]),
                Route("/healthz", self.health),
                Route("/metrics", self.metrics),
            ]
        )

    async def batch(self, request: Request) -> Response:
        """204 once it is committed; 200 with what the ledger holds where the node asks for it; 410
        if its run was removed.
        """
        return await self._answer(request, self._take_batch)

    async def tombstone(self, request: Request) -> Response:
        """204 once it is committed: the run is removed for every reader, and its rows go next."""
        return await self._answer(request, self._take_tombstone)

    async def _answer(
        self, request: Request, take: Callable[[str, bytes], Awaitable[Response]]
    ) -> Response:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(_LONGEST_S):
                project = await self._project(request)
                answer = await take(project, await _body(request))
        except TimeoutError:
            if self._is_silent:
                self._say_away("it does not answer")
            answer = _refusal(Answer(503, "the batch was not written in time"))
        except ClientDisconnect:
            answer = _refusal(Answer(400, "the node hung up"))
        except Answer as refused:
            answer = _refusal(refused)
            if refused.status not in _QUIET:
                self._log(f"a batch was refused ({refused.status}): {visible(str(refused))}")
        self._metrics.answered(answer.status_code, time.monotonic() - began_s)
        answer.headers[TIME_HEADER] = str(now_ms())
        return answer

    async def _take_batch(self, project: str, body: bytes) -> Response:
        now = now_ms()
        decode = partial(wire.decode, now_ms=now, oldest_ms=now - self._oldest_ms)
        batch = await self._decoded(body, decode)
        batch, late = without_late(batch, self._keep, now)
        reply = await self._written(batch, batch.run.project, project)
        if reply.is_removed:
            raise Answer(410, "the run was removed")
        self._away = ""
        self._metrics.written(batch.rows, late, len(body))
        answer = Response(status_code=204)
        if reply.held is not None:
            answer = JSONResponse(asdict(reply.held))
        if late:
            answer.headers[LATE_HEADER] = str(late)
        return answer

    async def _take_tombstone(self, project: str, body: bytes) -> Response:
        tombstone = await self._decoded(body, partial(wire.decode_tombstone, now_ms=now_ms()))
        await self._written(tombstone, tombstone.project, project)
        self._sweeper.wake()
        return Response(status_code=204)

    async def _decoded(self, body: bytes, decode: Callable[[bytes], _Sent]) -> _Sent:
        try:
            if len(body) <= _SMALL_BYTES:
                return decode(body)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._decoder, decode, body)
        except wire.OtherVersion as error:
            raise Answer(409, f"{error}: use the same version of carbontrack") from None
        except wire.Refused as error:
            raise Answer(422, str(error)) from None

    async def _written(self, sent: Sent, of: str | None, project: str) -> Reply:
        if of not in (None, project):
            raise Answer(403, "the token is of another project than the run")
        try:
            return await asyncio.wrap_future(self._intake.put(sent, project))
        except NoRoom:
            raise Answer(429, "too many batches wait") from None
        except Away as error:
            self._say_away(str(error))
            raise Answer(503, "the database cannot be written now") from error
        except OtherProject:
            raise Answer(403, "the run belongs to another project") from None
        except Unfit as error:
            raise Answer(422, str(error)) from None

    @property
    def _is_silent(self) -> bool:
        return self._intake.writing_s > _SILENT_S

    def _say_away(self, why: str) -> None:
        """Once, until it is another reason, or a batch has been written."""
        reason = redact_text((why.splitlines() or [""])[0])
        if reason != self._away:
            self._away = reason
            self._log(f"the database cannot be used now: {visible(reason)}")

    async def _project(self, request: Request) -> str:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise Answer(401, "no token: Authorization: Bearer TOKEN")
        if (project := self._access.remembered(secret.strip())) is not None:
            return project
        try:
            project = await run_in_threadpool(self._access.project_of, secret.strip())
        except Exception as error:
            self._say_away(str(error))
            raise Answer(503, "the tokens cannot be read now") from error
        if project is None:
            raise Answer(401, "the token is unknown or revoked")
        return project

    async def health(self, _: Request) -> Response:
        """200 while the database answers, the intake as well as here."""
        with suppress(Exception):
            if not self._is_silent:
                await run_in_threadpool(self._access.look)
                return PlainTextResponse("ok\n")
        return PlainTextResponse("the database does not answer\n", 503)

    async def metrics(self, _: Request) -> Response:
        """For Prometheus."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > wire.MAX_BODY_BYTES:
            raise Answer(413, f"the body is larger than {wire.MAX_BODY_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _refusal(refused: Answer) -> Response:
    headers = {"Retry-After": str(_RETRY_S[refused.status])} if refused.status in _RETRY_S else {}
    answer = {"error": str(refused), "version": VERSION}
    return JSONResponse(answer, refused.status, headers)

"""Who may ask: no other web site through the reader's browser, and from afar only with the token.

A page of another site can send requests to loopback. It cannot read the answers, unless its name is
made to point at 127.0.0.1 (DNS rebinding): then Host gives it away. But it could make us work: what
a browser says was sent by another site is refused, but for opening the page itself.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OTHER_SITES = ("cross-site", "same-site")  # another port of this host is the same site
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware: checks Host, Origin and token, and adds the security headers."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], token: str | None = None) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._token = token
        # What is behind a token must not stay on the disk of the reader's machine.
        self._headers = {**_HEADERS, "Cache-Control": "no-store" if token else "no-cache"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts and _name(f"//{host}") not in self._hosts:
            return PlainTextResponse("This name is not served here.\n", 421)
        if _from_elsewhere(headers, host) and not _opens_the_page(scope, headers):
            return PlainTextResponse("Requests of other sites are not answered.\n", 403)
        return self._without_token(scope, headers) if self._token else None

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """A token in the address becomes a cookie, and vanishes from the address."""
        name = _cookie_name(headers.get("host", ""))
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        if self._is_token(dict(query).get("token", "")):
            rest = urlencode([(key, value) for key, value in query if key != "token"])
            path = "/" + scope["path"].lstrip("/")  # not //HOST
            answer = RedirectResponse(f"{path}{'?' if rest else ''}{rest}", 303)
            # Another site sends it along with a link to the page that a reader follows, and with
            # nothing else: no image, frame, script or form of it has the cookie.
            answer.set_cookie(name, self._token or "", httponly=True, samesite="lax")
            return answer
        cookie = cookie_parser(headers.get("cookie", "")).get(name, "")
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if self._is_token(cookie) or self._is_token(bearer):
            return None
        return PlainTextResponse("Open the address with its token, as it was printed.\n", 401)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode()) and bool(given)


def _from_elsewhere(headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return True
    return headers.get("sec-fetch-site") in _OTHER_SITES


def _opens_the_page(scope: Scope, headers: Headers) -> bool:
    """A link of another site to the page, which a reader followed."""
    navigates = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return (
        navigates == ("navigate", "document")
        and "origin" not in headers
        and (scope["method"], scope["path"]) == ("GET", "/")
    )


def _cookie_name(host: str) -> str:
    """Cookies know no ports: each server of a host has its own name."""
    port = re.search(r":(\d+)$", host)
    return f"carbontrack_token_{port[1] if port else 80}"


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None

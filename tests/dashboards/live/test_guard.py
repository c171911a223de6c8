"""Who may ask: what browsers, other sites and other servers of the same host may send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from dashboards.live.guard import LOOPBACK, Guard

TOKEN = "t" * 32
HERE = "127.0.0.1:8720"
NAVIGATION = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def ask(
    path: str = "/api/runs", *, token: str | None = None, query: str = "", **headers: str
) -> tuple[int, dict[str, str]]:
    """The status and the headers of an answer; behind the guard all is answered with 200."""
    sent = {"host": HERE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
    }
    found: list[Any] = []

    async def send(message: Any) -> None:
        found.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    guard = Guard(PlainTextResponse("answer"), hosts=LOOPBACK, token=token)
    asyncio.run(guard(scope, receive, send))
    answered = {name.decode(): value.decode() for name, value in found[0]["headers"]}
    return found[0]["status"], answered


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_can_open_the_page_and_nothing_else(site: str) -> None:
    def sent(path: str, **headers: str) -> int:
        return ask(path, sec_fetch_site=site, **headers)[0]

    assert sent("/", **NAVIGATION) == 200, "a link that a reader followed"
    assert sent("/api/runs", **NAVIGATION) == 403
    assert sent("/", sec_fetch_mode="navigate", sec_fetch_dest="iframe") == 403
    for mode in ("no-cors", "cors", "websocket"):
        assert sent("/api/runs", sec_fetch_mode=mode) == 403
        assert sent("/", sec_fetch_mode=mode) == 403
    assert sent("/", **NAVIGATION, origin="http://evil.example") == 403


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_the_page_itself_and_the_address_bar_are_answered(site: str) -> None:
    assert ask(sec_fetch_site=site, sec_fetch_mode="cors")[0] == 200
    assert ask(sec_fetch_site=site, **NAVIGATION)[0] == 200
    assert ask()[0] == 200, "curl says nothing"


@pytest.mark.parametrize("origin", ["http://[", "null", "", "http://", "http://evil.example", "x"])
def test_an_origin_that_is_not_ours_is_refused_whatever_it_is(origin: str) -> None:
    assert ask(origin=origin)[0] == 403
    assert ask(origin=f"http://{HERE}")[0] == 200


OURS = f"carbontrack_token_8720={TOKEN}"


@pytest.mark.parametrize(
    "foreign", ['a={"x":1}', "flag", "@x=1", "=", ";;", "carbontrack_token_8721=other", 'q="\\"']
)
def test_cookies_of_others_on_the_same_host_do_not_matter(foreign: str) -> None:
    for cookie in (f"{foreign}; {OURS}", f"{OURS}; {foreign}", OURS):
        assert ask(token=TOKEN, cookie=cookie)[0] == 200, cookie
    assert ask(token=TOKEN, cookie=foreign)[0] == 401


def test_each_server_of_a_host_has_a_cookie_of_its_own() -> None:
    names = set()
    for host in (HERE, "127.0.0.1:8721", "[::1]:8720", "127.0.0.1", "[::1]"):
        status, headers = ask("/", token=TOKEN, query=f"token={TOKEN}", host=host)
        assert status == 303
        names.add(headers["set-cookie"].partition("=")[0])
    assert names == {f"carbontrack_token_{port}" for port in (8720, 8721, 80)}


@pytest.mark.parametrize("path", ["//evil.example/x", "///evil.example", "/\\evil.example"])
def test_a_token_sends_nobody_to_another_site(path: str) -> None:
    status, headers = ask(path, token=TOKEN, query=f"token={TOKEN}&a=1")
    assert status == 303
    assert headers["location"].startswith("/")
    assert not headers["location"].startswith(("//", "/\\"))
    assert headers["location"].endswith("?a=1")


def test_what_is_behind_a_token_is_not_stored() -> None:
    assert ask(token=TOKEN, cookie=OURS)[1]["cache-control"] == "no-store"
    assert ask()[1]["cache-control"] == "no-cache"

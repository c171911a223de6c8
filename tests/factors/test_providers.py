"""Fetching intensity from a live provider: a real server that answers in the provider's layout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from carbontrack.factors import providers
from carbontrack.factors.providers import PROVIDERS
from tests.fixtures.command import Command

DAY = ("--from", "2026-01-01T00:00Z", "--to", "2026-01-01T02:00Z")


@dataclass
class Server:
    """What it will answer, and what it was asked."""

    answer: Any = None
    status: int = 200
    asked: list[tuple[str, dict[str, list[str]], str | None]] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Both providers at an address of this machine."""
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            told.asked.append((url.path, parse_qs(url.query), self.headers.get("auth-token")))
            body = told.answer if isinstance(told.answer, str) else json.dumps(told.answer)
            self.send_response(told.status)
            self.end_headers()
            with suppress(ConnectionError):  # who asks may have had enough
                self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, provider in PROVIDERS.items():
        here = replace(provider, url=f"http://127.0.0.1:{http.server_port}")
        monkeypatch.setitem(PROVIDERS, name, here)
    yield told
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (" " * (17 * 2**20), "larger than 16 MiB"),
        ("[" * 100_000, "nested too deeply"),
        ("<html>", "gave no answer"),
    ],
)
def test_an_answer_that_is_none_is_one_line(
    command: Command, server: Server, answer: str, why: str
) -> None:
    server.answer = answer
    done = command("factors", "fetch", "intensity", "GB", "--provider", "gb", *DAY)
    assert (done.code, done.err.count("\n"), done.out) == (1, 1, "")
    assert why in done.err


def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_MAX_S", 0.0)
    with pytest.raises(ValueError, match="not complete after 0 s"):
        providers._bounded(repeat(b" "))


def half_hour(time: str, **intensity: float | None) -> dict[str, Any]:
    return {"from": f"2026-01-01T{time}Z", "to": "", "intensity": {**intensity, "index": "low"}}


def imported(command: Command, *arguments: str) -> Any:
    return command("factors", "fetch", "intensity", *arguments, *DAY, "--format", "json").json


def test_great_britain_with_what_is_missing(command: Command, server: Server) -> None:
    """The operator begins with the half-hour before, and has no actual value of the newest."""
    server.answer = {
        "data": [
            half_hour("00:00", forecast=99, actual=100).copy() | {"from": "2025-12-31T23:30Z"},
            half_hour("00:00", forecast=120, actual=118),
            half_hour("01:00", forecast=122, actual=125),
            half_hour("01:30", forecast=122, actual=None),
        ]
    }
    answer = imported(command, "GB", "--provider", "gb")
    assert (answer["layout"], answer["zones"]) == ("the GB grid operator", ["GBR"])
    assert answer["intervals"] == 2
    assert [gap["end_ms"] - gap["start_ms"] for gap in answer["missing"]] == [1_800_000] * 2
    ((path, _, token),) = server.asked
    assert path == "/intensity/2026-01-01T00:00Z/2026-01-01T02:00Z"
    assert token is None
    said = command("factors", "fetch", "intensity", "GB", *DAY, "--provider", "gb", "--bridge").out
    assert "GBR: 0.5 h missing from 2026-01-01 00:30Z, bridged" in said
    assert "GBR: 0.5 h missing from 2026-01-01 01:30Z\n" in said


def test_a_region_of_it_is_a_forecast_and_says_so(command: Command, server: Server) -> None:
    rows = [half_hour(time, forecast=50) for time in ("00:00", "00:30", "01:00", "01:30")]
    server.answer = {"data": {"regionid": 13, "shortname": "London", "data": rows}}
    answer = imported(command, "gb-13", "--provider", "gb")
    assert (answer["zones"], answer["own_zones"], answer["missing"]) == (["GB-13"], ["GB-13"], [])
    assert server.asked[0][0].endswith("/regionid/13")
    (entry,) = command("factors", "list", "--imported", "--format", "json").json["factors"]
    assert entry["basis"] == "direct average, forecast"
    assert "127.0.0.1" in entry["source"]


def test_electricity_maps(
    command: Command, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", "secret")
    monkeypatch.setenv("CARBONTRACK_LIVE_PROVIDER", "electricitymaps")
    hours = [(f"2026-01-01T0{hour}:00:00.000Z", 30 + hour) for hour in range(2)]
    server.answer = {
        "zone": "FR",
        "data": [{"datetime": time, "carbonIntensity": value} for time, value in hours],
    }
    answer = imported(command, "FRA")
    assert (answer["layout"], answer["zones"], answer["intervals"]) == (
        "Electricity Maps",
        ["FRA"],
        2,
    )
    ((path, parameters, token),) = server.asked
    assert (path, token) == ("/carbon-intensity/past-range", "secret")
    assert (parameters["zone"], parameters["disableEstimations"]) == (["FR"], ["true"])
    monkeypatch.delenv("ELECTRICITYMAPS_TOKEN")
    done = command("factors", "fetch", "intensity", "FR", *DAY)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "Put it into ELECTRICITYMAPS_TOKEN." in done.err


def test_a_long_time_is_asked_for_in_parts(command: Command, server: Server) -> None:
    server.answer = {"data": [half_hour("00:00", actual=100), half_hour("00:30", actual=100)]}
    month = ("--from", "2026-01-01T00:00Z", "--to", "2026-02-01T00:00Z", "--provider", "gb")
    assert "2 intervals of GBR" in command("factors", "fetch", "intensity", "GB", *month).out
    starts = [path.split("/")[2] for path, *_ in server.asked]
    assert starts == ["2026-01-01T00:00Z", "2026-01-14T00:00Z", "2026-01-27T00:00Z"]


@pytest.mark.parametrize(
    ("answer", "status", "arguments", "code", "says"),
    [
        ({}, 200, ("GB",), 2, "nothing uses the network unless it is asked to"),
        ({}, 200, ("GB", "--provider", "vibes"), 2, "no provider 'vibes' (flag). Known: gb"),
        ({}, 200, ("FR", "--provider", "gb"), 2, "no zone 'FR'. Give GB or GB-1 to GB-17"),
        ({}, 200, ("GB", "--provider", "gb"), 1, "not of its layout: no 'data' in it"),
        ({"data": 3}, 200, ("GB", "--provider", "gb"), 1, "not of its layout"),
        ({"data": []}, 200, ("GB", "--provider", "gb"), 2, "no value in it"),
        ("<html>", 200, ("GB", "--provider", "gb"), 1, "the GB grid operator gave no answer"),
        ({}, 503, ("GB", "--provider", "gb"), 1, "answered 503 Service Unavailable"),
        (
            {"data": [half_hour("00:00", actual=99999)]},
            200,
            ("GB", "--provider", "gb"),
            2,
            "too much for any grid",
        ),
    ],
)
def test_mistakes_and_bad_answers_are_one_line_and_import_nothing(
    command: Command,
    server: Server,
    answer: Any,
    status: int,
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    server.answer, server.status = answer, status
    done = command("factors", "fetch", "intensity", *arguments, *DAY)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert says in done.err
    assert command("factors", "list", "--imported", "--format", "json").json["factors"] == []


def test_a_provider_that_is_not_there(command: Command, server: Server) -> None:
    for name, provider in PROVIDERS.items():
        PROVIDERS[name] = replace(provider, url="http://127.0.0.1:9")
    done = command("factors", "fetch", "intensity", "GB", *DAY, "--provider", "gb")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "gave no answer" in done.err


def test_without_the_extra_it_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    done = command("factors", "fetch", "intensity", "GB", *DAY, "--provider", "gb")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "fetching needs the package httpx2. pip install 'carbontrack[providers]'" in done.err

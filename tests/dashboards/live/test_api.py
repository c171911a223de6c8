"""The API of the live page over real HTTP: what it answers, whom it refuses, what it costs."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from carbontrack import config
from carbontrack.ledger.recorded_rows import Run
from dashboards.live.api import TICK_S, width_for
from dashboards.live.app import create_app
from dashboards.live.view import MAX_POINTS, View
from tests.dashboards.live.conftest import Server
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.wrap import PATIENCE_S, Wrapper

Until = Callable[..., Any]

STATIC = Path(__file__).parents[3] / "dashboards/live/static"
STEPS = """
import carbontrack
for step in range(1, 6):
    carbontrack.log_step(step, loss=float("nan") if step == 3 else 6 / step, tokens=1024)
"""


def get(server: Server, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    host = "::1" if "[::1]" in server.address else "127.0.0.1"
    connection = http.client.HTTPConnection(host, server.port, timeout=PATIENCE_S)
    connection.request(headers.pop("method", "GET"), path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


def body(server: Server, path: str) -> Any:
    status, _, content = get(server, path)
    assert status == 200, content
    return json.loads(content)


def test_it_answers_with_the_keys_of_the_commands(
    wrapper: Wrapper, serve: Callable[..., Server]
) -> None:
    wrapper.record(sys.executable, "-c", STEPS, options=("-q", "--name", "one"))
    server = serve()
    listed, shown = wrapper.json("runs")["runs"][0], wrapper.json("show", "one")
    (answered,) = body(server, "/api/runs")["runs"]
    assert {key: answered[key] for key in listed} == listed
    detail = body(server, f"/api/runs/{listed['id']}")
    assert {key: detail[key] for key in shown} == shown
    (row,) = wrapper.json("table", "one")["rows"]
    assert row in detail["rows"]
    series = body(server, f"/api/runs/{listed['id']}/series?px=500")
    assert len(series["devices"]) == 2
    assert all(len(d["power_w"]) == len(series["time_ms"]) > 0 for d in series["devices"])
    steps = series["steps"]  # NaN is not a number of JSON; steps of one moment are one point
    assert (max(steps["loss_max"]), min(steps["loss_min"])) == (6.0, 1.2)


def test_runs_are_searched_by_words(wrapper: Wrapper, serve: Callable[..., Server]) -> None:
    write_ledger(
        wrapper.ledger,
        *[Recorded(name=f"run-{n}", number=n, count=2, user="eve") for n in range(1, 8)],
    )
    server = serve()
    assert body(server, "/api/runs?search=RUN-3+eve")["matching"] == 1
    found = body(server, "/api/runs?limit=2")
    assert [run["name"] for run in found["runs"]] == ["run-7", "run-6"]
    assert found["matching"] == 7


def test_runs_are_filtered_by_status_and_show_the_way_of_their_loss(
    wrapper: Wrapper, serve: Callable[..., Server]
) -> None:
    write_ledger(
        wrapper.ledger,
        Recorded(name="good", number=1, count=2, steps=1000),
        Recorded(name="bad", number=2, count=2, steps=0, status="failed", exit_code=3),
    )
    server = serve()
    (bad,) = body(server, "/api/runs?status=failed")["runs"]
    assert (bad["name"], bad["losses"]) == ("bad", [])
    (good,) = body(server, "/api/runs?status=completed")["runs"]
    assert 20 <= len(good["losses"]) <= 40
    assert good["losses"] == sorted(good["losses"], reverse=True)
    assert good["losses"][-1] == pytest.approx(good["final_loss"], rel=0.01)


def without_origin(text: str) -> str:
    """A table without the comment that says by which command, and when, it was made."""
    body = re.sub(r"\A(% (made by|command:|ledger:|run|about) [^\n]*\n)+", "", text)
    return re.sub(r"\n<!--\n.*?\n-->\n", "", body, flags=re.DOTALL)


def test_the_row_is_given_as_the_table_command_prints_it(
    wrapper: Wrapper, serve: Callable[..., Server]
) -> None:
    facility = {"pue": 1.2, "zone": "FRA", "tariff": 0.1}
    write_ledger(wrapper.ledger, Recorded(count=2, facility=facility))
    server = serve()
    for method in ("measured", "report"):
        for format in ("markdown", "latex", "csv"):
            status, headers, text = get(
                server, f"/api/runs/last/table?method={method}&format={format}"
            )
            printed = wrapper.ask("table", "--method", method, "--format", format, "last")
            assert (status, text.decode()) == (200, without_origin(printed.stdout))
            assert headers["content-type"].startswith("text/plain")
    for question in ("format=exe", "method=guess"):
        status, _, text = get(server, f"/api/runs/last/table?{question}")
        assert status == 400
        assert "markdown" in json.loads(text)["error"]


def test_a_run_tells_what_is_left_of_its_plan_and_its_budgets(
    wrapper: Wrapper, serve: Callable[..., Server]
) -> None:
    job = STEPS.replace("range(1, 6)", "range(1, 41)").replace(
        "import carbontrack", "import carbontrack, time"
    )
    job += "    time.sleep(0.05)\n"
    job += "    carbontrack.describe_model(planned_tokens=4096000)\n"
    budgets = ("--budget-kwh", "2", "--budget-kg", "9")
    go = wrapper.folder / "go"
    job = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)\n{job}"
    held = wrapper.hold(sys.executable, "-c", job, options=("-q", *budgets))
    held.until_recorded()  # so that its steps have energy
    go.touch()
    held.end()
    detail = body(serve(), "/api/runs/last")
    projected = wrapper.json("project", "last")["projected"]
    plan = detail["plan"]
    assert plan["tokens"] == 4096000
    low, middle, high = plan["energy_kwh"]
    assert low <= middle <= high
    assert middle == pytest.approx(projected["energy_kwh"])
    assert plan["eta_s"] > 100
    row = detail["rows"][0]
    assert detail["budgets"] == [
        {
            "unit": unit,
            "limit": limit,
            "spent": pytest.approx(spent),
            "share": pytest.approx(spent / limit),
            "state": "within",
        }
        for unit, limit, spent in (
            ("kg CO₂e", 9.0, row["tco2e"] * 1000),
            ("kWh", 2.0, row["facility_kwh"]),
        )
    ]


def test_events_tell_the_state_at_once(wrapper: Wrapper, serve: Callable[..., Server]) -> None:
    wrapper.run("true", options=("-q", "--name", "seen"))
    server = serve()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    connection.request("GET", "/api/runs/last/events")
    answer = connection.getresponse()
    assert (answer.getheader("content-type") or "").startswith("text/event-stream")
    assert answer.readline() == b"event: run\n"
    assert json.loads(answer.readline().removeprefix(b"data: "))["name"] == "seen"
    assert [answer.readline() for _ in range(2)] == [b"\n", b"event: clock\n"]
    assert int(answer.readline().removeprefix(b"data: ")) > 0
    connection.close()


BAD_QUESTIONS = [
    ("/api/runs/nobody", 404, "no run 'nobody'"),
    ("/api/runs/nobody/events", 404, "no run 'nobody'"),
    ("/api/runs/last/series?px=many", 400, "not a whole number"),
    ("/api/runs/last/series?from=9223372036854775808", 400, "too large"),
    ("/api/runs/last/series?to=-9223372036854775809", 400, "too large"),
    ("/api/runs/last/series?last=9000000000000000000", 400, "too large"),
    ("/api/runs?search=" + "+".join("a" * 5000), 400, "Give 10 words at most"),
    ("/static/../app.py", 404, "Not Found"),
    ("/static/%2e%2e/app.py", 404, "Not Found"),
]


def test_bad_questions(wrapper: Wrapper, serve: Callable[..., Server]) -> None:
    write_ledger(wrapper.ledger, Recorded())
    server = serve()
    for path, status, says in BAD_QUESTIONS:
        answered, _, content = get(server, path)
        assert (answered, says in content.decode()) == (status, True), path


def test_other_sites_are_refused(wrapper: Wrapper, serve: Callable[..., Server]) -> None:
    server = serve()
    here = f"127.0.0.1:{server.port}"
    for host in (f"localhost:{server.port}", here, f"[::1]:{server.port}"):
        assert get(server, "/", Host=host)[0] == 200
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", "[", ""):
        status, headers, content = get(server, "/api/runs", Host=host)
        assert (status, b"runs" in content) == (421, False), host
        assert "content-security-policy" in headers
    assert get(server, "/api/runs", Host=here, Origin=f"http://{here}")[0] == 200
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        assert get(server, "/api/runs", Host=here, Origin=origin)[0] == 403
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert get(server, "/api/runs?search=a+a+a", Host=here, **foreign)[0] == 403
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert get(server, "/api/runs", Host=here, **own)[0] == 200


def test_nothing_can_be_written(wrapper: Wrapper, serve: Callable[..., Server]) -> None:
    write_ledger(wrapper.ledger, Recorded())
    server = serve()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/", "/api/runs", "/api/runs/last", "/static/main.js"):
            assert get(server, path, method=method)[0] == 405


def test_scripts_come_only_from_here(wrapper: Wrapper, serve: Callable[..., Server]) -> None:
    _, headers, content = get(serve(), "/")
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert b"http://" not in content
    assert b"https://" not in content


def test_beyond_loopback_only_with_the_token(
    wrapper: Wrapper, serve: Callable[..., Server]
) -> None:
    server = serve("--host", "0.0.0.0")
    token = server.address.partition("?token=")[2]
    assert len(token) >= 32
    for path in ("/", "/api/runs", "/static/main.js", "/?token=", "/?token=wrong"):
        assert get(server, path)[0] == 401
    assert get(server, "/api/runs", Authorization=f"Bearer {token}")[0] == 200
    status, headers, _ = get(server, f"/?token={token}")
    assert (status, headers["location"]) == (303, "/"), "the token leaves the address"
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie, "or no link that somebody sent could be followed"
    assert get(server, "/api/runs", Cookie=cookie.partition(";")[0])[0] == 200


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--port", "70000"), "--port 70000"),
        (("--host", "no.such.host.invalid"), "--host no.such.host.invalid"),
    ],
)
def test_mistakes_are_one_line(wrapper: Wrapper, arguments: tuple[str, ...], says: str) -> None:
    done = wrapper.carbontrack("serve", *arguments)
    assert (done.returncode, done.stderr.count("\n"), says in done.stderr) == (2, 1, True)


def test_a_port_in_use_says_by_whom(wrapper: Wrapper, taken_port: int) -> None:
    done = wrapper.carbontrack("serve", "--port", str(taken_port))
    assert done.returncode == 2
    assert f"Port {taken_port}" in done.stderr
    assert "process" in done.stderr
    assert "--port 0" in done.stderr


@pytest.fixture
def view(wrapper: Wrapper) -> Iterator[View]:
    """On the ledger, which is written before anything is asked."""
    found = View(f"sqlite:///{wrapper.ledger}", config.flags())
    yield found
    found.close()


@contextmanager
def served(view: View) -> Iterator[int]:
    """The application in this process, so that its queries can be counted; its port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        settings = uvicorn.Config(create_app(view), log_level="error", lifespan="off")
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            settings.app.state.stopping = True  # type: ignore[union-attr]
            server.should_exit = True
            thread.join(PATIENCE_S)


def test_fifty_open_pages_cost_one_query_a_tick(wrapper: Wrapper, view: View, until: Until) -> None:
    write_ledger(wrapper.ledger, Recorded(count=8, steps=200, status="running"))
    with served(view) as port:
        pages = []
        for _ in range(50):
            page = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            page.request("GET", "/api/runs/last/events")
            pages.append(page)
        streams = [page.getresponse() for page in pages]
        for stream in streams:
            assert stream.readline() == b"event: run\n"
        began_s, before = time.monotonic(), view.queries
        until(lambda: view.queries >= before + 5)
        queries = view.queries - before  # before the time, which goes on meanwhile
        ticks = (time.monotonic() - began_s) / TICK_S
        # Each tick looks once whether the run has changed, for all fifty of them.
        assert queries <= 2 * ticks + 2

        before = view.queries
        charts = []
        for n in range(50):
            page = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            page.request("GET", f"/api/runs/last/series?px={310 + 5 * n}")
            charts.append(page)
        assert {page.getresponse().status for page in charts} == {200}
        assert view.queries - before <= 1 + (time.monotonic() - began_s) / TICK_S + 2
        for page in [*pages, *charts]:
            page.close()


def test_one_slow_answer_delays_no_other(wrapper: Wrapper, view: View) -> None:
    write_ledger(
        wrapper.ledger, Recorded(name="a", number=1, count=2), Recorded(name="b", number=2, count=2)
    )
    hold, began = threading.Event(), threading.Event()
    read_series = view.series

    def slow(run: Run, **asked: Any) -> dict[str, Any]:
        if run.name == "a":
            began.set()
            assert hold.wait(PATIENCE_S)
        return read_series(run, **asked)

    view.series = slow  # type: ignore[method-assign]
    with served(view) as port, ThreadPoolExecutor(60) as pages:

        def ask(path: str) -> int:
            page = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            page.request("GET", path)
            status = page.getresponse().status
            page.close()
            return status

        waiting = [pages.submit(ask, "/api/runs/a/series") for _ in range(50)]
        assert began.wait(PATIENCE_S)
        assert ask("/api/runs/b/series") == ask("/api/runs/a") == 200
        assert not any(one.done() for one in waiting)
        hold.set()
        assert {one.result() for one in waiting} == {200}


def test_never_more_points_than_asked(wrapper: Wrapper, view: View) -> None:
    write_ledger(wrapper.ledger, Recorded(count=2, seconds=35 * 86400.0, steps=10_000))
    series = view.series(view.find("last"), points=width_for(10**9))
    assert 400 < len(series["time_ms"]) <= MAX_POINTS
    assert 400 < len(series["steps"]["step"]) <= MAX_POINTS
    assert series["steps"]["step"][-1] == 10_000


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("uPlot.esm.js", "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba"),
        ("uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
        ("uPlot.LICENSE", "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd"),
    ],
)
def test_what_is_vendored_is_as_published(name: str, sha256: str) -> None:
    """Of the npm package uplot 1.6.32."""
    assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == sha256

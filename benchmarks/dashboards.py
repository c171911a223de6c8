"""How does the dashboard bear a long run? Thirty-five days of 8 GPUs, a window a second each, and
of 256 whose finer windows were dropped; and what a team's ledger has of seconds.
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.answer import Bench
from benchmarks.processes import cpu_s, peak_mib
from benchmarks.table import Table, spread
from carbontrack.ledger.merge import merge
from carbontrack.ledger.url import ledger_url
from carbontrack.units import MS_PER_HOUR, MS_PER_S
from tests.fixtures import pictures
from tests.fixtures.postgres import private_server
from tests.fixtures.runs import Recorded
from tests.fixtures.wrap import PATIENCE_S

_PX = 1200  # of a page on a laptop
_PAGES = 50
_HOURS = 35 * 24
_MANY = 256
_TEAM_HOURS = 2 * 24

# As `pictures.power_w` is: a training that waits for its checkpoint once a minute.
_SECONDS = """
with recursive
    at(n) as (select 0 union all select n + 1 from at where n + 1 < :seconds)
insert into windows (recording_key, sensor_key, level, start_ms, energy_j, energy_s, sampled_s,
    samples, power_min_w, power_max_w, vitals, util_pct, memory_max_bytes, temperature_max_c,
    sm_clock_mhz, throttle, flags)
select recording_key, :device, 1, :start_ms + n * 1000, power_w, 1, 1, 10, power_w - 15,
    power_w + 15, 1, 97, 60 << 30, 64, 1410, 0, flags
from (select n, case when n % 60 > 54 then 120 else 300 + 10 * :device + n % 20 end as power_w
      from at),
    (select recording_key, flags from windows where level = 3600 limit 1)
"""
_COARSER = """
insert or replace into windows (recording_key, sensor_key, level, start_ms, energy_j, energy_s,
    sampled_s, samples, power_min_w, power_max_w, vitals, util_pct, memory_max_bytes,
    temperature_max_c, sm_clock_mhz, throttle, flags)
select recording_key, sensor_key, :coarse, start_ms / (1000 * :coarse) * 1000 * :coarse,
    sum(energy_j), sum(energy_s), sum(sampled_s), sum(samples), min(power_min_w), max(power_max_w),
    sum(vitals), avg(util_pct), max(memory_max_bytes), max(temperature_max_c),
    avg(sm_clock_mhz), 0, min(flags)
from windows where level = :fine and sensor_key = :device
group by recording_key, sensor_key, start_ms / (1000 * :coarse)
"""
_FIRST_CHART = """
new MutationObserver((_, watch) => {
  if (!document.querySelector('canvas[aria-label*="between"]')) return;
  watch.disconnect();
  requestAnimationFrame(() => { window.firstChartMs = performance.now(); });
}).observe(document, { subtree: true, childList: true, attributes: true });
"""


def ask(bench: Bench) -> list[Table]:
    """Draw it, open its page, zoom into it, and look at it from fifty pages; and open the page of a
    run of many devices, and of one in a team's ledger.
    """
    return [_long(bench), _many(bench), _team(bench)]


def _team(bench: Bench) -> Table:
    hours, rounds, zooms = (2, 1, 2) if bench.quick else (_TEAM_HOURS, 5, 60)
    recorded = Recorded(count=8, seconds=hours * 3600, steps=200 if bench.quick else 50_000)
    ledger = bench.folder / "team.db"
    windows = _fill(ledger, recorded)
    with private_server() as server:
        url = server.new_database()
        merge(ledger_url(url), [str(ledger)])
        server.sql("vacuum analyze", urlsplit(url).path.strip("/"))
        fresh = [_fresh(url) for _ in range(rounds)]
        with _served(url) as (address, _):
            first_ms = _series_ms(address, "")
            zoom_ms = list(_zooms(address, recorded, zooms))
    return Table(
        title="A team's ledger",
        how=f"{hours} hours of 8 GPUs, {windows:,} windows and {recorded.steps:,} steps, merged "
        "into PostgreSQL, which packs the seconds of a device and minute into a row; measured as "
        "above. Median (range).",
        columns=["", "carbontrack"],
        rows=[
            *_fresh_rows(fresh),
            ["the first request for a chart, ms", f"{first_ms:.0f}"],
            ["zoom, ms", spread(zoom_ms, "{:.0f}")],
        ],
        raw={**_fresh_raw(fresh), "first_ms": first_ms, "zoom_ms": zoom_ms},
    )


def _many(bench: Bench) -> Table:
    hours, rounds, zooms = (2, 1, 2) if bench.quick else (_HOURS, 5, 20)
    recorded = Recorded(count=_MANY, seconds=hours * 3600, steps=200 if bench.quick else 50_000)
    ledger = bench.folder / "many.db"
    pictures.write_hours(ledger_url(str(ledger)), recorded)
    fresh = [_fresh(ledger) for _ in range(rounds)]
    with _served(ledger) as (address, pid):
        first_ms = _series_ms(address, "")
        chart_ms = _first_charts(address, bench.folder, rounds)
        zoom_ms = list(_zooms(address, recorded, zooms))
        server_mib = peak_mib(pid)
    return Table(
        title="Thirty-five days of 256 GPUs",
        how=f"{_MANY * hours:,} windows of an hour and {recorded.steps:,} steps in SQLite, "
        "measured as above. The map of the devices has at most 300 columns. Median (range).",
        columns=["", "carbontrack"],
        rows=[
            ["first chart, ms", spread(chart_ms, "{:.0f}") if chart_ms else "no Chromium"],
            *_fresh_rows(fresh),
            ["the first request for a chart, ms", f"{first_ms:.0f}"],
            ["zoom, ms", spread(zoom_ms, "{:.0f}")],
            ["peak memory of the server, MiB", f"{server_mib:.0f}"],
        ],
        raw={
            **_fresh_raw(fresh),
            "first_chart_ms": chart_ms,
            "first_ms": first_ms,
            "zoom_ms": zoom_ms,
            "server_mib": server_mib,
        },
    )


def _long(bench: Bench) -> Table:
    hours, rounds, zooms = (2, 1, 5) if bench.quick else (_HOURS, 5, 60)
    recorded = Recorded(count=8, seconds=hours * 3600, steps=200 if bench.quick else 500_000)
    ledger = bench.folder / "ledger.db"
    windows = _fill(ledger, recorded)
    draws = [_draw(ledger) for _ in range(rounds)]
    fresh = [_fresh(ledger) for _ in range(rounds)]
    with _served(ledger) as (address, pid):
        first_ms = _series_ms(address, "")
        zoom_ms = list(_zooms(address, recorded, zooms))
        chart_ms = _first_charts(address, bench.folder, rounds)
        crowd_ms = _crowd(address)
        server_mib = peak_mib(pid)
    return Table(
        title="Thirty-five days of 8 GPUs",
        how=f"{windows:,} windows and {recorded.steps:,} steps, "
        f"{ledger.stat().st_size / 1e9:.2f} GB in SQLite. "
        "`plot` is the whole process, reading and drawing is what it does after its imports; "
        "a fresh server is asked for the run and then for its chart; "
        "a zoom is the live page's request over HTTP, "
        f"{_PX} pixels wide, half of {zooms} over random stretches, half over those that just "
        "miss a coarser level; the first chart is from the page's load to power on the canvas "
        f"in Chromium; the crowd is {_PAGES} pages that listen while a further one asks. "
        "Median (range). No peer has a page of its own to compare with.",
        columns=["", "carbontrack"],
        rows=[
            ["`plot`, s", spread([one.process_s for one in draws], "{:.2f}")],
            ["reading and drawing, s", spread([one.draw_s for one in draws], "{:.2f}")],
            ["peak memory of that, MiB", spread([one.mib for one in draws], "{:.0f}")],
            ["first chart, ms", spread(chart_ms, "{:.0f}") if chart_ms else "no Chromium"],
            *_fresh_rows(fresh),
            ["the first request for a chart, ms", f"{first_ms:.0f}"],
            ["zoom, ms", spread(zoom_ms, "{:.0f}")],
            [f"zoom beside {_PAGES} open pages, ms", spread(crowd_ms, "{:.0f}")],
            ["peak memory of the server, MiB", f"{server_mib:.0f}"],
        ],
        raw={
            "process_s": [one.process_s for one in draws],
            "draw_s": [one.draw_s for one in draws],
            "draw_mib": [one.mib for one in draws],
            **_fresh_raw(fresh),
            "first_chart_ms": chart_ms,
            "first_ms": first_ms,
            "zoom_ms": zoom_ms,
            "crowd_ms": crowd_ms,
            "server_mib": server_mib,
        },
    )


def _fill(path: Path, recorded: Recorded) -> int:
    """Its hours through our writer, and then their seconds and minutes by the database itself."""
    pictures.write_hours(ledger_url(str(path)), recorded)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma synchronous = off")
        found = connection.execute("select distinct sensor_key from windows order by 1")
        devices = [key for (key,) in found.fetchall()]
        with connection:
            for device in devices:
                values = {"device": device, "start_ms": recorded.start_ms}
                connection.execute(_SECONDS, {**values, "seconds": int(recorded.seconds)})
            for fine, coarse in ((1, 60), (60, 3600)):
                for device in devices:
                    connection.execute(_COARSER, {"device": device, "fine": fine, "coarse": coarse})
        connection.execute("pragma wal_checkpoint(truncate)")
        (count,) = connection.execute("select count(*) from windows").fetchone()
    return int(count)


@dataclass(frozen=True)
class Drawn:
    """`carbontrack plot` as a process."""

    process_s: float
    draw_s: float  # without its imports
    mib: float  # peak memory


def _draw(ledger: Path) -> Drawn:
    code = (
        "import time; from carbontrack.cli.app import main\n"
        "from carbontrack.ledger import engine, read; from dashboards import data, figures\n"
        "began_s = time.perf_counter()\n"
        "try: main()\n"
        "finally: print(time.perf_counter() - began_s,"
        "open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    words = ["plot", "last", "--out", "a.png", "--db", str(ledger)]
    began_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ledger.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    process_s = time.perf_counter() - began_s
    draw_s, kib = done.stdout.split()[-2:]
    return Drawn(process_s, float(draw_s), int(kib) / 1024)


@contextmanager
def _served(ledger: Path | str) -> Iterator[tuple[str, int]]:
    """The address and the pid of a server on a ledger: a file, or the URL of a database."""
    words = [sys.executable, "-m", "carbontrack", "serve", "--port", "0", "--db", str(ledger)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip(), server.pid
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


@dataclass(frozen=True)
class Fresh:
    """What a page waits for before its first chart, of a server that was just started."""

    ms: float  # both answers, one after the other
    cpu_s: float  # of the server, for them


def _fresh(ledger: Path | str) -> Fresh:
    with _served(ledger) as (address, pid):
        before_s, began_s = cpu_s(pid), time.perf_counter()
        _answer_ms(address, "/api/runs/last")
        _series_ms(address, "")
        return Fresh(MS_PER_S * (time.perf_counter() - began_s), cpu_s(pid) - before_s)


def _fresh_rows(fresh: Sequence[Fresh]) -> list[list[str]]:
    return [
        ["a fresh server's first two answers, ms", spread([one.ms for one in fresh], "{:.0f}")],
        ["CPU of those, s", spread([one.cpu_s for one in fresh], "{:.2f}")],
    ]


def _fresh_raw(fresh: Sequence[Fresh]) -> dict[str, list[float]]:
    return {
        "fresh_ms": [one.ms for one in fresh],
        "fresh_cpu_s": [one.cpu_s for one in fresh],
    }


def _zooms(address: str, recorded: Recorded, count: int) -> Iterator[float]:
    dice = random.Random(3)
    whole_ms = recorded.end_ms - recorded.start_ms
    spans_ms = [
        span_ms
        for span_ms in (MS_PER_HOUR * hours for hours in (1, 3, 33, 120, 480))
        if span_ms < whole_ms
    ]
    for number in range(count):
        if number % 2:
            length_ms = spans_ms[number // 2 % len(spans_ms)]
        else:
            length_ms = int(whole_ms * dice.uniform(0.01, 1))
        from_ms = recorded.start_ms + int(dice.random() * (whole_ms - length_ms))
        yield _series_ms(address, f"from={from_ms}&to={from_ms + length_ms}")


def _series_ms(address: str, of: str) -> float:
    return _answer_ms(address, f"/api/runs/last/series?{of}&px={_PX}")


def _answer_ms(address: str, path: str) -> float:
    """How long one answer takes, opening the connection included."""
    began_s = time.perf_counter()
    page = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE_S)
    page.request("GET", path)
    answer = page.getresponse()
    body = answer.read()
    took_ms = MS_PER_S * (time.perf_counter() - began_s)
    page.close()
    if answer.status != http.HTTPStatus.OK or not json.loads(body):
        raise RuntimeError(f"the page's request for {path} was answered {answer.status}")
    return took_ms


def _crowd(address: str) -> list[float]:
    pages = []
    for _ in range(_PAGES):
        pages.append(http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE_S))
        pages[-1].request("GET", "/api/runs/last/events")
    try:
        for page in pages:
            page.getresponse().readline()
        return [_series_ms(address, f"to={4_000_000_000_000 + n}") for n in range(10)]
    finally:
        for page in pages:
            page.close()


def _first_charts(address: str, folder: Path, rounds: int) -> Sequence[float]:
    """From the start of the page's load until it shows power; nothing without Chromium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        return []
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService
    from selenium.webdriver.support.wait import WebDriverWait

    options = ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "lang=en-US"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={folder / 'chromium'}")
    found = []
    browser = Chrome(options=options, service=ChromeService(driver))
    try:
        browser.set_script_timeout(PATIENCE_S)
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _FIRST_CHART})
        for _ in range(rounds):
            browser.get("about:blank")
            browser.get(f"{address}#/run/last")
            seen = WebDriverWait(browser, PATIENCE_S, poll_frequency=0.05).until(
                lambda page: page.execute_script("return window.firstChartMs")
            )
            found.append(float(seen))
    finally:
        browser.quit()
    return found

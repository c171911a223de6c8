"""The live page as a person sees it: a real browser beside a real, simulated run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.dashboards.live.conftest import Server
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.wrap import Wrapper

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

Until = Callable[..., Any]

JOB = """
import time, carbontrack
carbontrack.describe_model(planned_tokens=1024 * 10 * {steps})
for step in range(1, {steps}):
    carbontrack.log_step(step, loss=6 / step**0.3, tokens=1024, tokens_per_s=2000.0)
    if step % 20 == 10:
        carbontrack.log_event("eval", loss=6.2 / step**0.3)
    time.sleep(0.2)
"""


def job(steps: int) -> tuple[str, ...]:
    return (sys.executable, "-c", JOB.format(steps=steps))


def all_of(browser: Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements("css selector", selector)


def text(browser: Chrome, selector: str) -> str:
    return " | ".join(
        browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )
    )


def tile(browser: Chrome, name: str) -> str:
    return text(browser, f'[data-tile="{name}"] dd')


def errors(browser: Chrome) -> list[str]:
    """What the page complained of; a lost server is the browser's own message."""
    found = [entry["message"] for entry in browser.get_log("browser")]
    return [message for message in found if "net::ERR" not in message]


def test_a_run_is_watched_from_start_to_end(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[[str], None],
) -> None:
    running = wrapper.start(*job(1000), options=("-q", "--budget-kwh", "0.5"))
    server = serve()
    browser.get(server.address)
    until(lambda: all_of(browser, "tbody a"))
    until(lambda: all_of(browser, "svg.spark"))
    shot("runs")
    all_of(browser, "tbody a")[0].click()

    until(lambda: len(all_of(browser, "canvas")) == 5)
    early = until(lambda: _number(tile(browser, "last loss")))
    until(lambda: "kW" in tile(browser, "power now") or _number(tile(browser, "power now")) > 100)
    until(lambda: _number(tile(browser, "last loss")) < early)
    assert "simulated" in text(browser, ".badge")
    assert "factor assumed" in text(browser, '[data-tile="CO₂e"] small')

    until(lambda: tile(browser, "time left"))
    assert "to" in text(browser, '[data-tile="CO₂e at the end"] small'), "a range"
    assert "of 0.5 kWh" in text(browser, ".budget")

    next(b for b in all_of(browser, "button") if b.text == "Copy LaTeX").click()
    until(lambda: "Copied as LaTeX" in text(browser, "[role=status]"))
    read = "navigator.clipboard.readText().then(arguments[0])"
    assert "\\toprule" in browser.execute_async_script(read)

    all_of(browser, "#theme")[0].click()
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    shot("run-dark")
    all_of(browser, "#theme")[0].click()

    port = server.port
    server.stop()
    until(lambda: "lost the server" in text(browser, "#link"))
    before = int(text(browser, '[data-tile="last loss"] small').split()[0])
    server.port = port
    server.start()
    until(lambda: text(browser, "#link") == "live")
    until(lambda: int(text(browser, '[data-tile="last loss"] small').split()[0]) > before)

    button = next(b for b in all_of(browser, ".bar button") if b.text == "Zoom in")
    button.click()
    until(lambda: all_of(browser, ".bar button")[1].is_enabled())
    os.kill(running.pid, signal.SIGTERM)
    running.communicate(timeout=20)
    until(lambda: "failed" in text(browser, ".status"))
    shot("run-light")
    assert errors(browser) == []


def test_two_runs_are_compared_on_a_phone(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[[str], None],
) -> None:
    for name in ("first", "<script>alert(1)</script>"):
        wrapper.run(*job(8), options=("-q", "--name", name))
    wrapper.run("true", options=("-q", "--name", "no-steps"))
    browser.get(serve().address)
    until(lambda: len(all_of(browser, "tbody tr")) == 3)
    assert "<script>alert(1)</script>" in text(browser, "tbody a"), "just a name"
    for _ in range(2):
        boxes = [box for box in all_of(browser, "tbody input") if not box.is_selected()]
        boxes[-1].click()
    next(b for b in all_of(browser, ".bar button") if b.text == "Compare 2").click()
    until(lambda: len(all_of(browser, "canvas")) == 2)
    assert text(browser, "h1") == "Comparison"
    assert text(browser, "tbody").count("simulated") == 2
    shot("compare")
    browser.set_window_size(390, 844)
    try:
        # The charts follow the width; nothing scrolls sideways.
        until(
            lambda: browser.execute_script(
                "return document.documentElement.scrollWidth <= window.innerWidth"
            )
        )
        shot("phone")
    finally:
        browser.set_window_size(1280, 1400)
    assert errors(browser) == []


def test_a_run_that_measured_nothing_still_has_its_page(
    wrapper: Wrapper, serve: Callable[..., Server], browser: Chrome, until: Until
) -> None:
    write_ledger(wrapper.ledger, Recorded(count=0, seconds=10, steps=0))
    server = serve()
    browser.get(f"{server.address}#/run/last")
    until(lambda: len(all_of(browser, "canvas")) == 5)
    assert tile(browser, "energy of the devices") == "–", "not known is not zero"
    browser.get(f"{server.address}#/run/nobody")
    until(lambda: "no run 'nobody'" in text(browser, "main"))


def test_an_empty_ledger_says_how_to_start_and_fills_by_itself(
    wrapper: Wrapper, serve: Callable[..., Server], browser: Chrome, until: Until
) -> None:
    browser.get(serve().address)
    until(lambda: "carbontrack run -- python train.py" in text(browser, "main"))
    wrapper.run("true")
    until(lambda: all_of(browser, "tbody a"))


def test_a_ledger_that_is_removed_and_comes_back(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    tmp_path: Path,
) -> None:
    wrapper.run("true", options=("-q", "--name", "before"))
    browser.get(serve().address)
    until(lambda: "before" in text(browser, "tbody a"))
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    until(lambda: "There is no ledger" in text(browser, "main"))
    wrapper.run("true", options=("-q", "--name", "after"))
    until(lambda: text(browser, "tbody a") == "after")


def _number(shown: str) -> float:
    digits = shown.split(" ")[0]
    return 0.0 if digits in ("", "–") else float(digits)

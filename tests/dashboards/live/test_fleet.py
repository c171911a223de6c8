"""The fleet page: every device that is recorded, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.dashboards.live import page
from tests.dashboards.live.conftest import Server
from tests.dashboards.live.page import all_of, choose, click, errors, phone, text, tile
from tests.fixtures.fleet import Node, nodes_of, write_fleet
from tests.fixtures.wrap import Wrapper

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Until = Callable[..., Any]
SMALL = [
    Node("node0001", 1, "llama2-70b", "nlp", False, False, (640.0, 610.5), (99.0, 97.0)),
    Node("node0002", 1, "llama2-70b", "nlp", False, True, (633.0, 600.0), (99.0, 97.0)),
    Node("node0003", 2, "watch node0003", None, True, False, (71.0, 72.5), (0.0, 0.0)),
]


def test_a_fleet_is_seen_at_once_and_each_device_named(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[..., None],
) -> None:
    write_fleet(f"sqlite:///{wrapper.ledger}", SMALL)
    browser.get(f"{serve().address}#/")
    next(one for one in all_of(browser, ".top nav a") if one.text == "Fleet").click()
    until(lambda: tile(browser, "devices") == "6")
    assert tile(browser, "power now") == "1.39 kW", "of the nodes that are heard of"
    assert (tile(browser, "nodes"), tile(browser, "silent nodes")) == ("3", "1")
    assert "6 devices on 3 nodes" in all_of(browser, "canvas")[0].get_attribute("aria-label")

    go(browser, "Home")
    assert said(browser).startswith("node0001 · gpu 0 NVIDIA H100 80GB HBM3 · llama2-70b (nlp)")
    assert "640 W of 700 W · 99 % busy" in said(browser)
    go(browser, "ArrowRight", 2)
    assert "node0002 · gpu 0" in said(browser)
    assert re.search(r"last heard \d+ min", said(browser))
    go(browser, "End")
    assert "node0003 · gpu 1" in said(browser)
    go(browser, "Home")
    point(browser, 1)
    assert said(browser).startswith("node0001 · gpu 1")

    first = all_of(browser, "tbody tr")[0].text
    assert "node0002" in first and "last heard" in first
    choose(browser, "Group by", "project")
    until(lambda: "no job" in text(browser, "tbody"))
    assert "by=project" in browser.current_url
    click(browser, "utilisation")
    until(lambda: "100 %" in text(browser, ".scale"))
    assert page.accessibility_faults(browser) == []
    shot("fleet-small", every=True)
    go(browser, "Enter")
    until(lambda: "llama2-70b" in text(browser, "h1"))
    assert errors(browser) == []


def test_16384_devices_fit_a_screen_and_a_phone(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[..., None],
) -> None:
    nodes = nodes_of(2048)
    write_fleet(f"sqlite:///{wrapper.ledger}", nodes)
    browser.get(f"{serve().address}#/fleet")
    until(lambda: tile(browser, "devices") == "16,384")
    assert tile(browser, "silent nodes") == str(sum(node.is_silent for node in nodes))
    height = browser.execute_script("return document.querySelector('.cells canvas').clientHeight")
    assert height < 1000
    shot("fleet", every=True)
    choose(browser, "Group by", "project")
    until(lambda: "by=project" in browser.current_url)
    shot("fleet-by-project")
    with phone(browser):
        until(lambda: page.overflow(browser, ".card") == [])
        assert page.small_targets(browser) == []
    assert page.accessibility_faults(browser) == []
    box = all_of(browser, 'input[type="search"]')[0]
    box.send_keys("node0007")
    until(lambda: tile(browser, "devices") == "8")
    assert errors(browser) == []


def test_without_a_device_it_says_how_to_begin(
    wrapper: Wrapper, serve: Callable[..., Server], browser: Chrome, until: Until
) -> None:
    browser.get(f"{serve().address}#/fleet")
    until(lambda: "carbontrack watch" in text(browser, ".start"))
    assert page.accessibility_faults(browser) == []


def said(browser: Chrome) -> str:
    return text(browser, ".fleetmap .readout")


def go(browser: Chrome, key: str, times: int = 1) -> None:
    for _ in range(times):
        browser.execute_script(
            "document.querySelector('.cells').dispatchEvent("
            "new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))",
            key,
        )


def point(browser: Chrome, column: int) -> None:
    """The mouse on a cell of the first node."""
    browser.execute_script(
        "const box = document.querySelector('.cells canvas').getBoundingClientRect();"
        "document.querySelector('.cells').dispatchEvent(new PointerEvent('pointermove', "
        "{pointerType: 'mouse', clientX: box.left + 34 * arguments[0] + 15,"
        " clientY: box.top + 18 + 15, bubbles: true}))",
        column,
    )

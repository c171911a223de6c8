"""What is seen of a page in the browser."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.fixtures.wrap import wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

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
    return text(browser, f'[data-tile="{name}"] dd:not(.note)')


def small(browser: Chrome, name: str) -> str:
    return text(browser, f'[data-tile="{name}"] .note')


def spoken(browser: Chrome, chart: str) -> str:
    """What a screen reader says of a chart."""
    (canvas,) = all_of(browser, f'[aria-label="{chart}"] canvas')
    return canvas.get_attribute("aria-label") or ""


PAINTED = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
_INNER = "return [innerWidth, innerHeight]"
# What lies above it may come, or go, while the mouse is on its way.
_STILL = """
const [one, done] = arguments;
const place = () => { const {x, y} = one.getBoundingClientRect(); return `${x},${y}`; };
const look = (before, frames) => requestAnimationFrame(() => {
  const now = place();
  if (now !== before) look(now, 0);
  else if (frames > 3) done();
  else look(now, frames + 1);
});
look("", 0);
"""


def click_on(browser: Chrome, found: WebElement) -> None:
    """An element, once it stays where it is."""
    browser.execute_async_script(_STILL, found)
    found.click()


def open_first(browser: Chrome, until: Callable[..., Any]) -> None:
    """The newest run of the list, once the totals above are there: they push it down."""
    until(lambda: tile(browser, "runs"))
    click_on(browser, until(lambda: all_of(browser, "tbody a"))[0])


def click(browser: Chrome, name: str) -> None:
    """A button by its words."""
    found = next(button for button in all_of(browser, "button") if button.text == name)
    click_on(browser, found)


def choose(browser: Chrome, name: str, value: str) -> None:
    """An entry of a list by its value."""
    (found,) = all_of(browser, f'select[aria-label="{name}"]')
    browser.execute_script(
        "const [list, value] = arguments; list.value = value; list.onchange()", found, value
    )


@contextmanager
def sized(browser: Chrome, size: Mapping[str, Any]) -> Iterator[None]:
    """While its screen has this size; after that it is as it was, which it is not at once."""
    before = browser.execute_script(_INNER)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", dict(size))
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        wait_until(lambda: browser.execute_script(_INNER) == before)
        browser.execute_async_script(PAINTED)


@contextmanager
def phone(browser: Chrome) -> Iterator[None]:
    """While it is as small as one."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    with sized(browser, size):
        yield


def press(browser: Chrome, key: str) -> None:
    """A key on the first chart."""
    from selenium.webdriver import ActionChains

    browser.execute_script("document.querySelector('.plot').focus()")
    ActionChains(browser).send_keys(key).perform()


def colour(browser: Chrome, selector: str, what: str = "background-color") -> str:
    """As it is computed."""
    return str(all_of(browser, selector)[0].value_of_css_property(what))


def asked_range(browser: Chrome) -> tuple[int, int] | None:
    """(from, to) of the windows that were asked for last; None for the whole run."""
    names = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
        ".filter(name => name.includes('/series'))"
    )
    query = parse_qs(urlsplit(names[-1]).query)
    return (int(query["from"][0]), int(query["to"][0])) if "from" in query else None


def overflow(browser: Chrome, selector: str) -> list[Any]:
    """Of the page and of each such element that is wider than its room: how wide in how much."""
    return list(
        browser.execute_script(
            "return [document.documentElement, ...document.querySelectorAll(arguments[0])]"
            ".filter(e => e.scrollWidth > e.clientWidth)"
            ".map(e => [e.className, e.scrollWidth, e.clientWidth])",
            selector,
        )
    )


def beside_titles(browser: Chrome) -> list[bool]:
    """Of each chart, whether what its values are of (newest, or a time) is on the title's line."""
    return list(
        browser.execute_script(
            "return [...document.querySelectorAll('.chart > header')].map(header => {"
            "const [title, said] = ['h2', '.readout'].map(e => header.querySelector(e));"
            "const [one, other] = [title, said].map(e => e.getBoundingClientRect());"
            "return one.top < other.bottom && other.top < one.bottom; })"
        )
    )


def errors(browser: Chrome) -> list[str]:
    """What the page complained of; a lost server is the browser's own message."""
    found = [entry["message"] for entry in browser.get_log("browser")]
    return [message for message in found if "net::ERR" not in message]


def number(shown: str) -> float:
    digits = shown.split(" ")[0].replace(",", "")
    try:
        return float(digits)
    except ValueError:
        return 0.0


def accessibility_faults(browser: Chrome) -> list[str]:
    """What axe-core finds on the page as it is, but for what it calls minor."""
    from axe_core_python.selenium import Axe

    answer = Axe().run(browser)
    assert len(answer["passes"]) > 10, "it looked"
    return [
        f"{fault['id']}: {[node['html'][:200] for node in fault['nodes'][:3]]}"
        for fault in answer["violations"]
        if fault["impact"] != "minor"
    ]


def small_targets(browser: Chrome) -> list[Any]:
    """Buttons, lists and boxes that a finger misses: less than 44 pixels high."""
    return list(
        browser.execute_script(
            "return [...document.querySelectorAll('button, select, .cards input, .cards th a')]"
            ".map(e => [e, (e.type === 'checkbox' ? e.parentElement : e).getBoundingClientRect()])"
            ".filter(([e, box]) => box.height > 0 && box.height < 43.5)"
            ".map(([e, box]) => [e.outerHTML.slice(0, 80), box.height])"
        )
    )

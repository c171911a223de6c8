"""The live page as a person sees it: a real browser beside a real, simulated run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.dashboards.live import page
from tests.dashboards.live.conftest import Server
from tests.dashboards.live.page import (
    all_of,
    click,
    errors,
    job,
    open_first,
    small,
    spoken,
    text,
    tile,
)
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.skewed import Skewed
from tests.fixtures.wrap import PATIENCE_S, Wrapper

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Until = Callable[..., Any]


def test_a_run_is_watched_from_start_to_end(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[..., None],
) -> None:
    wrapper.meter = "sim:a100x8"
    limits = ("--budget-kwh", "0.5", "--budget-kg", "0.001")
    running = wrapper.start(*job(10_000), options=("-q", *limits))
    server = serve()
    browser.get(server.address)
    until(lambda: all_of(browser, "svg.spark"))
    open_first(browser, until)

    until(lambda: len(all_of(browser, "canvas")) == 6)
    sees_it_move(browser, until)
    until(lambda: tile(browser, "time left"))
    assert "to" in small(browser, "CO₂e at the end"), "a range"
    until(lambda: "spent" in text(browser, ".budget.spent"))
    assert "of 0.5 kWh of facility energy" in text(browser, ".budget.within")
    until(lambda: "ago" in text(browser, ".status.live") or "now" in text(browser, ".status.live"))
    devices_are_told_apart(browser, until)
    what_is_shown_follows_buttons_and_keys(browser, until)
    switches(browser, until)

    losses_are_smoothed_and_logarithmic(browser, until)
    what_is_selected_stays_selected(browser, until)
    what_is_assumed_is_explained(browser, until, shot)
    shot("run", every=True)
    assert page.accessibility_faults(browser) == []
    dark_and_light(browser, until)

    server.kill()
    until(lambda: "lost the server" in text(browser, "#link"))
    before = page.number(small(browser, "tokens"))
    server.start()
    until(lambda: text(browser, "#link") == "live")
    until(lambda: page.number(small(browser, "tokens")) > before)

    os.kill(running.pid, signal.SIGTERM)
    running.communicate(timeout=PATIENCE_S)
    until(lambda: "failed" in text(browser, ".title .status"))
    assert not tile(browser, "power now"), "nothing is now of what has ended"
    until(lambda: "ended" in text(browser, "#link"))
    shot("run-ended")
    assert errors(browser) == []


def test_what_is_implausible_or_corrected_of_a_run_is_said_below_its_totals(
    wrapper: Wrapper, serve: Callable[..., Server], browser: Chrome, until: Until
) -> None:
    write_ledger(wrapper.ledger, Recorded(power_w=593.0))
    server = serve()
    browser.get(server.address)
    open_first(browser, until)
    until(lambda: "is 593 W, but its limit is 400 W" in text(browser, ".notes"))
    assert "corrected" not in text(browser, ".notes")
    Skewed({1: {0: 7}}).write(f"sqlite:///{wrapper.ledger}")
    browser.get(f"{server.address}#/run/skewed")
    said = "corrected: times of node1 by -7 s, as its clock was off"
    until(lambda: said in text(browser, ".notes"))
    assert errors(browser) == []


@pytest.mark.parametrize(
    ("options", "paid"),
    [
        ([], "electricity"),
        (["--gpu-price", "15000"], "electricity + hardware"),
        (["--price-per-gpu-hour", "2"], "rent"),
    ],
)
def test_a_tile_says_what_the_cost_pays_for_in_the_tables_words(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    options: list[str],
    paid: str,
) -> None:
    write_ledger(wrapper.ledger, Recorded())
    browser.get(serve(*options).address)
    open_first(browser, until)
    until(lambda: tile(browser, "cost"))
    assert small(browser, "cost").removesuffix("assumed tariff") == paid
    assert errors(browser) == []


def sees_it_move(browser: Chrome, until: Until) -> None:
    """Power rises and moves, the loss falls, energy grows: in tiles, legends and spoken words."""
    early = until(lambda: page.number(tile(browser, "final loss")))
    losses, powers, spoken = [], set(), set()

    def moved() -> bool:
        losses.append(page.number(tile(browser, "final loss")))
        powers.add(tile(browser, "power now"))
        drawn = all_of(browser, "canvas")[0].get_attribute("aria-label") or ""
        spoken.add(drawn)
        assert "–" not in powers, "once a second is known, power is"
        return len(powers) >= 3 and len(spoken) >= 3 and losses[-1] < early

    until(lambda: tile(browser, "power now") not in ("", "–"))
    until(moved)
    assert losses == sorted(losses, reverse=True)
    assert all(label.startswith("Power of all devices: total ") for label in spoken)
    until(lambda: "kW" in tile(browser, "power now"))
    assert "simulated" in text(browser, ".badge")
    assert "assumed intensity" in small(browser, "CO₂e")


def devices_are_told_apart(browser: Chrome, until: Until) -> None:
    def looks(selector: str) -> list[tuple[str | None, str | None]]:
        lines = all_of(browser, f"{selector} .swatch line")
        return [
            (one.get_attribute("stroke"), one.get_attribute("stroke-dasharray")) for one in lines
        ]

    assert "lowest gpu" in spoken(browser, "Power by device"), "a map, and which differ most"
    click(browser, "a line each")
    of_charts = until(lambda: looks('[aria-label="Power by device"]'))
    of_charts = looks('[aria-label="Power by device"]')
    assert len(set(of_charts)) == 8
    assert looks('[aria-label="Devices"] tbody') == of_charts
    chip = '[aria-label="Temperature"] .chip'
    all_of(browser, chip)[3].click()
    for chart in ("Power by device", "Utilisation", "Temperature"):
        pressed = [
            one.get_attribute("aria-pressed")
            for one in all_of(browser, f'[aria-label="{chart}"] .chip')
        ]
        assert pressed == ["true"] * 3 + ["false"] + ["true"] * 4
    all_of(browser, chip)[3].click()
    click(browser, "summary")
    until(lambda: "lowest gpu" in spoken(browser, "Power by device"))
    for name in ("Utilisation", "Temperature"):
        assert "differs most" in text(browser, f'[aria-label="{name}"] .legend')


DRAWN = """
const { look } = await import("./static/palette.js");
const canvas = document.querySelector('[aria-label="Loss"] canvas');
const wanted = look(0).stroke.match(/[0-9a-f]{2}/g).map((part) => parseInt(part, 16));
const copy = document.createElement("canvas");
[copy.width, copy.height] = [canvas.width, canvas.height];
const context = copy.getContext("2d", { willReadFrequently: true });
context.drawImage(canvas, 0, 0);
const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
let found = 0;
for (let at = 0; at < data.length; at += 4)
  found += wanted.every((part, index) => Math.abs(data[at + index] - part) < 8);
return [found, canvas.toDataURL()];
"""


def losses_are_smoothed_and_logarithmic(browser: Chrome, until: Until) -> None:
    def drawn() -> tuple[int, str]:
        """Pixels of the line of the loss, and the picture."""
        pixels, picture = browser.execute_script(f"return (async () => {{{DRAWN}}})()")
        return int(pixels), str(picture)

    pixels, plain = drawn()
    assert pixels > 100
    for name in ("log", "ignore outliers"):
        click(browser, name)
        until(lambda: drawn()[1] != plain)
        assert drawn()[0] > 100, "the line is still within the axes"
        click(browser, name)
    slide = "const [s] = document.querySelectorAll('[aria-label=\"Smoothing\"]');"
    browser.execute_script(f"{slide} s.value = 0.9; s.oninput()")
    until(lambda: "before smoothing" in all_of(browser, '[aria-label="Loss"] .legend')[0].text)
    assert drawn()[0] > 100
    browser.execute_script(f"{slide} s.value = 0; s.oninput()")


def what_is_selected_stays_selected(browser: Chrome, until: Until) -> None:
    select = """
    const cell = document.querySelector('[aria-label="Devices"] tbody td:nth-child(2) span');
    getSelection().selectAllChildren(cell);
    return document.querySelector('[aria-label="Devices"] tbody').textContent;
    """
    before = browser.execute_script(select)
    until(lambda: text(browser, '[aria-label="Devices"] tbody') != before)
    assert browser.execute_script("return getSelection().toString()").startswith("SIM-")


def what_is_assumed_is_explained(browser: Chrome, until: Until, shot: Callable[..., None]) -> None:
    browser.execute_script("scrollTo(0, 0)")  # from under the bars
    all_of(browser, '[data-tile="CO₂e"] button')[0].click()
    until(lambda: "Our World in Data" in text(browser, "dialog tbody"))
    assert "assumed" in text(browser, "dialog .badge")
    assert text(browser, "dialog code").startswith("carbontrack explain ")
    shot("explained")
    assert page.accessibility_faults(browser) == []
    click(browser, "Close")
    assert not all_of(browser, "dialog")


def what_is_shown_follows_buttons_and_keys(browser: Chrome, until: Until) -> None:
    def moves(act: Callable[[], Any]) -> tuple[int, int]:
        before = page.asked_range(browser)
        act()
        return until(lambda: (r := page.asked_range(browser)) != before and r)

    moves(lambda: all_of(browser, '[title="Zoom in"]')[0].click())
    low, high = moves(lambda: page.press(browser, "+"))
    earlier = moves(lambda: all_of(browser, '[title="Earlier"]')[0].click())
    assert earlier[0] < low
    assert earlier[1] - earlier[0] == pytest.approx(high - low, abs=2)
    assert tile(browser, "power now") != "–", "now is now, whatever is shown"
    later = moves(lambda: page.press(browser, "\ue014"))  # the right arrow
    assert later[0] > earlier[0]
    wider = moves(lambda: page.press(browser, "-"))
    assert wider[1] - wider[0] > later[1] - later[0]
    page.press(browser, "0")
    until(lambda: page.asked_range(browser) is None)
    whole = text(browser, ".tools .range")
    moves(lambda: drag(browser))
    assert text(browser, ".tools .range") != whole
    click(browser, "5 min")
    until(lambda: "last=300" in last_asked(browser))
    click(browser, "all")
    until(lambda: "px" in last_asked(browser) and "last" not in last_asked(browser))


def drag(browser: Chrome) -> None:
    from selenium.webdriver import ActionChains

    over = all_of(browser, ".u-over")[0]
    chain = ActionChains(browser).move_to_element_with_offset(over, -80, 0)
    chain.click_and_hold().move_by_offset(120, 0).release().perform()


def last_asked(browser: Chrome) -> str:
    return str(
        browser.execute_script(
            "return performance.getEntriesByType('resource').map(e => e.name)"
            ".filter(name => name.includes('/series')).at(-1)"
        )
    )


def switches(browser: Chrome, until: Until) -> None:
    """The method shows which it is; its row is copied."""
    chosen, other = all_of(browser, '[aria-label="Method"] button')
    assert chosen.value_of_css_property("background-color") != other.value_of_css_property(
        "background-color"
    )
    assert "$" in text(browser, '[aria-label="Emissions"] tbody')
    click(browser, "report")
    until(lambda: text(browser, '[aria-label="Emissions"] tbody td').startswith("report"))
    click(browser, "Copy LaTeX")
    until(lambda: "Copied as LaTeX" in text(browser, "[role=status]"))
    read = "navigator.clipboard.readText().then(arguments[0])"
    assert "\\toprule" in browser.execute_async_script(read)


CONTRAST = """
const { look } = await import("./static/palette.js");
const channels = (css) => {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = css;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (css) => channels(css).map((c) => c / 255)
  .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const card = light(getComputedStyle(document.querySelector(".card")).backgroundColor);
return [...Array(8).keys()].map((index) => light(look(index).stroke))
  .map((line) => (Math.max(line, card) + 0.05) / (Math.min(line, card) + 0.05));
"""


def dark_and_light(browser: Chrome, until: Until) -> None:
    """By what is painted, not by what is set; lines stand out from the card in both."""
    seen = set()
    for _ in range(2):
        back = page.colour(browser, "body")
        contrasts = browser.execute_script(f"return (async () => {{{CONTRAST}}})()")
        assert min(contrasts) >= 3, (back, contrasts)
        seen.add((back, page.colour(browser, "h1", "color")))
        all_of(browser, "#theme")[0].click()
        until(lambda: page.colour(browser, "body") != back)  # noqa: B023
    (one, ink), (other, other_ink) = seen
    assert one != other
    assert ink != other_ink

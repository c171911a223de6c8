"""The pages around a run: the list, the comparison, and what is said where something is missing."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontrack.ledger import HEAD
from carbontrack.ledger.url import ledger_url
from tests.dashboards.live import page
from tests.dashboards.live.conftest import Server
from tests.dashboards.live.page import (
    all_of,
    choose,
    click,
    errors,
    job,
    phone,
    small,
    spoken,
    text,
    tile,
)
from tests.fixtures import pictures
from tests.fixtures.attempts import ONE, Part
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.wrap import Wrapper

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Until = Callable[..., Any]

EXPLODES = """
import carbontrack, time
for step in range(1, 21):
    time.sleep(0.2)  # so that a slow machine's chart still has a point for each
    carbontrack.log_step(step, loss=1e30 if step == 5 else float("nan") if step > 5 else 3.0 / step)
"""


MONEY = """
const { moneyAxis } = await import("./static/compare.js");
return [[2.5e-6, 9e-6], [2.5e-3, 9e-3], [0.03, 0.05], [1234.5, 2000], [1234.5, 2000, "JPY"]].map(
  ([value, largest, currency = "USD"]) => {
    const { xLabel, xFormat, xTicks } = moneyAxis(largest, currency);
    return [xLabel, xTicks.values(null, [value])[0], xFormat(value), xTicks.incrs?.[0] ?? null];
  });
"""

# The clocks of Berlin went on an hour on 29 March.
DAYS = """
const { Span } = await import("./static/span.js");
const True = Date;
globalThis.Date = class extends True {
  constructor(...given) {
    if (given.length) super(...given);
    else super("2026-04-01T00:30:00+02:00");
  }
};
try {
  const span = new Span(() => null, "");
  span.choice.value = "between";
  span.choice.onchange();
  const since = (name) => new True(new Span(() => null, name).range[0]).toISOString();
  return [since("7d"), since("30d"), since("month"), span.value];
} finally {
  globalThis.Date = True;
}
"""


def test_days_are_those_of_the_calendar_where_the_clocks_change(
    wrapper: Wrapper, serve: Callable[..., Server], browser: Chrome
) -> None:
    browser.get(serve().address)
    browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Europe/Berlin"})
    try:
        found = browser.execute_script(f"return (async () => {{{DAYS}}})()")
    finally:
        browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})
    assert found == [
        "2026-03-25T23:00:00.000Z",
        "2026-03-02T23:00:00.000Z",
        "2026-03-31T22:00:00.000Z",
        "2026-03-03..2026-04-01",
    ]


def test_runs_are_listed_and_compared_on_a_desk_and_a_phone(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[..., None],
) -> None:
    for name in ("first", "<script>alert(1)</script>"):
        wrapper.record(*job(8), options=("-q", "--name", name, "--project", "llama"))
    (wrapper.folder / "little.csv").write_text("seconds,watts\n0,0.01\n")
    wrapper.meter += f"@{wrapper.folder / 'little.csv'}"  # the least of the three, however long
    wrapper.record(options=("-q", "--name", "no-steps"))
    address = serve().address
    browser.get(address)
    until(lambda: len(all_of(browser, "tbody tr")) == 3)
    until(lambda: page.tile(browser, "runs"))  # what is above the list is there
    assert "<script>alert(1)</script>" in text(browser, "tbody a"), "just a name"
    assert text(browser, "tbody .badge").count("simulated") == 3
    assert page.overflow(browser, ".scroll, .card, td, th") == []
    click(browser, "device energy")
    until(lambda: text(browser, '[aria-sort="descending"]').startswith("device energy"))
    until(lambda: text(browser, "tbody a").endswith("no-steps"))
    for _ in range(2):
        boxes = [box for box in all_of(browser, "tbody input") if not box.is_selected()]
        page.click_on(browser, boxes[0])
    with phone(browser):
        until(lambda: not all_of(browser, "thead")[0].is_displayed())
        assert page.overflow(browser, ".scroll, .card, td, th") == []
        assert "final loss" in [cell.get_attribute("data-label") for cell in all_of(browser, "td")]
        assert page.small_targets(browser) == []
    assert page.accessibility_faults(browser) == []
    shot("runs", every=True)
    click(browser, "Compare 2")
    until(lambda: len(all_of(browser, "canvas")) == 1)
    assert text(browser, "h1") == "Comparison"
    assert browser.execute_script("return document.activeElement.tagName") == "H1"
    assert text(browser, "tbody").count("simulated") == 2
    assert text(browser, "tbody tr:nth-child(2) .more").count("%") >= 3, "against the first"
    heights = {one.size["height"] for one in all_of(browser, ".plot canvas")}
    assert min(heights) >= 400
    for axis in ("steps", "tokens", "time", "energy", "CO₂e", "cost"):
        click(browser, axis)
        until(
            lambda: all_of(browser, "canvas")[0].get_attribute("aria-label").count("between") == 2
        )
    ticks = browser.execute_script(f"return (async () => {{{MONEY}}})()")
    assert ticks == [
        ["cost (10⁻⁶ USD)", "2.5", "<$0.01", None],
        ["cost (10⁻³ USD)", "2.5", "<$0.01", None],
        ["cost", "$0.03", "$0.03", 0.01],
        ["cost", "$1,234.50", "$1,234.50", 0.01],
        ["cost", "1,235 JPY", "1,235 JPY", 1],
    ], "never $0.0000025"
    with phone(browser):
        until(lambda: page.overflow(browser, ".card, .group, td, th") == [])
        assert page.small_targets(browser) == []
    assert page.accessibility_faults(browser) == []
    shot("compare", every=True)
    assert errors(browser) == []

    browser.get("about:blank")
    browser.get(f"{address}#/compare/first,nobody,no-steps")
    until(lambda: "no run 'nobody'" in text(browser, ".alarm"))
    assert len(all_of(browser, "tbody tr")) == 2, "the others are still compared"


def test_costs_in_several_currencies_are_not_compared(
    wrapper: Wrapper, serve: Callable[..., Server], browser: Chrome, until: Until
) -> None:
    here, there = {"zone": "FRA", "currency": "EUR"}, {"zone": "FRA", "currency": "USD"}
    facilities = [
        {**here, "tariff": 0.1},
        {**here, "tariff": 0.2},
        {**there, "tariff": 0.3},
        {"zone": "NOWHERE"},
    ]
    write_ledger(
        wrapper.ledger,
        *[
            Recorded(name=f"run-{number}", number=number, count=2, facility=facility)
            for number, facility in enumerate(facilities, 1)
        ],
    )
    address = serve().address
    browser.get(f"{address}#/compare/run-1,run-2,run-3,run-4")
    until(lambda: len(all_of(browser, "tbody tr")) == 4)
    drawn = spoken(browser, "Training loss")
    assert (drawn.count("between"), drawn.count("run-4 unknown")) == (3, 1), "it has no factors"
    click(browser, "cost")
    until(lambda: text(browser, ".none") == "Costs in EUR and USD have no common axis.")
    costs = [cell.text for cell in all_of(browser, 'tbody td[data-label="cost"]')]
    assert [("%" in cell, cell[0]) for cell in costs] == [
        (False, "€"),
        (True, "€"),
        (False, "$"),
        (False, "–"),
    ]
    browser.get(f"{address}#/compare/run-4,run-1,run-2")
    until(lambda: len(all_of(browser, "tbody tr")) == 3)
    click(browser, "cost")
    assert spoken(browser, "Training loss").count("between") == 2, "the one without a cost aside"
    assert text(browser, ".none") == ""
    assert errors(browser) == []


def test_a_link_from_another_site_opens_the_page(
    wrapper: Wrapper, serve: Callable[..., Server], browser: Chrome, until: Until
) -> None:
    server = serve("--host", "0.0.0.0")
    token = server.address.partition("?token=")[2]
    for query in (f"?token={token}", ""):
        browser.get(f"data:text/html,<a href='http://127.0.0.1:{server.port}/{query}'>here</a>")
        all_of(browser, "a")[0].click()
        until(lambda: text(browser, "h1") == "Runs")


def test_it_can_be_used_by_keys_and_by_ear(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[..., None],
) -> None:
    from selenium.webdriver import ActionChains, Keys

    settings = wrapper.folder / "config" / "carbontrack" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[quota.llama]\nkwh = 120\n")
    write_ledger(wrapper.ledger, Recorded(name="long", count=8, seconds=86_400.0, project="llama"))
    write_ledger(wrapper.ledger, Recorded(name="none", number=0, count=0, project="llama", steps=0))
    browser.get(serve().address)
    until(lambda: all_of(browser, "tbody a"))
    assert "nothing measured" in text(browser, '[data-row$="0000"] .badge')
    the_first_page_adds_up(browser, until, shot)
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert text(browser, ":focus") == "Skip to the content"
    assert page.colour(browser, ":focus", "outline-style") == "solid"
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert browser.execute_script("return document.activeElement.id") == "page"
    assert text(browser, "h1") == "Runs", "the address of the page is the same"
    all_of(browser, "tbody a")[0].send_keys(Keys.ENTER)
    until(lambda: len(all_of(browser, "canvas")) == 6)
    assert browser.execute_script("return document.activeElement.tagName") == "H1"
    assert page.colour(browser, "h1", "outline-style") == "none", "read from here; not to be used"
    begin, end = re.findall(r"\d{4}-\d\d-\d\d", text(browser, ".tools .range"))
    assert begin < end, "both dates"
    assert "2\u00a0min\u00a0a\u00a0point" in text(browser, ".tools .range")
    said = "means of 1 h: no finer windows are left"
    assert said in text(browser, ".tools .range"), "what was compacted"
    assert page.colour(browser, ".tools").endswith(", 1)"), "no chart shines through"
    hover = ActionChains(browser).move_to_element(all_of(browser, ".u-over")[0])
    hover.perform()
    heights = [one.is_displayed() for one in all_of(browser, ".u-cursor-y")]
    assert not any(heights[1:]), "a height of one chart is none of another"
    for canvas in all_of(browser, "canvas"):
        assert canvas.get_attribute("role") == "img"
        assert ": " in (canvas.get_attribute("aria-label") or "")
    assert "2.88 kW" in (all_of(browser, "canvas")[0].get_attribute("aria-label") or "")
    for region in all_of(browser, ".scroll"):
        assert region.get_attribute("role") == "group", "its card is the landmark"
        assert region.get_attribute("aria-label")
    assert errors(browser) == []


def the_first_page_adds_up(browser: Chrome, until: Until, shot: Callable[..., None]) -> None:
    until(lambda: tile(browser, "runs") == "2")
    assert tile(browser, "device energy") == "69.1 kWh"
    choose(browser, "Group by", "project")
    until(lambda: "llama" in text(browser, '[aria-label="Totals by group"] tbody th'))
    choose(browser, "When", "between")
    days = all_of(browser, 'input[type="date"]')
    browser.execute_script(
        "const [first, last] = arguments; first.value = '2026-05-01'; last.value = '2026-05-28';"
        "last.onchange()",
        *days,
    )
    until(lambda: tile(browser, "runs") == "1")
    assert [link.text for link in all_of(browser, ".cards tbody a")] == ["none"]
    query = "?when=2026-05-01..2026-05-28&by=project"
    until(lambda: browser.current_url.endswith(f"#/{query}"))
    browser.refresh()
    until(lambda: tile(browser, "runs") == "1")
    until(lambda: "llama" in text(browser, '[aria-label="Totals by group"] tbody th'))
    quota = text(browser, ".quotas .meter")
    assert re.fullmatch(r"at least \d+(\.\d+)? of 120 kWh in 2026-05, nearly spent89 %", quota)
    assert page.accessibility_faults(browser) == []
    shot("sums", every=True)
    choose(browser, "When", "")
    until(lambda: len(all_of(browser, ".cards tbody a")) == 2)
    choose(browser, "Group by", "")
    until(lambda: browser.current_url.endswith("#/"))


def test_a_loss_that_is_no_number_is_said(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[..., None],
) -> None:
    wrapper.record(sys.executable, "-c", EXPLODES, options=("-q", "--name", "exploded"))
    browser.get(f"{serve().address}#/run/last")
    until(lambda: len(all_of(browser, "canvas")) == 6)
    assert tile(browser, "final loss") == "not a number"
    assert "since step 6" in small(browser, "final loss")
    warned = page.colour(browser, '[data-tile="final loss"] dd', "color")
    assert warned != page.colour(browser, '[data-tile="duration"] dd', "color")
    until(lambda: "beyond the scale: up to 1e30" in text(browser, '[aria-label="Loss"] header'))
    with phone(browser):
        until(lambda: page.beside_titles(browser) == [True] * 6)
    shot("not-a-number")
    assert errors(browser) == []


def test_a_run_that_measured_nothing_still_has_its_page(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[..., None],
) -> None:
    write_ledger(wrapper.ledger, Recorded(count=0, seconds=10, steps=0))
    server = serve()
    browser.get(f"{server.address}#/run/last")
    until(lambda: len(all_of(browser, "canvas")) == 5)
    assert tile(browser, "facility energy") == "–", "not known is not zero"
    assert text(browser, ".none").count("recorded") == 4
    assert "nothing measured" in text(browser, ".title .badge")
    assert not any(one.is_displayed() for one in all_of(browser, ".uplot")), "no axes of nothing"
    cards = [card.rect for card in all_of(browser, ".charts > *")]
    assert cards[-1]["width"] > 1.9 * cards[0]["width"], "the last one has its row"
    with phone(browser):
        bar = browser.execute_script("return document.querySelector('.top').offsetHeight")
        assert bar < 60, "one line"
        assert page.overflow(browser, ".top") == []
    shot("nothing-measured")
    browser.get(f"{server.address}#/run/nobody")
    until(lambda: "no run 'nobody'" in text(browser, "main"))
    assert text(browser, "h1") == "No such run"
    assert text(browser, "#link") == "", "the server and its ledger did answer"
    assert page.accessibility_faults(browser) == []
    shot("no-such-run")


def test_many_devices_are_a_map_on_a_page_of_their_own(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[..., None],
) -> None:
    write_ledger(wrapper.ledger, Recorded(count=64, seconds=86_400.0))
    browser.get(f"{serve().address}#/run/last")
    until(lambda: "mean of all" in text(browser, '[aria-label="Power by device"] .legend'))
    assert "mean of all" in text(browser, '[aria-label="Temperature"] .legend')
    assert len(all_of(browser, ".chip")) < 20, "not a line each"
    assert len(all_of(browser, '[aria-label="Devices"] tbody tr')) == 64
    with phone(browser):
        until(lambda: page.overflow(browser, ".card") == [])
        assert page.beside_titles(browser) == [True] * 6
        assert page.small_targets(browser) == []
    assert page.accessibility_faults(browser) == []
    shot("many-devices")
    assert errors(browser) == []


def test_a_device_that_is_not_known_hides_no_other(
    wrapper: Wrapper, serve: Callable[..., Server], browser: Chrome, until: Until
) -> None:
    """One of five cannot be read; and a run that went on on another node."""
    one = Recorded(name="one-silent", count=5, seconds=60)
    seconds = [pictures.window_at(one.start_ms + 1000 * second, 1, 300.0) for second in range(60)]
    rows = [row for s in one.sensors[1:] for row in pictures.all_levels(s.uuid, seconds)]
    pictures.write(ledger_url(str(wrapper.ledger)), one, rows, [], [])
    of_three = replace(ONE, name="requeued", count=3)
    parts = [Part(node=n, attempt=n, seconds=60, one=of_three) for n in (0, 1)]
    for part in parts:
        part.write(wrapper.ledger)
    address = serve().address
    total, by_device = '[aria-label="Power of all devices"]', '[aria-label="Power by device"]'
    browser.get(f"{address}#/run/one-silent")
    unknown = "At no time is the power of all devices known."
    until(lambda: text(browser, f"{total} .none") == unknown)
    assert text(browser, f"{by_device} .none") == ""
    assert all_of(browser, f"{by_device} .uplot")[0].is_displayed()
    assert "lowest gpu 1 300 W" in spoken(browser, "Power by device")
    assert tile(browser, "mean power") == "1.20 kW"
    assert small(browser, "mean power") == "4 of 5 devices"
    browser.get(f"{address}#/run/requeued")
    until(lambda: text(browser, "h1") == "requeued" and len(all_of(browser, "canvas")) == 6)
    for chart in ("Power of all devices", "Power by device"):
        assert "between" in spoken(browser, chart), "the mean and total of those of one node"
    mean_w = [
        sum(w.energy_j or 0.0 for n in range(3) for w in part.windows(n, 0, 60)) / 60
        for part in parts
    ]
    assert page.number(tile(browser, "mean power")) == pytest.approx(sum(mean_w) / 2, rel=0.01)
    assert errors(browser) == []


def test_evaluations_phases_and_what_is_stated_are_said(
    wrapper: Wrapper, serve: Callable[..., Server], browser: Chrome, until: Until
) -> None:
    url = ledger_url(str(wrapper.ledger))
    pictures.write_seconds(url, Recorded(count=2, seconds=40))
    stated = ("add", "--name", "far", "--device", "A100", "--gpu-hours", "8", "--energy", "3 kWh")
    assert wrapper.ask(*stated).returncode == 0
    address = serve().address
    browser.get(f"{address}#/run/llama2-7b")
    until(lambda: "saved" in text(browser, '[aria-label="Events"] tbody'))
    said = [cell.text for cell in all_of(browser, '[aria-label="Events"] td.text')]
    assert said == ["saved", "diverged: loss nan", "held-out: loss 3", "train", "load"]
    shares = re.findall(r"([\d.]+) %", text(browser, '[aria-label="Phases"] tbody'))
    assert sum(map(float, shares)) == 100, "rounded, not cut"
    browser.get(f"{address}#/")
    until(lambda: "stated" in text(browser, "tbody .badge"))
    assert errors(browser) == []


def test_an_empty_ledger_says_how_to_start_and_fills_by_itself(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    shot: Callable[..., None],
) -> None:
    browser.get(serve().address)
    until(lambda: "carbontrack run -- python train.py" in text(browser, "main"))
    assert text(browser, "main").count("carbontrack run") == 1, "said once"
    assert not all_of(browser, ".alarm"), "and is no mistake"
    shot("empty")
    wrapper.run("true")
    until(lambda: all_of(browser, "tbody a"))


def test_a_ledger_that_is_upgraded_removed_and_comes_back(
    wrapper: Wrapper,
    serve: Callable[..., Server],
    browser: Chrome,
    until: Until,
    tmp_path: Path,
) -> None:
    wrapper.run("true", options=("-q", "--name", "before"))
    address = serve().address
    browser.get(f"{address}#/run/before")
    until(lambda: text(browser, "h1") == "before")
    schema(wrapper.ledger, "9999")
    wrapper.ledger.rename(tmp_path / "newer.db")
    (tmp_path / "newer.db").rename(wrapper.ledger)
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    until(lambda: "There is no ledger" in text(browser, ".alarm"))
    until(lambda: "no answer from the ledger" in text(browser, "#link"))
    browser.get(f"{address}#/")
    until(lambda: "There is no ledger" in text(browser, "main"))
    wrapper.run("true", options=("-q", "--name", "after"))
    until(lambda: text(browser, "tbody a") == "after")
    schema(wrapper.ledger, "9999")
    until(lambda: "newer carbontrack" in text(browser, ".alarm"))
    schema(wrapper.ledger, HEAD)
    until(lambda: text(browser, "tbody a") == "after")


def schema(ledger: Path, revision: str) -> None:
    """The ledger as another carbontrack left it: a new file, as a restored one is."""
    fresh = ledger.with_name("fresh.db")
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("vacuum into ?", (str(fresh),))
    with closing(sqlite3.connect(fresh)) as connection, connection:
        connection.execute("update alembic_version set version_num = ?", (revision,))
    fresh.replace(ledger)

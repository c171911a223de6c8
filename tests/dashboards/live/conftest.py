"""A live server on a ledger of its own, and a real browser."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dashboards.live import page
from tests.fixtures import tools
from tests.fixtures.ports import PORTS
from tests.fixtures.wrap import CARBONTRACK, PATIENCE_S, Wrapper

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


_SCREENSHOTS = Path(__file__).parents[3] / "out/screenshots"


@dataclass
class Server:
    """`carbontrack serve` as a process; it comes back on the same port, which nothing else has
    while it is away: the browser makes many connections.
    """

    wrapper: Wrapper
    options: tuple[str, ...] = ()
    port: int = 0
    address: str = ""
    process: subprocess.Popen[str] | None = field(default=None)

    def start(self) -> Server:
        ports = [self.port] if self.port else random.sample(PORTS, 20)
        for port in ports:
            self.process = subprocess.Popen(
                [*CARBONTRACK, "serve", "--port", str(port), *self.options],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self.wrapper.env,
            )
            assert self.process.stdout is not None
            if address := self.process.stdout.readline().strip():
                self.address, self.port = address, port
                return self
            _, said = self.process.communicate()
            assert f"Port {port}" in said, said  # it is taken: another one
        raise AssertionError(f"none of the ports {ports} is free")

    def kill(self) -> None:
        """As when its machine dies: nothing is said to anybody."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)
        self.process = None

    def stop(self) -> str:
        """Interrupt it as Ctrl-C does; what it said on stderr."""
        if self.process is None:
            return ""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        self.process = None
        return errors


@pytest.fixture
def serve(wrapper: Wrapper) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(*options: str, port: int = 0) -> Server:
        started.append(Server(wrapper, options, port).start())
        return started[-1]

    yield start
    for server in started:
        errors = server.stop()
        assert "Traceback" not in errors, errors


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Headless Chromium."""
    tools.need(tools.CHROMIUM)
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--lang=en-US",  # without it, under LANG=C, Intl refuses the locale
        "--window-size=1280,1400",
        f"--user-data-dir={profile}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = ChromeService(shutil.which("chromedriver"), env={**os.environ, "LANG": "en_US.UTF-8"})
    chrome = Chrome(options=options, service=service)
    chrome.set_script_timeout(PATIENCE_S)
    allowed = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    chrome.execute_cdp_cmd("Browser.grantPermissions", allowed)
    try:
        yield chrome
    finally:
        chrome.quit()


@pytest.fixture
def browser(chromium: Chrome) -> Chrome:
    """The one Chromium, on an empty page, with nothing in its log from the test before."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    return chromium


_WIDE = {"width": 1280, "height": 1700, "deviceScaleFactor": 1, "mobile": False}
_PHONE = {"width": 390, "height": 1900, "deviceScaleFactor": 1, "mobile": True}
_MOST_HIGH = 6000


def page_height(browser: Chrome) -> int:
    return int(browser.execute_script("return document.documentElement.scrollHeight"))


@pytest.fixture
def shot(browser: Chrome) -> Callable[..., None]:
    """Keep pictures of the page in out/screenshots, or where $CARBONTRACK_SCREENSHOTS says: light
    on a desk and dark on a phone, and with `every` the other two as well; from top to bottom.
    """
    folder = Path(os.environ.get("CARBONTRACK_SCREENSHOTS", _SCREENSHOTS))

    def take(name: str, *, every: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        browser.execute_script("delete document.documentElement.dataset.theme")
        for theme, where, size in (
            ("light", "desk", _WIDE),
            ("dark", "phone", _PHONE),
            ("light", "phone", _PHONE),
            ("dark", "desk", _WIDE),
        )[: 4 if every else 2]:
            scheme = {"name": "prefers-color-scheme", "value": theme}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            with page.sized(browser, size):
                whole = max(int(size["height"]), min(_MOST_HIGH, page_height(browser)))
                size = size | {"height": whole}
                browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                browser.execute_async_script(page.PAINTED)
                browser.save_screenshot(str(folder / f"{name}-{where}-{theme}.png"))
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    return take

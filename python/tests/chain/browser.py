# SPDX-License-Identifier: Apache-2.0
"""A visitor: headless Chromium, and what it saw on the wire.

    with Browser() as browser:
        page = browser.open(proxy.url)
        page.wait_text("#clicks", "0")

Playwright's calls run in a thread of their own: it keeps an event loop running in its thread, in
which Jupyter's client could not run its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import processes
from .proxy import Missing

T = TypeVar("T")

NAMES = ("chromium", "chromium-browser", "google-chrome")

# Taipy's pages ask for MathJax and fonts from the internet; we stay on loopback, by whatever name.
NAME = "apps.test"
ARGUMENTS = [f"--host-resolver-rules=MAP {NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]

HAS_TEXT = """([selector, text, exactly]) => {
    const element = document.querySelector(selector);
    const shown = element ? element.innerText.trim() : null;
    return shown !== null && (exactly ? shown === text : shown.includes(text));
}"""


@dataclass
class Frame:
    """One websocket frame. `at` is time.perf_counter(), when it was learned of."""

    sent: bool
    payload: str
    at: float = field(default_factory=time.perf_counter)


class Page:
    """A page that was opened by Browser.open."""

    def __init__(self, browser: Browser, page: Any) -> None:
        self._browser = browser
        self._page = page
        self.frames: list[Frame] = []
        self.websockets: list[str] = []
        self._errors: list[str] = []
        self.loads = 0  # documents: 1 until a reload
        self.requests = 0
        self.bytes = 0  # that came over the network

    @property
    def errors(self) -> list[str]:
        """What the console said as an error until now: what has come is heard by who calls Playwright."""
        self._browser.call(lambda: self._page.wait_for_timeout(1))
        return list(self._errors)

    def _listen(self) -> None:
        page = self._page
        page.on("websocket", self._websocket)
        page.on("console", lambda m: self._errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self._errors.append(str(e)))
        page.on("domcontentloaded", lambda _: self._count(loads=1))
        page.on("request", lambda _: self._count(requests=1))
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        network.on("Network.loadingFinished", lambda e: self._count(size=int(e["encodedDataLength"])))

    def _count(self, loads: int = 0, requests: int = 0, size: int = 0) -> None:
        self.loads += loads
        self.requests += requests
        self.bytes += size

    def _websocket(self, socket: Any) -> None:
        self.websockets.append(socket.url)
        socket.on("framesent", lambda payload: self._frame(True, payload))
        socket.on("framereceived", lambda payload: self._frame(False, payload))

    def _frame(self, sent: bool, payload: str | bytes) -> None:
        text = payload if isinstance(payload, str) else payload.decode(errors="replace")
        self.frames.append(Frame(sent, text))

    def wait_text(self, selector: str, text: str, timeout: float = 15.0, exactly: bool = True) -> float:
        """Wait until the element shows the text; when that was, by time.perf_counter()."""

        def wait() -> float:
            try:
                self._page.wait_for_function(HAS_TEXT, arg=[selector, text, exactly], timeout=timeout * 1000)
            except Exception as e:
                shown = self._page.evaluate("document.body.innerText")
                raise TimeoutError(f"{selector}: no {text!r} after {timeout:.0f} s: {shown!r}") from e
            return time.perf_counter()

        return self._browser.call(wait)

    def text(self, selector: str) -> str:
        """What the element shows."""
        return str(self._browser.call(lambda: self._page.inner_text(selector))).strip()

    def click(self, selector: str, timeout: float = 15.0) -> None:
        """Click it, once it is there."""
        self._browser.call(lambda: self._page.click(selector, timeout=timeout * 1000))

    def evaluate(self, script: str) -> Any:
        """The value of a script."""
        return self._browser.call(lambda: self._page.evaluate(script))

    def wait_frame(self, wanted: Callable[[Frame], bool], timeout: float = 15.0, after: int = 0) -> Frame:
        """The first websocket frame that is wanted, of those from number `after` on."""

        def wait() -> Frame:
            deadline = time.monotonic() + timeout
            while True:
                for frame in self.frames[after:]:
                    if wanted(frame):
                        return frame
                if time.monotonic() > deadline:
                    others = f"{len(self.frames)} others"
                    raise TimeoutError(f"no such websocket frame after {timeout:.0f} s ({others})")
                self._page.wait_for_timeout(5)  # events arrive while Playwright is being called

        return self._browser.call(wait)

    def screenshot(self, path: str) -> None:
        """A picture of the page, as PNG."""
        self._browser.call(lambda: self._page.screenshot(path=path))

    def close(self) -> None:
        """Close it, as a visitor closes a tab."""
        self._browser.call(self._page.close)


class Browser:
    """Headless Chromium, the machine's own."""

    def __enter__(self) -> Browser:
        chromium = next(filter(None, map(shutil.which, NAMES)), None)
        if chromium is None:
            raise Missing("chromium")
        self._thread = ThreadPoolExecutor(1, "browser")
        self._before = processes.descendants(os.getpid())
        try:
            self.call(lambda: self._start(chromium))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, chromium: str) -> None:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(
            executable_path=chromium,
            headless=True,
            args=ARGUMENTS + (["--no-sandbox"] if os.getuid() == 0 else []),
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
        )

    def _stop(self) -> None:
        self._chromium.close()
        self._playwright.stop()

    def call(self, f: Callable[[], T]) -> T:
        """f's result, from the browser's thread."""
        return self._thread.submit(f).result()

    def open(self, url: str) -> Page:
        """A new visitor on a new page. Returns when it has the page's document, not when it is drawn."""

        def visit() -> Page:
            page = Page(self, self._chromium.new_context().new_page())
            page._listen()
            page._page.goto(url, wait_until="commit")
            return page

        return self.call(visit)

    def close(self) -> None:
        """End Chromium, by force if it does not end by itself."""
        stopping: Future[None] = self._thread.submit(self._stop)
        with contextlib.suppress(Exception):
            stopping.result(5)
        ours = [p for p in processes.descendants(os.getpid()) if p not in self._before]
        processes.kill(p for p in ours if "chrom" in p.name or p.name == "node")
        self._thread.shutdown()

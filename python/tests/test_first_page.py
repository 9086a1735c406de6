# SPDX-License-Identifier: Apache-2.0
"""The first page of a Taipy app: how heavy it is, that it looks the same, and what stands there while its kernel is
busy. Real Taipy, a real kernel, a real browser.
"""

from __future__ import annotations

import base64
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from chain import processes
from chain.browser import Browser, Page
from chain.notebook import Notebook
from chain.proxy import Proxy
from chain.testing import eventually, link

APP = """
from taipy.gui import Gui
import taipy_tunnel
name, level, choice = "Bordeaux", 5, "b"
rows = {"month": ["May", "June", "July"], "sold": [120, 80, 95]}
gui = Gui('''
# Sales

<|{name}|text|id=name|>

<|Press|button|>

<|{level}|slider|min=0|max=10|>

<|{choice}|toggle|lov=a;b;c|>

<|{rows}|table|>
''')
gui.run(port=%d)
tunnel = taipy_tunnel.expose()
print(tunnel.url, tunnel.status.target)
"""

LIGHT = 1.9e6  # bytes: 7.2 MB as Taipy serves it, 1.7 MB through the gate
HEAVY = 6e6  # what the app itself sends is more than this, or we do not measure what a visitor fetches
DIFFERENT = 0.001  # of the pixels

# How many pixels of two pictures differ, of how many, and how many colours the first has: Chromium reads PNG.
COMPARE = """async () => {
    const pixels = async (png) => {
        const bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));
        const bitmap = await createImageBitmap(new Blob([bytes], {type: "image/png"}));
        const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
        context.drawImage(bitmap, 0, 0);
        const data = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
        return new Uint32Array(data.buffer);
    };
    const [a, b] = [await pixels("%s"), await pixels("%s")];
    let different = Math.abs(a.length - b.length);
    for (let i = 0; i < Math.min(a.length, b.length); i++) different += a[i] !== b[i];
    return [different, a.length, new Set(a).size];
}"""

# From the file on no other thread runs: neither call gives the GIL away, and nobody may ask for it between them.
HOLD = """
import ctypes, sys, time
libc, usual = ctypes.PyDLL(None), sys.getswitchinterval()
sys.setswitchinterval(60)
time.sleep(0.02)  # who waits for the GIL by now does so for the usual time
libc.creat(b"held", 0o600)
libc.usleep(%d)
sys.setswitchinterval(usual)
"""
BUSY = 14.0  # seconds in which no Python runs
CEILING = 12.0  # until a page says so: 5 s without a sign of life, a second between looks; the rest for busy machines


@pytest.fixture
def notebook(proxy: Proxy) -> Iterator[Notebook]:
    """A kernel that knows the proxy machine."""
    known = {f"TAIPY_TUNNEL_{name.upper()}": str(value) for name, value in link(proxy).items()}
    with Notebook(env=known) as notebook:
        yield notebook


def expose(notebook: Notebook) -> tuple[str, str]:
    """The link, and the app's own address."""
    url, target = notebook.run(APP % processes.free_port()).ok().stdout.split()[-2:]
    assert "#token=" in url
    return url, f"http://{target}/"


def ask(url: str, headers: dict[str, str]) -> tuple[int, str]:
    """Status and text of an answer that may take as long as the kernel is busy."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=BUSY + 10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def drawn(browser: Browser, url: str) -> tuple[Page, bytes]:
    """A page that has all it asked for, and its picture."""
    page = browser.open(url)
    page.wait_text("#name", "Bordeaux", timeout=30)
    page.wait_text("table", "July", exactly=False)
    browser.call(lambda: page._page.wait_for_load_state("networkidle"))
    page.evaluate("document.fonts.ready.then(() => true)")
    return page, browser.call(lambda: page._page.screenshot(animations="disabled"))


def test_the_first_page_is_light_and_looks_the_same(notebook: Notebook, proxy: Proxy) -> None:
    url, own = expose(notebook)
    with Browser() as browser:
        ours, picture = drawn(browser, url)
        direct, wanted = drawn(browser, own)
        blank = browser.open("about:blank")
        pictures = [base64.b64encode(png).decode() for png in (wanted, picture)]
        different, pixels, colours = blank.evaluate(COMPARE % tuple(pictures))
        assert ours.evaluate("location.href") == proxy.url
    share = different / pixels
    print(f"{ours.bytes / 1e6:.2f} MB, by itself {direct.bytes / 1e6:.2f} MB; {different} of {pixels} pixels differ")
    assert colours > 50, "the picture shows nothing"
    assert direct.bytes > HEAVY
    assert ours.bytes <= LIGHT
    assert share <= DIFFERENT


def test_a_page_says_that_the_kernel_is_busy(notebook: Notebook, proxy: Proxy) -> None:
    url, _ = expose(notebook)
    bearer = {"Authorization": "Bearer " + url.partition("#token=")[2]}

    def timed(accept: str) -> tuple[int, str, float]:
        status, said = ask(proxy.url, {"Accept": accept, **bearer})
        return status, said, time.monotonic() - began

    with Browser() as browser, ThreadPoolExecutor(2) as visitors:
        eventually(lambda: ask(proxy.url, bearer)[0] == 200, 30)
        running = notebook.run_nowait(HOLD % (BUSY * 1e6))
        eventually((notebook.cwd / "held").exists)
        began = time.monotonic()
        html, api = visitors.submit(timed, "text/html"), visitors.submit(timed, "application/json")
        page = browser.open(url)
        status, said, after = html.result()
        assert (status, "The app is busy" in said) == (503, True)
        assert after < CEILING
        assert not api.done()
        page.wait_text("h1", "The app is busy", timeout=CEILING)
        status, said, waited = api.result()
        print(f"503 after {after:.1f} s, 200 after {waited:.1f} s")
        assert (status, "<html" in said) == (200, True)
        running.wait().ok()
        # Where it said so the app stands, without anybody's doing.
        page.wait_text("#name", "Bordeaux", timeout=30)
        assert page.evaluate("location.href") == proxy.url
        assert ask(proxy.url, {"Accept": "text/html", **bearer})[0] == 200

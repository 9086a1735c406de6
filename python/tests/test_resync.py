# SPDX-License-Identifier: Apache-2.0
"""After an outage every page shows what is: real Taipy, a real kernel, a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chain import processes
from chain.browser import Browser
from chain.notebook import Notebook
from chain.proxy import Proxy
from conftest import arguments, eventually

APP = """
from taipy.gui import Gui
import taipy_tunnel
text, number, level, changes = "first", 1, 5, []
def on_change(state, name, value):
    changes.append(name)
gui = Gui('''
<|{text}|text|id=text|>

<|{number}|text|id=number|>

<|{level}|slider|min=0|max=10|>
''')
gui.run(port=%d)
tunnel = taipy_tunnel.expose()
"""


@pytest.fixture
def notebook(proxy: Proxy) -> Iterator[Notebook]:
    """A kernel with an app that is exposed."""
    known = {f"TAIPY_TUNNEL_{name.upper()}": str(value) for name, value in arguments(proxy).items()}
    with Notebook(env=known) as notebook:
        notebook.run(APP % processes.app_port()).ok()
        yield notebook


def test_values_set_during_an_outage_reach_the_page(notebook: Notebook, proxy: Proxy) -> None:
    with Browser() as browser:
        page = browser.open(proxy.url)
        page.wait_text("#text", "first", timeout=30)
        notebook.run("gui.state.text = 'before'").ok()
        page.wait_text("#text", "before")
        page.evaluate("window.sameDocument = true")
        for outage in range(2):
            before = len(page.websockets)
            proxy.stop_sshd()
            notebook.run(f"gui.state.text, gui.state.number = 'after {outage}', {100 + outage}").ok()
            proxy.start_sshd()
            page.wait_text("#text", f"after {outage}", timeout=30)
            page.wait_text("#number", f"{100 + outage}", timeout=5)
            eventually(lambda before=before: len(page.websockets) > before)
        assert page.evaluate("window.sameDocument === true")
        # The user's on_change was called for what the cells set, and for nothing else.
        called = notebook.run("print(*changes)").ok().stdout
        assert called.split() == ["text", *2 * ["text", "number"]]

# SPDX-License-Identifier: Apache-2.0
"""After an outage every page shows what is: real Taipy, a real kernel, a real browser."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import pytest
from chain import processes
from chain.browser import Browser
from chain.notebook import Notebook
from chain.proxy import Proxy
from chain.testing import arguments, eventually
from taipy_tunnel._taipy import resync

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
        notebook.run(APP % processes.free_port()).ok()
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
            page.wait_text("#number", f"{100 + outage}", timeout=30)
            eventually(lambda before=before: len(page.websockets) > before)
        assert page.evaluate("window.sameDocument === true")
        # The user's on_change was called for what the cells set, and for nothing else.
        called = notebook.run("print(*changes)").ok().stdout
        assert called.split() == ["text", *2 * ["text", "number"]]


class Clicked:
    """A Gui, as far as it is asked, on whose page somebody clicks while it sends its values."""

    def __init__(self, clicks: int) -> None:
        self.clicks = clicks
        self.scope = types.SimpleNamespace(tp_count=0, other=object())
        self.sent: list[int] = []

    def _bindings(self) -> Any:
        return types.SimpleNamespace(_get_all_scopes=lambda: {"global": self.scope})

    def get_flask_app(self) -> Any:
        return types.SimpleNamespace(app_context=contextlib.nullcontext)

    def _Gui__request_var_update(self, payload: Any) -> None:
        assert payload == {"names": ["tp_count"], "refresh": False}
        read = self.scope.tp_count
        if self.clicks > 0:
            self.clicks -= 1
            self.scope.tp_count += 1
            self.sent.append(self.scope.tp_count)  # the click's own message
        self.sent.append(read)


@pytest.mark.parametrize(("clicks", "sent"), [(0, [0]), (1, [1, 0, 1]), (9, [1, 0, 2, 1, 3, 2])])
def test_a_click_meanwhile_is_not_taken_back(clicks: int, sent: list[int]) -> None:
    """Where clicks do not end it gives up; the next one shows what is."""
    gui = Clicked(clicks)
    resync._send(gui)
    assert gui.sent == sent

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

IMPORTS = "from taipy.gui import Gui\nimport taipy_tunnel\n"
APP = """
text, number, level, changes = "first", 1, 5, []
def on_change(state, name, value):
    changes.append(name)
gui = Gui('''
<|{text}|text|id=text|>

<|{number}|text|id=number|>

<|Now {text}|text|id=sentence|>

<|{level}|slider|min=0|max=10|>
''')
"""
RUN = "gui.run(port=%d)\ntunnel = taipy_tunnel.expose()"


@pytest.fixture
def notebook(proxy: Proxy) -> Iterator[Notebook]:
    """A kernel that knows the proxy from its environment, with Taipy imported."""
    known = {f"TAIPY_TUNNEL_{name.upper()}": str(value) for name, value in arguments(proxy).items()}
    with Notebook(env=known) as notebook:
        notebook.run(IMPORTS).ok()
        yield notebook


def test_values_set_during_an_outage_reach_the_page(notebook: Notebook, proxy: Proxy) -> None:
    notebook.run(APP + RUN % processes.free_port()).ok()
    with Browser() as browser:
        page = browser.open(proxy.url)
        page.wait_text("#text", "first", timeout=30)
        notebook.run("gui.state.text = 'before'").ok()
        page.wait_text("#text", "before")
        page.evaluate("window.sameDocument = true")
        for outage in range(2):
            before = len(page.websockets)
            proxy.stop_sshd()
            after = f"'after {outage}', {100 + outage}, {6 + outage}"
            notebook.run(f"gui.state.text, gui.state.number, gui.state.level = {after}").ok()
            proxy.start_sshd()
            page.wait_text("#text", f"after {outage}", timeout=30)
            page.wait_text("#number", f"{100 + outage}", timeout=30)
            page.wait_text("#sentence", f"Now after {outage}", timeout=30)
            eventually(lambda outage=outage: page.evaluate("document.querySelector('input').value") == f"{6 + outage}")
            eventually(lambda before=before: len(page.websockets) > before)
        assert page.evaluate("window.sameDocument === true")
        # The user's on_change was called for what the cells set, and for nothing else.
        called = notebook.run("print(*changes)").ok().stdout
        assert called.split() == ["text", *2 * ["text", "number", "level"]]


# Apps of which no variable can be sent, what more is done, and how often the owner is warned.
UNSENDABLE = {
    "Taipy names what pages show in another way": (
        "text = 'first'\ngui = Gui('''# App\n<|{text}|>''')",
        "resync.PREFIXES = ('zz_',)",
        1,
    ),
    "no page shows a variable": ("gui = Gui('# App')", "", 0),
    "no page shows those that a cell uses": (
        "text, my_text = 'first', 'mine'\ngui = Gui('# App')",
        "gui.state.text = gui.state.my_text",
        0,
    ),
}


@pytest.mark.parametrize("name", UNSENDABLE)
def test_values_that_cannot_be_sent_are_told_once(name: str, notebook: Notebook, proxy: Proxy) -> None:
    app, more, warnings = UNSENDABLE[name]
    notebook.run(f"{app}\n{RUN % processes.free_port()}").ok()
    with Browser() as browser:
        browser.open(proxy.url).wait_text("h1", "App", timeout=30)
        notebook.run(
            "from taipy_tunnel._taipy import resync\nlooks, send = [], resync._send\n"
            f"resync._send = lambda gui: looks.append(send(gui)) or looks[-1]\n{more}"
        ).ok()
        for outage in range(2):
            proxy.stop_sshd()
            proxy.start_sshd()
            eventually(lambda outage=outage: notebook.run("len(looks)").ok().text == str(outage + 1), 30)
    told = "print(sum(' warning Taipy ' in line and 'what they showed before' in line for line in tunnel.logs()))"
    assert notebook.run(told).ok().said == f"{warnings}\n"


class Clicked:
    """A Gui, as far as it is asked, on whose page somebody clicks while it sends its values."""

    def __init__(self, clicks: int = 0, **variables: object) -> None:
        self.clicks = clicks
        self.scope = types.SimpleNamespace(**variables or {"tp_count": 0, "other": object()})
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


class Back(Clicked):
    """One whose page comes back with each link."""

    def __init__(self, error: Exception | None = None, **variables: object) -> None:
        super().__init__(**variables)
        self.error, self.links = error, 0
        manager = types.SimpleNamespace(get_participants=lambda *_: [(f"page {self.links}", None)])
        self._server = types.SimpleNamespace(_ws=types.SimpleNamespace(server=types.SimpleNamespace(manager=manager)))

    def _Gui__request_var_update(self, payload: Any) -> None:
        if self.error is not None:
            raise self.error


UNSENT = {
    "names of another kind": (
        Back(zz_TpExPr_count_TPMDL_0=0, count=0, TaipyOnInit=True),
        "names of what pages show are not what they were",
    ),
    "an error": (Back(ValueError("secret"), tp_count=0), "pages may show what they showed before the outage"),
    "sent": (Back(tp_count=0), ""),
    "no variables": (Back(TaipyOnInit=True), ""),
    "one that no page shows": (Back(TaipyOnInit=True, count=0), ""),
}


@pytest.mark.parametrize("name", UNSENT)
def test_what_was_not_sent_is_told(name: str) -> None:
    gui, told = UNSENT[name]
    watched, warned = resync.Resync(), set()
    for gui.links in range(4):
        assert watched.look(gui, gui.links, warned.add) == (gui.links > 0 and not told)
    assert len(warned) == bool(told)  # each text once: what a tunnel has said it does not say again
    assert told in "".join(warned)
    assert "secret" not in "".join(warned)

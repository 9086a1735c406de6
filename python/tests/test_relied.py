# SPDX-License-Identifier: Apache-2.0
"""Canaries: what becomes of a tunnel when Taipy's next version has moved what is private to it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import pytest
from chain import processes
from chain.browser import Browser
from chain.compat import TAKEN, Row
from chain.notebook import Notebook
from chain.proxy import Proxy
from chain.testing import arguments, eventually
from taipy_tunnel._taipy.relied import RELIED

APP = """
from taipy.gui import Gui
import taipy_tunnel
from taipy_tunnel._taipy.relied import Canary
text = "first"
gui = Gui("<|{text}|text|id=text|>")
gui.run(port=%d)
tunnel = taipy_tunnel.expose()
def warnings():
    return [line for line in tunnel.logs() if " warning " in line and "open to everybody" not in line]
"""

# An object as it is, but for one attribute at the end of a way.
WITHOUT = """
class Without:
    def __init__(self, of, way):
        self.of, (self.first, *self.rest) = of, way
    def __getattr__(self, name):
        found = getattr(self.of, name)
        if name != self.first.removesuffix("()"):
            return found
        if not self.rest:
            raise AttributeError(name)
        if name == self.first:
            return Without(found, self.rest)
        return lambda: Without(found(), self.rest)
"""

# Gui as it is in Taipy's repository since the pull request "generalized server implementation".
NEXT = """
import sys
flask_app = Gui.get_flask_app
def get_flask_app(self):
    if not sys._getframe(1).f_globals["__name__"].startswith("taipy."):
        raise RuntimeError("'get_flask_app()' is deprecated. Use 'get_server_instance()' instead.")
    return flask_app(self)
Gui.get_flask_app = get_flask_app
Gui.get_app_context = lambda self: flask_app(self).app_context()
"""


@pytest.fixture
def notebook(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[Notebook]:
    """A kernel with an app that is exposed; the fixture's parameter is run before, if there is one."""
    known = {f"TAIPY_TUNNEL_{name.upper()}": str(value) for name, value in arguments(proxy).items()}
    with Notebook(env=known) as notebook:
        notebook.run(getattr(request, "param", "")).ok()
        notebook.run(APP % processes.free_port()).ok()
        yield notebook


def test_each_canary_sings(notebook: Notebook) -> None:
    """Nothing is missing in the Taipy that is here; and whatever is taken away from it is said, with what does not
    work then."""
    notebook.run(WITHOUT).ok()
    as_it_is = "canary = Canary()\nprint(*sum((canary.look(gui, True) for _ in range(20)), []), *warnings())"
    assert notebook.run(as_it_is).ok().said.strip() == ""
    for row in RELIED:
        for way in row.ways:
            others = [other for other in row.ways if other != way]
            hidden = f"Without(gui, {way.split('.')!r})"
            for other in others:
                hidden = f"Without({hidden}, {other.split('.')!r})"
            look = (
                f"canary, hidden = Canary(), {hidden}\nprint(*sum((canary.look(hidden, True) for _ in range(20)), []))"
            )
            said = notebook.run(look).ok().said
            assert said.startswith("Taipy "), (way, said)
            assert f": {row.without} (Gui.{row.ways[0]} is not there); hint: " in said
            assert said.count("Taipy ") == 1, said


def test_what_is_missing_is_told_once(notebook: Notebook) -> None:
    """At WARNING, in the tunnel's log, before any outage; and the tunnel goes on."""
    del_participants = (
        "from socketio import *\nfrom socketio.base_manager import BaseManager\ndel BaseManager.get_participants"
    )
    notebook.run(del_participants + "\ntunnel.close()\ntunnel = taipy_tunnel.expose()").ok()
    said = "after an outage pages show what they showed before it"
    eventually(lambda: said in notebook.run("print(*warnings())").ok().said)
    notebook.run("import time; time.sleep(1)").ok()  # five looks
    warned = notebook.run("print(*warnings(), sep='\\n')").ok().said.strip().splitlines()
    assert len(warned) == 1, warned
    assert notebook.run("tunnel.state").ok().text == "'up'"


LISTED = {
    "in another class": """
import taipy.gui.utils._runtime_manager as m
moved = m._RuntimeManager
del m._RuntimeManager
""",
    "in another attribute": """
import inspect
import taipy.gui.utils._runtime_manager as m
renamed = dict(vars(m))
exec(inspect.getsource(m).replace("__port_gui", "__apps"), renamed)
for name in ("__init__", "add_gui", "get_used_port"):
    setattr(m._RuntimeManager, name, getattr(renamed["_RuntimeManager"], name))
""",
}


@pytest.mark.parametrize("notebook", LISTED.values(), ids=LISTED, indirect=True)
def test_apps_that_are_listed_elsewhere_are_told(notebook: Notebook) -> None:
    eventually(lambda: "are not found by themselves: name the port" in notebook.run("print(*warnings())").ok().said)
    assert notebook.run("tunnel.state").ok().text == "'waiting'"


@pytest.mark.parametrize("version", ["the Taipy that is here", "Taipy's next version"])
def test_no_stale_page_after_an_outage(version: str, notebook: Notebook, proxy: Proxy, compat: Row) -> None:
    if version != "the Taipy that is here":
        notebook.run(NEXT).ok()
    with Browser() as browser:
        page = browser.open(proxy.url)
        page.wait_text("#text", "first", timeout=30)
        proxy.stop_sshd()
        notebook.run("gui.state.text = 'after'").ok()
        proxy.start_sshd()
        page.wait_text("#text", "after", timeout=30)
    warned = notebook.run("print(*warnings(), sep='\\n')").ok().said
    assert "outage" not in warned, warned
    if version == "the Taipy that is here":
        compat("apps", f"Taipy {importlib.metadata.version('taipy')} in the notebook's own process", TAKEN)
    else:
        compat("apps", "Taipy's next version, whose Gui has get_app_context() instead of get_flask_app()", TAKEN)

# SPDX-License-Identifier: Apache-2.0
"""The app is found and followed: real Taipy in a real Jupyter kernel."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.error
from collections.abc import Iterator

import pytest
from chain import processes
from chain.compat import TAKEN, Row
from chain.notebook import Notebook
from chain.proxy import Proxy
from chain.testing import arguments, eventually
from chain.visits import visit

A, B = processes.free_port(), processes.free_port()

PAGE = """
from taipy.gui import Gui
import taipy_tunnel
def start(title, port):
    gui = Gui("# " + title)
    gui.run(title=title, port=port)
    return gui
"""


@pytest.fixture
def notebook(proxy: Proxy) -> Iterator[Notebook]:
    """A kernel that knows the proxy from its environment, with Taipy imported."""
    known = {f"TAIPY_TUNNEL_{name.upper()}": str(value) for name, value in arguments(proxy).items()}
    with Notebook(env=known) as notebook:
        notebook.run(PAGE).ok()
        yield notebook


def title(url: str) -> str:
    """The title of the app's page; "" while there is none."""
    try:
        found = re.search(r"<title>(.*?)</title>", visit(url))
    except urllib.error.HTTPError:
        return ""
    return found[1] if found else ""


def test_the_running_app_is_found_and_followed(notebook: Notebook, proxy: Proxy) -> None:
    notebook.run(f"gui = start('first', {A})").ok()
    cell = notebook.run("tunnel = taipy_tunnel.expose()\ntunnel").ok()
    assert cell.text.startswith("<Tunnel http")
    assert 'role="img"' in cell.html
    assert cell.said + cell.stderr == ""
    assert title(proxy.url) == "first"
    # The real server, not the declared port, which offers no websocket.
    assert f":{A}" not in cell.text
    handshake = visit(proxy.url + "socket.io/?EIO=4&transport=polling")
    assert json.loads(handshake[1:])["upgrades"] == ["websocket"]
    # Its cell is run again: another Gui on another port behind the same declared one.
    notebook.run(f"gui = start('second', {A})").ok()
    eventually(lambda: title(proxy.url) == "second")
    again = notebook.run("print(taipy_tunnel.expose() is tunnel, len(taipy_tunnel.tunnels()))").ok()
    assert again.said == "True 1\n"


def test_a_gui_that_is_named_is_followed_too(notebook: Notebook, proxy: Proxy) -> None:
    notebook.run(f"one, two = start('one', {A}), start('two', {B})").ok()
    several = notebook.run("taipy_tunnel.expose()").error
    assert several is not None
    assert several.ename == "AppNotFoundError"
    assert "(port {}, port {})".format(*sorted((A, B))) in several.evalue
    assert "expose(gui)" in several.evalue
    notebook.run("tunnel = taipy_tunnel.expose(two)").ok()
    assert title(proxy.url) == "two"
    notebook.run(f"three = start('three', {B})").ok()  # in the place of two
    eventually(lambda: title(proxy.url) == "three")


def test_an_app_that_starts_later_is_taken_up(notebook: Notebook, proxy: Proxy) -> None:
    started = time.monotonic()
    cell = notebook.run("tunnel = taipy_tunnel.expose()\nprint(tunnel.state)").ok()
    assert cell.said == "waiting\n"
    assert time.monotonic() - started < 10
    notebook.run(f"gui = start('late', {A})").ok()
    ready = notebook.run("tunnel.wait_ready(20)").ok().text
    assert ready == "True", notebook.run("print(tunnel.status, gui._server.__dict__, *tunnel.logs(), sep='\\n')").stdout
    assert title(proxy.url) == "late"
    notebook.run("gui.stop()").ok()
    assert notebook.run("tunnel._wait_for(lambda s: s.state == 'waiting', 10)").ok().text == "True"


def test_an_app_that_is_run_again_at_another_port_is_one(notebook: Notebook, proxy: Proxy) -> None:
    """Taipy keeps both ports, as of two apps."""
    notebook.run(f"gui = start('app', {A})\ntunnel = taipy_tunnel.expose()\ngui.stop()").ok()
    eventually(lambda: notebook.run("tunnel.state").ok().text == "'waiting'")
    notebook.run(f"gui.run(port={B})\ntunnel.wait_ready(20)").ok()
    assert title(proxy.url) == "app"


def test_interrupt_leaves_the_tunnel(notebook: Notebook, proxy: Proxy) -> None:
    notebook.run(f"gui = start('app', {A})\ntunnel = taipy_tunnel.expose()").ok()
    running = notebook.run_nowait("tunnel.wait()")
    eventually(lambda: notebook_says(notebook, running, "up"))
    notebook.interrupt()
    error = running.wait(10).error
    assert error is not None
    assert error.ename == "KeyboardInterrupt"
    assert title(proxy.url) == "app"


def notebook_says(notebook: Notebook, running: object, word: str) -> bool:
    """Whether the running cell has printed a word by now."""
    notebook._pump(time.monotonic() + 0.1)
    return word in running.cell.stdout  # type: ignore[attr-defined]


def test_closing_the_notebook_frees_the_slot(notebook: Notebook, proxy: Proxy) -> None:
    """At once, though Taipy's threads keep the kernel's process alive until it is killed."""
    notebook.run(f"gui = start('app', {A})\ntunnel = taipy_tunnel.expose()").ok()
    assert proxy.slot_held()
    notebook.shut_down()
    eventually(lambda: not proxy.slot_held(), 10)  # aim 1 s


def test_restarting_the_kernel_frees_the_slot(notebook: Notebook, proxy: Proxy) -> None:
    notebook.run(f"gui = start('before', {A})\ntunnel = taipy_tunnel.expose()").ok()
    notebook.restart()
    notebook.run(PAGE + f"gui = start('after', {A})\ntunnel = taipy_tunnel.expose()").ok()
    assert title(proxy.url) == "after"


def test_a_server_that_died_at_bind_is_told(notebook: Notebook, proxy: Proxy, compat: Row) -> None:
    """Taipy draws the port of its real server by chance, and its thread dies if that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        notebook.run(
            "from taipy.gui.server import _Server\ndraw = _Server._get_random_port\n"
            f"_Server._get_random_port = lambda *_: {taken.getsockname()[1]}\n"
            f"gui = start('dead', {A})\ngui._server._thread.join(10)"
        ).ok()
        error = notebook.run("taipy_tunnel.expose()").error
        assert error is not None
        assert error.ename == "AppNotFoundError"
        port = taken.getsockname()[1]
        assert f"thread of Taipy's server has ended, and another server listens on its port {port}\n" in error.evalue
        assert "run the app's cell again" in error.evalue
    notebook.run(f"_Server._get_random_port = draw\ngui = start('alive', {A})\ntaipy_tunnel.expose()").ok()
    assert title(proxy.url) == "alive"
    compat("apps", "Taipy, whose own server found its port taken", refusal(error.evalue))


def test_an_app_that_its_owner_stopped_is_no_app_yet(notebook: Notebook, proxy: Proxy, compat: Row) -> None:
    port = int(notebook.run(f"gui = start('app', {A})\ngui._server._port").ok().text)
    eventually(lambda: processes.listening(port))
    notebook.run("gui.stop()").ok()
    cell = notebook.run("tunnel = taipy_tunnel.expose()\ntunnel.state, 'in this process' in str(tunnel)").ok()
    assert cell.text == "('waiting', False)"  # what listens on its declared port answers 501
    notebook.run(f"gui = start('again', {A})").ok()
    notebook.run("tunnel.wait_ready(20)").ok()
    assert title(proxy.url) == "again"
    compat("apps", "Taipy, after gui.stop()", "taken: expose() waits for the next gui.run()")


@pytest.mark.parametrize("host", ["127.0.0.2", "0.0.0.0", "localhost"])
def test_the_address_on_which_it_listens(notebook: Notebook, proxy: Proxy, host: str, compat: Row) -> None:
    notebook.run(
        f"gui = Gui('# here')\ngui.run(title='here', port={A}, host={host!r})\ntunnel = taipy_tunnel.expose()"
    ).ok()
    assert notebook.run("tunnel.wait_ready(20)").ok().text == "True"
    assert title(proxy.url) == "here"
    compat("apps", f'Taipy, gui.run(host="{host}")', TAKEN)


def test_a_mode_that_its_server_refuses_is_no_port_that_was_taken(notebook: Notebook, compat: Row) -> None:
    notebook.run(f"gui = Gui('# x')\ngui.run(port={A}, async_mode='threading')\ngui._server._thread.join(10)").ok()
    error = notebook.run("taipy_tunnel.expose()").error
    assert error is not None
    assert error.ename == "AppNotFoundError"
    assert "thread of Taipy's server has ended" in error.evalue
    assert "port was taken" not in error.evalue.split("\n")[0]
    assert "below the cell that started it" in error.evalue
    compat("apps", 'Taipy, gui.run(async_mode="threading")', refusal(error.evalue))


def test_an_app_whose_cell_has_failed_is_told(notebook: Notebook, compat: Row) -> None:
    failed = notebook.run(f"gui = Gui('# x')\ngui.run(port={A}, debug=True)").error
    assert failed is not None
    assert failed.ename == "ConnectionError"
    error = notebook.run("taipy_tunnel.expose()").error
    assert error is not None
    assert error.ename == "AppNotFoundError"
    assert "server was not started" in error.evalue
    compat("apps", "Taipy, gui.run(debug=True), whose cell fails", refusal(error.evalue))


def test_a_server_of_ones_own_is_proposed(notebook: Notebook, proxy: Proxy, compat: Row) -> None:
    notebook.run(
        "import threading, werkzeug.serving\n"
        f"gui = Gui('# own')\napp = gui.run(title='own', run_server=False, port={A})\n"
        f"server = werkzeug.serving.make_server('127.0.0.1', {A}, app, threaded=True)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()"
    ).ok()
    cell = notebook.run("tunnel = taipy_tunnel.expose()\nprint(tunnel)\nprint(taipy_tunnel.doctor()[0].hint)").ok()
    said = f"A web app answers at localhost:{A}, in this process. To show it: expose({A})"
    assert cell.said.count(said) == 2
    assert cell.said.count("in this process") == 2  # the kernel's own ports are none
    notebook.run(f"tunnel = taipy_tunnel.expose({A})\ntunnel.wait_ready(10)").ok()
    assert title(proxy.url) == "own"
    # A Gui that is named waits like one that is not, and the object says the same.
    cell = notebook.run(
        "tunnel = taipy_tunnel.expose(gui)\nprint([tunnel.state, tunnel.status.target])\nprint(tunnel)"
    ).ok()
    assert cell.said.startswith("['waiting', '']\n")
    assert said in cell.said
    assert notebook.run("tunnel = taipy_tunnel.expose(app)\ntunnel.status.target").ok().text == f"'127.0.0.1:{A}'"
    assert title(proxy.url) == "own"
    name = "Taipy, gui.run(run_server=False) with a server of one's own"
    compat("apps", f"{name}, expose()", f"taken: it waits, and says: {said.replace(str(A), 'PORT')}")
    compat("apps", f"{name}, expose(app)", TAKEN)


def test_taipys_proxy_is_no_app(notebook: Notebook, proxy: Proxy) -> None:
    """In a notebook it stays on the declared port when its app has ended; by default a Rest() has the same one."""
    notebook.run(f"from taipy import Rest\nfrom taipy_tunnel._taipy import app\napp.REST_PORT = {A}").ok()
    notebook.run(f"gui = start('first', {A})\ntunnel = taipy_tunnel.expose()").ok()
    assert title(proxy.url) == "first"
    notebook.run("gui.stop()").ok()
    eventually(lambda: notebook.run("tunnel.state").ok().text == "'waiting'")
    assert str(A) not in notebook.run("print(tunnel)").ok().said
    with socket.create_server(("127.0.0.1", 0)) as other:  # where its next server would listen
        taken = other.getsockname()[1]
        notebook.run(f"from taipy.gui.server import _Server\n_Server._get_random_port = lambda self: {taken}")
        notebook.run(f"gui = start('second', {A})\ngui._server._thread.join(20)")
        assert "the thread of Taipy's server has ended" in str(notebook.run("taipy_tunnel.expose()").error)
    assert notebook.run("tunnel.state").ok().text == "'waiting'"


def test_rest_alone(notebook: Notebook, proxy: Proxy, compat: Row) -> None:
    """It blocks its cell and is in no registry; port 5000 is its, if this very process listens there."""
    with socket.create_server(("127.0.0.1", 5000)):
        waiting = notebook.run("from taipy import Rest\ntunnel = taipy_tunnel.expose()\ntunnel.state").ok()
        assert waiting.text == "'waiting'"
    running = notebook.run_nowait("Rest().run()")
    eventually(lambda: answers(proxy.url + "api/v1/scenarios/"), 30)
    notebook.interrupt()
    running.wait()
    compat("apps", "Taipy, Rest().run()", TAKEN)


def refusal(said: str) -> str:
    """What an error says, without its hint."""
    return "refused: " + said.split("\n", 1)[0]


def answers(url: str) -> bool:
    """Whether a URL is answered with a list."""
    try:
        return isinstance(json.loads(visit(url)), list)
    except (urllib.error.HTTPError, ValueError):
        return False

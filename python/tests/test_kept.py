# SPDX-License-Identifier: Apache-2.0
"""A server is stopped and another one starts on its port, in one process, where the first one's connections live on.

A visitor keeps their connection to nginx all the while.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
import time
import types
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import gevent
import pytest
import taipy_tunnel
from chain import processes
from chain.notebook import Notebook
from chain.proxy import Proxy
from chain.testing import arguments
from gevent.server import StreamServer
from taipy_tunnel._taipy.app import wake
from werkzeug.serving import WSGIRequestHandler, make_server

TIMES = 20
SLOW = 5.0  # seconds; aim 1 s, and the fault was a page that hung

Start = Callable[[int, str], AbstractContextManager[int]]


@contextlib.contextmanager
def standard(port: int, says: str) -> Iterator[int]:
    """Python's own server, whose handlers' threads go on answering after its end."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(says)))
            self.end_headers()
            self.wfile.write(says.encode())

        def log_message(self, *_: object) -> None:
            pass

    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)) as found:
        yield found


@contextlib.contextmanager
def werkzeug(port: int, says: str) -> Iterator[int]:
    """Flask's server."""

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None:
            pass

    def app(_: object, start: Callable[..., object]) -> list[bytes]:
        start("200 OK", [("Content-Length", str(len(says)))])
        return [says.encode()]

    with serving(make_server("127.0.0.1", port, app, threaded=True, request_handler=Handler)) as found:
        yield found


@contextlib.contextmanager
def serving(server: http.server.HTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Visitor:
    """Who asks over one connection, and notes how long the slowest answer took."""

    def __init__(self, url: str) -> None:
        place = urllib.parse.urlsplit(url)
        assert place.hostname is not None
        make = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        self._connection = make(place.hostname, place.port, timeout=10)
        self._path = place.path
        self._sockets: set[object] = set()
        self.slowest = 0.0

    def page(self) -> str:
        began = time.monotonic()
        self._connection.request("GET", self._path, headers={"Accept": "text/html"})
        answer = self._connection.getresponse()
        text = answer.read().decode()
        self.slowest = max(self.slowest, time.monotonic() - began)
        self._sockets.add(self._connection.sock)
        return text

    def close(self) -> None:
        print(f"the slowest page took {self.slowest:.2f} s")
        self._connection.close()
        assert len(self._sockets) == 1  # nginx never ended it


@pytest.fixture
def visitor(proxy: Proxy) -> Iterator[Visitor]:
    with contextlib.closing(Visitor(proxy.url)) as visitor:
        yield visitor


@pytest.mark.parametrize("start", [standard, werkzeug])
def test_the_next_server_answers(start: Start, proxy: Proxy, visitor: Visitor) -> None:
    port = 0
    for i in range(TIMES):
        with start(port, f"server {i}") as port:
            if i == 0:
                taipy_tunnel.expose(port, **arguments(proxy))
            assert [visitor.page(), visitor.page()] == [f"server {i}"] * 2
    assert visitor.slowest < SLOW


@pytest.fixture
def notebook(proxy: Proxy) -> Iterator[Notebook]:
    known = {f"TAIPY_TUNNEL_{name.upper()}": str(value) for name, value in arguments(proxy).items()}
    with Notebook(env=known) as notebook:
        notebook.run("from taipy.gui import Gui\nimport taipy_tunnel\ngui = Gui('# app')").ok()
        yield notebook


@pytest.mark.parametrize("how", ["", ", notebook_proxy=False"], ids=["another port", "the same port"])
def test_the_next_taipy_server_answers(how: str, notebook: Notebook, visitor: Visitor) -> None:
    """The one that listens on Taipy's declared port in a notebook leads to a port that changes; without it none does.

    The kernel lives through this since connections do not wake the server: see _taipy.app.wake.
    """
    run = f"gui.run(title='app {{}}', port={processes.free_port()}{how})\n"
    ports = set()
    for i in range(TIMES):
        ports.add(notebook.run(("gui.stop()\n" if i else "") + run.format(i) + "gui._server._port").ok().text)
        if i == 0:
            notebook.run("taipy_tunnel.expose()").ok()
        assert f"<title>app {i}</title>" in visitor.page()
    assert (len(ports) == 1) == bool(how)
    assert visitor.slowest < SLOW


def test_a_wake_is_no_connection() -> None:
    """What another thread has queued runs when the loop wakes."""
    accepted: list[object] = []
    serving, ran = threading.Event(), threading.Event()
    gui = types.SimpleNamespace(_server=types.SimpleNamespace(_ws=types.SimpleNamespace(wsgi_server=None)))

    def serve() -> None:
        server = StreamServer(("127.0.0.1", 0), lambda *it: accepted.append(it))
        gui._server._ws.wsgi_server = server
        server.start()
        gui._server._port = server.server_port
        ended = server.loop.async_()
        gui.end = ended.send
        server.loop.run_callback(serving.set)
        gevent.get_hub().wait(ended)
        server.stop()
        ended.close()
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=serve)
    thread.start()
    assert serving.wait(10)
    gui._server._ws.wsgi_server.loop.run_callback(ran.set)
    wake(gui)
    assert ran.wait(10)
    gui.end()
    thread.join(10)
    assert not thread.is_alive()
    assert accepted == []
    wake(gui)  # whose loop has ended
    wake(types.SimpleNamespace())

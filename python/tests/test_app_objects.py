# SPDX-License-Identifier: Apache-2.0
"""Apps as they listen: as objects, URLs and ports, on whichever address."""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import threading
import time
import types
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
import taipy_tunnel
import uvicorn
import werkzeug.serving
from chain.compat import TAKEN, Row
from chain.proxy import Proxy
from chain.testing import arguments, eventually
from chain.visits import visit
from fastapi import FastAPI
from taipy_tunnel import ConfigError, _servers
from taipy_tunnel._servers import Served
from taipy_tunnel._taipy.app import App
from werkzeug.middleware.proxy_fix import ProxyFix

ADDRESSES = {
    5000: "localhost:5000",
    "5000": "localhost:5000",
    "127.0.0.1:5000": "127.0.0.1:5000",
    "localhost:5173": "localhost:5173",
    "[::1]:5173": "[::1]:5173",
    "0.0.0.0:8000": "localhost:8000",
    "http://0.0.0.0:8000": "localhost:8000",
    "http://127.0.0.1:8050/": "127.0.0.1:8050",
    "HTTP://localhost:8888/lab?token=secret": "localhost:8888",
    "http://[::1]:5173/": "[::1]:5173",
    "http://10.0.0.4/": "10.0.0.4:80",
}


@pytest.mark.parametrize("given", ADDRESSES)
def test_addresses_as_frameworks_print_them(given: object, compat: Row) -> None:
    assert App(given).address() == ADDRESSES[given]  # type: ignore[index]
    said = f"expose({given!r})".replace("'", '"')
    compat("apps", said, f"taken: the app at {ADDRESSES[given]}")  # type: ignore[index]


TLS = {
    "https://127.0.0.1:8443": "expose(8443)",
    "HTTPS://localhost:8443/lab?token=5000#5000": "expose(8443)",
    "https://[::1]:8443": "expose(8443)",
    "https://10.0.0.4:8443/": 'expose("10.0.0.4:8443")',
    "https://10.0.0.4/": 'expose("10.0.0.4:PORT")',
    "https://" + 9 * "a1B2": "expose(PORT)",  # perhaps no host
}


@pytest.mark.parametrize("given", TLS)
def test_an_app_that_speaks_tls_is_told(given: str, compat: Row) -> None:
    """With the call that has the port that was given, and no other."""
    with pytest.raises(ConfigError, match="https address") as raised:
        App(given)
    assert "without its certificate" in raised.value.hint
    assert raised.value.hint.endswith(f"then write {TLS[given]}")
    if given == next(iter(TLS)):
        compat("apps", f'expose("{given}")', raised.value)


RAW = {
    "https://127.0.0.1:8443": "127.0.0.1:8443",
    "HTTPS://localhost:8443/lab?token=5000#5000": "localhost:8443",
    "https://[::1]:8443": "[::1]:8443",
    "https://10.0.0.4/": "10.0.0.4:443",
}


@pytest.mark.parametrize("given", RAW)
def test_an_app_whose_bytes_are_carried_may_speak_tls(given: str, compat: Row) -> None:
    assert App(given, raw=True).address() == RAW[given]
    if given == next(iter(RAW)):
        compat("apps", f'expose("{given}", raw=True, access="public")', f"taken: the app at {RAW[given]}")


@contextlib.contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def flask_app() -> flask.Flask:
    app = flask.Flask("shop")
    app.add_url_rule("/", view_func=lambda: "flask")
    return app


@contextlib.contextmanager
def werkzeugs(app: Any) -> Iterator[None]:
    with running(werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True)):
        yield


@contextlib.contextmanager
def wsgirefs(app: Any) -> Iterator[None]:
    class Quiet(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with running(wsgiref.simple_server.make_server("127.0.0.1", 0, app, handler_class=Quiet)):
        yield


@contextlib.contextmanager
def uvicorns(app: Any) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def fastapi_app() -> FastAPI:
    app = FastAPI()
    app.get("/")(lambda: "fastapi")
    return app


class Dash:
    """As Dash's: its Flask is an attribute."""

    def __init__(self) -> None:
        self.server = flask_app()


class Gui:
    """A Taipy app, as far as it is asked where it listens: by attributes of its server, or by get_port() alone. Servers
    of Taipy's next version that are not Flask's have no more."""

    def __init__(self, port: int | None = None, **server: object) -> None:
        self._server = types.SimpleNamespace(**server)
        if port:
            self._server.get_port = lambda: port


Gui.__module__ = "taipy.gui.gui"

GUIS = {
    "no host": (Gui(_port=61001), "127.0.0.1:61001"),
    "the empty host": (Gui(_port=61001, _host=""), "127.0.0.1:61001"),
    "0.0.0.0": (Gui(_port=61001, _host="0.0.0.0"), "127.0.0.1:61001"),
    "::": (Gui(_port=61001, _host="::"), "localhost:61001"),
    "::1": (Gui(_port=61001, _host="::1"), "[::1]:61001"),
    "localhost": (Gui(_port=61001, _host="localhost"), "localhost:61001"),
    "get_port() alone": (Gui(61001), "127.0.0.1:61001"),
    "get_port(), the empty host": (Gui(61001, _host=""), "127.0.0.1:61001"),
    "not run": (Gui(), ""),
}


@pytest.mark.parametrize("name", GUIS)
def test_where_a_gui_listens(name: str) -> None:
    gui, address = GUIS[name]
    assert App(gui).address() == address


SERVED: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "Flask, by its own server": (flask_app, lambda app: app, werkzeugs, "flask"),
    "Flask, by wsgiref": (flask_app, lambda app: app, wsgirefs, "flask"),
    "Flask, below middleware": (flask_app, lambda app: ProxyFix(app), werkzeugs, "flask"),
    "Dash": (Dash, lambda app: app.server, werkzeugs, "flask"),
    "FastAPI, by uvicorn": (fastapi_app, lambda app: app, uvicorns, '"fastapi"'),
}


@pytest.mark.parametrize("name", SERVED)
def test_the_object_of_an_app_is_found(name: str, proxy: Proxy, compat: Row) -> None:
    make, served, server, says = SERVED[name]
    app = make()
    tunnel = taipy_tunnel.expose(app, **arguments(proxy))
    assert (tunnel.state, tunnel.status.target) == ("waiting", "")
    with werkzeugs(flask.Flask("another")), server(served(app)):
        assert tunnel.wait_ready(10)
        assert visit(tunnel.url) == says
        first = tunnel.status.target
    eventually(lambda: tunnel.state == "waiting")
    host, _, port = first.rpartition(":")
    with socket.socket() as before:
        before.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before.bind((host, int(port)))  # or the next one may be given it
        with server(served(app)):  # on another port. A look that was slow puts off the next one by 20 times as long
            assert tunnel.wait_ready(60)
            assert tunnel.status.target != first
    if name != "Dash":  # compat_apps.py has the real one
        compat("apps", f"{name}, expose(app)", TAKEN)


@pytest.mark.parametrize("given", [flask.Flask, flask_app, print, flask_app().run, object(), 1.5, [5000]])
def test_what_is_no_app_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="app is a"):
        App(given)


def test_looking_for_a_server_costs_little() -> None:
    served = Served(flask_app())
    start = time.process_time()
    for _ in range(50):
        assert served.address() == ""
    assert time.process_time() - start < 1


def test_looking_for_a_server_costs_a_twentieth_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """With tens of millions of objects a look takes a second, in which no cell runs."""
    now, looks = 1000.0, 0

    def look() -> Iterator[tuple[object, object]]:
        nonlocal now, looks
        now, looks = now + 1.0, looks + 1
        yield from ()

    monkeypatch.setattr(_servers, "time", types.SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(_servers, "_servers", look)
    served = Served(flask_app())
    for _ in range(500):
        assert served.address() == ""
        now += 0.2
    assert 4 <= looks <= 6


class Proxied:
    """An object that says of its class what only its own time and place know, as werkzeug's LocalProxy does."""

    __slots__ = ("to",)

    def __init__(self, to: object) -> None:
        self.to = to

    @property
    def __class__(self) -> type:
        raise RuntimeError("working outside of a request")


def test_an_object_that_computes_its_class_does_no_harm() -> None:
    there = Proxied(werkzeug.serving.BaseWSGIServer)
    app = flask_app()
    with werkzeugs(app):
        assert Served(app).address()
    del there


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_is_that_of_either_loopback(host: str, proxy: Proxy, compat: Row) -> None:
    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = Server((host, 0), Handler)
    with running(server):
        tunnel = taipy_tunnel.expose(server.server_port, **arguments(proxy))
        assert tunnel.wait_ready(10)
        assert visit(tunnel.url) == ""
        tunnel.close(0)
    compat("apps", f"expose(PORT) of an app that listens on {host} alone", TAKEN)

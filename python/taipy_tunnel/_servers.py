# SPDX-License-Identifier: Apache-2.0
"""Where an app object listens: at the server of this process that serves it.

Neither WSGI (PEP 3333) nor ASGI tells an app its port. So the servers of this process are looked up among the objects
that Python's garbage collector knows, by their classes, and asked which app they have. That takes milliseconds, or
some tenths of a second where there are ten million objects, in which no other thread of Python's runs. So it is done at
most every two seconds, and a twentieth of the time, while the server is not known.
"""

from __future__ import annotations

import gc
import socket
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

AGAIN = 2.0  # seconds between two looks for a server
SHARE = 20  # and at least so many times as long as the last one took

# The classes of servers, by module, and where they have their app.
_SERVERS = {
    "werkzeug.serving": ("BaseWSGIServer", "app"),  # Flask's and Dash's own
    "uvicorn.server": ("Server", "config"),  # Gradio's, too
    "gevent.pywsgi": ("WSGIServer", "application"),
    "wsgiref.simple_server": ("WSGIServer", "application"),
    "waitress.server": ("BaseWSGIServer", "application"),
}
_LAYERS = ("loaded_app", "app", "wsgi_app", "application", "__self__")  # where middleware has what is below it


class Served:
    """An app object: Flask, FastAPI, any WSGI or ASGI app, Dash, Gradio; or the module streamlit, within its app."""

    def __init__(self, app: object) -> None:
        self._app = app
        self._server: object | None = None
        self._next = 0.0

    def address(self) -> str:
        """Where it is served now, "host:port"; "" if it is not."""
        if (known := _told(self._app)) is not None:
            return known
        if address := _listening(self._server):
            return address
        self._server = None
        if (began := time.monotonic()) >= self._next:
            for server, app in _servers():
                if _listening(server) and _serves(app, self._app):
                    self._server = server
            ended = time.monotonic()
            self._next = ended + max(AGAIN, SHARE * (ended - began))
        return _listening(self._server)


def is_app(value: object) -> bool:
    """Whether a value is an app object. A function might be one, but more often is a mistake."""
    if _named(value, "streamlit") is not None:
        return True
    mistaken = isinstance(value, (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType))
    return not mistaken and (callable(value) or hasattr(value, "server"))


def instances(module: str, name: str) -> list[Any]:
    """The objects of a class, and of those derived from it; none if its module was not imported."""
    cls = getattr(sys.modules.get(module), name, None)
    if not isinstance(cls, type):
        return []
    classes: list[Any] = [cls]
    for one in classes:  # which grows meanwhile
        classes += [derived for derived in one.__subclasses__() if derived not in classes]
    # By their true types: what an object says of its class may be computed, as by a proxy object, and fail.
    return [found for found in gc.get_referrers(*classes) if issubclass(type(found), cls)]


def address(host: object, port: object) -> str:
    """A socket's address as that of a tunnel's app."""
    text = str(host or "")
    if text in ("", "0.0.0.0", "::"):
        text = "localhost"
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def _servers() -> Iterator[tuple[object, object]]:
    for module, (name, attribute) in _SERVERS.items():
        for server in instances(module, name):
            yield server, getattr(server, attribute, None)


def _serves(layer: object, app: object) -> bool:
    """Whether an app is there, below middleware."""
    wanted = [one for one in (app, getattr(app, "server", None), getattr(app, "app", None)) if one is not None]
    for _ in range(20):  # Dash has a Flask, Gradio a FastAPI
        if any(layer is one for one in wanted):
            return True
        below = (getattr(layer, name, None) for name in _LAYERS)
        layer = next((one for one in below if one is not None and one is not layer), None)
    return False


def _listening(server: object) -> str:
    """Where a server listens; "" if it does not any more, or not yet."""
    for one in _sockets(server):
        try:
            internet = one.family in (socket.AF_INET, socket.AF_INET6)
            if internet and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                host, port = one.getsockname()[:2]
                return address(host, port)
        except (OSError, AttributeError):  # closed
            continue
    return ""


def _sockets(server: Any) -> list[Any]:
    found = [getattr(server, "socket", None)]
    for one in list(getattr(server, "servers", ())):  # uvicorn's, of asyncio
        found += list(getattr(one, "sockets", None) or ())
    return [one for one in found if one is not None]


def _told(app: Any) -> str | None:
    """What the app says itself of where it listens; None: nothing."""
    if (streamlit := _named(app, "streamlit")) is not None:
        runtime = sys.modules.get("streamlit.runtime")
        if runtime is None or not runtime.exists():
            return ""
        return address(streamlit.get_option("server.address"), streamlit.get_option("server.port"))
    return None


def _named(value: object, module: str) -> Any:
    return value if value is not None and value is sys.modules.get(module) else None

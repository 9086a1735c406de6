# SPDX-License-Identifier: Apache-2.0
"""Where the app of this process listens.

In a notebook Taipy's declared port (5000) is an HTTP/1.0 proxy without websockets, which answers
501 once the app's cell was run again. The real server is on a port of its own that changes each
time. Both stand in Taipy's registry of running apps; Taipy itself is never imported from here. What
is private to Taipy, and relied on, is listed in relied.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from typing import Any

from .. import _servers
from .._errors import AppNotFoundError, ConfigError
from .._hints import plain
from .._quote import keylike, quote
from .._settings import elsewhere
from .relied import PORTS, REGISTRY, Canary

REST_PORT = 5000  # werkzeug's default, which Rest().run() leaves alone


class App:
    """The app that a tunnel shows: a fixed address, or an app of this process to be followed.

    spec: None (the running Taipy app), a port, "port", "host:port", "http://host:port", a Taipy Gui, or the object of
    another framework that a server of this process serves. raw: its bytes are carried as they are, so that it may be
    "https://host:port", too.
    """

    def __init__(self, spec: object = None, raw: bool = False) -> None:
        self._fixed = ""
        self._gui: object | None = None
        self._served: _servers.Served | None = None
        self._declared: int | None = None  # the port by which Taipy knows the app that we follow
        self._canary = Canary()
        if spec is None:
            spec = elsewhere("app")[0] or None
        if spec is not None and _is_gui(spec):
            self._gui = spec
        elif _servers.is_app(spec):
            self._served = _servers.Served(spec)
        elif spec is not None:
            self._fixed = _fixed(spec, raw)

    def gui(self) -> object | None:
        """The Taipy Gui that runs now; None if there is none, or another app was named.

        AppNotFoundError if several run and none was named or followed before.
        """
        if self._fixed or self._served:
            return None
        running = _registered()
        if self._gui is not None:
            for declared, gui in running.items():
                if gui is self._gui:
                    self._declared = declared
            # After a re-run of its cell another Gui has taken over the same port.
            return self._gui if _address(self._gui) else running.get(self._declared or 0)
        live = {declared: gui for declared, gui in running.items() if _address(gui)}
        # One that was stopped and run again at another port stands there twice, and is one.
        last = {id(gui): declared for declared, gui in live.items()}
        if self._declared not in live and len(last) > 1:
            listed = ", ".join(f"port {declared}" for declared in sorted(last.values()))
            raise AppNotFoundError(
                f"app: {len(last)} Taipy apps run in this process ({listed})",
                "name one: expose(gui), with the variable that holds its Gui",
            )
        if self._declared not in live:
            self._declared = next(iter(live), None)
        return live.get(self._declared) if self._declared is not None else None

    def address(self) -> str:
        """Where the app listens now, "host:port"; "" if it does not run. Errors as of gui()."""
        if self._served:
            return self._served.address()
        return self._fixed or _address(self.gui()) or _rest()

    def lacking(self, gui: object | None, served: bool) -> list[str]:
        """What does not work with this Taipy, if that has not been said yet. gui: gui()'s; served: it answers."""
        if self._fixed or self._served:
            return []
        running = list(_registered().values())
        started = any(gui is one for one in running)  # by Taipy, not by a server of its owner's
        return self._canary.look(gui if started else next(iter(running), None), served and started)

    def check(self) -> None:
        """Raise AppNotFoundError if the app was started but cannot be reached."""
        if self._served or self.address():
            return
        guis = [self._gui] if self._gui is not None else list(_registered().values())
        dead = next((gui for gui in guis if _died(gui) and not _stopped(gui)), None)
        if dead is None:
            if any(_unstarted(gui) for gui in guis):
                raise AppNotFoundError(
                    "app: Taipy knows of an app whose server was not started",
                    "the cell that runs it says why: with debug=True Taipy may take its own proxy for another program "
                    "on the port (notebook_proxy=False leaves that out). Run the cell again",
                )
            return
        port = dead._server._port  # type: ignore[attr-defined]
        if _taken(dead):
            raise AppNotFoundError(
                f"app: the thread of Taipy's server has ended, and another server listens on its port {port}",
                "run the app's cell again; it gets another port",
            )
        raise AppNotFoundError(
            "app: the thread of Taipy's server has ended",
            "what it said stands below the cell that started it: perhaps it refuses a mode (async_mode), or its port "
            "was taken at that moment. Mend that, and run the app's cell again",
        )


def _fixed(spec: object, raw: bool) -> str:
    """The address that a port, "port", "host:port" or "http://host:port/…" means; if raw, "https://host:port/…"."""
    text = str(spec).strip() if isinstance(spec, (int, str)) and not isinstance(spec, bool) else ""
    if "@" in text:
        raise ConfigError(
            "configuration: app looks like a server", 'the server is a keyword: expose({server="user@host"})'
        )
    scheme, slashes, rest = text.partition("://")
    if slashes and scheme.lower() == "https" and not raw:
        raise ConfigError(
            "configuration: app is an https address, and the app is asked for HTTP",
            "to have its bytes carried as they are, where nginx passes TLS on (a server of its stream module, or "
            'proxy_pass https://), pass {raw=true} and {access="public"} as well. Otherwise start the app without its '
            "certificate: "
            "what it says stays on this machine, SSH protects it to the proxy, and nginx's https to the visitors; then "
            "write "
            f"{plain(_call(re.split(r'[/?#]', rest)[0]))}",
        )
    if slashes and scheme.lower() in ("http", "https"):
        rest = re.split(r"[/?#]", rest)[0]
        text = rest if re.search(r":\d+$", rest) else f"{rest}:{443 if scheme.lower() == 'https' else 80}"
    match = re.fullmatch(r"(?:(\S+):)?(\d{1,5})", text)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise ConfigError(
            f"configuration: app is {quote(text)}" if text else f"configuration: app is a {type(spec).__name__}",
            'want a port, "host:port", a Taipy Gui or the object of another app, or nothing for the running Taipy app',
        )
    return _servers.address((match[1] or "").strip("[]"), match[2])


def _call(authority: str) -> str:
    """How an app is exposed that listens where a URL says."""
    host, port = re.fullmatch(r"(.*?)(?::(\d{1,5}))?", authority, re.DOTALL).groups()  # type: ignore[union-attr]
    if port and host in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::]"):
        return f"expose({port})"
    where = f"{host}:{port or 'PORT'}"
    return f'expose("{where}")' if re.fullmatch(r"[\w.:[\]-]{1,40}", where) and not keylike(where) else "expose(PORT)"


def _is_gui(app: object) -> bool:
    cls = type(app)
    return any(c.__module__.startswith("taipy.gui") and c.__name__ == "Gui" for c in cls.__mro__)


def _registered() -> dict[int, object]:
    """Taipy's own record of the apps that run in a notebook, by declared port."""
    module = sys.modules.get(REGISTRY)
    manager = getattr(module, "_RuntimeManager", None)
    if manager is None:
        return {}
    return dict(getattr(manager(), PORTS, {}))


def proxied() -> list[int]:
    """The ports of Taipy's proxy in a notebook: behind it is an app that is found by itself, or none any more."""
    running = _registered().items()
    return [port for port, gui in running if getattr(getattr(gui, "_server", None), "_port", port) != port]


def _address(gui: object | None) -> str:
    """Where gui's real server listens."""
    server: Any = getattr(gui, "_server", None)
    port = getattr(server, "_port", None)
    if port is None and server is not None:
        with contextlib.suppress(Exception):  # of one that has not been run
            port = server.get_port()
    if not isinstance(port, int) or _died(gui) or _unstarted(gui):
        return ""
    _allow_websockets(server)
    host = getattr(server, "_host", None)
    return _servers.address("127.0.0.1" if host in (None, "", "0.0.0.0") else host, port)


def _died(gui: object) -> bool:
    """Whether gui was started and its server's thread has ended."""
    thread = getattr(getattr(gui, "_server", None), "_thread", None)
    return thread is not None and not thread.is_alive()


def _stopped(gui: object) -> bool:
    """Whether gui.stop() was called: that makes `_is_running` false, which a thread that died at bind leaves true."""
    return not getattr(getattr(gui, "_server", None), "_is_running", True)


def _unstarted(gui: object) -> bool:
    """Whether gui.run() has ended before its server began."""
    server = getattr(gui, "_server", None)
    return isinstance(getattr(server, "_port", None), int) and not hasattr(server, "_thread") and _stopped(gui)


def _taken(gui: object) -> bool:
    """Whether somebody listens where gui's server would."""
    server: Any = gui._server  # type: ignore[attr-defined]
    host = getattr(server, "_host", None)
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host if host not in (None, "", "0.0.0.0", "::") else "127.0.0.1", server._port), 1),
    ):
        return True
    return False


def _rest() -> str:
    """The address of a Rest() that runs alone: it is in no registry and listens on port 5000.

    Only if this very process does: what another one has there is none of ours.
    """
    if "taipy.rest" not in sys.modules and "taipy_rest" not in sys.modules:
        return ""
    if REST_PORT in _registered():  # it is Taipy's proxy in a notebook, which stays when its app has ended
        return ""
    listening = set()
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as f:
            rows = [line.split() for line in f.readlines()[1:]]
            listening |= {row[9] for row in rows if row[3] == "0A" and row[1].endswith(f":{REST_PORT:04X}")}
    ours = (_target(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")) if listening else ()
    return f"127.0.0.1:{REST_PORT}" if any(to == f"socket:[{inode}]" for to in ours for inode in listening) else ""


def _target(link: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(link)
    return ""


def _allow_websockets(server: Any) -> None:
    """Taipy turns upgrades off in notebooks, for its HTTP/1.0 proxy; read at each handshake."""
    with contextlib.suppress(AttributeError):
        server._ws.server.eio.allow_upgrades = True


def wake(gui: Any) -> None:
    """Wake the event loop of the app's server, as gevent allows other threads to.

    A value set in a cell waits in gevent's queue until its hub wakes: 4.2 to 5.0 s by itself, 0.12
    to 0.19 s with five wakes a second. A connection wakes it too, but one that was accepted while
    gui.stop() ran in the kernel's thread ended the kernel (a segmentation fault in gevent, at the
    3rd to 23rd stop; none in 39 without).
    """
    with contextlib.suppress(AttributeError, ValueError):  # another kind of server; a loop that has ended
        gui._server._ws.wsgi_server.loop.run_callback_threadsafe(_nothing)


def _nothing() -> None:
    pass

# SPDX-License-Identifier: Apache-2.0
"""Where the app of this process listens.

In a notebook Taipy's declared port (5000) is an HTTP/1.0 proxy without websockets, which answers
501 once the app's cell was run again. The real server is on a port of its own that changes each
time. Both stand in Taipy's registry of running apps; Taipy itself is never imported from here.

Attributes relied on (the same in Taipy 3.1, 4.0 and 4.1): taipy.gui.utils._runtime_manager._RuntimeManager, its
__port_gui; Gui._server; _Server._port, _thread, _ws; SocketIO.wsgi_server.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import Any

from .._errors import AppNotFoundError, ConfigError
from .._quote import quote
from .._settings import elsewhere

REST_PORT = 5000  # werkzeug's default, which Rest().run() leaves alone
_REGISTRY = "taipy.gui.utils._runtime_manager"


class App:
    """The app that a tunnel shows: a fixed address, or a Taipy app to be followed.

    spec: None (the running Taipy app), a port, "port", "host:port", or a Taipy Gui.
    """

    def __init__(self, spec: object = None) -> None:
        self._fixed = ""
        self._gui: object | None = None
        self._declared: int | None = None  # the port by which Taipy knows the app that we follow
        if spec is None:
            spec = elsewhere("app")[0] or None
        if spec is not None and _is_gui(spec):
            self._gui = spec
        elif spec is not None:
            self._fixed = _fixed(spec)

    def gui(self) -> object | None:
        """The Taipy Gui that runs now; None if there is none, or the address is fixed.

        AppNotFoundError if several run and none was named or followed before.
        """
        if self._fixed:
            return None
        running = _registered()
        if self._gui is not None:
            for declared, gui in running.items():
                if gui is self._gui:
                    self._declared = declared
            # After a re-run of its cell another Gui has taken over the same port.
            return self._gui if _address(self._gui) else running.get(self._declared or 0)
        live = {declared: gui for declared, gui in running.items() if _address(gui)}
        if self._declared not in live and len(live) > 1:
            listed = ", ".join(f"port {declared}" for declared in sorted(live))
            raise AppNotFoundError(
                f"app: {len(live)} Taipy apps run in this process ({listed})",
                "name one: expose(gui), with the variable that holds its Gui",
            )
        if self._declared not in live:
            self._declared = next(iter(live), None)
        return live.get(self._declared) if self._declared is not None else None

    def address(self) -> str:
        """Where the app listens now, "host:port"; "" if it does not run. Errors as of gui()."""
        return self._fixed or _address(self.gui()) or _rest()

    def check(self) -> None:
        """Raise AppNotFoundError if the app was started but cannot be reached."""
        if self.address():
            return
        guis = [self._gui] if self._gui is not None else list(_registered().values())
        if any(_died(gui) for gui in guis):
            raise AppNotFoundError(
                "app: the thread of Taipy's server has ended, most likely because its port was taken",
                "run the app's cell again; it gets another port",
            )


def _fixed(spec: object) -> str:
    """The address that a port, "port" or "host:port" means."""
    text = str(spec).strip() if isinstance(spec, (int, str)) and not isinstance(spec, bool) else ""
    if "@" in text:
        raise ConfigError(
            "configuration: app looks like a server", 'the server is a keyword: expose({server="user@host"})'
        )
    match = re.fullmatch(r"(?:(\S+):)?(\d{1,5})", text)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise ConfigError(
            f"configuration: app is {quote(text)}" if text else f"configuration: app is a {type(spec).__name__}",
            'want a port, "host:port", a Taipy Gui, or nothing for the running Taipy app',
        )
    return f"{match[1] or '127.0.0.1'}:{match[2]}"


def _is_gui(app: object) -> bool:
    cls = type(app)
    return any(c.__module__.startswith("taipy.gui") and c.__name__ == "Gui" for c in cls.__mro__)


def _registered() -> dict[int, object]:
    """Taipy's own record of the apps that run in a notebook, by declared port."""
    module = sys.modules.get(_REGISTRY)
    manager = getattr(module, "_RuntimeManager", None)
    if manager is None:
        return {}
    return dict(getattr(manager(), "_RuntimeManager__port_gui", {}))


def _address(gui: object | None) -> str:
    """Where gui's real server listens. `_is_running` stays true when its thread died at bind."""
    server = getattr(gui, "_server", None)
    port = getattr(server, "_port", None)
    if not isinstance(port, int) or _died(gui):
        return ""
    _allow_websockets(server)
    return f"127.0.0.1:{port}"


def _died(gui: object) -> bool:
    """Whether gui was started and its server's thread has ended."""
    thread = getattr(getattr(gui, "_server", None), "_thread", None)
    return thread is not None and not thread.is_alive()


def _rest() -> str:
    """The address of a Rest() that runs alone: it is in no registry and listens on port 5000.

    Only if this very process does: what another one has there is none of ours.
    """
    if "taipy.rest" not in sys.modules and "taipy_rest" not in sys.modules:
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

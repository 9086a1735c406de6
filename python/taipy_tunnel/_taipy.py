# SPDX-License-Identifier: Apache-2.0
"""Where the Taipy app of this process listens.

In a notebook Taipy's declared port (5000) is an HTTP/1.0 proxy without websockets, which answers
501 once the app's cell was run again. The real server is on a port of its own that changes each
time. Both stand in Taipy's registry of running apps; Taipy itself is never imported from here.

Attributes relied on (Taipy 4.1): taipy.gui.utils._runtime_manager._RuntimeManager,
its __port_gui; Gui._server; _Server._port, _thread, _ws.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

from ._errors import AppNotFoundError

_REGISTRY = "taipy.gui.utils._runtime_manager"


def is_gui(app: object) -> bool:
    """Whether `app` is a Taipy Gui."""
    cls = type(app)
    return cls.__module__.startswith("taipy.") and hasattr(app, "run") and hasattr(app, "state")


def find(gui: object | None = None) -> str:
    """The address of the running app, or of `gui`; "" if there is none.

    AppNotFoundError if several run and none was named.
    """
    if gui is not None:
        return _address(gui)
    found = {declared: address for declared, app in _registered().items() if (address := _address(app))}
    if len(found) > 1:
        listed = ", ".join(f"port {declared}" for declared in sorted(found))
        raise AppNotFoundError(
            f"app: {len(found)} Taipy apps run in this process ({listed})",
            "name one: expose(gui), with the variable that holds its Gui",
        )
    return next(iter(found.values()), "")


def _registered() -> dict[int, object]:
    """Taipy's own record of the apps that run in a notebook, by declared port."""
    module = sys.modules.get(_REGISTRY)
    manager = getattr(module, "_RuntimeManager", None)
    if manager is None:
        return {}
    return dict(getattr(manager(), "_RuntimeManager__port_gui", {}))


def _address(gui: object) -> str:
    """Where gui's real server listens. `_is_running` stays true when its thread died at bind."""
    server = getattr(gui, "_server", None)
    port = getattr(server, "_port", None)
    thread = getattr(server, "_thread", None)
    if not isinstance(port, int) or (thread is not None and not thread.is_alive()):
        return ""
    _allow_websockets(server)
    return f"127.0.0.1:{port}"


def _allow_websockets(server: Any) -> None:
    """Taipy turns upgrades off in notebooks, for its HTTP/1.0 proxy; read at each handshake."""
    with contextlib.suppress(AttributeError):
        server._ws.server.eio.allow_upgrades = True


def wake(address: str) -> None:
    """Wake the event loop of the app's server, by a connection that says nothing.

    A value set in a cell waits in gevent's queue until its hub wakes: 4.2 to 5.0 s by itself, 0.12
    to 0.19 s with five wakes a second.
    """
    host, port = address.rsplit(":", 1)
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=0.1):
        pass

# SPDX-License-Identifier: Apache-2.0
"""The tunnels of this process, and how they end with it."""

from __future__ import annotations

import atexit
import os
import threading

from ._databricks import scope
from ._questions import ask
from ._settings import Settings
from ._taipy.app import App
from ._tunnel import Tunnel
from ._watcher import watcher

PATIENCE = 10.0  # seconds for the engine to tell whether two settings mean the same tunnel

_lock = threading.Lock()
_tunnels: dict[tuple[str, str], Tunnel] = {}  # by identity, once and for all; not all are open


def tunnel_of(settings: Settings, app: App) -> Tunnel:
    """The tunnel that settings mean: the one there was before, or a new one that is not open yet."""
    shared = ask({"ask": "tunnel.identity", "config": settings.config("")}, PATIENCE)
    with _lock:
        tunnel = _tunnels.setdefault((shared["server"], shared["slot"]), Tunnel(settings, app))
    return tunnel  # noqa: RET504  (not in there: see Watcher._alone)


def tunnels() -> list[Tunnel]:
    """The tunnels that are open in this process."""
    with _lock:
        known = list(_tunnels.values())
    return [tunnel for tunnel in known if tunnel.is_open()]


def close_all(drain: float = 5.0) -> None:
    """Close every tunnel of this process; see Tunnel.close."""
    all_open = tunnels()
    for tunnel in all_open:
        tunnel.begin_close(drain)
    for tunnel in all_open:
        tunnel.close(drain)


def _at_exit() -> None:
    """End the tunnels without waiting for anybody: the proxy gets its port back at once."""
    for tunnel in tunnels():
        tunnel.begin_close(0)
    watcher.wait(lambda: not tunnels(), 0.7)
    watcher.join(0.1)


def _in_forked_child() -> None:
    """A child has none of the tunnels, and locks that other threads held when it was born."""
    global _lock
    _lock = threading.Lock()
    _tunnels.clear()
    scope.forget()
    watcher.reset()


# Taipy's servers run in threads that the interpreter joins before it calls atexit's functions, so a
# kernel with an app never gets there: it is killed 5 s later. concurrent.futures registers where
# threading begins to join (CPython 3.9 and later); atexit is for interpreters without that.
getattr(threading, "_register_atexit", atexit.register)(_at_exit)
os.register_at_fork(after_in_child=_in_forked_child)

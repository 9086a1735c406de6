# SPDX-License-Identifier: Apache-2.0
"""The private attributes of Taipy that we rely on, in one table, and what does not work without each.

It is the same in Taipy 3.1, 4.0 and 4.1. A later one may move it; what needs it is then left undone, and the owner is
told so when the app is opened, not by a page that stays stale after an outage.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

LOOKS = 5  # one after the other that find something missing: it may only have been in the making

REGISTRY = "taipy.gui.utils._runtime_manager"
PORTS = "_RuntimeManager__port_gui"

_UNFOUND = "apps that run here are not found by themselves: name the port, expose(PORT)"
_UNKNOWN = "it is not known where the app listens: name the port, expose(PORT)"
_ENDED = "a server that has ended looks like one that is starting"
_STOPPED = "an app that was stopped looks like one whose server has failed"
_ELSEWHERE = "an app at an address of its own is looked for at 127.0.0.1: name it, expose('host:port')"
_POLLING = "pages ask again and again instead of holding a websocket open"
_LATE = "what a cell sets reaches the pages up to 5 s later"
STALE = "after an outage pages show what they showed before it, until they are loaded again"


class Relied(NamedTuple):
    """Attributes of a Gui that runs, of which one must be there. "()" calls a method, which changes nothing."""

    ways: tuple[str, ...]
    without: str  # what does not work if none is
    gevent: bool = False  # only Taipy's usual kind of server has it


RELIED = (  # the first is there as soon as Taipy lists the app
    Relied(("_server._port", "_server.get_port()"), _UNKNOWN),
    Relied(("_server._thread.is_alive()",), _ENDED),
    Relied(("_server._is_running",), _STOPPED),
    Relied(("_server._host",), _ELSEWHERE),
    Relied(("_server._ws.server.eio.allow_upgrades",), _POLLING),
    Relied(("_server._ws.wsgi_server.loop.run_callback_threadsafe",), _LATE, gevent=True),
    Relied(("_server._ws.server.manager.get_participants",), STALE),
    Relied(("_bindings()._get_all_scopes()",), STALE),
    Relied(("_Gui__request_var_update",), STALE),
    Relied(("get_app_context()", "get_flask_app().app_context"), STALE),  # the first is of 4.2's
)


class Canary:
    """Says what of the table is missing. Used by the watcher's thread only."""

    def __init__(self) -> None:
        self._left = LOOKS  # 0: all was said

    def look(self, gui: object | None, served: bool) -> list[str]:
        """What does not work, if that has not been said before.

        gui: an app that Taipy lists, None if it lists none. served: it answers, so its server has all that it needs.
        """
        if not self._left:
            return []
        missing: dict[str, str] = {}  # by what does not work
        if gui is None and _unlisted():
            missing[_UNFOUND] = f"{REGISTRY} is not what it was"
        for row in () if gui is None else RELIED if served else RELIED[:1]:
            if not any(_has(gui, way) for way in row.ways) and not (row.gevent and _other_kind(gui)):
                missing.setdefault(row.without, f"Gui.{row.ways[0]} is not there")
        if not missing:
            self._left = 0 if served and gui is not None else LOOKS
            return []
        self._left -= 1
        return [] if self._left else [said(what, without) for without, what in missing.items()]


def said(what: str, without: str) -> str:
    """What is missing, and what does not work without it, for the owner."""
    return f"{_version()}: {without} ({what}); hint: a newer taipy-tunnel may know it: pip install -U taipy-tunnel"


def _version() -> str:
    for name in ("taipy-gui", "taipy"):
        try:
            return f"Taipy {importlib.metadata.version(name)}"
        except Exception:  # there is none, or it cannot be read
            continue
    return "this Taipy"


def _unlisted() -> bool:
    """Whether there is a Taipy that keeps its list of running apps elsewhere."""
    if getattr(sys.modules.get("taipy.gui.gui"), "Gui", None) is None:
        return False  # it is not imported, or that is under way
    manager = getattr(sys.modules.get(REGISTRY), "_RuntimeManager", None)
    return manager is None or not isinstance(getattr(manager(), PORTS, None), dict)


def _other_kind(gui: object) -> bool:
    """Whether the server is of another kind than gevent's, by its owner's choice; it needs nobody to wake it."""
    try:
        return bool(_follow(gui, "_server._ws.async_mode") != "gevent")
    except Exception:
        return False


def _has(gui: object, way: str) -> bool:
    try:
        _follow(gui, way)
    except Exception:  # AttributeError; or what a method raises that was given up
        return False
    return True


def _follow(start: Any, way: str) -> Any:
    at = start
    for name in way.split("."):
        at = getattr(at, name.removesuffix("()"))
        if name.endswith("()"):
            call: Callable[[], Any] = at
            at = call()
    return at

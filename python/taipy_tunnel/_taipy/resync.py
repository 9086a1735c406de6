# SPDX-License-Identifier: Apache-2.0
"""No stale page after an outage.

What a cell sets while the link is down never reaches a page: Taipy sends a value once and asks
nobody whether it came. So after a link was replaced, each page that comes back is sent the values
of all variables, by the call that Taipy makes for a page that asks for them when it is first
drawn. It never is State.refresh, which calls the user's on_change. What is private to Taipy, and
relied on, is listed in relied.py.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from .relied import STALE, said

WINDOW = 60.0  # seconds after a link was replaced, in which its pages come back; seen: 0.2 to 5.1
TRIES = 3  # to send values that nobody changes meanwhile
PREFIXES = ("tp_", "tpec_", "_Tp")  # of the variables that pages are bound to

logger = logging.getLogger("taipy_tunnel")


class Resync:
    """Watches the pages of one tunnel's app. Used by the watcher's thread only."""

    def __init__(self) -> None:
        self._links: int | None = None
        self._pages: set[str] = set()
        self._until = 0.0

    def look(self, gui: object, links: int, warn: Callable[[str], None]) -> bool:
        """Send the values if a page has come back since links were replaced; whether it did.

        links: how many were so far (Status.reconnects). warn: tells the owner that it could not be done.
        """
        try:
            pages = _pages(gui)
            back = pages - self._pages
            self._pages = pages
            if links != self._links:
                self._until = 0.0 if self._links is None else time.monotonic() + WINDOW
                self._links = links
            if not back or time.monotonic() > self._until:
                return False
            if _send(gui):
                return True
            warn(said("its names of what pages show are not what they were", STALE))
            return False
        except Exception as error:
            logger.debug("pages could not be brought up to date", exc_info=True)
            if time.monotonic() <= self._until:  # else relied.py has told what is missing
                what = type(error).__name__
                warn(f"pages may show what they showed before the outage, until they are loaded again: {what}")
            self._until = 0.0
            return False


def _pages(gui: Any) -> set[str]:
    """The socket.io sessions that are open: one for each page, a new one when it comes back."""
    manager = gui._server._ws.server.manager
    return {sid for sid, _ in list(manager.get_participants("/", None))}


def _send(gui: Any) -> bool:
    """Send the values; again if some changed meanwhile: what was read before may have been sent after the change
    itself, as where somebody clicks on a page that has just come back, and would stay there. False if pages show
    some, and none by a name that is known.
    """
    scopes = gui._bindings()._get_all_scopes()
    for _ in range(TRIES):
        before = _values(scopes)
        known = next(iter(before), {})
        names = [name for name in known if name.startswith(PREFIXES)]
        if not names:
            return not _shown(known)
        with _context(gui):
            gui._Gui__request_var_update({"names": names, "refresh": False})
        if _same(before, _values(scopes)):
            break
    return True


def _shown(names: Iterable[str]) -> bool:
    """Whether pages seem to show some variable: then Taipy has made a name of the variable's, with more before it. One
    that a callback alone has used has its own name and no other, and Taipy has a few for itself."""
    ours = vars(sys.modules["__main__"])  # a variable of the notebook's may have another's name in it
    made = [name for name in names if name not in ours]
    return any(f"_{one}" in name for name in made for one in names)


def _context(gui: Any) -> Any:
    """Of the app, in which Taipy sends. In its next version, which has other servers too, get_flask_app() raises."""
    if hasattr(gui, "get_app_context"):
        return gui.get_app_context()
    return gui.get_flask_app().app_context()


def _values(scopes: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(vars(scope)) for scope in list(scopes.values())]


def _same(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> bool:
    """By identity: values may be of any size, and compare in ways of their own."""
    return len(before) == len(after) and all(
        one.keys() == other.keys() and all(other[name] is value for name, value in one.items())
        for one, other in zip(before, after)
    )

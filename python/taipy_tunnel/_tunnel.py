# SPDX-License-Identifier: Apache-2.0
"""A tunnel, as its owner sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from . import _card
from ._abi import NoSuchTunnelError, library
from ._databricks.cluster import Keeping, facts
from ._errors import AppNotFoundError, ConfigError, ProxyUnreachableError, TunnelError
from ._lines import Lines
from ._near import proposals
from ._questions import LATE, ask
from ._settings import DEFAULT_TIMEOUT, Settings
from ._status import ENDED, SETTLED, Status
from ._taipy.app import App, wake
from ._taipy.resync import Resync
from ._watcher import Watched, watcher

ADMISSION = 10.0  # seconds for the gate to admit others
REOPENS = "taipy-tunnel: opening the tunnel with the new settings; until it is up, the open one serves visitors"
CARD_WAIT = 1.0  # seconds that a card waits for what the workspace knows of the cluster


class Tunnel(Watched):
    """What expose() returns. Its methods may be called from several threads."""

    def __init__(self, settings: Settings, app: App) -> None:
        self._settings = settings
        self._app = app
        self._handle = 0  # of the library; 0: not open. Guarded by the watcher, and so is what is done with it
        self._known: Status | None = None
        self._url = ""
        self._lines = Lines()
        self._opening = threading.Lock()  # one expose() at a time
        self._closing = False  # a close() was begun, and may have been interrupted
        self._doubt = False  # a change() has failed half-way: the engine knows what holds, _settings do not
        self._warned: set[str] = set()  # what the owner was told of this app, and need not be told again
        self._resync = Resync()
        self._keeping = Keeping(lambda: self._known is not None and self._known.state not in ENDED)

    # What it is.

    @property
    @watcher.guarded
    def url(self) -> str:
        """What visitors open: with the token that admits them, if one does. For them, not for logs."""
        if self._handle:
            with contextlib.suppress(NoSuchTunnelError):
                self._url = library().url(self._handle)
        return self._url

    @property
    def state(self) -> str:
        """What it is doing, in one word; see Status."""
        return self.status.state

    @property
    def status(self) -> Status:
        """What is known of it now."""
        self.refresh()
        assert self._known is not None
        return self._known

    def logs(self, n: int = 100) -> list[str]:
        """The newest n lines of what happened, oldest first. At most 1000 are kept."""
        return self._lines.newest(n)

    @watcher.guarded
    def requests(self, n: int = 100) -> list[dict[str, Any]]:
        """The newest n requests of visitors, oldest first, at most 1000; pandas.DataFrame takes them.

        time (seconds since 1970), visitor (tells them apart, no more), method, path, status, seconds,
        received and sent (bytes), client (address, where the proxy tells it). No query strings. What was
        refused for want of the token or a password is not among them; status.refused counts it.
        """
        return library().requests(self._handle, max(0, n)) if self._handle else []

    def __repr__(self) -> str:
        try:
            return _card.line(self.status)
        except TunnelError as error:
            return f"<Tunnel: {error.message}>"

    def __str__(self) -> str:
        facts.settle(CARD_WAIT)
        return _card.text(self.status, self.url, self._near())

    def _repr_html_(self) -> str:
        facts.settle(CARD_WAIT)
        return _card.html(self.status, self.url, self._near())

    def _near(self) -> list[str]:
        """What is proposed to who waits for an app."""
        status = self.status
        return proposals(status.target) if status.state == "waiting" else []

    # What can be done with it.

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until visitors reach the app (state "up"); False if `timeout` seconds passed first.

        Raises the error that ended the tunnel, if it did, and ConfigError if the link has expired.
        """

        def reached(status: Status) -> bool:
            if status.state == "expired" and status.last_error:
                raise status.last_error
            return status.state in ("up", "degraded")

        return self._wait_for(reached, timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Keep the cell running until the tunnel ends; False if `timeout` seconds passed first.

        Prints a line when the state changes. Interrupting the cell leaves the tunnel open. Raises
        the error if the tunnel failed.
        """
        shown = ""

        def ended(status: Status) -> bool:
            nonlocal shown
            if status.state != shown:
                shown = status.state
                print(f"{datetime.datetime.now():%H:%M:%S} {_card.state(status)}", flush=True)
            return status.state == "closed"

        return self._wait_for(ended, timeout)

    def reconnect(self) -> None:
        """Give up the present link and make a new one at once; revives a tunnel that failed.

        One that has failed for good is opened again, as by expose(): within 30 seconds, or with the error.
        """
        if not self._reconnect():
            self.expose(self._settings, self._app, DEFAULT_TIMEOUT)

    @watcher.guarded
    def _reconnect(self) -> bool:
        if not self._handle or self._closing:
            raise TunnelError("tunnel: it is closed", "run the cell with expose() again")
        return library().reconnect(self._handle)

    def new_token(self) -> str:
        """End the links that were given away, and return the URL with a new token.

        The new token is random and lasts until the kernel ends; a line says how to keep it longer.
        """
        url = self._renew()
        print(
            "taipy-tunnel: the earlier link admits nobody any more. The new one lasts until the kernel ends. For one "
            f"that stays, run expose() with token_version={self._settings.token_version + 1}; or store what follows "
            "#token= in the link as a secret, and pass it as token=.",
            flush=True,
        )
        return url

    @watcher.guarded
    def _renew(self) -> str:
        if not self._handle:
            raise TunnelError("tunnel: it is closed", "run the cell with expose() again")
        status = self.status
        if status.access != "token":
            raise ConfigError("configuration: this tunnel has no token", 'expose it with {access="token"}')
        if status.state == "expired" and status.last_error:
            raise status.last_error  # another token would have the same end
        library().new_token(self._handle)
        return self.url

    @watcher.guarded
    def close(self, drain: float = 5.0) -> None:
        """Take no more visitors, give open connections `drain` seconds to end, and close.

        A connection ends when the proxy has its last byte. Websockets are told that the server
        goes away, and get 2 s.

        When it returns nothing is left and the port on the proxy is free again. Calling it again
        does nothing. If it is interrupted, closing goes on in the background.
        """
        handle = self._handle
        self.begin_close(drain)

        def gone() -> bool:
            self.refresh()
            return self._handle != handle  # which may be that of an expose() that came meanwhile

        if handle and not watcher.wait(gone, drain + 5.0):
            self.release()

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # For this package.

    def expose(self, settings: Settings, app: App, timeout: float) -> None:
        """Show the app as settings say, and return when a visitor could open the URL.

        `timeout` bounds the engine's set-up. After an error a tunnel that was open goes on as before, and nothing is
        left of one that was not.
        """
        with self._opening:
            try:
                if self._closing or not self._handle:
                    self._open(settings, app, timeout)
                else:
                    self._change(settings, app, timeout)
            except BaseException:  # Ctrl-C on top of an error comes here, and not before the lock is released
                raise

    def _open(self, settings: Settings, app: App, timeout: float) -> None:
        """Open a tunnel that is closed, or closing."""
        try:
            self.close(drain=0)
            self._settings, self._app, self._warned = settings, app, set()
            self._start(app.address(), timeout)
            self._settle(timeout)
        except BaseException:
            self.release()
            raise

    @watcher.guarded
    def _start(self, target: str, timeout: float) -> None:
        self._closing = False
        opened: list[int] = []
        try:
            library().expose(self._settings.config(target), timeout, opened)
            self._handle = opened[0]
            self.refresh()
            watcher.add(self._handle, self)
        except BaseException:  # Ctrl-C may come between any two instructions
            self._handle = opened[0] if opened else 0
            raise

    def _change(self, settings: Settings, app: App, timeout: float) -> None:
        """Give an open tunnel these settings and this app."""
        took: list[str] = []
        try:
            if settings != self._settings or self._doubt or self.state in ENDED:
                self._set(settings, app, timeout, took)
            elif self.status.unchecked and settings.check != "off":
                ask({"ask": "tunnel.verify", "handle": self._handle}, timeout)  # what kept it out may be gone
            self._app = app
            self.follow()
            self._settle(timeout)
        except TunnelError as error:
            if took:
                error.message += f" (already in force: {', '.join(took)})"
            raise

    def _set(self, settings: Settings, app: App, timeout: float, took: list[str]) -> None:
        """Give it other settings. Whatever goes wrong, it stays as it is, but for what it appends to `took`.

        Those are the names of what concerns visitors: it holds at once, also while the proxy is away.
        """
        target, link = app.address(), self.url
        self._doubt = True
        question = {"handle": self._handle, "config": settings.config(target)}
        answer = ask({"ask": "tunnel.admit", **question}, ADMISSION)
        took += answer["changed"]
        if answer["reopen"]:
            ask({"ask": "tunnel.reopen", **question}, timeout, late=lambda: print(REOPENS, flush=True))
        self._settings, self._app, self._doubt = settings, app, False
        self._warned = set()
        self._resync = Resync()
        if self.url != link:
            print("taipy-tunnel: the link is another one now; visitors need the new one: tunnel.url", flush=True)

    def _settle(self, timeout: float) -> None:
        """Wait until a visitor could open the URL, or raise why not. Tells what takes over a second."""
        start, shown = time.monotonic(), ""

        def settled(status: Status) -> bool:
            nonlocal shown
            doing = _card.doing(status)
            waited = time.monotonic() - start
            if waited > LATE and doing != shown and status.state not in (*SETTLED, *ENDED):
                shown = doing
                print(f"taipy-tunnel: {doing}", flush=True)
            return status.state in SETTLED

        # The engine ends a set-up by its own clock; an open tunnel that is reconnecting it leaves alone.
        end = start + timeout + 1.0
        while not self._wait_for(settled, min(LATE, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end:
                raise self.status.last_error or ProxyUnreachableError(f"tunnel: not ready after {timeout:g} s")

    def is_open(self) -> bool:
        """Whether it has not been closed; it may have failed."""
        return bool(self._handle)

    def examine(self, timeout: float) -> list[dict[str, Any]]:
        """What doctor() says of it: objects of step, ok, seen and hint."""
        handle = self._handle
        return list(ask({"ask": "tunnel.doctor", "handle": handle}, timeout)) if handle else []

    @watcher.guarded
    def begin_close(self, drain: float) -> None:
        """Begin to close, if it is open."""
        if self._handle:
            self._closing = True
            try:
                library().close(self._handle, drain)
            except NoSuchTunnelError:  # Ctrl-C cut a release() short
                self.release()

    @watcher.guarded
    def release(self) -> None:
        """Forget the handle, closing the tunnel at once if it is not closed."""
        if not self._handle:
            return
        if self._known is not None and self._known.state not in ENDED:
            now = datetime.datetime.now(datetime.timezone.utc)
            self._known = dataclasses.replace(
                self._known, state="closed", links=0, slots=0, visitors=0, since=now, retry_at=None
            )
        watcher.remove(self._handle)
        with contextlib.suppress(NoSuchTunnelError):
            self._url = library().url(self._handle)
            library().release(self._handle)
        self._handle = 0
        self._keeping.set(None)
        facts.drop()

    def keep(self, spark: object) -> bool:
        """Keep the cluster from stopping while the tunnel is open; None: no longer. Whether that is new."""
        return self._keeping.set(spark)

    @watcher.guarded
    def refresh(self) -> None:
        """Take the newest status; one that is closed gives its handle back."""
        if not self._handle:
            return
        try:
            self._known = Status.from_json(library().status(self._handle), self._keeping.cluster())
        except NoSuchTunnelError:
            self.release()
            return
        if self._known.state == "closed":
            self.release()

    def follow(self) -> None:
        """Tell the engine where the app is now, and wake its server for what cells have set."""
        self._tell(library().tick)
        status = self.status
        try:
            address, gui = self._app.address(), self._app.gui()
        except AppNotFoundError as error:
            self._warn(f"{error.message}; hint: {error.hint}")
            return
        for lack in self._app.lacking(gui, address == status.target and status.state in ("up", "degraded")):
            self._warn(lack)
        if address != status.target:
            self._tell(library().set_target, address)
            self._resync = Resync()
        elif gui is not None and (self._resync.look(gui, status.reconnects, self._warn) or status.visitors):
            wake(gui)

    @watcher.guarded
    def _tell(self, call: Callable[..., None], *arguments: str) -> None:
        if self._handle:
            with contextlib.suppress(NoSuchTunnelError):
                call(self._handle, *arguments)

    def _warn(self, message: str) -> None:
        """Say something that its owner should know, once."""
        if message not in self._warned:
            self._warned.add(message)
            self.record(logging.WARNING, time.time(), message)

    def record(self, level: int, moment: float, message: str) -> None:
        """Keep a line for logs() and hand it to Python's logging."""
        self._lines.add(level, moment, message)

    def _wait_for(self, done: Callable[[Status], bool], timeout: float | None) -> bool:
        """Wait until done(status), or the tunnel has ended. Interruptible."""

        def over() -> bool:
            status = self.status
            if done(status):
                return True
            if status.state in ENDED:
                raise status.last_error or TunnelError(f"tunnel: it is {status.state}")
            return False

        return watcher.wait(over, timeout)

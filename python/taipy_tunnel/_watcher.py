# SPDX-License-Identifier: Apache-2.0
"""The one thread of this package: it brings news from the library and follows the app.

It lives while a tunnel is open, sleeps in poll() on the library's eventfd, and five times a second
has each tunnel look where its app listens. The engine never calls Python; traffic never needs
this thread.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ._abi import Library, library
from ._hints import worded
from ._signals import deaf

TICK = 0.2  # seconds

logger = logging.getLogger("taipy_tunnel")
logger.addHandler(logging.NullHandler())

_Method = TypeVar("_Method", bound=Callable[..., Any])


class Watched:
    """A tunnel or a question that the watcher brings news to. None of its methods may block."""

    def refresh(self) -> None:
        """Its status changed, or it is answered."""

    def follow(self) -> None:
        """Time to look where the app is."""

    def record(self, level: int, moment: float, message: str) -> None:
        """The engine logged something."""


class Watcher:
    """Its lock guards the handles of tunnels and questions, and what is done with them.

    Only this class takes it: methods that use a handle are `guarded`, and callers wait for news in wait().
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start afresh: what a forked child has to do."""
        # The lock is entered, not the condition, whose __enter__ is written in Python: Ctrl-C there would leave it
        # locked for ever.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._watched: dict[int, Watched] = {}
        self._troubled: set[Watched] = set()  # those whose follow() failed last time
        self._thread: threading.Thread | None = None

    def guarded(self, method: _Method) -> _Method:
        """Have a method run under the lock, which may be entered again by the thread that has it."""

        @functools.wraps(method)
        def alone(*arguments: Any, **named: Any) -> Any:
            return self._alone(method, *arguments, **named)

        return cast(_Method, alone)

    def _alone(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        with self._lock:
            try:
                result = method(*arguments, **named)
            except BaseException:  # Ctrl-C on top of an error comes here, and not before the lock is released
                raise
        return result  # not in there: Ctrl-C between the call and the return would leave the lock held

    def wait(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until done(), which is called under the lock; False if `timeout` seconds passed first. Interruptible.

        It is called after each piece of news, and five times a second: news may have gone to another copy of this
        package (one that was imported again), or have been lost to Ctrl-C.
        """
        end = None if timeout is None else time.monotonic() + timeout

        def waited() -> bool:
            while not done():
                left = TICK if end is None else end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, TICK))
            return True

        return bool(self._alone(waited))

    def add(self, handle: int, tunnel: Watched) -> None:
        """Bring news of a handle to tunnel, from its very first on."""
        with self._lock:
            self._watched[handle] = tunnel
            if self._thread is None or not self._thread.is_alive():  # Ctrl-C may come before its start
                self._thread = threading.Thread(target=self._run, name="taipy-tunnel", daemon=True)
                with deaf():
                    self._thread.start()

    def remove(self, handle: int) -> None:
        """No more news of a handle. The thread ends with the last one."""
        with self._lock:
            tunnel = self._watched.pop(handle, None)
            if tunnel is not None:
                self._troubled.discard(tunnel)
            self._changed.notify_all()
            if tunnel is not None and not self._watched:
                with contextlib.suppress(OSError, BlockingIOError):
                    os.write(library().event_fd(), (1).to_bytes(8, "little"))

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, if there is nothing left to watch."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            thread.join(timeout)

    def _run(self) -> None:
        engine = library()
        announcements = select.poll()
        announcements.register(engine.event_fd(), select.POLLIN)
        due = time.monotonic()
        while True:
            with self._lock:
                watched = dict(self._watched)
                if not watched:
                    self._thread = None
                    return
            try:
                wait = max(0.0, due - time.monotonic())
                if announcements.poll(wait * 1000):
                    self._news(engine)
                if time.monotonic() >= due:
                    due = time.monotonic() + TICK
                    for tunnel in watched.values():
                        self._follow(tunnel)
            except Exception:
                logger.exception("the watcher goes on after an error")
                due = time.monotonic() + TICK

    def _follow(self, tunnel: Watched) -> None:
        """One tunnel's trouble is not the others', and is told once, not five times a second."""
        try:
            tunnel.follow()
            self._troubled.discard(tunnel)
        except Exception:
            if tunnel not in self._troubled:
                self._troubled.add(tunnel)
                logger.exception("the app's address is not known; the watcher goes on")

    def _news(self, engine: Library) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(engine.event_fd(), 8)
        stale = set()
        watched: dict[int, Watched] = {}
        while records := engine.events():
            with self._lock:  # a thread that opens a tunnel holds it until that is watched: its first line may be here
                watched = dict(self._watched)
            for record in records:
                if record["type"] == "log":
                    _log(record, watched.get(record["handle"]))
                else:
                    stale.add(record["handle"])
        for handle in stale & watched.keys():
            watched[handle].refresh()
        with self._lock:
            self._changed.notify_all()


def _log(record: dict[str, Any], tunnel: Watched | None) -> None:
    level = logging.getLevelName(record["level"].upper())
    if lost := record.get("lost"):
        logger.warning("%d log records were lost", lost)
    message = record["message"]
    if hint := record.get("hint"):
        message += f"; hint: {worded(hint)}"
    if tunnel is not None:
        tunnel.record(level, record["time"], message)
    else:
        logger.log(level, "%s", message)


watcher = Watcher()

# SPDX-License-Identifier: Apache-2.0
"""Questions to the engine: what takes longer than a call may is asked, waited for and answered."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from ._abi import NoSuchTunnelError, library
from ._errors import TunnelError, from_json
from ._quote import Hidden
from ._watcher import Watched, watcher

LATE = 1.0  # seconds after which a person wants to be told that something is going on


def foreground() -> bool:
    """Whether a terminal's Ctrl-C reaches this process, and so what it has started (tcgetpgrp(3))."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def ask(
    question: dict[str, Any],
    timeout: float | None,
    said: Callable[[str], str | None] | None = None,
    late: Callable[[], object] | None = None,
    patience: float | None = None,
) -> Any:
    """The answer to a question of tt_ask(), or its error; interruptible. `timeout` in seconds, None: there is none.

    `said` is called, in this thread, with each line that is said meanwhile; a text that it returns is what the engine
    is answered to that. `late` is called once, if there is no answer after a second. At Ctrl-C a command is given up,
    and has `patience` seconds to end, at SIGTERM as long as it takes; None: it ends at once, as after a second Ctrl-C.
    """
    start = time.monotonic()
    end = None if timeout is None else start + timeout + 5.0  # of the waiting; the engine ends in time
    engine = library()
    opened: list[int] = []
    answer: dict[str, Any] = {"done": False}

    def news() -> bool:
        nonlocal answer
        answer = engine.answer(opened[0])
        return bool(answer["done"] or answer.get("said"))

    def forget() -> None:
        for handle in opened:
            watcher.remove(handle)
            with contextlib.suppress(NoSuchTunnelError):
                engine.release(handle)

    try:
        try:
            engine.ask(question, timeout, opened)
            del question
            watcher.add(opened[0], Watched())
            while not answer["done"]:
                until = end if late is None else start + LATE
                try:
                    if watcher.wait(news, None if until is None else until - time.monotonic()):
                        for line in answer.get("said", ()):  # without the lock: a terminal may be slow
                            reply = said(line) if said is not None else None
                            if reply is not None:
                                ask(Hidden(ask="command.answer", handle=opened[0], text=reply), 5.0)
                    elif late is not None:
                        late()
                        late = None
                    else:
                        raise TunnelError("library: no answer")
                except KeyboardInterrupt as interrupt:
                    if patience is None or answer["done"]:
                        raise
                    number = getattr(interrupt, "signal", 0 if foreground() else signal.SIGINT)
                    end = None if number == signal.SIGTERM else time.monotonic() + patience
                    patience = None
                    ask({"ask": "command.interrupt", "handle": opened[0], "signal": int(number)}, 5.0)
        finally:
            forget()
    finally:
        forget()  # Ctrl-C may have come while it did
    if "error" in answer:
        raise from_json(answer["error"])
    return answer["value"]

# SPDX-License-Identifier: Apache-2.0
"""The thread that brings news of tunnels."""

from __future__ import annotations

import os
from typing import Any

from taipy_tunnel._watcher import Watched, Watcher


class _Heard(Watched):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def record(self, level: int, moment: float, message: str) -> None:
        self.lines.append(message)


def test_the_first_line_of_a_tunnel_is_its_own() -> None:
    """It may come while the tunnel's handle is about to be watched, and the news of another one are read."""
    watcher, first, second = Watcher(), _Heard(), _Heard()

    class Engine:
        """The library, as far as the thread asks it."""

        said = True

        def event_fd(self) -> int:
            return descriptor

        def events(self) -> list[dict[str, Any]]:
            if not self.said:
                return []
            self.said = False
            watcher._watched[2] = second  # by the thread that opens it
            return [
                {"handle": handle, "type": "log", "level": "info", "time": 0.0, "message": "begun"} for handle in (1, 2)
            ]

    watcher._watched[1] = first
    descriptor = os.eventfd(1, os.EFD_NONBLOCK) if hasattr(os, "eventfd") else os.open(os.devnull, os.O_RDONLY)
    try:
        watcher._news(Engine())  # type: ignore[arg-type]
    finally:
        os.close(descriptor)
    assert (first.lines, second.lines) == (["begun"], ["begun"])

# SPDX-License-Identifier: Apache-2.0
"""Kept-alive requests as fast as they are answered. A program of its own: no other thread of the
process that measures, and none of the notebook's, shares its interpreter.

    python load.py SLOT PATH CONNECTIONS SECONDS [TOKEN]    prints {"rate": …, "median_ms": …, "failed": …}
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple, cast

WARM_UP = 0.3  # seconds that are not counted


class Rate(NamedTuple):
    """How many requests a second were answered."""

    rate: float
    median_ms: float
    failed: int


def measure(slot: int | str, path: str, connections: int, seconds: float, token: str = "") -> Rate:
    """Ask a port of 127.0.0.1, or a unix socket, for `path` over so many connections, for so long, with a
    visitor's token.
    """
    ran = subprocess.run(
        [sys.executable, __file__, str(slot), path, str(connections), str(seconds), token],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=seconds + 30,
    )
    return Rate(**json.loads(ran.stdout))


class _Visitor(asyncio.Protocol):
    """One connection: a request, its whole answer, the next request."""

    def __init__(self, slot: int | str, request: bytes, end: asyncio.Event) -> None:
        self._slot = slot
        self._request = request
        self._end = end
        self._buffer = b""
        self._asked = 0.0
        self.took: list[float] = []
        self.failed = 0
        self._last = False  # on this connection

    async def connect(self) -> _Visitor:
        """Connect, again after an end; it asks from then on."""
        loop = asyncio.get_running_loop()
        if isinstance(self._slot, str):
            await loop.create_unix_connection(lambda: self, self._slot)
        else:
            await loop.create_connection(lambda: self, "127.0.0.1", self._slot)
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if len(body) < int(length or 0):
            return
        self._buffer = b""
        if not head.startswith(b"HTTP/1.1 200"):
            self.failed += 1
        self.took.append(time.perf_counter() - self._asked)
        self._last = b"connection: close" in head.lower()
        if not self._end.is_set() and not self._last:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end.is_set():
            return
        if not self._last:
            self.failed += 1
            return
        self._last = False  # nginx ends a connection after a thousand requests
        self._connecting = asyncio.ensure_future(self.connect())


def slot(text: str) -> int | str:
    """A port, or the path of a socket, of an argument."""
    return int(text) if text.isdigit() else text


async def _main(slot: int | str, path: str, connections: int, seconds: float, token: str) -> dict[str, Any]:
    end = asyncio.Event()
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{bearer}\r\n".encode()
    visitors = [await _Visitor(slot, request, end).connect() for _ in range(connections)]
    await asyncio.sleep(WARM_UP)
    for visitor in visitors:
        visitor.took.clear()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    took = [t for visitor in visitors for t in visitor.took]
    rate = len(took) / (time.perf_counter() - began)
    end.set()
    median = statistics.median(took) * 1000 if took else 0.0
    return {"rate": rate, "median_ms": median, "failed": sum(visitor.failed for visitor in visitors)}


if __name__ == "__main__":
    where, path, connections, seconds, token = (*sys.argv[1:], "")[:5]
    print(json.dumps(asyncio.run(_main(slot(where), path, int(connections), float(seconds), token))))

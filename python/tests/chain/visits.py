# SPDX-License-Identifier: Apache-2.0
"""What visitors do."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import taipy_tunnel


def connect(slot: int | str) -> socket.socket:
    """A connection to a slot: a visitor who comes without nginx."""
    if isinstance(slot, int):
        return socket.create_connection(("127.0.0.1", slot))
    visitor = socket.socket(socket.AF_UNIX)
    visitor.connect(slot)
    return visitor


def visit(url: str, timeout: float = 5.0) -> str:
    """What a visitor is shown."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        error.close()
        raise


def bearer(tunnel: taipy_tunnel.Tunnel) -> dict[str, str]:
    return {"Authorization": "Bearer " + tunnel.url.partition("#token=")[2]}

# SPDX-License-Identifier: Apache-2.0
"""Scripts that run in interpreters of their own: this one, or those that COMPAT_PYTHONS names."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

# Interpreters that have the wheel; ":" between their paths.
PYTHONS = [path for path in os.environ.get("COMPAT_PYTHONS", "").split(":") if path] or [sys.executable]

VERSIONS = """
import importlib.metadata, platform
print(platform.python_version())
try:
    print("ipykernel", importlib.metadata.version("ipykernel"))
except importlib.metadata.PackageNotFoundError:
    pass
"""


def version(python: str) -> str:
    """How an interpreter is named in the list of tests."""
    if python == sys.executable:
        return "this"
    ran = subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True)
    return " ".join(ran.stdout.split())


def script(*parts: str, **values: object) -> str:
    """Parts of a program in one, with «name» replaced by the repr of a value."""
    text = "\n".join(map(textwrap.dedent, parts))
    for name, value in values.items():
        text = text.replace(f"«{name}»", repr(value))
    return text


def run(python: str, code: str, timeout: float = 60.0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script to its end. Its stdout is what it said itself; see said."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    ran = subprocess.run([python, "-c", code], text=True, timeout=timeout, check=False, **options)
    ran.stdout = ran.stdout and said(ran.stdout)
    return ran


def said(text: str) -> str:
    """Without what expose() says when it takes over a second, as on a busy machine."""
    return re.sub(r"(?m)^taipy-tunnel: (?:connecting to .*|checking that .*|.*; trying again)\n", "", text)


def outcome(ran: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return ran.returncode, ran.stdout, ran.stderr


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a script says, or "" at its end."""
    assert process.stdout is not None
    while (text := process.stdout.readline()) and not said(text):
        pass
    return text


@contextlib.contextmanager
def talk(python: str, code: str) -> Iterator[subprocess.Popen[str]]:
    """A script that is spoken with, and gone afterwards."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([python, "-c", code], text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


EXPOSE = """
    import taipy_tunnel
    tunnel = taipy_tunnel.expose(«app», **«arguments»)
"""
# All links of a tunnel anew: one on a plain proxy, two on a prepared one.
RENEW = """
    def renew(tunnel, timeout=20):
        links = tunnel._settings.connections or 2
        assert tunnel._wait_for(lambda s: s.state == "up" and s.links == links, timeout), tunnel.logs()
        made = tunnel.status.reconnects + links
        tunnel.reconnect()
        whole = lambda s: s.reconnects == made and s.state == "up" and s.links == links
        assert tunnel._wait_for(whole, timeout), tunnel.logs()
"""
# What a tunnel does all day; `visit` is a request from outside the process's own Python.
WORK = f"""{RENEW}
    import gc, urllib.request
    def visit():
        return urllib.request.urlopen(tunnel.url, timeout=10).read()
    for _ in range(3):
        assert [visit() for _ in range(20)] == [b"hello"] * 20
        renew(tunnel)
        gc.collect()
"""
# A visitor who comes to a slot, without nginx.
CONNECT = """
    import socket
    def connect(slot=«slot»):
        if isinstance(slot, int):
            return socket.create_connection(("127.0.0.1", slot))
        visitor = socket.socket(socket.AF_UNIX)
        visitor.connect(slot)
        return visitor
"""

# SPDX-License-Identifier: Apache-2.0
"""Apps to be shown: one that answers a word, and programs of their own."""

from __future__ import annotations

import contextlib
import http.server
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence

from . import processes

START = 60.0  # seconds until an app that does not listen is an error


@contextlib.contextmanager
def page_app(html: str) -> Iterator[str]:
    """A site that answers every request with a page."""
    with web_app(html, "text/html; charset=utf-8") as address:
        yield address


@contextlib.contextmanager
def no_way_out() -> Iterator[str]:
    """An egress proxy that lets nobody out without a password."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler) as address:
        yield f"http://{address}"


@contextlib.contextmanager
def web_app(says: str, kind: str = "") -> Iterator[str]:
    """An app that answers every request with a word."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            if kind:
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(says.encode())))
            self.end_headers()
            self.wfile.write(says.encode())

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler) as address:
        yield address


@contextlib.contextmanager
def _serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def served(
    directory: pathlib.Path, port: int, argv: Sequence[str], env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """An app of its own process, in a directory where its code is. Yields its address."""
    log = directory / "app.log"
    settings = [f"{name}={value}" for name, value in (env or {}).items()]
    with log.open("ab") as f:
        process = processes.start(["env", "-C", str(directory), *settings, *argv], f)
    try:
        processes.until(lambda: processes.listening(port) or process.poll() is not None, START, 0.05)
        assert processes.listening(port), f"{argv}:\n{log.read_text(errors='replace')}"
        yield f"127.0.0.1:{port}"
    finally:
        processes.end(process)

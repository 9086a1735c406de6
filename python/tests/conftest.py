# SPDX-License-Identifier: Apache-2.0
"""A real proxy machine and small apps for every test; and nothing may be left when it ends."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import interpreters
import pytest
import taipy_tunnel
from chain import processes
from chain.plain import Plain
from chain.prepared import usual
from chain.proxy import Missing, Proxy
from taipy_tunnel._abi import library

if TYPE_CHECKING:  # which need a Jupyter client, and apps of other frameworks have none
    from chain.databricks import Workspace
    from chain.notebook import Notebook

# A shell without job control starts what runs in the background with Ctrl-C ignored; its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

Arguments = dict[str, Any]
P = TypeVar("P", bound=Proxy)
MakeNotebook = Callable[..., "contextlib.AbstractContextManager[Notebook]"]


@pytest.fixture(scope="session")
def proxy() -> Iterator[Proxy]:
    """The proxy machine of the whole run: for root a prepared one. A test that wants another makes its own."""
    with machine() as shared:
        yield shared


@pytest.fixture(scope="session")
def plain(request: pytest.FixtureRequest) -> Iterator[Plain]:
    """A plain proxy machine, for what only these have: ports, their marks, what nginx leads there."""
    shared = request.getfixturevalue("proxy")
    if isinstance(shared, Plain):
        yield shared
        return
    with machine(Plain) as another:
        yield another


@pytest.fixture(params=["prepared", "plain"])
def either(request: pytest.FixtureRequest) -> Proxy:
    """A proxy machine of each kind."""
    found: Proxy = request.getfixturevalue("plain" if request.param == "plain" else "proxy")
    if found.kind != request.param:
        pytest.skip("a prepared proxy is root's")
    return found


@pytest.fixture(params=interpreters.PYTHONS, ids=interpreters.version)
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter that has the package."""
    return str(request.param)


@contextlib.contextmanager
def machine(make: Callable[[], P] = usual) -> Iterator[P]:
    """A proxy machine; the test is skipped where its programs are missing, and fails in CI."""
    try:
        started = make()
        started.__enter__()
    except Missing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    with contextlib.ExitStack() as stack:
        stack.push(started.__exit__)
        yield started


def arguments(proxy: Proxy, **changed: Any) -> Arguments:
    """What expose() needs to know of a proxy machine. Whoever visits is admitted: see test_gate."""
    return {"access": "public", **proxy.known(), **changed}


@pytest.fixture
def app() -> Iterator[str]:
    """An app that answers "hello"."""
    with web_app("hello") as address:
        yield address


@pytest.fixture
def notebook(python: str) -> MakeNotebook:
    """chain.databricks.notebook(mode, workspace, …): what is tested is in the kernel's process."""
    from chain import databricks

    return functools.partial(databricks.notebook, python=python)


@pytest.fixture
def workspace(proxy: Proxy, app: str) -> Iterator[Workspace]:
    """A workspace whose scope knows the proxy and an app; it looks whether the slot is held."""
    from chain.databricks import Workspace

    with Workspace() as workspace:
        workspace.store(proxy, access="public", app=app)
        workspace.look = proxy.slot_held
        yield workspace


@contextlib.contextmanager
def web_app(says: str) -> Iterator[str]:
    """An app that answers every request with a word."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(says)))
            self.end_headers()
            self.wfile.write(says.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


def eventually(what: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait until what() is true; the test fails if it is not in time."""
    assert processes.until(lambda: bool(what()), timeout), f"not within {timeout:g} s"


def new_key(directory: pathlib.Path, passphrase: str = "", name: str = "key") -> pathlib.Path:
    """A new private key; its public half stands beside it."""
    path = directory / name
    keygen = shutil.which("ssh-keygen") or "ssh-keygen"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)
    return path


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: no tunnel, handle, thread or descriptor that was not there before."""
    if "notebook" in request.fixturenames:  # what is tested is in the kernel's process
        yield
        return
    threads, descriptors = set(threading.enumerate()), _descriptors()
    yield
    taipy_tunnel.close_all(drain=0)
    assert taipy_tunnel.tunnels() == []
    assert library().info()["handles"] == 0
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        more = {t.name for t in threading.enumerate() if t not in threads and t.is_alive()}
        opened = sorted(_descriptors() - descriptors)
        if not more and not opened:
            return
        time.sleep(0.01)
    assert (more, opened) == (set(), [])


def _descriptors() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            to = os.readlink(f"/proc/self/fd/{fd}")
            if to.startswith("socket:") or "taipy-tunnel" in to:
                found.add(f"{fd} {to}")
    return found


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's own environment says stays outside."""
    for name in [name for name in os.environ if name.startswith("TAIPY_TUNNEL_")]:
        monkeypatch.delenv(name)

# SPDX-License-Identifier: Apache-2.0
"""A real proxy machine and small apps for every test; and nothing may be left when it ends."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import taipy_tunnel
from chain import compat as rows
from chain import interpreters
from chain.apps import web_app
from chain.plain import Plain
from chain.proxy import Proxy
from chain.testing import MakeNotebook, machine
from taipy_tunnel._abi import library

if TYPE_CHECKING:  # which need a Jupyter client, and apps of other frameworks have none
    from chain.databricks import Workspace

# A shell without job control starts what runs in the background with Ctrl-C ignored; its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture
def app() -> Iterator[str]:
    """An app that answers "hello"."""
    with web_app("hello") as address:
        yield address


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where rows are wanted, those that note none are left out."""
    if rows.WANTED:
        none = [item for item in items if "compat" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=none)
        items[:] = [item for item in items if item not in none]


@pytest.fixture
def compat() -> rows.Row:
    """Notes a row of docs/compatibility.md; called last, so that what has failed is not noted."""
    return rows.row


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

# SPDX-License-Identifier: Apache-2.0
"""A Databricks notebook of each access mode: a real kernel with stand-ins, a fake workspace, a real proxy."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import taipy_tunnel
from chain import databricks
from chain.databricks import BROKEN, MODES, SCOPE, Workspace
from chain.notebook import Notebook
from chain.proxy import Proxy
from conftest import visit

SENTENCE = "import taipy_tunnel; taipy_tunnel.expose()"
NAMES = [name for name in inspect.signature(taipy_tunnel.expose).parameters if name != "unknown"]
CLUSTER = "2.1/clusters/get"
Make = Callable[..., contextlib.AbstractContextManager[Notebook]]
LIST, GET = "2.0/secrets/list", "2.0/secrets/get"


@pytest.fixture
def notebook() -> Make:
    """chain.databricks.notebook(mode, workspace, …): what is tested is in the kernel's process."""
    return databricks.notebook


@pytest.fixture
def workspace(proxy: Proxy, app: str) -> Iterator[Workspace]:
    """A workspace whose scope knows the proxy and an app; it looks whether the slot is held."""
    with Workspace() as workspace:
        workspace.store(proxy, access="public", app=app)
        workspace.look = proxy.slot_held
        yield workspace


def ask(cells: Notebook, expression: str) -> Any:
    """The value of an expression in the kernel, if JSON knows it."""
    return json.loads(cells.run(f"import json; print(json.dumps({expression}))").ok().stdout)


@pytest.mark.parametrize("mode", [*MODES, "bare", "entry point"])
def test_the_sentence_needs_no_argument(notebook: Make, mode: str, workspace: Workspace, proxy: Proxy) -> None:
    with notebook(mode, workspace) as cells:
        cell = cells.run(SENTENCE).ok()
        assert visit(proxy.url) == "hello"
        assert proxy.url in cell.html
        assert (proxy.url in cell.stdout) == (mode == "job")
        asked = [CLUSTER] * (mode not in ("serverless", "job"))
        if mode in MODES:
            assert sorted(workspace.gets) == sorted(NAMES)
            assert workspace.rest == asked
        else:
            gets = [GET] * len(workspace.secrets[SCOPE])
            assert workspace.rest == [LIST, *gets, *asked]
        # The cluster is asked for once the URL is up, all else before.
        assert workspace.seen == [path == CLUSTER for path in workspace.rest]
        assert ("stops 60 minutes after" in cell.html) == bool(asked)
        idle, access_mode = ask(cells, "[(c := taipy_tunnel.tunnels()[0].status.cluster).idle_minutes, c.access_mode]")
        assert (idle, access_mode) == ((60, "dedicated") if asked else (None, ""))
        workspace.forget()
        cells.run(SENTENCE).ok()
        assert (workspace.gets, workspace.rest) == ([], [])


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("mode", ["dedicated", "serverless", "bare"])
def test_a_workspace_that_is_down(notebook: Make, mode: str, how: str, workspace: Workspace, proxy: Proxy) -> None:
    with notebook(mode, workspace) as cells:
        workspace.break_down(how)
        cell = cells.run(SENTENCE)
        assert cell.error is not None
        assert cell.error.ename == "WorkspaceError"
        assert cell.seconds < 15
        print(cell.seconds, cell.error.evalue)
        workspace.misbehave = None
        cells.run(SENTENCE).ok()
        workspace.break_down(how)
        workspace.forget()
        again = cells.run(SENTENCE).ok()
        assert (workspace.gets, workspace.rest) == ([], [])
        assert proxy.url in again.html
        assert visit(proxy.url) == "hello"

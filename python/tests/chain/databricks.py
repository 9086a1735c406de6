# SPDX-License-Identifier: Apache-2.0
"""A Databricks notebook of one's own: a kernel with stand-ins of its runtime, and a fake workspace.

    with Workspace() as workspace, notebook("serverless", workspace) as cells:
        workspace.store(proxy)
        cells.run("import taipy_tunnel; taipy_tunnel.expose()")
        workspace.rest  # what the workspace was asked meanwhile

Access modes: "dedicated", "standard", "serverless", "job"; "bare" has no dbutils, "entry point" a login
that only dbutils' entry point tells, and no dbutils.secrets.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from . import workspace as fake
from .notebook import Notebook
from .proxy import ROOT, Proxy
from .workspace import Answer, Request

RUNTIME = pathlib.Path(__file__).with_name("runtime")
EXAMPLES = ROOT / "examples" / "databricks"
SCOPE = "taipy-tunnel"
MODES = ("dedicated", "standard", "serverless", "job")
VERSIONS = {"serverless": "client.2.5"}  # of runtimes; 15.4 where nothing is said
DRIVER = "/driver/"  # paths by which the stand-ins ask, not the workspace's

SENTENCE = "import taipy_tunnel; taipy_tunnel.expose()"  # all that a notebook needs
STRAY = {
    "ARM_CLIENT_ID": "x", "ARM_CLIENT_SECRET": "x", "ARM_TENANT_ID": "x", "ARM_USE_MSI": "true",
    "GOOGLE_CREDENTIALS": "{broken", "DATABRICKS_HOST": "https://elsewhere.invalid", "DATABRICKS_TOKEN": "dapi-stray",
    "DATABRICKS_CLIENT_ID": "x", "DATABRICKS_CLIENT_SECRET": "x", "DATABRICKS_CONFIG_PROFILE": "no-such",
    "DATABRICKS_AUTH_TYPE": "azure-cli", "DATABRICKS_CLUSTER_ID": "x",
}  # fmt: skip

STARTUP = """\
import dbruntime.notebook
get_ipython().user_ns.update(dbruntime.notebook.names())
del dbruntime
"""


class Workspace(fake.Workspace):
    """A workspace, and the driver that a notebook runs on."""

    def __init__(self, token: str = "dapi-0123456789abcdef") -> None:
        super().__init__(token)
        self.mode = ""
        self.widgets: dict[str, str] = {}
        self.look: Callable[[], object] = lambda: None  # called at each request
        self.seen: list[object] = []  # what it returned, for each request of `rest`

    def __enter__(self) -> Workspace:
        super().__enter__()
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # of who hung up on one that hangs
        return self

    def store(self, proxy: Proxy, **more: str) -> None:
        """Put what a notebook needs to know of a proxy machine into the scope, as the CLI stores it."""
        key = pathlib.Path(proxy.key).read_text().rstrip("\n")
        known = {name: str(value) for name, value in proxy.known().items()}
        self.secrets[SCOPE] = {**known, "key": key, **more}

    @property
    def rest(self) -> list[str]:
        """The paths by which the workspace was asked, without "/api/"."""
        asked = (r.path for r in self.asked() if not r.path.startswith(DRIVER))
        return [path.removeprefix("/api/") for path in asked if path.startswith("/api/")]

    @property
    def gets(self) -> list[str]:
        """The keys that dbutils.secrets.get was called with."""
        return [r.query["key"] for r in self.asked(f"{DRIVER}secret")]

    def forget(self) -> None:
        """Forget what was asked so far."""
        self.requests.clear()
        self.seen.clear()

    def note(self, request: Request) -> None:
        if request.path.startswith("/api/"):
            self.seen.append(self.look())
        super().note(request)

    def answer(self, request: Request) -> Answer:
        if request.path == f"{DRIVER}context":
            return 200, self._context()
        if request.path == f"{DRIVER}widgets":
            return 200, self.widgets
        if request.path == f"{DRIVER}secret":
            scope, key = request.query["scope"], request.query["key"]
            if scope in self.unreadable:
                return 403, {}
            if scope in self.vaults and "_" in key:
                return 400, {}
            value = self.secrets.get(scope, {}).get(key)
            return (404, {}) if value is None else (200, {"value": value})
        return super().answer(request)

    def _context(self) -> dict[str, Any]:
        job = self.mode == "job"
        return {
            "apiUrl": self.host,
            "apiToken": self.token,
            "clusterId": None if self.mode == "serverless" else self.cluster["cluster_id"],
            "workspaceId": "1234567890",
            "notebookPath": "/Users/owner@example.com/app",
            "isInNotebook": not job,
            "isInJob": job,
            "jobId": "77" if job else None,
        }

    def break_down(self, how: str) -> None:
        """Answer everything that is not of the notebook's own process in one of BROKEN's ways."""

        def broken(request: Request) -> tuple[int, dict[str, str], bytes]:
            if request.path == f"{DRIVER}context":
                return 200, {}, json.dumps(self._context()).encode()
            if how == "hang":
                self.wait_for_end()
            return BROKEN[how]

        self.misbehave = broken


JSON = {"Content-Type": "application/json"}
BROKEN: dict[str, tuple[int, dict[str, str], bytes]] = {
    "hang": (503, {}, b""),
    "429": (429, JSON, b'{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Too many requests"}'),
    "500": (500, JSON, b'{"error_code": "INTERNAL_ERROR", "message": "An internal error occurred"}'),
    "html": (200, {"Content-Type": "text/html"}, b"<!doctype html><html><title>Sign in</title></html>"),
    "garbage": (200, JSON, b'{"secrets": 7, "value": ["\x00\xff'),
}


@contextlib.contextmanager
def notebook(
    mode: str, workspace: Workspace, python: str = sys.executable, port: int | None = None, **env: str
) -> Iterator[Notebook]:
    """A notebook on compute of an access mode. env: more of its environment."""
    workspace.mode = mode
    ours = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(RUNTIME), os.environ.get("PYTHONPATH", "")])),
        "STAND_IN": workspace.host,
        "STAND_IN_MODE": mode,
        "DATABRICKS_RUNTIME_VERSION": VERSIONS.get(mode, "15.4"),
        "SSH_AUTH_SOCK": "",
    }
    with Notebook(python, {**ours, **env}, port, STARTUP) as made:
        yield made

# SPDX-License-Identifier: Apache-2.0
"""A Databricks workspace, as far as its REST interface is asked: the documented JSON over HTTP.

with Workspace() as workspace:
    workspace.secrets["taipy-tunnel"] = {"server": "me@203.0.113.7"}
    ... {"ask": "databricks.me", "host": workspace.host, "token": workspace.token} ...
workspace.requests  # what was asked, in order
"""

from __future__ import annotations

import base64
import dataclasses
import http.server
import json
import threading
import urllib.parse
from collections.abc import Callable
from types import TracebackType
from typing import Any

Answer = tuple[int, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Request:
    """One request, as it came. repr() leaves out what may be secret."""

    method: str
    path: str  # without the query
    query: dict[str, str]
    headers: dict[str, str] = dataclasses.field(repr=False)  # names in lower case
    body: dict[str, Any] = dataclasses.field(repr=False)

    @property
    def token(self) -> str:
        """What it logged in with."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


def error(status: int, code: str, message: str) -> Answer:
    """An error in the workspace's own format."""
    return status, {"error_code": code, "message": message}


class Workspace:
    """A workspace on this machine. Its attributes may be changed while it runs.

    misbehave: None, or a function that answers (status, headers, body) in the place of everything;
    "hang" takes requests and never answers until the workspace ends.
    """

    def __init__(self, token: str = "dapi-0123456789abcdef") -> None:
        self.token = token
        self.user = "owner@example.com"
        self.secrets: dict[str, dict[str, str]] = {}  # by scope and key
        self.acls: dict[str, dict[str, str]] = {}  # by scope and principal
        self.unreadable: set[str] = set()  # scopes for which READ was not given
        self.vaults: set[str] = set()  # scopes of Azure Key Vaults: no name has "_", and nothing can be written
        self.notebooks_only = False  # answers BAD_REQUEST to who wants the value of a secret
        self.cluster: dict[str, Any] = {
            "cluster_id": "1124-103512-abcdefgh",
            "cluster_name": "demo",
            "state": "RUNNING",
            "data_security_mode": "SINGLE_USER",
            "single_user_name": self.user,
            "autotermination_minutes": 60,
        }
        self.misbehave: str | Callable[[Request], tuple[int, dict[str, str], bytes]] | None = None
        self.requests: list[Request] = []
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Workspace:
        workspace = self

        class Handler(_Handler):
            of = workspace

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def host(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def asked(self, path: str = "") -> list[Request]:
        """The requests so far whose path ends with `path`."""
        with self._lock:
            return [request for request in self.requests if request.path.endswith(path)]

    def answer(self, request: Request) -> Answer:
        """What a well-behaved workspace answers."""
        route = f"{request.method} {request.path}"
        scope = request.query.get("scope") or request.body.get("scope", "")
        if request.token != self.token:
            return error(403, "403", "Invalid access token.")
        if route == "GET /api/2.0/preview/scim/v2/Me":
            return 200, {"id": "42", "userName": self.user, "active": True}
        if route == "GET /api/2.1/clusters/get":
            if request.query.get("cluster_id") != self.cluster["cluster_id"]:
                return error(
                    400, "INVALID_PARAMETER_VALUE", f"Cluster {request.query.get('cluster_id')} does not exist"
                )
            return 200, self.cluster
        if route == "POST /api/2.0/secrets/scopes/create":
            if scope in self.secrets:
                return error(400, "RESOURCE_ALREADY_EXISTS", f"Scope {scope} already exists!")
            self.secrets[scope] = {}
            return 200, {}
        if route == "GET /api/2.0/secrets/scopes/list":
            kinds = {name: "AZURE_KEYVAULT" if name in self.vaults else "DATABRICKS" for name in self.secrets}
            return 200, {"scopes": [{"name": name, "backend_type": kind} for name, kind in kinds.items()]}
        if not request.path.startswith("/api/2.0/secrets/"):
            return error(404, "ENDPOINT_NOT_FOUND", f"No API found for '{route}'")
        if scope not in self.secrets:
            return error(404, "RESOURCE_DOES_NOT_EXIST", f"Scope {scope} does not exist!")
        if scope in self.unreadable:
            return error(403, "PERMISSION_DENIED", f"User {self.user} does not have READ permission on scope {scope}")
        return self._secrets(route, scope, request)

    def _secrets(self, route: str, scope: str, request: Request) -> Answer:
        held = self.secrets[scope]
        if route == "GET /api/2.0/secrets/list":
            return 200, {"secrets": [{"key": key, "last_updated_timestamp": 0} for key in held]} if held else {}
        if route == "GET /api/2.0/secrets/get":
            key = request.query.get("key", "")
            if self.notebooks_only:
                return error(400, "BAD_REQUEST", "Secrets can only be read in a notebook")
            if key not in held:
                return error(
                    404, "RESOURCE_DOES_NOT_EXIST", f"Secret does not exist with scope: {scope} and key: {key}"
                )
            return 200, {"key": key, "value": base64.b64encode(held[key].encode()).decode()}
        if route == "POST /api/2.0/secrets/put":
            if scope in self.vaults:
                return error(400, "BAD_REQUEST", "not for a scope of this kind")
            held[request.body["key"]] = request.body["string_value"]
            return 200, {}
        if route == "POST /api/2.0/secrets/acls/put":
            self.acls.setdefault(scope, {})[request.body["principal"]] = request.body["permission"]
            return 200, {}
        return error(404, "ENDPOINT_NOT_FOUND", f"No API found for '{route}'")

    def note(self, request: Request) -> None:
        """Keep a request, but for that of another test which looks for apps near by: it asks each port for "/"."""
        if request.path == "/":
            return
        with self._lock:
            self.requests.append(request)

    def wait_for_end(self) -> None:
        """Return when the workspace ends."""
        self._ended.wait()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    of: Workspace

    def _serve(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = dict(urllib.parse.parse_qsl(address.query))
        request = Request(self.command, address.path, query, headers, body)
        self.of.note(request)
        if self.of.misbehave == "hang":
            self.of.wait_for_end()
            self.close_connection = True
            return
        if callable(self.of.misbehave):
            status, more, content = self.of.misbehave(request)
        else:
            status, found = self.of.answer(request)
            more, content = {"Content-Type": "application/json"}, json.dumps(found).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def log_message(self, *_: object) -> None:
        pass

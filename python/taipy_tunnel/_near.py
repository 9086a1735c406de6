# SPDX-License-Identifier: Apache-2.0
"""Web apps near this process, to propose while a tunnel waits for one. Only the owner exposes them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from ._errors import TunnelError
from ._questions import ask
from ._servers import instances
from ._taipy.app import proxied

PATIENCE = 1.5  # seconds; the engine asks an app for 1
MOST = 3  # proposals


def proposals(besides: str = "") -> list[str]:
    """The calls that would expose what is near, with where that is; not for `besides`, which was tried already."""
    try:
        found = ask({"ask": "apps.near", "never": _never()}, PATIENCE)
    except TunnelError:  # also in a forked process
        return []
    return [_proposal(app) for app in found if app["addr"] != besides][:MOST]


def _proposal(app: dict[str, Any]) -> str:
    host, _, port = app["addr"].rpartition(":")
    where = f"process {app['pid']} ({app['program']})"
    if app["here"]:
        where = "this process"
    elif app["below"]:
        where += ", which this one has started"
    call = f"expose({port})" if host == "localhost" else f'expose("{app["addr"]}")'
    return f"A web app answers at {app['addr']}, in {where}. To show it: {call}"


def _never() -> list[int]:
    """Ports of this process that talk to others than browsers, and might take harm: ipykernel's, Spark's, Py4J's; and
    those of Taipy's proxy, which are no apps."""
    ports: list[Any] = [*proxied()]
    for kernel in instances("ipykernel.kernelapp", "IPKernelApp"):
        ports += [getattr(kernel, f"{name}_port", 0) for name in ("shell", "iopub", "stdin", "control", "hb")]
    for server in instances("pyspark.accumulators", "AccumulatorServer"):
        ports.append(_told(lambda one: one.server_address[1], server))
    for server in instances("py4j.java_gateway", "CallbackServer"):
        ports.append(_told(lambda one: one.get_listening_port(), server))
    debugger = sys.modules.get("pydevd")  # which may listen in this process
    ports.append(_told(lambda one: vars(one.get_global_debugger())["_server_socket_name"][1], debugger))
    return [port for port in ports if isinstance(port, int) and port > 0]


def _told(port: Callable[[Any], Any], of: object) -> Any:
    """What an object of others' says, which may be half gone."""
    with contextlib.suppress(Exception):
        return port(of)
    return None

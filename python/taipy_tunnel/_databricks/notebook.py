# SPDX-License-Identifier: Apache-2.0
"""What a Databricks notebook tells of itself: where its workspace is, its token, its cluster.

Asked in this order, for each fact; any of them may be absent or raise, by access mode and runtime:
dbruntime.databricks_repl_context, the context behind dbutils' entry point, Spark's configuration
(raises on serverless compute), DATABRICKS_RUNTIME_VERSION. Variables that Databricks' own tools
read (DATABRICKS_HOST, …) and ~/.databrickscfg are never looked at: a notebook has a login of its own.

The token lasts about an hour, so it is asked for at each use, and kept nowhere. Elsewhere than on
Databricks all of this is a look into two dictionaries.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

from .._quote import Hidden

_CONTEXT = "dbruntime.databricks_repl_context"
_VERSION = "DATABRICKS_RUNTIME_VERSION"
_importable: bool | None = None  # whether there is a dbruntime, once that was looked up


def here() -> bool:
    """Whether this process belongs to a notebook or a job of Databricks."""
    global _importable
    if _VERSION in os.environ or "dbruntime" in sys.modules:
        return True
    if shell() is None:
        return False
    if _importable is None:
        with contextlib.suppress(Exception):
            _importable = importlib.util.find_spec("dbruntime") is not None
    dbutils = named("dbutils")  # that of Databricks' SDK is on a laptop that talks to a workspace
    return bool(_importable) or not (dbutils is None or type(dbutils).__module__.startswith("databricks.sdk"))


def shell() -> Any:
    """IPython's, or None."""
    with contextlib.suppress(Exception):
        return sys.modules["IPython"].get_ipython()
    return None


def named(name: str) -> Any:
    """What cells know under a name that Databricks gives them (dbutils, spark, displayHTML), or None."""
    with contextlib.suppress(Exception):
        ipython = shell()
        names = vars(sys.modules["__main__"]) if ipython is None else ipython.user_ns
        return names.get(name)
    return None


class Login(Hidden):
    """The fields "host" and "token" of a question to the workspace."""


def workspace() -> Login:
    """The notebook's login to its workspace, now; empty where it does not tell."""
    host = _fact("apiUrl", "spark.databricks.workspaceUrl")
    if host and "://" not in host:
        host = f"https://{host}"
    login = Login(host=host, token=_fact("apiToken"))
    return login if all(login.values()) else Login()


def cluster() -> str:
    """The id of the cluster, "" where there is none that can be asked for."""
    return "" if serverless() else _fact("clusterId", "spark.databricks.clusterUsageTags.clusterId")


def serverless() -> bool:
    """Whether it is serverless compute: its runtimes are named client.1 and so on."""
    return os.environ.get(_VERSION, "").startswith("client.")


def job() -> bool:
    """Whether this is the run of a job: nobody looks at it, and it ends with its last cell."""
    with contextlib.suppress(Exception):
        if _repl().isInJob is True:
            return True
    return bool(_fact("jobId"))


def shows_html() -> bool:
    """Whether a cell's result is shown as HTML: by IPython's kernels, not by its terminal, or without it."""
    with contextlib.suppress(Exception):
        return "text/html" in shell().display_formatter.active_types
    return False


def _fact(name: str, conf: str = "") -> str:
    looks: tuple[Callable[[], Any], ...] = (
        lambda: getattr(_repl(), name),
        lambda: getattr(_java(), name)().get(),
        lambda: named("spark").conf.get(conf) if conf else "",
    )
    for look in looks:
        with contextlib.suppress(Exception):
            found = look()
            if found and isinstance(found, (str, int)) and not isinstance(found, bool):
                return str(found)
    return ""


def _repl() -> Any:
    return importlib.import_module(_CONTEXT).get_context()


def _java() -> Any:
    return named("dbutils").notebook.entry_point.getDbutils().notebook().getContext()

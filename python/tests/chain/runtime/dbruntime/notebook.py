# SPDX-License-Identifier: Apache-2.0
"""The names that Databricks gives to cells, as each access mode has them; see the package.

As their owners' repositories and documentation describe them; no live workspace was asked.
"""

from __future__ import annotations

import sys
import types
import urllib.error
from collections.abc import Callable
from typing import Any

from . import MODE, ask

JVM = MODE in ("dedicated", "job", "entry point")  # there is a way into the driver's JVM


class Py4JJavaError(Exception):
    """What goes wrong in the JVM, with its stack."""


class Py4JSecurityError(Exception):
    """What standard access mode keeps notebooks from."""


class NotFound(Exception):
    """The SDK's, where there is no JVM."""


class Secrets:
    @staticmethod
    def get(scope: str, key: str) -> str:
        try:
            return str(ask("secret", scope=scope, key=key)["value"])
        except urllib.error.HTTPError as error:
            code = error.code
            error.close()
        if code == 404 and JVM:
            raise Py4JJavaError(
                "An error occurred while calling o503.get.\n: java.lang.IllegalArgumentException: Secret does not "
                f"exist with scope: {scope} and key: {key}\n\tat com.databricks.Secrets.get(Secrets.scala:503)\n"
            )
        if code == 404:
            raise NotFound(f"Secret does not exist with scope: {scope} and key: {key}")
        if code == 403:
            raise PermissionError(f"User does not have READ permission on scope {scope}")
        raise OSError(f"the workspace answered {code}")


class SecretsWithList(Secrets):
    @staticmethod
    def list(scope: str) -> list[Any]:
        raise AssertionError("it is not asked")


class Widgets:
    def __init__(self) -> None:
        self._defaults: dict[str, str] = {}

    def text(self, name: str, default: str, label: str = "") -> None:
        self._defaults[name] = default

    def get(self, name: str) -> str:
        return str(ask("widgets").get(name, self._defaults[name]))


class JavaContext:
    """context.clusterId().get() and so on."""

    def __getattr__(self, name: str) -> Callable[[], Any]:
        known = ask("context")
        if not known.get(name):
            raise Py4JJavaError(f"None.get: {name}")
        return lambda: types.SimpleNamespace(get=lambda: known[name])


class Notebook:
    @property
    def entry_point(self) -> Any:
        if not JVM:
            raise Py4JSecurityError("is not whitelisted")
        java = types.SimpleNamespace(notebook=lambda: types.SimpleNamespace(getContext=JavaContext))
        return types.SimpleNamespace(getDbutils=lambda: java)


class DBUtils:
    def __init__(self) -> None:
        self.notebook = Notebook()
        self.widgets = Widgets()
        if MODE != "entry point":
            self.secrets = SecretsWithList() if JVM else Secrets()


class Conf:
    def get(self, name: str, default: Any = None) -> Any:
        if MODE == "serverless":
            raise RuntimeError(f"[CONFIG_NOT_AVAILABLE] Configuration {name} is not available.")
        return {"spark.databricks.clusterUsageTags.clusterId": ask("context")["clusterId"]}.get(name, default)


class Spark:
    """Counts the jobs that it is sent; `broken` ones fail."""

    def __init__(self) -> None:
        self.conf = Conf()
        self.jobs = 0
        self.broken = False

    def range(self, end: int) -> Spark:
        return self

    def count(self) -> int:
        self.jobs += 1
        if self.broken:
            raise RuntimeError("the cluster is gone")
        return 1


shown: list[str] = []  # by displayHTML


def names() -> dict[str, Any]:
    """What cells find."""
    assert "taipy_tunnel" not in sys.modules
    if MODE == "bare":
        return {}
    return {"dbutils": DBUtils(), "spark": Spark(), "displayHTML": shown.append}

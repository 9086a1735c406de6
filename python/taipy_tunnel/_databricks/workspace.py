# SPDX-License-Identifier: Apache-2.0
"""Questions to the Databricks workspace."""

from __future__ import annotations

from typing import Any

from .._errors import WorkspaceError
from .._quote import Hidden
from . import notebook


def question(name: str, **fields: Any) -> Hidden:
    """A question to the workspace, with the login that this notebook has now; outside of Databricks with what is
    configured."""
    asked = Hidden(fields, ask=f"databricks.{name}")
    if notebook.here():
        login = notebook.workspace()
        if not login:
            raise WorkspaceError("workspace: this notebook has no login to it", "pass the arguments: expose(…)")
        asked.update(login)
    return asked

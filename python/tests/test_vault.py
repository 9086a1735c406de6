# SPDX-License-Identifier: Apache-2.0
"""A secret scope of an Azure Key Vault, as a notebook of each access mode finds it. `store` into one: test_store.py."""

from __future__ import annotations

import inspect

import pytest
import taipy_tunnel
from chain.compat import TAKEN, Row
from chain.databricks import SCOPE, SENTENCE, Workspace
from chain.proxy import Proxy
from chain.testing import MakeNotebook
from chain.visits import visit

NAMES = [name for name in inspect.signature(taipy_tunnel.expose).parameters if name != "unknown"]
GET = "2.0/secrets/get"


@pytest.mark.parametrize("mode", ["dedicated", "serverless", "bare"])
def test_the_scope_of_an_azure_key_vault(
    notebook: MakeNotebook, mode: str, workspace: Workspace, proxy: Proxy, compat: Row
) -> None:
    """Its names have a hyphen for an underscore; each is asked for once more, and nothing is listed for it."""
    held = workspace.secrets[SCOPE]
    assert "host_key" in held
    workspace.secrets[SCOPE] = {name.replace("_", "-"): value for name, value in held.items()}
    workspace.vaults.add(SCOPE)
    with notebook(mode, workspace) as cells:
        cells.run(SENTENCE).ok()
        assert visit(proxy.url) == "hello"
        if mode != "bare":
            underscored = [name for name in NAMES if "_" in name]
            assert sorted(workspace.gets) == sorted([*NAMES, *(name.replace("_", "-") for name in underscored)])
        else:
            assert workspace.rest.count(GET) == len(held)
        # A name that somebody gave is asked for as it is.
        workspace.secrets["team"] = {"login-key": held["key"]}
        workspace.vaults.add("team")
        error = cells.run("taipy_tunnel.expose(key='secret:team/login_key')").error
        assert error is not None
        assert "no secret 'login_key' in scope" in error.evalue
        cells.run("taipy_tunnel.expose(key='secret:team/login-key')").ok()
    if mode == "dedicated":
        compat("platforms", "expose() with a scope of an Azure Key Vault (host-key for host_key)", TAKEN)

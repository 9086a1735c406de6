# SPDX-License-Identifier: Apache-2.0
"""A secret scope of an Azure Key Vault, as a notebook of each access mode finds it. `store` into one: test_store.py."""

from __future__ import annotations

import inspect
import pathlib
import shutil
import subprocess

import pytest
import taipy_tunnel
from chain.compat import TAKEN, Row
from chain.databricks import SCOPE, SENTENCE, Workspace
from chain.proxy import Proxy
from chain.testing import MakeNotebook
from chain.visits import visit
from taipy_tunnel._databricks import scope

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


def test_what_a_vault_holds_takes_effect(
    notebook: MakeNotebook, workspace: Workspace, proxy: Proxy, tmp_path: pathlib.Path
) -> None:
    """The passphrase of a key that is locked, and the version of the link."""
    held = {name.replace("_", "-"): value for name, value in workspace.secrets[SCOPE].items() if name != "access"}
    key = pathlib.Path(shutil.copy(proxy.key, tmp_path / "locked"))
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "correct horse", "-f", str(key)], check=True)
    workspace.secrets[SCOPE] = held = {**held, "key": key.read_text()}
    workspace.vaults.add(SCOPE)
    with notebook("dedicated", workspace) as cells:
        error = cells.run(SENTENCE).error
        assert error is not None
        assert "passphrase" in error.evalue
        held["key-passphrase"] = "correct horse"
        link = cells.run(f"{SENTENCE}.url").ok().text
        assert "#token=" in link
        cells.run("taipy_tunnel.close_all()").ok()
        held["token-version"] = "2"
        second = cells.run(f"{SENTENCE}.url").ok().text
        assert second != link
        assert cells.run("taipy_tunnel.expose(token_version=2).url").ok().text == second


@pytest.mark.parametrize("vault", [True, False])
def test_a_host_key_that_is_not_known(vault: bool, notebook: MakeNotebook, workspace: Workspace) -> None:
    """What to do for all notebooks is said last; of one that is known, and another one, it is not."""
    held = workspace.secrets[SCOPE]
    del held["host_key"]
    if vault:
        workspace.vaults.add(SCOPE)
    with notebook("dedicated", workspace, HOME="/nowhere") as cells:
        error = cells.run(SENTENCE).error
        assert error is not None
        assert error.ename == "HostKeyError"
        assert error.evalue.endswith(f"; for all notebooks: {scope.STORE}; {scope.VAULT}")
        held["host-key" if vault else "host_key"] = "SHA256:" + 43 * "A"
        error = cells.run(SENTENCE).error
        assert error is not None
        assert error.ename == "HostKeyError"
        assert scope.VAULT not in error.evalue

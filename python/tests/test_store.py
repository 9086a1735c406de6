# SPDX-License-Identifier: Apache-2.0
"""taipy-tunnel databricks store: an administrator's one-time step, against a workspace's REST interface."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from chain.testing import new_key
from chain.workspace import Workspace

HOST_KEY = "SHA256:" + "a" * 42 + "A"
KNOWN = ("--server", "sales@proxy.example.com", "--host-key", HOST_KEY)


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    with Workspace() as running:
        yield running


def store(workspace: Workspace, home: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where Databricks' own tools know the workspace."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "DATABRICKS_HOST": workspace.host}
    environment["DATABRICKS_TOKEN"] = workspace.token
    argv = [sys.executable, "-m", "taipy_tunnel", "databricks", "store", *arguments]
    return subprocess.run(argv, env=environment, cwd=home, capture_output=True, text=True, timeout=60)


def test_everything_a_notebook_needs_is_stored(workspace: Workspace, tmp_path: pathlib.Path) -> None:
    ran = store(workspace, tmp_path, *KNOWN, "--group", "analysts")
    assert (ran.returncode, ran.stderr) == (0, "")
    stored = workspace.secrets["taipy-tunnel"]
    assert (stored["server"], stored["host_key"]) == (KNOWN[1], HOST_KEY)
    assert stored["key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert workspace.acls == {"taipy-tunnel": {"analysts": "READ"}}
    public = [line for line in ran.stdout.splitlines() if line.startswith("ssh-ed25519 ")]
    assert len(public) == 1
    private = tmp_path / "private"
    private.write_text(stored["key"])
    private.chmod(0o600)
    derived = subprocess.run(["ssh-keygen", "-y", "-f", str(private)], capture_output=True, text=True, check=True)
    assert public[0].split()[:2] == derived.stdout.split()[:2]
    private.unlink()
    # The private half is nowhere but in the scope, nor is the login.
    middle = stored["key"].splitlines()[2]
    assert middle not in ran.stdout
    assert workspace.token not in ran.stdout
    assert list(tmp_path.rglob("*")) == []


def test_a_second_run_keeps_the_key(workspace: Workspace, tmp_path: pathlib.Path) -> None:
    assert store(workspace, tmp_path, *KNOWN).returncode == 0
    first = workspace.secrets["taipy-tunnel"]["key"]
    ran = store(workspace, tmp_path, "--server", "sales@other.example.com", "--host-key", HOST_KEY)
    assert "was kept" in ran.stdout
    assert workspace.secrets["taipy-tunnel"]["server"] == "sales@other.example.com"
    assert workspace.secrets["taipy-tunnel"]["key"] == first
    assert store(workspace, tmp_path, *KNOWN, "--new-key").returncode == 0
    assert workspace.secrets["taipy-tunnel"]["key"] != first


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])  # as editors and PowerShell of Windows do
def test_a_key_of_ones_own(encoding: str, workspace: Workspace, tmp_path: pathlib.Path) -> None:
    key, host_key = new_key(tmp_path), tmp_path / "host"
    text = key.read_text()
    key.write_bytes(text.encode(encoding))
    host_key.write_bytes(f"{HOST_KEY}\n".encode(encoding))
    ran = store(workspace, tmp_path, *KNOWN[:3], str(host_key), "--key", str(key), "--scope", "other")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert workspace.secrets["other"]["key"].strip() == text.strip()
    assert workspace.secrets["other"]["host_key"].strip() == HOST_KEY
    assert key.with_suffix(".pub").read_text().split()[1] in ran.stdout
    assert "secret:other/key" in ran.stdout


def test_the_scope_of_an_azure_key_vault(workspace: Workspace, tmp_path: pathlib.Path) -> None:
    workspace.secrets["taipy-tunnel"] = {"server": KNOWN[1]}
    workspace.vaults.add("taipy-tunnel")
    ran = store(workspace, tmp_path, *KNOWN)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "is that of an Azure Key Vault: Databricks reads it, and cannot write to it\n" in ran.stderr
    assert "az keyvault secret set --vault-name VAULT --name server" in ran.stderr
    assert workspace.secrets == {"taipy-tunnel": {"server": KNOWN[1]}}


@pytest.mark.parametrize(("arguments", "said"), [
    (("--server", "nobody", "--host-key", HOST_KEY), "write --server user@host or --server user@host:port"),
    (("--server", "a@b", "--host-key", "x"), "host key"),
    ((*KNOWN, "--key", "/nowhere"), "cannot be read"), ((*KNOWN, "--key", "/etc/hostname"), "key"),
])  # fmt: skip
def test_nothing_is_sent_for_what_is_wrong(
    arguments: tuple[str, ...], said: str, workspace: Workspace, tmp_path: pathlib.Path
) -> None:
    ran = store(workspace, tmp_path, *arguments)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert workspace.requests == []


def test_usage(workspace: Workspace, tmp_path: pathlib.Path) -> None:
    ran = store(workspace, tmp_path, "--server", "a@b")  # the host key is required
    assert ran.returncode == 2
    assert "--host-key" in ran.stderr


def test_a_login_that_is_refused(workspace: Workspace, tmp_path: pathlib.Path) -> None:
    token, workspace.token = workspace.token, "another"
    workspace_environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "DATABRICKS_HOST": workspace.host,
        "DATABRICKS_TOKEN": token,
    }
    argv = [sys.executable, "-m", "taipy_tunnel", "databricks", "store", *KNOWN]
    ran = subprocess.run(argv, env=workspace_environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "Traceback" not in ran.stderr
    assert token not in ran.stderr
    assert workspace.secrets == {}

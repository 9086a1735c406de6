# SPDX-License-Identifier: Apache-2.0
"""The notebooks that we give away, run from top to bottom where they belong; see test_databricks."""

from __future__ import annotations

import pytest
from chain import databricks, processes
from chain.browser import Browser
from chain.databricks import MODES, SCOPE, SENTENCE, STRAY, Workspace
from chain.notebook import Cell, Notebook
from chain.notebook import cells as source
from chain.proxy import Proxy
from chain.testing import MakeNotebook, eventually
from chain.visits import visit


def run_example(cells: Notebook, name: str) -> list[Cell]:
    """Run the cells of an example from top to bottom."""
    return [cells.run(code, timeout=120).ok() for code in source(databricks.EXAMPLES / f"{name}.py")]


@pytest.mark.parametrize(("name", "mode", "words"), [
    ("gui_and_rest", "dedicated", "Getting started"), ("gui_and_rest", "serverless", "Getting started"),
    ("scenario", "standard", "Sales plan"),
])  # fmt: skip
def test_example_apps(
    name: str, mode: str, words: str, notebook: MakeNotebook, workspace: Workspace, proxy: Proxy
) -> None:
    del workspace.secrets[SCOPE]["app"]
    with notebook(mode, workspace, port=processes.free_port()) as cells, Browser() as browser:
        ran = run_example(cells, name)
        assert any(proxy.url in cell.html for cell in ran)
        assert not any(cell.error for cell in ran)
        page = browser.open(proxy.url)
        page.wait_text("h1", words, timeout=30, exactly=False)
        if name == "scenario":
            page.click("#compute")
            page.wait_text("#expected", "120", timeout=30)
        else:
            page.wait_text("#text", "Set in a cell", timeout=30)


def test_example_job(notebook: MakeNotebook, workspace: Workspace, proxy: Proxy) -> None:
    del workspace.secrets[SCOPE]["app"]
    workspace.widgets["hours"] = "1"
    with notebook("job", workspace, port=processes.free_port()) as cells:
        *first, last = source(databricks.EXAMPLES / "job.py")
        for code in first:
            cells.run(code, timeout=120).ok()
        running = cells.run_nowait(last)
        eventually(lambda: running.poll().stdout.count("up for") == 2, 60)
        assert proxy.url in running.cell.stdout
        assert "This run ends with its last cell" in running.cell.stdout
        assert "Today" in visit(proxy.url)
        cells.interrupt()
        assert running.wait().error is not None


def test_example_setup_admin(notebook: MakeNotebook, workspace: Workspace, proxy: Proxy) -> None:
    """The administrator's notebook stores what the others need, and shows the public half of the key."""
    known = workspace.secrets.pop(SCOPE)
    workspace.widgets.update(server=known["server"], host_key=known["host_key"], group="analysts")
    with notebook("dedicated", workspace, **STRAY) as cells:
        shown = run_example(cells, "setup_admin")[-1].stdout
        assert workspace.acls == {SCOPE: {"analysts": "READ"}}
        assert "PRIVATE KEY" in workspace.secrets[SCOPE]["key"]
        assert "PRIVATE" not in shown
        proxy.add_key(next(line for line in shown.splitlines() if line.startswith("ssh-ed25519 ")))
        workspace.secrets[SCOPE].update(
            {name: known[name] for name in ("remote", "url", "access", "app") if name in known}
        )
        cells.run(SENTENCE).ok()
        assert visit(proxy.url) == "hello"


@pytest.mark.parametrize("mode", [*MODES, "bare"])
def test_example_probe(mode: str, notebook: MakeNotebook, workspace: Workspace) -> None:
    with notebook(mode, workspace) as cells:
        shown = run_example(cells, "probe")[-1].stdout
        print(shown)
        assert f"runtime                      {databricks.VERSIONS.get(mode, '15.4')}\n" in shown
        for what in ("characters", "secrets from a thread        True", "way to the proxy             True"):
            assert (what in shown) == (mode != "bare")
        known = workspace.secrets[SCOPE]
        assert not any(value in shown for value in (workspace.token, known["server"], known["host_key"], known["key"]))


@pytest.mark.parametrize(("server", "shown"), [
    ("tls://me@[::1]", "443"), ("me@[::1]:2222", "2222"), ("me@proxy.example.com", "22"),
])  # fmt: skip
def test_example_probe_with_a_vault(server: str, shown: str, notebook: MakeNotebook, workspace: Workspace) -> None:
    workspace.vaults.add(SCOPE)
    workspace.secrets[SCOPE] = {"server": server, "host-key": "SHA256:…", "key": "x"}
    with notebook("dedicated", workspace) as cells:
        assert "secret 'host_key'            8 characters\n" in run_example(cells, "probe")[-1].stdout
        host = "::1" if "[" in server else "proxy.example.com"
        assert cells.run("print(address())").ok().stdout == f"('{host}', {shown})\n"

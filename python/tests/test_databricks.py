# SPDX-License-Identifier: Apache-2.0
"""A Databricks notebook of each access mode: a real kernel with stand-ins, a fake workspace, a real proxy."""

from __future__ import annotations

import inspect
import json
import os
import pathlib
import signal
import urllib.request
from typing import Any

import pytest
import taipy_tunnel
from chain import databricks, processes
from chain.compat import TAKEN, Row
from chain.databricks import BROKEN, MODES, SCOPE, SENTENCE, STRAY, Workspace
from chain.notebook import Cell, Notebook
from chain.proxy import Proxy
from chain.testing import MakeNotebook, eventually
from chain.visits import visit

NAMES = [name for name in inspect.signature(taipy_tunnel.expose).parameters if name != "unknown"]
CLUSTER = "2.1/clusters/get"
LIST, GET = "2.0/secrets/list", "2.0/secrets/get"


def ask(cells: Notebook, expression: str) -> Any:
    """The value of an expression in the kernel, if JSON knows it."""
    return json.loads(cells.run(f"import json; print(json.dumps({expression}))").ok().stdout)


@pytest.mark.parametrize("mode", [*MODES, "bare", "entry point"])
def test_the_sentence_needs_no_argument(notebook: MakeNotebook, mode: str, workspace: Workspace, proxy: Proxy) -> None:
    with notebook(mode, workspace) as cells:
        cell = cells.run(SENTENCE).ok()
        assert visit(proxy.url) == "hello"
        assert proxy.url in cell.html
        assert (proxy.url in cell.stdout) == (mode == "job")
        asked = [CLUSTER] * (mode not in ("serverless", "job"))
        if mode in MODES:
            assert sorted(workspace.gets) == sorted(NAMES)
            assert workspace.rest == asked
        else:
            gets = [GET] * len(workspace.secrets[SCOPE])
            assert workspace.rest == [LIST, *gets, *asked]
        # The cluster is asked for once the URL is up, all else before.
        assert workspace.seen == [path == CLUSTER for path in workspace.rest]
        assert ("stops 60 minutes after" in cell.html) == bool(asked)
        idle, access_mode = ask(cells, "[(c := taipy_tunnel.tunnels()[0].status.cluster).idle_minutes, c.access_mode]")
        assert (idle, access_mode) == ((60, "dedicated") if asked else (None, ""))
        workspace.forget()
        cells.run(SENTENCE).ok()
        assert (workspace.gets, workspace.rest) == ([], [])


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("mode", ["dedicated", "serverless", "bare"])
def test_a_workspace_that_is_down(
    notebook: MakeNotebook, mode: str, how: str, workspace: Workspace, proxy: Proxy
) -> None:
    with notebook(mode, workspace) as cells:
        workspace.break_down(how)
        cell = cells.run(SENTENCE)
        assert cell.error is not None
        assert cell.error.ename == "WorkspaceError"
        assert cell.seconds < 15
        print(cell.seconds, cell.error.evalue)
        workspace.misbehave = None
        cells.run(SENTENCE).ok()
        workspace.break_down(how)
        workspace.forget()
        again = cells.run(SENTENCE).ok()
        assert (workspace.gets, workspace.rest) == ([], [])
        assert proxy.url in again.html
        assert visit(proxy.url) == "hello"


QUIET = """
import threading
from taipy_tunnel._databricks.cluster import facts
from taipy_tunnel._abi import library
from taipy_tunnel._watcher import watcher
taipy_tunnel.close_all(0)
watcher.join(10)
print(library().info()["handles"], [t.name for t in threading.enumerate() if "taipy" in t.name], facts._handle)
"""


@pytest.mark.parametrize("how", BROKEN)
def test_a_workspace_that_does_not_tell_of_the_cluster(
    how: str, notebook: MakeNotebook, workspace: Workspace, proxy: Proxy
) -> None:
    """It is not noticed: no note on the card, no line in the log, and nothing that goes on."""
    with notebook("dedicated", workspace) as cells:
        workspace.break_down(how)
        broken = workspace.misbehave
        assert callable(broken)

        def only_the_cluster(request: databricks.Request) -> tuple[int, dict[str, str], bytes]:
            if request.path.endswith(CLUSTER):
                return broken(request)
            status, found = workspace.answer(request)
            return status, {}, json.dumps(found).encode()

        workspace.misbehave = only_the_cluster
        cell = cells.run(SENTENCE).ok()
        assert (proxy.url in cell.html, "stops" in cell.html, cell.said, cell.stderr) == (True, False, "", "")
        assert workspace.rest
        assert visit(proxy.url) == "hello"
        assert ask(cells, "[taipy_tunnel.tunnels()[0].state, taipy_tunnel.tunnels()[0].status.cluster]") == ["up", None]
        assert not [line for line in ask(cells, "taipy_tunnel.tunnels()[0].logs()") if "luster" in line]
        assert cells.run(QUIET).ok().said == "0 [] 0\n"


def failure(cells: Notebook, code: str) -> tuple[str, str]:
    """The class of what a cell raises, and its words."""
    error = cells.run(code).error
    assert error is not None
    return error.ename, error.evalue


@pytest.mark.parametrize("mode", [*MODES, "bare"])
def test_what_is_missing_is_told(mode: str, notebook: MakeNotebook, workspace: Workspace, proxy: Proxy) -> None:
    with notebook(mode, workspace) as cells:
        workspace.secrets.clear()
        for why in ("", "no permission to read it"):
            kind, words = failure(cells, SENTENCE)
            if not why or mode != "bare":
                assert kind == "ConfigError"
                assert all(f"not {place}" in words for place in ("as server=", "in the variable TAIPY_TUNNEL_SERVER"))
                assert f"key 'server' of secret scope '{SCOPE}'{why and f' ({why})'}\n" in words
                assert "taipy-tunnel databricks store --server" in words
                assert ("serverless compute has no environment" in words) == (mode == "serverless")
                assert ("the cluster's environment variables" in words) == (mode != "serverless")
            else:  # the workspace's own words say it best
                assert (kind, "no permission to read secret scope" in words) == ("WorkspaceError", True)
            workspace.secrets[SCOPE] = {}
            workspace.unreadable.add(SCOPE)
        # Who may not read it, or has none, passes the arguments.
        known = {**proxy.known(), "app": workspace.host.removeprefix("http://"), "access": "public"}
        del known["key"]
        given = f"taipy_tunnel.expose({', '.join(f'{name}={value!r}' for name, value in known.items())}"
        cells.run(f"{given}, key={proxy.key!r}).close()").ok()
        kind, words = failure(cells, f"import os; os.environ['HOME'] = '/nowhere'; {given})")
        assert (kind, "not as key 'key' of secret scope" in words) == ("ConfigError", True)


FORMS = {
    "stripped": lambda text: text.rstrip("\n"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "one line": lambda text: text.replace("\n", "\\n"),
    "spaces": lambda text: " ".join(text.split("\n")),
}


@pytest.mark.parametrize("mode", ["standard", "bare"])
def test_forms(mode: str, notebook: MakeNotebook, workspace: Workspace, proxy: Proxy) -> None:
    """Secrets have the forms of the environment's variables; the text of a key survives what is done to it."""
    key = pathlib.Path(proxy.key).read_text()
    scope = workspace.secrets[SCOPE]
    del scope["access"]
    users = "ann:long enough,bob:long enough"
    scope.update(server=scope["server"] + "\n", host_key=scope["host_key"] + "\r\n", access=users, timeout="20")
    with notebook(mode, workspace) as cells:
        for form in FORMS.values():
            scope["key"] = form(key)
            cells.run("import taipy_tunnel; tunnel = taipy_tunnel.expose()").ok()
            assert ask(cells, "[tunnel.status.access, tunnel.state]") == ["password", "up"]
            cells.run("tunnel.close()").ok()
        scope["raw"] = "perhaps"
        assert "secret 'raw' is a str, want True or False" in failure(cells, SENTENCE)[1]
        scope.update(raw="true", access="public")
        cells.run(SENTENCE).ok()
        assert ask(cells, "taipy_tunnel.tunnels()[0].status.access") == ""


@pytest.mark.parametrize("mode", ["serverless", "bare"])
def test_a_key_by_the_name_of_its_secret(mode: str, notebook: MakeNotebook, workspace: Workspace, compat: Row) -> None:
    workspace.secrets["team.keys"] = {"login": workspace.secrets[SCOPE].pop("key")}
    with notebook(mode, workspace) as cells:
        cells.run("import taipy_tunnel; tunnel = taipy_tunnel.expose(key='secret:team.keys/login')").ok()
        assert ask(cells, "tunnel.state") == "up"
        workspace.break_down("500")
        cells.run("taipy_tunnel.expose(key='secret:team.keys/login')").ok()
        workspace.misbehave = None
        cells.run("tunnel.close()").ok()
        for spelling in ("{{secrets/team.keys/login}}", "secret://team.keys/login"):
            cells.run(f"taipy_tunnel.expose(key={spelling!r}).close()").ok()
        assert "'nobody'" in failure(cells, "taipy_tunnel.expose(key='secret:team.keys/nobody')")[1]
        kind, words = failure(cells, "taipy_tunnel.expose(key='secret:hunter2')")
        assert (kind, "hunter2" in words) == ("ConfigError", False)
    for spelling in ("secret:scope/name", "{{secrets/scope/name}}", "secret://scope/name"):
        compat("keys", f'key="{spelling}", of a secret scope of Databricks', TAKEN)


def test_a_token_is_asked_for_at_each_use(notebook: MakeNotebook, workspace: Workspace) -> None:
    with notebook("bare", workspace) as cells:
        cells.run(SENTENCE + ".close()").ok()
        workspace.token = "dapi-the-next-hours-token"
        cells.run(SENTENCE).ok()
        assert workspace.asked(LIST)[-1].token == workspace.token


CROWD = """
import concurrent.futures, taipy_tunnel
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    made = list(pool.map(lambda _: taipy_tunnel.expose(), range(8)))
print(len(set(map(id, made))), made[0].state)
"""


@pytest.mark.parametrize("mode", ["dedicated", "bare"])
def test_many_at_once_are_one_tunnel(mode: str, notebook: MakeNotebook, workspace: Workspace) -> None:
    with notebook(mode, workspace) as cells:
        assert cells.run(CROWD).ok().said == "1 up\n"


FUSSY = """
import threading, taipy_tunnel
get = dbutils.secrets.get
def fussy(scope, key):
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("Context not valid. If you are calling this outside the main thread, you must set it")
    return get(scope, key)
dbutils.secrets.get = fussy
"""


def test_a_dbutils_that_wants_the_main_thread(notebook: MakeNotebook, workspace: Workspace) -> None:
    with notebook("standard", workspace) as cells:
        cells.run(FUSSY).ok()
        cells.run(SENTENCE).ok()
        assert workspace.rest == [CLUSTER]
        assert ask(cells, "[t.name for t in threading.enumerate() if 'secrets' in t.name]") == []


def test_other_notebooks_are_asked_nothing(notebook: MakeNotebook, workspace: Workspace, proxy: Proxy) -> None:
    """Jupyter and VS Code: no stand-in is there, and nothing but the card is shown."""
    known = {f"TAIPY_TUNNEL_{name.upper()}": value for name, value in workspace.secrets[SCOPE].items()}
    with Notebook(env=known) as cells:
        cell = cells.run(SENTENCE).ok()
        assert (cell.said, cell.stderr, proxy.url in cell.html) == ("", "", True)
        assert ask(cells, "[taipy_tunnel.tunnels()[0].status.cluster, 'dbruntime' in __import__('sys').modules]") == [
            None, False,
        ]  # fmt: skip


@pytest.mark.parametrize("mode", ["dedicated", "bare"])
def test_stray_variables_change_nothing(
    mode: str, notebook: MakeNotebook, workspace: Workspace, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / ".databrickscfg"
    file.write_text("[DEFAULT\nhost = https://elsewhere.invalid\ntoken")
    with notebook(mode, workspace, HOME=str(tmp_path), DATABRICKS_CONFIG_FILE=str(file), **STRAY) as cells:
        assert "stops 60 minutes after" in cells.run(SENTENCE).ok().html
        assert workspace.rest[-1] == CLUSTER
        assert {r.token for r in workspace.asked() if r.path.startswith("/api/")} == {workspace.token}


@pytest.mark.parametrize("mode", [*MODES, "bare"])
def test_the_same_url_after_a_restart(mode: str, notebook: MakeNotebook, workspace: Workspace, proxy: Proxy) -> None:
    """The kernel is killed, as by a restart of the cluster, and its cell is run again."""
    del workspace.secrets[SCOPE]["access"]
    with notebook(mode, workspace) as cells:
        show = "import taipy_tunnel; print(taipy_tunnel.expose().url)"
        url = cells.run(show).ok().stdout.split()[-1]
        os.kill(cells.pid, signal.SIGKILL)
        cells.restart()
        assert cells.run(show).ok().stdout.split()[-1] == url
        bearer = {"Authorization": "Bearer " + url.partition("#token=")[2]}
        assert visit(urllib.request.Request(proxy.url, headers=bearer)) == "hello"


KEEP = """
import logging, taipy_tunnel, threading, time
from taipy_tunnel._databricks import cluster
cluster.Keeper.every = 0.02
said = []
class Said(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger("taipy_tunnel").addHandler(Said())
def more(n):
    end = spark.jobs + n
    while spark.jobs < end:
        time.sleep(0.01)
    return True
def keepers():
    return [thread for thread in threading.enumerate() if "keeper" in thread.name]
tunnel = taipy_tunnel.expose(keep_cluster=True)
"""


def test_keep_cluster(notebook: MakeNotebook, workspace: Workspace) -> None:
    with notebook("dedicated", workspace) as cells:
        cell = cells.run(KEEP).ok()
        assert "a tiny Spark job every 4 minutes" in cell.stdout
        assert "costs" in cells.run("tunnel").ok().html
        assert ask(cells, "[more(3), len(keepers()), tunnel.status.cluster.kept]") == [True, 1, True]
        assert cells.run("taipy_tunnel.expose(keep_cluster=True)").ok().said == ""
        assert len(ask(cells, "[t.name for t in keepers()]")) == 1
        cells.run("spark.broken = True").ok()
        assert ask(cells, "more(5)")
        failed = [line for line in ask(cells, "said") if "Spark job" in line]
        assert failed == ["the Spark job that keeps the cluster failed: RuntimeError"]
        cells.run("kept = keepers()[0]; taipy_tunnel.expose()").ok()
        assert ask(cells, "[kept.join(10), kept.is_alive(), tunnel.state, tunnel.status.cluster.kept]") == [
            None, False, "up", False,
        ]  # fmt: skip
        cells.run("taipy_tunnel.expose(keep_cluster=True); kept = keepers()[0]; tunnel.close()").ok()
        assert ask(cells, "[kept.join(10), kept.is_alive()]") == [None, False]
        cells.run("taipy_tunnel.expose(keep_cluster=True); tunnel.close(); del spark").ok()
        kind, words = failure(cells, "taipy_tunnel.expose(keep_cluster=True)")
        assert (kind, "`spark`" in words) == ("ConfigError", True)
        assert ask(cells, "taipy_tunnel.tunnels()") == []


def test_the_card_where_results_are_not_shown(notebook: MakeNotebook, workspace: Workspace, proxy: Proxy) -> None:
    with notebook("dedicated", workspace) as cells:
        cells.run("get_ipython().display_formatter.active_types = ['text/plain']").ok()
        cells.run(SENTENCE).ok()
        shown = ask(cells, "__import__('dbruntime.notebook').notebook.shown")
        assert [proxy.url in card for card in shown] == [True]


LOGGED = """
%xmode Verbose
import logging
logging.basicConfig(filename="debug.log", level=logging.DEBUG, force=True)
import subprocess, taipy_tunnel
"""
LEFT = """
tunnel = taipy_tunnel.expose()
child = subprocess.Popen(["sleep", "60"])
import os, sys
print(os.environ)
for module in [m for name, m in sys.modules.items() if name.startswith("taipy_tunnel")]:
    print(vars(module))
print(repr(tunnel), tunnel, vars(tunnel), tunnel.status, tunnel.logs(1000), tunnel._repr_html_(), tunnel.requests())
"""


@pytest.mark.parametrize("mode", ["dedicated", "bare"])
def test_no_secret_is_left(
    mode: str, notebook: MakeNotebook, workspace: Workspace, proxy: Proxy, tmp_path: pathlib.Path
) -> None:
    """No token and no key in anything that a run leaves, be it a success or any failure."""
    right = dict(workspace.secrets[SCOPE])
    left: list[str] = []

    def take(cell: Cell) -> Cell:
        left.extend([cell.stdout, cell.stderr, cell.text, cell.html, *(cell.error.traceback if cell.error else [])])
        return cell

    with notebook(mode, workspace, HOME=str(tmp_path), TMPDIR=str(tmp_path)) as cells:
        cells.run(LOGGED).ok()
        for wrong in (
            {"key": right["key"].replace("A", "!")}, {"key": right["key"][:150]}, {"key_passphrase": right["key"]},
            {"host_key": "SHA256:" + 43 * "A"}, {"server": "nobody@" + proxy.server.split("@")[1]}, {"raw": "maybe"},
        ):  # fmt: skip
            workspace.secrets[SCOPE] = {**right, "timeout": "3", **wrong}
            error = take(cells.run("taipy_tunnel.expose()")).error
            assert (error is None) == ("key_passphrase" in wrong)
            cells.run("taipy_tunnel.close_all()").ok()
        workspace.secrets[SCOPE] = right
        for how in BROKEN:
            workspace.break_down(how)
            workspace.forget()
            running = cells.run_nowait("taipy_tunnel.expose()")
            if how == "hang":
                eventually(lambda: workspace.gets or workspace.rest)
                cells.interrupt()
            assert take(running.wait()).error is not None
        workspace.misbehave = None
        assert "Tunnel" in take(cells.run(LEFT).ok()).stdout
        for process in [cells.pid, *(p.pid for p in processes.descendants(cells.pid))]:
            left += [pathlib.Path(f"/proc/{process}/{name}").read_text() for name in ("environ", "cmdline")]
        files = [path for top in (cells.directory, tmp_path) for path in top.rglob("*") if path.is_file()]
        left += [path.read_bytes().decode(errors="replace") for path in files]
        left += [proxy.sshd_log(), proxy.nginx_log()]
    everything = "\n".join(left)
    assert "debug.log" in {path.name for path in files}
    assert all(word in everything for word in ("WorkspaceError", "KeyboardInterrupt", "HostKeyError", "sleep"))
    secrets = [workspace.token, *[line for line in right["key"].splitlines() if "-----" not in line]]
    for secret in secrets:
        found = everything.find(secret)
        assert found < 0, everything[max(0, found - 400) : found]

# SPDX-License-Identifier: Apache-2.0
"""What is near is proposed while a tunnel waits: where it runs, in which order, and what is never asked."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Iterator

import pytest
import taipy_tunnel
from chain import interpreters, processes
from chain.apps import web_app
from chain.compat import Row
from chain.notebook import Notebook
from chain.proxy import Proxy
from chain.testing import arguments, eventually
from taipy_tunnel._near import _never, proposals

SERVER = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
ANOTHER = ["setpriv", "--reuid", "54333", "--regid", "54333", "--clear-groups"]
TAIPY = """
from taipy.gui import Gui
Gui("# Taipy sells").run(port=%d, run_browser=False)
"""


@pytest.fixture
def notebook(proxy: Proxy) -> Iterator[Notebook]:
    """A kernel with ports, as Jupyter starts it, which knows the proxy from its environment."""
    known = {f"TAIPY_TUNNEL_{name.upper()}": str(value) for name, value in arguments(proxy).items()}
    with Notebook(env=known, transport="tcp") as notebook:
        notebook.run("import taipy_tunnel").ok()
        yield notebook


@contextlib.contextmanager
def left_alone(argv: list[str], directory: pathlib.Path) -> Iterator[tuple[int, pathlib.Path]]:
    """A program that somebody has started with nohup, in a session of its own, and has then gone. Yields its process
    and what it prints."""
    log = directory / "nohup.out"
    shell = ["sh", "-c", 'setsid nohup "$@" >nohup.out 2>&1 & echo $!', "sh", *argv]
    ran = subprocess.run(shell, cwd=directory, stdout=subprocess.PIPE, text=True, check=True)
    pid = int(ran.stdout)
    started = processes.look(pid)
    assert started is not None
    try:
        yield pid, log
    finally:
        processes.kill([*processes.descendants(pid), started], signal.SIGTERM)
        if not processes.until(lambda: processes.look(pid) is None, 3):
            processes.kill([started])


def low_port(first: int) -> int:
    """One below those of other tests: of apps that are equally near, only the first three ports are proposed. first:
    each test's is another one, for others may run beside it."""
    for port in range(first, first + 1000):
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("", port))
            return port
    raise RuntimeError("no port is free")


def port_of(log: pathlib.Path) -> str:
    """The port that an http.server has printed."""
    eventually(lambda: " port " in log.read_text(), 60)
    return log.read_text().split(" port ")[1].split()[0]


def test_a_taipy_app_that_runs_by_itself_is_proposed(notebook: Notebook, tmp_path: pathlib.Path, compat: Row) -> None:
    """`nohup python app.py &` in a terminal: no kin of the kernel's, of the same user. What the notebook has started is
    nearer, and comes first."""
    port = low_port(1100)
    (tmp_path / "app.py").write_text(TAIPY % port)
    with left_alone([sys.executable, "app.py"], tmp_path) as (pid, log):
        processes.until(lambda: processes.listening(port), 120)
        assert processes.listening(port), log.read_text()
        assert processes.look(pid) is not None
        notebook.run(f"import subprocess\nchild = subprocess.Popen({SERVER!r}, stdout=subprocess.PIPE, text=True)").ok()
        below = notebook.run("print(child.stdout.readline())").ok().said.split(" port ")[1].split()[0]
        card = notebook.run("tunnel = taipy_tunnel.expose()\nprint(tunnel)").ok().said
        hint = notebook.run("print(taipy_tunnel.doctor()[0].hint)").ok().said
        notebook.run("child.kill()").ok()
        said = re.compile(
            rf"A web app answers at localhost:{port}, in process {pid} \(python[0-9.]*\)\. To show it: expose\({port}\)"
        )
        for shown in (card, hint):
            found = said.search(shown)
            assert found, shown
            assert 0 < shown.index(f"To show it: expose({below})") < found.start()
        assert notebook.run("tunnel.state").ok().text == "'waiting'"
        notebook.run(f"tunnel = taipy_tunnel.expose({port})\ntunnel.wait_ready(20)").ok()
        assert notebook.run("tunnel.state").ok().text == "'up'"
    row = found[0].replace(str(port), "PORT").replace(f"process {pid}", "process N")
    compat("apps", "Taipy, run by nohup python app.py in a terminal, expose()", f"taken: it waits, and says: {row}")


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="other users' programs are root's to start"
)
def test_an_app_of_another_user_is_not_asked(tmp_path: pathlib.Path) -> None:
    python = shutil.which("python3", path="/usr/bin:/bin")  # this one may be below /root
    if python is None:
        pytest.skip("the system has no Python")
    with left_alone([*ANOTHER, python, *SERVER[1:-1], str(low_port(2100))], tmp_path) as (_, log):
        port = port_of(log)
        assert f"expose({port})" not in "".join(proposals())
        before = log.read_text()
        assert "GET" not in before
        with socket.create_connection(("127.0.0.1", int(port))) as visitor:  # the log would have shown it
            visitor.sendall(b"GET / HTTP/1.0\r\n\r\n")
            eventually(lambda: "GET / " in log.read_text())


def test_no_port_of_the_kernel_is_asked(notebook: Notebook) -> None:
    known = json.loads((notebook.directory / "connection.json").read_text())
    ports = {known[f"{name}_port"] for name in ("shell", "iopub", "stdin", "control", "hb")}
    assert len(ports) == 5
    assert all(map(processes.listening, ports))
    never = notebook.run("from taipy_tunnel import _near\nprint(*_near._never())").ok().said
    assert ports <= {int(port) for port in never.split()}
    assert "in this process" not in notebook.run("print(*_near.proposals())").ok().said


class AccumulatorServer:
    """As Spark's; one whose context was stopped may have nothing any more."""

    def __init__(self, *address: object) -> None:
        if address:
            self.server_address = address


class CallbackServer:
    """As Py4J's."""

    def __init__(self, port: int | None) -> None:
        self.port = port

    def get_listening_port(self) -> int:
        if self.port is None:
            raise OSError("closed")
        return self.port


def test_no_port_of_spark_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor of Py4J; those that are gone hide no others."""
    for module, cls in (("pyspark.accumulators", AccumulatorServer), ("py4j.java_gateway", CallbackServer)):
        stand_in = types.ModuleType(module)
        setattr(stand_in, cls.__name__, cls)
        monkeypatch.setitem(sys.modules, module, stand_in)
    servers = [AccumulatorServer(), AccumulatorServer("127.0.0.1", 41), CallbackServer(None), CallbackServer(42)]
    assert {41, 42} <= set(_never())
    del servers


DEBUGGER = """
    import debugpy
    import socket
    from taipy_tunnel import _near
    debugpy.log_to(«logs»)
    address = debugpy.listen(("127.0.0.1", 0), in_process_debug_adapter=«inside»)
    proposed = [line for line in _near.proposals() if f"({address[1]})" in line]
    print(address[1], address[1] in _near._never(), proposed)
    input()
"""


@pytest.mark.parametrize("inside", [False, True])
def test_no_debugger_is_asked(inside: bool, tmp_path: pathlib.Path) -> None:
    """debugpy's adapter is a process that has made itself independent of ours; or pydevd listens in ours. Both log what
    they are sent."""
    code = interpreters.script(DEBUGGER, logs=str(tmp_path), inside=inside)
    with adapters_of(tmp_path), interpreters.talk(sys.executable, code) as process:
        port, never, proposed = interpreters.line(process).split(maxsplit=2)
        assert (never, proposed) == (str(inside), "[]\n")
        with socket.create_connection(("127.0.0.1", int(port)), 10) as visitor:
            visitor.sendall(b"GET /visitor HTTP/1.1\r\n\r\n")
            eventually(lambda: "GET /visitor HTTP" in logged(tmp_path))
        assert "GET / HTTP" not in logged(tmp_path)


@contextlib.contextmanager
def adapters_of(directory: pathlib.Path) -> Iterator[None]:
    """Ends the adapter that logs there: it outlives its debugger if a client has not spoken its protocol."""
    try:
        yield
    finally:
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        started = [processes.look(pid) for pid in pids if str(directory) in processes.command(pid)]
        processes.kill(process for process in started if process is not None and process.pid != os.getpid())


def logged(directory: pathlib.Path) -> str:
    return "".join(path.read_text() for path in directory.iterdir())


def test_an_app_of_this_process_is_proposed(proxy: Proxy, compat: Row) -> None:
    tunnel = taipy_tunnel.expose(**arguments(proxy))
    with web_app("hello") as address:
        port = address.rpartition(":")[2]
        said = f"A web app answers at localhost:{port}, in this process. To show it: expose({port})"
        assert said in str(tunnel)
        assert said in tunnel._repr_html_()
        assert said in taipy_tunnel.doctor()[0].hint
        assert tunnel.state == "waiting"  # nothing is exposed by itself
        tunnel = taipy_tunnel.expose(int(port), **arguments(proxy))
        assert tunnel.wait_ready(10)
        assert "To show it" not in str(tunnel)
        tunnel.close(0)
    said = said.replace(port, "PORT")
    compat(
        "apps",
        "an app of another framework in the notebook's own process, expose()",
        f"taken: it waits, and says: {said}",
    )


def test_an_app_of_another_process_is_proposed(compat: Row) -> None:
    with subprocess.Popen(SERVER, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().split("port ")[1].split()[0]
            found = [line for line in proposals() if f"expose({port})" in line]
            assert len(found) == 1
            assert f"in process {process.pid} (python" in found[0]
            assert "which this one has started" in found[0]
            assert [line for line in proposals(f"localhost:{port}") if f"expose({port})" in line] == []
            said = found[0].replace(port, "PORT").replace(f"process {process.pid}", "process N")
            name = "an app that a program runs which the notebook has started, expose()"
            compat("apps", name, f"taken: it waits, and says: {said}")
        finally:
            process.kill()


def test_without_any_tunnel_the_doctor_proposes() -> None:
    with web_app("hello") as address:
        assert f"expose({address.rpartition(':')[2]})" in taipy_tunnel.doctor()[1].hint

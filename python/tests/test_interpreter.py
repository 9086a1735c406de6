# SPDX-License-Identifier: Apache-2.0
"""The package is a guest in its interpreter: imported twice, reloaded, ended at any moment, beside others."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue

import pytest
import taipy_tunnel
from chain import processes
from chain.notebook import Notebook
from chain.proxy import Proxy
from conftest import arguments, eventually, visit
from test_signals import EXPOSE, WORK, outcome, python, run, script

__all__ = ["python"]  # the fixture

# Imported again, and modules reloaded.

AGAIN = """
    import importlib, sys
    def usable(package, **changed):
        "A tunnel of this copy of the package, as it should be."
        found = package.expose(«app», **{**«arguments», **changed})
        assert found.state == "up" and found.wait_ready(10) and found in package.tunnels()
        assert urllib.request.urlopen(found.url, timeout=10).read() == b"hello"
        return found
"""
RELOAD = """
    assert importlib.reload(taipy_tunnel) is taipy_tunnel
    assert usable(taipy_tunnel) is tunnel and taipy_tunnel.tunnels() == [tunnel]
"""
REIMPORT = """
    def forget():
        for name in [name for name in sys.modules if name.split(".")[0] == "taipy_tunnel"]:
            del sys.modules[name]
    forget()
    import taipy_tunnel as second
    assert second is not taipy_tunnel and tunnel.state == "up" and second.tunnels() == []
    other = usable(second)  # the same proxy and port: the newest wins, as between two kernels
    try:
        tunnel._wait_for(lambda s: False, 20)
        raise SystemExit("the first goes on")
    except taipy_tunnel.TunnelError as error:
        assert tunnel.state == "replaced", error
    # News goes to whichever copy takes it first; no call of the other waits for it in vain.
    for _ in range(10):
        made = other.status.reconnects + 1
        other.reconnect()
        assert other._wait_for(lambda s: s.reconnects == made and s.state == "up", 10)
    began = time.monotonic()
    tunnel.close()
    assert usable(taipy_tunnel) is tunnel
    other.close(0)
    assert time.monotonic() - began < 5
"""
SUBMODULES = """
    for name in [name for name in sys.modules if name.startswith("taipy_tunnel.")] + ["taipy_tunnel"]:
        importlib.reload(sys.modules[name])
    usable(taipy_tunnel)
"""


@pytest.mark.parametrize("again", [RELOAD, REIMPORT, SUBMODULES], ids=["reload", "import again", "reload all"])
def test_a_second_import(again: str, python: str, proxy: Proxy, app: str) -> None:
    code = script("import time", EXPOSE, WORK, AGAIN, again, app=app, arguments=arguments(proxy))
    assert outcome(run(python, code)) == (0, "", "")


@pytest.fixture
def notebook(tmp_path: pathlib.Path) -> Iterator[Notebook]:
    """A kernel with a copy of the package in tmp_path/taipy_tunnel."""
    ours = pathlib.Path(taipy_tunnel.__file__).parent
    shutil.copytree(ours, tmp_path / "taipy_tunnel", ignore=shutil.ignore_patterns("__pycache__"))
    with Notebook(env={"PYTHONPATH": str(tmp_path)}) as notebook:
        yield notebook


def test_autoreload_in_a_notebook(notebook: Notebook, proxy: Proxy, app: str, tmp_path: pathlib.Path) -> None:
    """%autoreload 2 loads modules again whose files have changed, as after an upgrade: all of them here."""
    expose = f"tunnel = taipy_tunnel.expose({app!r}, **{arguments(proxy)!r})"
    notebook.run(f"%load_ext autoreload\n%autoreload 2\nimport taipy_tunnel\n{expose}").ok()
    assert notebook.run("taipy_tunnel.__file__").ok().text == repr(str(tmp_path / "taipy_tunnel" / "__init__.py"))
    notebook.run("first = tunnel").ok()
    for file in (tmp_path / "taipy_tunnel").glob("*.py"):
        os.utime(file, (time.time() + 5, time.time() + 5))
    cell = notebook.run("first.state, first.logs()[:1] != []").ok()
    assert cell.text.endswith(" True)")
    assert "Error" not in cell.stderr, cell.stderr
    notebook.run(expose).ok()
    assert visit(proxy.url) == "hello"
    assert notebook.run("tunnel.reconnect()\ntunnel.wait_ready(20)").ok().text == "True"
    notebook.shut_down()
    eventually(lambda: not proxy.slot_held(), 5)


# Ends.

ENDS = {
    "in a blackholed dial": """
        import socket
        hole = socket.create_server(("127.0.0.1", 0), backlog=0)
        fill = [socket.socket() for _ in range(3)]
        for s in fill:
            s.setblocking(False)
            s.connect_ex(hole.getsockname())
        begin(server="me@127.0.0.1:%d" % hole.getsockname()[1], remote=1)
        """,
    "in a login that nobody answers": """
        import socket
        silent = socket.create_server(("127.0.0.1", 0))
        begin(server="me@127.0.0.1:%d" % silent.getsockname()[1], remote=1)
        silent.accept()
        """,
    "in the set-up": "begin()",
    "with a hundred visitors": """
        import socket
        tunnel = taipy_tunnel.expose(«app», **«arguments»)
        visitors = [socket.create_connection(("127.0.0.1", «port»)) for _ in range(100)]
        for s in visitors:
            s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        assert all(s.recv(4096) for s in visitors)
        """,
    "by sys.exit in a thread": """
        tunnel = taipy_tunnel.expose(«app», **«arguments»)
        threading.Thread(target=sys.exit).start()
        """,
    "while daemon threads ask": """
        tunnel = taipy_tunnel.expose(«app», **«arguments»)
        def ask():
            while True:
                tunnel.status
        for _ in range(4):
            threading.Thread(target=ask, daemon=True).start()
        """,
    "by os._exit": "tunnel = taipy_tunnel.expose(«app», **«arguments»)\natexit = lambda: os._exit(0)",
    "by an exception": "tunnel = taipy_tunnel.expose(«app», **«arguments»)\natexit = lambda: 1 / 0",
}
BEGIN = """
    import os, sys, threading, taipy_tunnel
    atexit = lambda: None
    def begin(**changed):
        "A set-up in a thread that the interpreter will join."
        def run():
            try:
                taipy_tunnel.expose(«app», **{**«arguments», **changed})
            except taipy_tunnel.TunnelError:
                pass
        threading.Thread(target=run).start()
        while not taipy_tunnel.tunnels():
            pass
"""
END = """
    print("up", flush=True)
    sys.stdin.readline()
    atexit()
"""


@pytest.mark.parametrize("how", ENDS)
def test_the_end_takes_less_than_a_second(how: str, python: str, proxy: Proxy, app: str) -> None:
    code = script(BEGIN, ENDS[how], END, app=app, port=proxy.remote, arguments=arguments(proxy))
    with talk(python, code) as child:
        assert child.stdout.readline() == "up\n", child.stderr.read()
        began = time.monotonic()
        child.stdin.close()
        assert child.wait(20) == (how == "by an exception")
        assert time.monotonic() - began < 3  # aim 1 s, on a quiet machine
        said = child.stderr.read()
        assert said == "" if child.returncode == 0 else "ZeroDivisionError" in said
    eventually(lambda: not proxy.slot_held())


@contextlib.contextmanager
def talk(python: str, code: str) -> Iterator[subprocess.Popen[str]]:
    """A script that is spoken with, and gone afterwards."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([python, "-c", code], text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


# An app, and visitors of many ports who never stop; a program of its own.
VISITORS = """
    import asyncio
    async def answer(reader, writer):
        try:
            while True:
                await reader.readuntil(b"\\r\\n\\r\\n")
                writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
    async def visit(port):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                while True:
                    writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                    await reader.readuntil(b"hello")
                    answers[port] += 1
                    await asyncio.sleep(0.001)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.005)
    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        tasks = [asyncio.ensure_future(visit(port)) for port in «ports» for _ in range(4)]
        await asyncio.get_running_loop().run_in_executor(None, input)
        for task in tasks:
            task.cancel()
        print(min(answers.values()), flush=True)
    answers = dict.fromkeys(«ports», 0)
    asyncio.run(main())
"""
LOADED = """
    import sys, taipy_tunnel
    tunnel = taipy_tunnel.expose(«app», **«arguments»)
    if not tunnel._wait_for(lambda s: s.bytes > 20_000, 20):
        sys.exit("no visitor came")
"""


def test_ends_under_load(python: str, proxy: Proxy) -> None:
    """200 interpreters end while visitors ask: none crashes, none says a word."""
    ports = [processes.free_port() for _ in range(4)]
    left: Queue[int] = Queue()
    for number in range(200):
        left.put(number)
    with talk(sys.executable, script(VISITORS, ports=ports)) as visitors:
        address = f"127.0.0.1:{visitors.stdout.readline().strip()}"

        def worker(port: int) -> list[tuple[int, str, str]]:
            known = arguments(proxy, remote=port, url=f"http://127.0.0.1:{port}/")
            code, ends = script(LOADED, app=address, arguments=known), []
            with contextlib.suppress(Empty):
                while True:
                    left.get_nowait()
                    ends.append(outcome(run(python, code)))
            return ends

        with ThreadPoolExecutor(len(ports)) as pool:
            ends = [end for found in pool.map(worker, ports) for end in found]
        print(file=visitors.stdin, flush=True)
        assert int(visitors.stdout.readline()) > 0
    assert len(ends) == 200
    assert [end for end in ends if end != (0, "", "")] == []

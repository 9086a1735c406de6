# SPDX-License-Identifier: Apache-2.0
"""The interpreter ends: soon, without a word, whatever is going on; and the port is free."""

from __future__ import annotations

import contextlib
import http.server
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue

import pytest
from chain import processes
from chain.interpreters import CONNECT, line, outcome, run, script, talk
from chain.notebook import Notebook
from chain.plain import Plain
from chain.proxy import Proxy
from chain.testing import arguments, eventually

ENDS = {
    "in a blackholed dial": """
        import socket
        hole = socket.create_server(("127.0.0.1", 0), backlog=0)
        fill = [socket.socket() for _ in range(3)]
        for s in fill:
            s.setblocking(False)
            s.connect_ex(hole.getsockname())
        begin(server="me@127.0.0.1:%d" % hole.getsockname()[1])
        """,
    "in a login that nobody answers": """
        import socket
        silent = socket.create_server(("127.0.0.1", 0))
        begin(server="me@127.0.0.1:%d" % silent.getsockname()[1])
        silent.accept()
        """,
    "in the set-up": "begin()",
    "with a hundred visitors": """
        tunnel = taipy_tunnel.expose(«app», **«arguments»)
        visitors = []
        for _ in range(100):  # one after another: the app's backlog is 5
            s = connect()
            s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            assert s.recv(4096)
            visitors.append(s)
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
    code = script(CONNECT, BEGIN, ENDS[how], END, app=app, slot=proxy.slot, arguments=arguments(proxy))
    with talk(python, code) as child:
        assert line(child) == "up\n", child.stderr.read()
        began = time.monotonic()
        child.stdin.close()
        assert child.wait(20) == (how == "by an exception")
        assert time.monotonic() - began < 10  # aim 1 s
        said = child.stderr.read()
        assert said == "" if child.returncode == 0 else "ZeroDivisionError" in said
    eventually(lambda: not proxy.slot_held())


@pytest.fixture
def endless() -> Iterator[str]:
    """An app that begins an answer, and ends none."""
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: first\n\n")
            over.wait()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield f"127.0.0.1:{server.server_port}"
        over.set()
        server.shutdown()
        serving.join()


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    """A kernel that knows nothing."""
    with Notebook() as notebook:
        yield notebook


@pytest.mark.parametrize("asked", [False, True], ids=["idle", "with a request under way"])
def test_a_kernel_ends_with_its_tunnel_open(asked: bool, notebook: Notebook, either: Proxy, endless: str) -> None:
    """The notebook is closed, the tunnel is not; and answers that visitors wait for are not awaited."""
    notebook.run(f"import taipy_tunnel\ntaipy_tunnel.expose({endless!r}, **{arguments(either)!r})").ok()
    with contextlib.ExitStack() as visit:
        if asked:
            visit.enter_context(urllib.request.urlopen(either.url, timeout=10))
        began = time.monotonic()
        notebook.shut_down()
        notebook.wait_end()
        ended = time.monotonic() - began
        eventually(lambda: not either.slot_held(), 10)
        print(f"the kernel ended in {ended:.2f} s, its slots were free in {time.monotonic() - began:.2f} s")
    assert ended < 10  # aim 1 s


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
    if not tunnel._wait_for(lambda s: s.bytes > 2_000, 20):
        sys.exit("no visitor came")
"""


def test_ends_under_load(python: str, plain: Plain) -> None:
    """200 interpreters end while visitors ask: none crashes, none says a word."""
    ports = [processes.free_port() for _ in range(4)]
    left: Queue[int] = Queue()
    for number in range(200):
        left.put(number)
    with talk(sys.executable, script(VISITORS, ports=ports)) as visitors:
        address = f"127.0.0.1:{line(visitors).strip()}"

        def worker(port: int) -> list[tuple[int, str, str]]:
            known = arguments(plain, remote=port, url=f"http://127.0.0.1:{port}/")
            code, ends = script(LOADED, app=address, arguments=known), []
            with contextlib.suppress(Empty):
                while True:
                    left.get_nowait()
                    ends.append(outcome(run(python, code)))
            return ends

        with ThreadPoolExecutor(len(ports)) as pool:
            ends = [end for found in pool.map(worker, ports) for end in found]
        print(file=visitors.stdin, flush=True)
        assert int(line(visitors)) > 0
    assert len(ends) == 200
    assert [end for end in ends if end != (0, "", "")] == []

# SPDX-License-Identifier: Apache-2.0
"""The package is a guest in its interpreter: imported twice, reloaded, ended at any moment, beside others."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
import taipy_tunnel
from chain import processes
from chain.interpreters import EXPOSE, RENEW, WORK, outcome, run, script
from chain.notebook import Notebook
from chain.plain import Plain
from chain.proxy import Proxy
from chain.testing import arguments, eventually
from chain.visits import visit

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
        renew(other, 10)
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
    """The newest has the visitors, and the one before knows it, though its links may still be sharing out the slots."""
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
    for file in (tmp_path / "taipy_tunnel").rglob("*.py"):
        os.utime(file, (time.time() + 5, time.time() + 5))
    cell = notebook.run("first.state, first.logs()[:1] != []").ok()
    assert cell.text.endswith(" True)")
    assert "Error" not in cell.stderr, cell.stderr
    notebook.run(expose).ok()
    assert visit(proxy.url) == "hello"
    assert notebook.run("tunnel.reconnect()\ntunnel.wait_ready(20)").ok().text == "True"
    notebook.shut_down()
    eventually(lambda: not proxy.slot_held(), 10)


# Beside others.

OTHER = """
package main

import "C"
import "runtime"

//export Sum
func Sum(n C.int) C.int {
	found := make(chan int)
	for i := 1; i <= int(n); i++ {
		go func() { found <- len(make([]byte, i)) }()
	}
	sum := 0
	for range int(n) {
		sum += <-found
	}
	runtime.GC()
	return C.int(sum)
}

func main() {}
"""
ASK = """
    other = ctypes.CDLL(«other»)
    def ask():
        assert other.Sum(1000) == 500500
    ask()
"""
ASKING = """
    threads = [threading.Thread(target=lambda: [ask() for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
"""
ASKED = """
    for thread in threads:
        thread.join()
    tunnel.close()
    ask()
"""


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another Go library."""
    directory = tmp_path_factory.mktemp("other")
    (directory / "other.go").write_text(OTHER)
    (directory / "go.mod").write_text("module other\n\ngo 1.22\n")
    build = ["go", "build", "-buildmode=c-shared", "-o", "other.so", "."]
    try:
        subprocess.run(build, cwd=directory, env={**os.environ, "CGO_ENABLED": "1", "GOFLAGS": ""}, check=True)
    except FileNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip("Go is not installed")
    return str(directory / "other.so")


@pytest.mark.parametrize("first", ["ours", "the other"])
def test_another_go_library(first: str, other: str, python: str, proxy: Proxy, app: str) -> None:
    load = (EXPOSE, ASK) if first == "ours" else (ASK, EXPOSE)
    code = script(
        "import ctypes, threading", *load, ASKING, WORK, ASKED, app=app, arguments=arguments(proxy), other=other
    )
    assert outcome(run(python, code)) == (0, "", "")


# The longest that a thread and an event loop were kept from running, beside everything that can be done.
LOOP = """
    import asyncio, socket, threading, time, taipy_tunnel
    gaps = {"loop": 0.0, "thread": 0.0}
    def note(who, last):
        now = time.monotonic()
        gaps[who] = max(gaps[who], now - last)
        return now
    async def tick():
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            last = note("loop", last)
    def beat(end):
        last = time.monotonic()
        while not end.wait(0.005):
            last = note("thread", last)
    silent = socket.create_server(("127.0.0.1", 0))
    dead = {**«arguments», "server": "me@127.0.0.1:%d" % silent.getsockname()[1], "timeout": 1.0}
    async def main():
        loop, end = asyncio.get_running_loop(), threading.Event()
        ticking = asyncio.ensure_future(tick())
        beating = threading.Thread(target=beat, args=(end,))
        beating.start()
        tunnel = await loop.run_in_executor(None, lambda: taipy_tunnel.expose(«app», **«arguments»))
        for _ in range(10):
            await loop.run_in_executor(None, renew, tunnel)
        assert b"hello" == await loop.run_in_executor(None, fetch, tunnel.url)
        seen = gaps["loop"]
        try:
            taipy_tunnel.expose(«app», **dead)  # a plain call keeps its own thread, and no other
        except taipy_tunnel.ProxyUnreachableError:
            pass
        await loop.run_in_executor(None, tunnel.close)
        end.set()
        ticking.cancel()
        print(seen, gaps["thread"])
    def fetch(url):
        import urllib.request
        return urllib.request.urlopen(url, timeout=10).read()
    asyncio.run(main())
"""


def test_event_loops_and_threads_run_on(python: str, proxy: Proxy, app: str) -> None:
    """No gap of 100 ms (10x ceiling here)."""
    ran = run(python, script(RENEW, LOOP, app=app, arguments=arguments(proxy)))
    assert (ran.returncode, ran.stderr) == (0, "")
    loop, thread = map(float, ran.stdout.split()[-2:])
    print(f"longest gap: {loop * 1000:.0f} ms in the event loop, {thread * 1000:.0f} ms in a thread")
    assert max(loop, thread) < 1


def test_one_thread_with_a_name(proxy: Proxy, app: str) -> None:
    before = set(threading.enumerate())
    tunnel = taipy_tunnel.expose(app, **arguments(proxy))
    ours = [thread for thread in threading.enumerate() if thread not in before and thread.name == "taipy-tunnel"]
    assert [thread.daemon for thread in ours] == [True]
    tunnel.close()
    eventually(lambda: not ours[0].is_alive(), 5)


def test_the_thread_survives_what_a_tunnel_raises(
    plain: Plain, app: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, and goes on: also with other tunnels that come after that one."""
    tunnel = taipy_tunnel.expose(app, **arguments(plain))
    port = processes.free_port()
    known = arguments(plain, remote=port, url=f"http://127.0.0.1:{port}/")
    after = taipy_tunnel.expose(app, **known)
    asked = threading.Semaphore(0)

    def fail() -> str:
        asked.release()
        raise ZeroDivisionError("the app's own")

    monkeypatch.setattr(tunnel._app, "address", fail)
    assert all(asked.acquire(timeout=5) for _ in range(3))
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        address = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        monkeypatch.setattr(after._app, "address", lambda: address)
        assert after._wait_for(lambda status: status.target == address, 5)
    assert [record.exc_info is not None for record in caplog.records if "goes on" in record.message] == [True]
    monkeypatch.undo()
    assert visit(tunnel.url) == "hello"

# SPDX-License-Identifier: Apache-2.0
"""Whatever the notebook forks, nothing hangs, the tunnel serves, and no child holds its port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from chain import processes
from chain.interpreters import line, said
from chain.plain import Plain
from chain.proxy import Proxy
from chain.testing import arguments, eventually, machine
from chain.visits import visit

# Every script runs beside a live tunnel, in an interpreter of its own.
OPEN = """
import concurrent.futures, multiprocessing, os, subprocess, sys, threading, time
import taipy_tunnel
from taipy_tunnel import ForkedProcessError

def work(x):
    try:
        taipy_tunnel.expose(5000, server="me@127.0.0.1:1", key="/no", timeout=1)
    except ForkedProcessError:
        return x * x
    except taipy_tunnel.TunnelError:  # spawned: a process of its own, which may have tunnels
        return x * x
    return -1

def used(x):
    "A child that asks the tunnel that it inherited."
    try:
        tunnel.status
    except ForkedProcessError as error:
        assert "spawn" in error.hint and "forked" in error.message
        assert repr(tunnel).startswith("<Tunnel: fork")
        assert taipy_tunnel.tunnels() == []
        return x * x
    return -1

if __name__ == "__main__":
    tunnel = taipy_tunnel.expose({app!r}, **{arguments!r})
    squares = [x * x for x in range(20)]
"""

SCRIPTS = {
    "os.fork": """
    for _ in range(50):
        child = os.fork()
        if child == 0:
            os._exit(7 if used(3) == 9 else 1)
        assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 7
    """,
    "a forked child that exits like a script": """
    child = os.fork()
    if child == 0:
        sys.exit(5)
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 5
    """,
    "pool, fork": """
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(used, range(20)) == squares
    """,
    "pool, fork, from a fresh thread": """
    found = []
    def run():
        with multiprocessing.get_context("fork").Pool(4) as pool:
            found.extend(pool.map(used, range(20)))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert found == squares
    """,
    "pool, spawn": """
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(work, range(20)) == squares
    """,
    "pool, forkserver": """
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        assert pool.map(work, range(20)) == squares
    """,
    "ProcessPoolExecutor": """
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(4, mp_context=context) as pool:
        assert list(pool.map(used, range(20))) == squares
    """,
    "joblib, loky": """
    import joblib
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(work)(x) for x in range(20)) == squares
    """,
    "subprocess": """
    limits = subprocess.run(["sh", "-c", "ls -l /proc/self/fd; ulimit -n; cat"], input="x", text=True,
                            capture_output=True, check=True).stdout
    assert "socket:" not in limits and "eventfd" not in limits, limits
    for _ in range(20):
        subprocess.run(["true"], check=True)
        subprocess.run(["true"], check=True, preexec_fn=lambda: None)
    """,
    "a grandchild": """
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(7 if used(3) == 9 else 1)
        os._exit(os.WEXITSTATUS(os.waitpid(grandchild, 0)[1]))
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 7
    """,
}
CHECK = """
    assert tunnel.status.reconnects == 0 and tunnel.state == "up", tunnel.logs()
    print("served")
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_forks_beside_a_live_tunnel(
    script: str, python: str, proxy: Proxy, app: str, tmp_path: os.PathLike[str]
) -> None:
    path = os.path.join(tmp_path, "script.py")
    with open(path, "w") as f:
        f.write(OPEN.format(app=app, arguments=arguments(proxy)) + SCRIPTS[script] + CHECK)
    ran = subprocess.run([python, path], capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, said(ran.stdout)) == (0, "served\n"), ran.stderr


HOLD = """
import os, signal, sys, taipy_tunnel
tunnel = taipy_tunnel.expose({app!r}, **{arguments!r})
child = os.fork()
if child == 0:
    signal.pause()
print(child, flush=True)
signal.pause()
"""


def test_a_child_that_outlives_its_kernel_holds_no_port(python: str, app: str) -> None:
    with machine() as proxy:
        code = HOLD.format(app=app, arguments=arguments(proxy))
        kernel = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, text=True)
        assert kernel.stdout is not None
        child = int(line(kernel))
        try:
            assert visit(proxy.url) == "hello"
            kernel.kill()
            kernel.wait()
            eventually(lambda: not proxy.slot_held(), 10)  # aim 1 s
            assert processes.look(child)
            code = HOLD.replace("child = os.fork()", "child = 1").format(app=app, arguments=arguments(proxy))
            successor = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, text=True)
            assert successor.stdout is not None
            line(successor)
            assert visit(proxy.url) == "hello"
            successor.kill()
            successor.wait()
            successor.stdout.close()
        finally:
            kernel.stdout.close()
            if processes.look(child):
                os.kill(child, signal.SIGKILL)


def test_a_frozen_kernel_is_replaced_and_stays_away(python: str, app: str) -> None:
    """Its link is stale: nobody answers, sshd holds the port. A new kernel with the same key takes it."""
    with machine(Plain) as proxy, contextlib.ExitStack() as stack:
        code = WATCH.format(app=app, arguments=arguments(proxy))
        frozen = stack.enter_context(kernel(python, code))
        assert line(frozen) == "up\n"
        os.kill(frozen.pid, signal.SIGSTOP)
        began = time.monotonic()
        successor = stack.enter_context(kernel(python, code))
        assert line(successor) == "up\n"
        assert time.monotonic() - began < 50  # aim 5 s
        assert visit(proxy.url) == "hello"
        os.kill(frozen.pid, signal.SIGCONT)
        states = [line(frozen) for _ in range(2)]
        assert states == ["reconnecting\n", "replaced\n"]
        assert frozen.wait(10) == 0, frozen.stderr.read()
        assert "the newest tunnel wins" in frozen.stderr.read()
        assert visit(proxy.url) == "hello"


WATCH = """
import sys, taipy_tunnel
tunnel = taipy_tunnel.expose({app!r}, **{arguments!r})
from taipy_tunnel._watcher import watcher
shown = ""
while shown != "replaced":
    watcher.wait(lambda: tunnel.state != shown, None)
    shown = tunnel.state
    print(shown, flush=True)
print(tunnel.status.last_error, file=sys.stderr)
"""


@contextlib.contextmanager
def kernel(python: str, code: str) -> Iterator[subprocess.Popen[str]]:
    """An interpreter that runs a script and is gone afterwards, frozen or not."""
    process = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()

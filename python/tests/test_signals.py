# SPDX-License-Identifier: Apache-2.0
"""Signals do in a process with tunnels what they did without: every script is an interpreter's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from chain.interpreters import CONNECT, EXPOSE, WORK, outcome, run, script
from chain.proxy import Proxy
from chain.testing import arguments

STORM = """
    import signal
    hits = 0
    def hit(*_):
        global hits
        hits += 1
    signal.signal(signal.SIGALRM, hit)
    signal.setitimer(signal.ITIMER_REAL, «every», «every»)
"""
CALM = """
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert hits > 0
"""
LOAD = """
    from taipy_tunnel._abi import library
    library()
"""


def test_a_storm_of_signals_while_loading(python: str) -> None:
    """Each run loads the library once: Go starts while signals come in."""
    code = script(STORM, LOAD, CALM, every=0.0001)
    for _ in range(15):
        assert outcome(run(python, code)) == (0, "", "")


BLOCKED = """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    before = hits
"""
UNBLOCKED = """
    assert hits == before, "a thread of Go's took a signal"
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    assert hits > before
"""


def test_a_storm_of_signals_beside_a_tunnel(python: str, proxy: Proxy, app: str) -> None:
    """One that the program blocks waits: no thread of ours takes it, on a stack too small for its handler."""
    parts = (STORM, EXPOSE, WORK, BLOCKED, WORK, UNBLOCKED, "tunnel.close()", CALM)
    code = script(*parts, every=0.001, app=app, arguments=arguments(proxy))
    assert outcome(run(python, code)) == (0, "", "")


MASKS = """
    import os, resource, signal, subprocess
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    # Go's threads take SIGCHLD, SIGPROF and SIGURG whatever they inherit.
    ours = {signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGUSR1, signal.SIGIO}
    def tasks():
        "The signals of those that each thread blocks."
        found = {}
        for task in os.listdir("/proc/self/task"):
            for line in open(f"/proc/self/task/{task}/status"):
                if line.startswith("SigBlk"):
                    mask = int(line.split()[1], 16)
                    found[int(task)] = {s for s in ours if mask >> (s - 1) & 1}
        return found
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
"""
MASKED = """
    found = tasks()
    assert found.pop(threading.main_thread().native_id) == set()
    assert len(found) >= 3, found
    assert all(blocked == ours for blocked in found.values()), found
    assert signal.pthread_sigmask(signal.SIG_SETMASK, mask) == mask | {signal.SIGUSR2}
    said = subprocess.run(["sh", "-c", "ulimit -n"], stdout=subprocess.PIPE, check=True).stdout
    assert said == b"256\\n" and resource.getrlimit(resource.RLIMIT_NOFILE) == (256, hard), said
"""


def test_no_thread_of_ours_takes_a_signal(python: str, proxy: Proxy, app: str) -> None:
    """Nor does the descriptor limit change, here or in child processes."""
    code = script("import threading", MASKS, EXPOSE, WORK, MASKED, app=app, arguments=arguments(proxy))
    assert outcome(run(python, code)) == (0, "", "")


# Prints into a pipe that nobody reads, and tells what became of that by its exit code.
BROKEN = """
    import logging, os, signal, sys
    logging.basicConfig(level=logging.DEBUG)
    logging.getLogger("taipy_tunnel").error("logged to a broken pipe")
    try:
        print("x" * 100_000, flush=True)
    except BrokenPipeError:
        os._exit(42)
"""


@pytest.mark.parametrize("default", [False, True], ids=["ignored", "default"])
def test_a_broken_pipe_on_1_and_2(python: str, default: bool, proxy: Proxy, app: str) -> None:
    """The engine never minds; the program gets BrokenPipeError, or SIGPIPE if it wanted that."""
    first = "import signal, logging\nlogging.basicConfig(level=logging.DEBUG)\nlogging.raiseExceptions = False\n"
    wanted = "signal.signal(signal.SIGPIPE, signal.SIG_DFL)" if default else ""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        both = {"stdout": writing, "stderr": writing}
        bare = run(python, script(first, wanted, BROKEN), **both)
        # The program's own log is not heard while the tunnel works: a write of its own would be its end.
        quiet = "logging.disable(logging.CRITICAL)"
        aloud = "logging.disable(logging.NOTSET)"
        code = script(first, wanted, quiet, EXPOSE, WORK, aloud, BROKEN, app=app, arguments=arguments(proxy))
        ours = run(python, code, **both)
    finally:
        os.close(writing)
    assert bare.returncode == (-signal.SIGPIPE if default else 42)
    assert ours.returncode == bare.returncode


RESETS = """
    for _ in range(200):
        with connect() as s:
            s.sendall(b"POST / HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 1000000\\r\\n\\r\\n" + bytes(100_000))
"""


def test_sockets_that_break_raise_no_sigpipe(python: str, proxy: Proxy) -> None:
    """A program may want SIGPIPE to end it; an app that hangs up on a visitor must not."""
    wanted = "import signal\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)"
    rude = script(RUDE)
    with subprocess.Popen([sys.executable, "-c", rude], stdout=subprocess.PIPE, text=True) as app:
        try:
            assert app.stdout is not None
            known = {"app": f"127.0.0.1:{app.stdout.readline().strip()}", "arguments": arguments(proxy)}
            code = script(wanted, EXPOSE, CONNECT, RESETS, "assert tunnel.state == 'up'", slot=proxy.slot, **known)
            assert outcome(run(python, code)) == (0, "", "")
        finally:
            app.kill()


# Accepts, and hangs up with a reset before it has read what it was sent.
RUDE = """
    import socket, struct
    with socket.create_server(("127.0.0.1", 0), backlog=128) as s:
        print(s.getsockname()[1], flush=True)
        while True:
            c = s.accept()[0]
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.recv(1)
            c.close()
"""

ENABLE = "import faulthandler; faulthandler.enable()"
CRASH = """
    import ctypes, resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_faulthandler(python: str, when: str, proxy: Proxy, app: str) -> None:
    """It minds nothing that we do, and tells of the program's own crash what it told without us."""
    load = (ENABLE, LOAD) if when == "before" else (LOAD, ENABLE)
    code = script(*load, EXPOSE, WORK, app=app, arguments=arguments(proxy))
    assert outcome(run(python, code)) == (0, "", "")
    bare, ours = run(python, script(ENABLE, CRASH)), run(python, script(*load, CRASH))
    assert ours.returncode == bare.returncode == -signal.SIGSEGV, ours.stderr
    for ran in (bare, ours):
        assert ran.stderr.startswith("Fatal Python error: Segmentation fault")

# SPDX-License-Identifier: Apache-2.0
"""Signals do in a process with tunnels what they did without: every script is an interpreter's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from chain.proxy import Proxy
from conftest import arguments

# Interpreters that have the wheel; ":" between their paths.
PYTHONS = [path for path in os.environ.get("COMPAT_PYTHONS", "").split(":") if path] or [sys.executable]


def version(python: str) -> str:
    """How an interpreter is named in the list of tests."""
    if python == sys.executable:
        return "this"
    show = "import platform; print(platform.python_version())"
    return subprocess.run([python, "-c", show], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(params=PYTHONS, ids=version)
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter that has the package."""
    return str(request.param)


def script(*parts: str, **values: object) -> str:
    """Parts of a program in one, with «name» replaced by the repr of a value."""
    text = "\n".join(map(textwrap.dedent, parts))
    for name, value in values.items():
        text = text.replace(f"«{name}»", repr(value))
    return text


def run(python: str, code: str, timeout: float = 60.0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([python, "-c", code], text=True, timeout=timeout, check=False, **options)


def outcome(ran: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return ran.returncode, ran.stdout, ran.stderr


EXPOSE = """
    import taipy_tunnel
    tunnel = taipy_tunnel.expose(«app», **«arguments»)
"""
# What a tunnel does all day; `visit` is a request from outside the process's own Python.
WORK = """
    import gc, urllib.request
    def visit():
        return urllib.request.urlopen(tunnel.url, timeout=10).read()
    for _ in range(3):
        assert [visit() for _ in range(20)] == [b"hello"] * 20
        made = tunnel.status.reconnects + 1
        tunnel.reconnect()
        assert tunnel._wait_for(lambda s: s.reconnects == made and s.state == "up", 20), tunnel.logs()
        gc.collect()
"""
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
    from taipy_tunnel._library import library
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
    import socket
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", «port»)) as s:
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
            code = script(wanted, EXPOSE, RESETS, "assert tunnel.state == 'up'", port=proxy.remote, **known)
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

INTERRUPTED = """
    import os, signal, threading, time
    sent = []
    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Timer(0.3, interrupt).start()
    try:
        tunnel.close(drain=30)
        raise SystemExit("it was not interrupted")
    except KeyboardInterrupt:
        took = time.monotonic() - sent[0]
    print(took < 1, tunnel.state, flush=True)
    assert input() == "the visitor has gone"
    assert tunnel._wait_for(lambda s: s.state == "closed", 10)
    assert taipy_tunnel.tunnels() == []
    again = taipy_tunnel.expose(«app», **«arguments»)
    print(again is tunnel, again.state)
"""


def test_close_that_is_interrupted_goes_on(python: str, proxy: Proxy, app: str) -> None:
    """SIGINT is answered within 100 ms (10x ceiling here), and the visitor keeps the time he was given."""
    code = script(EXPOSE, "print('up', flush=True)\ninput()", INTERRUPTED, app=app, arguments=arguments(proxy))
    kernel = subprocess.Popen(
        [python, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with kernel:
        assert kernel.stdin is not None
        assert kernel.stdout is not None
        assert kernel.stderr is not None
        try:
            assert kernel.stdout.readline() == "up\n"
            with socket.create_connection(("127.0.0.1", proxy.remote)) as visitor:
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert visitor.recv(4096)
                print(file=kernel.stdin, flush=True)
                assert kernel.stdout.readline().startswith("True ")
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert visitor.recv(4096), "the visitor was cut off"
            print("the visitor has gone", file=kernel.stdin, flush=True)
            assert kernel.stdout.readline() == "True up\n"
            assert (kernel.wait(20), kernel.stderr.read()) == (0, "")
        finally:
            kernel.kill()


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


# Raises KeyboardInterrupt where CPython may: after each call and jump of this package, one after another.
EVERYWHERE = """
    import dis, sys, taipy_tunnel
    from taipy_tunnel._library import library
    def expose():
        try:
            taipy_tunnel.expose(5000, server="me@127.0.0.1:1", key="/none", timeout=1)
        except taipy_tunnel.ConfigError:
            pass
    def trace(frame, event, _):
        global passed
        if "taipy_tunnel" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            before = last.get(frame, "")
            last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            passed += before.startswith("CALL") or before in ("RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE")
            if passed == wanted:
                raise KeyboardInterrupt
        return trace
    expose()
    wanted = interrupted = 0
    while interrupted == wanted:
        wanted, passed, last = wanted + 1, 0, {}
        sys.settrace(trace)
        try:
            expose()
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(None)
        taipy_tunnel.close_all(0)
        assert library().info()["handles"] == 0, (wanted, library().info())
        expose()
    print(interrupted > 50 or sys.version_info >= (3, 12))  # which trace fewer instructions
"""


def test_ctrl_c_anywhere_leaves_nothing(python: str) -> None:
    """A tunnel that opened while its caller was interrupted would have had no owner."""
    assert outcome(run(python, script(EVERYWHERE))) == (0, "True\n", "")

# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C at the wrong moment leaves nothing behind and takes nothing away; more in test_expose.py."""

from __future__ import annotations

import pytest
from chain.interpreters import CONNECT, EXPOSE, line, outcome, run, script, talk
from chain.proxy import Proxy
from chain.testing import arguments
from chain.visits import connect

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
"""
LATER = """
    assert input() == "the visitor has gone"
    assert tunnel._wait_for(lambda s: s.state == "closed", 10)
    assert taipy_tunnel.tunnels() == []
    again = taipy_tunnel.expose(«app», **«arguments»)
    print(again is tunnel, again.state)
"""


def test_close_that_is_interrupted_goes_on(python: str, proxy: Proxy, app: str) -> None:
    """SIGINT is answered within 100 ms (10x ceiling here), and the visitor keeps the time he was given."""
    code = script(
        EXPOSE, "print('up', flush=True)\ninput()", INTERRUPTED, LATER, app=app, arguments=arguments(proxy, raw=True)
    )
    with talk(python, code) as kernel:
        assert line(kernel) == "up\n"
        with connect(proxy.slot) as visitor:
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert visitor.recv(4096)
            print(file=kernel.stdin, flush=True)
            assert line(kernel).startswith("True ")
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert visitor.recv(4096), "the visitor was cut off"
        print("the visitor has gone", file=kernel.stdin, flush=True)
        assert line(kernel) == "True up\n"
        assert (kernel.wait(20), kernel.stderr.read()) == (0, "")


AT_ONCE = """
    import urllib.request
    assert taipy_tunnel.expose(«app», **«arguments») is tunnel
    assert urllib.request.urlopen(tunnel.url, timeout=10).read() == b"hello"
"""


def test_expose_while_an_interrupted_close_goes_on(python: str, proxy: Proxy, app: str) -> None:
    """It opens the tunnel anew, where it returned the one that was about to end."""
    stay = """
        visitor = connect()
        visitor.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        assert visitor.recv(4096)
    """
    known = {"app": app, "slot": proxy.slot, "arguments": arguments(proxy, raw=True)}
    ran = run(python, script(EXPOSE, CONNECT, stay, INTERRUPTED, AT_ONCE, **known))
    assert outcome(ran) == (0, "True up\n", "")


# Raises KeyboardInterrupt where CPython may: after each call and jump of this package, one after another.
EVERYWHERE = """
    import dis, sys, taipy_tunnel
    from taipy_tunnel._abi import library
    from taipy_tunnel._watcher import watcher
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
        assert not watcher._lock._is_owned(), wanted
        taipy_tunnel.close_all(0)
        assert library().info()["handles"] == 0, (wanted, library().info())
        expose()
    print(interrupted > 50 or sys.version_info >= (3, 12))  # which trace fewer instructions
"""


# Arguments come from secrets: a thread, and a login that nothing is asked with.
SECRETS = """
    import os, types
    def get(scope, key):
        raise KeyError("Secret does not exist")
    os.environ["DATABRICKS_RUNTIME_VERSION"] = "15.4"
    dbutils = types.SimpleNamespace(secrets=types.SimpleNamespace(get=get))
"""


@pytest.mark.parametrize("before", ["", SECRETS], ids=["", "Databricks"])
def test_ctrl_c_anywhere_leaves_nothing(python: str, before: str) -> None:
    """A tunnel that opened while its caller was interrupted would have had no owner."""
    assert outcome(run(python, script(before, EVERYWHERE), timeout=300.0)) == (0, "True\n", "")

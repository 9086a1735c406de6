# SPDX-License-Identifier: Apache-2.0
"""expose() and what it returns, against a real sshd and nginx."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error

import pytest
import taipy_tunnel
from chain.apps import web_app
from chain.interpreters import line, said
from chain.plain import Plain
from chain.processes import free_port
from chain.proxy import Proxy
from chain.testing import arguments, eventually, machine, new_key
from chain.visits import visit
from taipy_tunnel import ForwardError, HostKeyError, ProxyUnreachableError, TunnelError
from taipy_tunnel._abi import library
from taipy_tunnel._quote import Hidden


def test_a_visitor_sees_the_app(either: Proxy, app: str) -> None:
    tunnel = taipy_tunnel.expose(app, **arguments(either))
    assert visit(tunnel.url) == "hello"
    eventually(lambda: tunnel.status.links == either.links_of_a_tunnel)
    status = tunnel.status
    slots, said = {"plain": (1, "2 links"), "prepared": (4, "2 links")}[either.kind]
    assert (status.state, status.checked, status.slots) == ("up", "url", slots)
    assert (status.url, status.target, status.last_error, status.warning) == (either.url, app, None, None)
    assert repr(tunnel) == f"<Tunnel {either.url} up, app {app}, {said}>"
    assert any("everybody who can reach the URL" in line for line in tunnel.logs())


def test_settings_from_the_environment(proxy: Proxy, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in arguments(proxy).items():
        monkeypatch.setenv(f"TAIPY_TUNNEL_{name.upper()}", str(value))
    monkeypatch.setenv("TAIPY_TUNNEL_APP", app)
    monkeypatch.setenv("TAIPY_TUNNEL_TIMEOUT", "9.5")
    assert visit(taipy_tunnel.expose().url) == "hello"
    with pytest.raises(taipy_tunnel.ConfigError, match="server holds a character"):
        taipy_tunnel.expose(server="?")  # the argument wins


def test_who_checks_the_address(either: Proxy, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By argument and environment; a call with another one opens the tunnel again, which checks."""
    for word in ("url", "link"):
        assert taipy_tunnel.expose(app, **arguments(either, check=word)).status.checked == word
    monkeypatch.setenv("TAIPY_TUNNEL_CHECK", "off")
    tunnel = taipy_tunnel.expose(app, **arguments(either, url="http://nosuchname.invalid/"))
    assert (tunnel.state, tunnel.status.checked) == ("up", "")
    assert "could not be checked: nobody was asked: check is off" in str(tunnel)


def test_a_cell_run_again_is_one_tunnel(proxy: Proxy, app: str) -> None:
    tunnel = taipy_tunnel.expose(app, **arguments(proxy))
    eventually(lambda: tunnel.status.links == proxy.links_of_a_tunnel)
    links = proxy.links()
    for _ in range(20):
        assert taipy_tunnel.expose(app, **arguments(proxy)) is tunnel
    assert taipy_tunnel.expose(app, **arguments(proxy, timeout=5.0)) is tunnel
    assert (proxy.links(), taipy_tunnel.tunnels(), tunnel.status.reconnects) == (links, [tunnel], 0)


def test_a_closed_tunnel_has_its_address(proxy: Proxy, app: str) -> None:
    tunnel = taipy_tunnel.expose(app, **arguments(proxy))
    tunnel.close()
    assert tunnel.url == tunnel.status.url != ""


def test_a_server_written_in_another_way_is_the_same_tunnel(plain: Plain, app: str) -> None:
    known = arguments(plain)
    tunnel = taipy_tunnel.expose(app, **known)
    for server in (f"ssh://{known['server']}/", f'"{known["server"]}"\n'):
        again = {**known, "server": server, "host_key": f"256 {known['host_key']} root@proxy (ED25519)"}
        assert taipy_tunnel.expose(app, **again) is tunnel
    assert visit(plain.url) == "hello"


def test_other_arguments_are_the_same_tunnel_with_new_settings(plain: Plain, app: str) -> None:
    tunnel = taipy_tunnel.expose(app, **arguments(plain))
    with web_app("other") as other:
        assert taipy_tunnel.expose(other, **arguments(plain)) is tunnel
        assert visit(plain.url) == "other"
    elsewhere = plain.url.replace("127.0.0.1", "localhost")
    assert taipy_tunnel.expose(app, **arguments(plain, url=elsewhere)) is tunnel
    assert (tunnel.url, visit(plain.url), len(taipy_tunnel.tunnels())) == (elsewhere, "hello", 1)


def test_many_at_once_are_one_tunnel(proxy: Proxy, app: str) -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(taipy_tunnel.expose(app, **arguments(proxy)))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(set(map(id, found))), len(taipy_tunnel.tunnels())) == (8, 1, 1)


def test_no_app_yet(proxy: Proxy) -> None:
    with machine() as other:
        tunnel = taipy_tunnel.expose(**arguments(other))
        assert (tunnel.state, other.slot_held()) == ("waiting", True)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            visit(other.url)
        with web_app("late") as late:
            assert taipy_tunnel.expose(late, **arguments(other)) is tunnel
            assert tunnel.wait_ready(10)
            assert visit(other.url) == "late"


def test_it_comes_back(either: Proxy, app: str) -> None:
    links = either.links_of_a_tunnel
    tunnel = taipy_tunnel.expose(app, **arguments(either))
    eventually(lambda: tunnel.status.links == links)
    assert either.kill_links() == links
    eventually(lambda: tunnel.status.reconnects == links)
    assert tunnel.wait_ready(10)
    assert visit(either.url) == "hello"
    eventually(lambda: tunnel.status.links == links)
    tunnel.reconnect()
    eventually(lambda: (tunnel.status.reconnects, tunnel.status.links, tunnel.state) == (2 * links, links, "up"))
    assert visit(either.url) == "hello"


@pytest.mark.parametrize("ended", [False, True], ids=["failed", "ended for good"])
def test_reconnect_revives_a_tunnel_that_failed(ended: bool, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with machine(Plain) as proxy:
        tunnel = taipy_tunnel.expose(app, **arguments(proxy))
        eventually(lambda: tunnel.status.links == proxy.links_of_a_tunnel)  # one being made outlives its sshd
        key = proxy.directory / "host_key"
        known = key.read_text()
        proxy.stop_sshd()
        key.write_text(new_key(proxy.directory, name="another").read_text())
        proxy.start_sshd()
        with pytest.raises(HostKeyError):
            tunnel._wait_for(lambda status: status.state == "failed" and status.last_error is None, 20)
        proxy.stop_sshd()
        key.write_text(known)
        proxy.start_sshd()
        if ended:  # what the engine says of a tunnel that an internal error has ended; see the next test
            monkeypatch.setattr(library(), "reconnect", lambda handle: False)
        tunnel.reconnect()
        assert tunnel.wait_ready(20)
        assert visit(proxy.url) == "hello"
        assert taipy_tunnel.tunnels() == [tunnel]


def test_the_library_tells_that_a_tunnel_has_ended(proxy: Proxy, app: str) -> None:
    """As it is told of one that was closed; a Tunnel would take that for its own close()."""
    opened: list[int] = []
    library().expose(Hidden(arguments(proxy), target=app, agent="none"), 20, opened)
    try:
        eventually(lambda: library().status(opened[0])["state"] == "up", 20)
        assert library().reconnect(opened[0])
        library().close(opened[0], 0)
        eventually(lambda: library().status(opened[0])["state"] == "closed")
        assert not library().reconnect(opened[0])
    finally:
        library().release(opened[0])


def test_the_proxy_comes_back(app: str) -> None:
    with machine() as proxy:
        tunnel = taipy_tunnel.expose(app, **arguments(proxy))
        eventually(lambda: tunnel.status.links == proxy.links_of_a_tunnel)
        proxy.stop_sshd()
        eventually(lambda: tunnel.state == "reconnecting")
        started = time.monotonic()
        with pytest.raises(ProxyUnreachableError):  # run again meanwhile: an error, and it goes on
            taipy_tunnel.expose(app, **arguments(proxy, timeout=0.3))
        assert time.monotonic() - started < 10
        assert taipy_tunnel.tunnels() == [tunnel]
        assert isinstance(tunnel.status.last_error, ProxyUnreachableError)
        proxy.start_sshd()
        assert tunnel.wait_ready(20)
        assert visit(proxy.url) == "hello"


def test_close(either: Proxy, app: str) -> None:
    with taipy_tunnel.expose(app, **arguments(either)) as tunnel:
        assert visit(either.url) == "hello"
        assert either.slot_held()
    assert tunnel.state == "closed"
    eventually(lambda: not either.slot_held())
    tunnel.close()
    with pytest.raises(TunnelError, match="closed"):
        tunnel.reconnect()
    with pytest.raises(TunnelError, match="closed"):
        tunnel.wait_ready(1)
    again = taipy_tunnel.expose(app, **arguments(either))
    assert (again is tunnel, visit(either.url)) == (True, "hello")


def test_wait_prints_changes_and_ends_with_the_tunnel(
    proxy: Proxy, app: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tunnel = taipy_tunnel.expose(app, **arguments(proxy))
    assert tunnel.wait(0.05) is False
    threading.Timer(0.1, tunnel.close).start()
    assert tunnel.wait(10) is True
    shown = said(capsys.readouterr().out).splitlines()
    assert [line.split()[1] for line in shown] == ["up", "up", "closed"]


def test_what_is_tried_again_is_told(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """After a second, with the error that there was, not first when it is given up."""
    with pytest.raises(ProxyUnreachableError, match="connection refused"):
        taipy_tunnel.expose(**arguments(proxy, server=f"me@127.0.0.1:{free_port()}", timeout=3))
    assert ": connection refused; trying again\n" in capsys.readouterr().out


@pytest.mark.parametrize("call", ["expose", "wait", "wait_ready"])
def test_ctrl_c_is_answered(proxy: Proxy, call: str) -> None:
    """SIGINT ends the call within 100 ms (10x ceiling here) and leaves an open tunnel open."""
    tunnel = taipy_tunnel.expose(**arguments(proxy))
    if call == "expose":
        slow = "me@127.0.0.1:" + str(silent.port)
        calls = {"expose": lambda: taipy_tunnel.expose(server=slow, key=proxy.key, host_key=proxy.host_key)}
    else:
        calls = {"wait": tunnel.wait, "wait_ready": tunnel.wait_ready}
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        calls[call]()
    assert time.monotonic() - sent[0] < 1
    timer.join()
    assert taipy_tunnel.tunnels() == [tunnel]


class Silent:
    """A listener that accepts (by its backlog) and says nothing."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]


silent = Silent()

EXIT = """
import sys, taipy_tunnel
tunnel = taipy_tunnel.expose({app!r}, **{arguments!r})
print(tunnel.state, flush=True)
sys.stdin.readline()
"""


UNASKED = """
import socket, threading, urllib.request, taipy_tunnel

def serve(connection):
    visit = b"/visit" in connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    if visit:
        answered.wait()
        connection.sendall(b"and another thing")
        while connection.recv(65536):
            pass
        closed.set()

def app():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

listener, answered, closed = socket.create_server(("127.0.0.1", 0)), threading.Event(), threading.Event()
threading.Thread(target=app, daemon=True).start()
tunnel = taipy_tunnel.expose(listener.getsockname()[1], **{arguments!r})
print(urllib.request.urlopen(tunnel.status.url + "visit").read())
answered.set()
print(closed.wait(20))
tunnel.close()
"""


def test_what_the_app_says_unasked_is_not_printed() -> None:
    with machine() as proxy:
        ran = subprocess.run(
            [sys.executable, "-c", UNASKED.format(arguments=arguments(proxy))],
            check=False,
            text=True,
            capture_output=True,
            timeout=60,
        )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "b'ok'\nTrue\n", "")


@pytest.mark.parametrize("frozen", [False, True], ids=["proxy answers", "proxy frozen"])
def test_exit_takes_less_than_a_second(app: str, frozen: bool) -> None:
    """Nobody closes the tunnel; the interpreter ends and the port is free, whatever the proxy does."""
    with machine() as proxy:
        code = EXIT.format(app=app, arguments=arguments(proxy))
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert line(child) == "up\n"
        if frozen:
            assert proxy.signal_links(signal.SIGSTOP) > 0
        started = time.monotonic()
        child.stdin.write("\n")
        child.stdin.close()
        assert child.wait(20) == 0
        assert time.monotonic() - started < 10  # aim 1 s
        assert child.stderr is not None
        assert child.stderr.read() == ""
        child.stdout.close()
        child.stderr.close()
        if frozen:
            proxy.signal_links(signal.SIGCONT)
        eventually(lambda: not proxy.slot_held())


def test_a_busy_port_is_told_from_a_forbidden_one(plain: Plain, app: str) -> None:
    with socket.create_server(("127.0.0.1", plain.remote)), pytest.raises(ForwardError) as raised:
        taipy_tunnel.expose(app, **arguments(plain, timeout=5.0))
    assert f"port {plain.remote} on the proxy is in use" in raised.value.message
    refused = pytest.raises(ForwardError, match="any free port too")
    with machine(lambda: Plain(["AllowTcpForwarding no"])) as strict, refused:
        taipy_tunnel.expose(app, **arguments(strict))


def test_the_newest_expose_of_a_key_wins(plain: Plain, app: str, tmp_path: pathlib.Path) -> None:
    """Another kernel's with the same key takes the port over; one with another key is told whose it is."""
    tunnel = taipy_tunnel.expose(app, **arguments(plain))
    other = new_key(tmp_path)
    plain.add_key(other.with_suffix(".pub").read_text())
    code = EXIT.format(app=app, arguments=arguments(plain, key=str(other), timeout=5.0))
    strangers = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, input="\n")
    assert "ForwardError" in strangers.stderr
    assert "in use by another tunnel" in strangers.stderr
    assert (tunnel.state, tunnel.status.reconnects) == ("up", 0)

    code = EXIT.format(app=app, arguments=arguments(plain))
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as newer:
        assert newer.stdin is not None
        assert newer.stdout is not None
        assert line(newer) == "up\n"
        eventually(lambda: tunnel.state == "replaced")
        assert "the newest tunnel wins" in str(tunnel.status.last_error)
        with pytest.raises(ForwardError, match="replaced"):
            tunnel.wait_ready()
        newer.stdin.write("\n")
        newer.stdin.close()
    assert tunnel.state == "replaced"  # it does not come back by itself
    assert taipy_tunnel.expose(app, **arguments(plain)) is tunnel
    assert visit(plain.url) == "hello"


def test_an_nginx_that_leads_elsewhere(plain: Plain, app: str) -> None:
    with web_app("somebody else's") as other, pytest.raises(ForwardError, match="not from this tunnel") as raised:
        taipy_tunnel.expose(app, **arguments(plain, url=f"http://{other}/", timeout=5.0))
    assert f"proxy_pass http://127.0.0.1:{plain.remote}" in raised.value.hint

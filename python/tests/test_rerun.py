# SPDX-License-Identifier: Apache-2.0
"""A cell that is run again with a mistake in it takes nothing away, and a right change breaks nothing."""

from __future__ import annotations

import http.client
import http.server
import os
import pathlib
import signal
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import pytest
import taipy_tunnel
from chain.plain import Plain
from chain.proxy import Proxy
from chain.testing import arguments, eventually, new_key
from taipy_tunnel import AuthError, ConfigError, HostKeyError, ProxyUnreachableError, Tunnel, TunnelError

GOES_ON = "the open tunnel goes on as before"


class Stream:
    """A visitor who comes again and again, with the link that was given out first."""

    def __init__(self, url: str, token: str) -> None:
        self._request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        self.asked, self.failed = 0, list[str]()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.is_set():
            self.asked += 1
            try:
                with urllib.request.urlopen(self._request, timeout=20) as answer:
                    assert answer.read() == b"hello"
            except urllib.error.HTTPError as error:
                self.failed.append(str(error))
                error.close()
            except OSError as error:
                self.failed.append(str(error))

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def token(tunnel: Tunnel) -> str:
    return tunnel.url.partition("#token=")[2]


def seen(tunnel: Tunnel, with_token: str) -> int:
    """What a visitor with this token gets."""
    request = urllib.request.Request(tunnel.status.url, headers={"Authorization": f"Bearer {with_token}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.fixture
def known(either: Proxy) -> dict[str, Any]:
    """Arguments that ask for the token, which is the default."""
    return {**arguments(either), "access": None}


@pytest.fixture
def another_key(tmp_path: pathlib.Path) -> pathlib.Path:
    return new_key(tmp_path)


def test_a_mistake_takes_nothing_away(
    either: Proxy, app: str, known: dict[str, Any], another_key: pathlib.Path
) -> None:
    tunnel = taipy_tunnel.expose(app, **known)
    eventually(lambda: tunnel.status.links == either.links_of_a_tunnel)
    mistakes: list[tuple[type[TunnelError], dict[str, Any]]] = [
        (ConfigError, {"access": "publik"}),
        (ConfigError, {"token": "hello"}),
        (ConfigError, {"key": "~/nokey"}),
        (ConfigError, {"host_key": "SHA256:x"}),
        (ConfigError, {"expires": "1h"}),
        (ConfigError, {"timeout": -1}),
        (ConfigError, {"app": "nonsense"}),
        (AuthError, {"key": str(another_key)}),
        (HostKeyError, {"host_key": "SHA256:" + "A" * 43}),
    ]
    with Stream(tunnel.status.url, token(tunnel)) as visitor:
        for error, mistake in mistakes:
            # The version would shut the visitor out, were it not for the mistake beside it.
            more = {"token_version": 2} if error is ConfigError else {}
            with pytest.raises(error) as raised:
                taipy_tunnel.expose(**{"app": app, **known, **more, **mistake})
            assert raised.value.message.endswith(GOES_ON), (mistake, raised.value)
            assert (taipy_tunnel.tunnels(), tunnel.state) == ([tunnel], "up"), mistake
    assert (visitor.failed, visitor.asked > 0) == ([], True)
    assert taipy_tunnel.expose(app, **known) is tunnel
    assert (tunnel.status.reconnects, tunnel.status.links) == (0, either.links_of_a_tunnel)


def test_a_change_while_nothing_listens(
    either: Proxy, app: str, known: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """The links live, so visitors are served. What concerns visitors changes; what needs a login is refused."""
    tunnel = taipy_tunnel.expose(app, **known)
    eventually(lambda: tunnel.status.links == either.links_of_a_tunnel)
    first = token(tunnel)
    with either.without_listener():
        assert taipy_tunnel.expose(app, **known, token_version=2, timeout=4) is tunnel
        second = token(tunnel)
        assert (seen(tunnel, first), seen(tunnel, second)) == (403, 200)
        assert "the link is another one now" in capfd.readouterr().out
        text = pathlib.Path(known["key"]).read_text()
        with Stream(tunnel.status.url, second) as visitor, pytest.raises(ProxyUnreachableError) as raised:
            taipy_tunnel.expose(app, **{**known, "key": text}, token_version=2, expires=3600, timeout=2)
        assert raised.value.message.endswith(f"(already in force: expires); {GOES_ON}")
        assert "the open one serves visitors" in capfd.readouterr().out
        third = token(tunnel)
        assert (seen(tunnel, first), seen(tunnel, second), seen(tunnel, third)) == (403, 403, 200)
        assert set(visitor.failed) <= {"HTTP Error 403: Forbidden"}  # from the moment on that a link had an end
        assert (taipy_tunnel.tunnels(), tunnel.state) == ([tunnel], "up")
        made = tunnel.status.reconnects
    # The old links have ended with the listener, and that is noticed a moment later.
    eventually(lambda: tunnel.status.reconnects >= made + either.links_of_a_tunnel, 20)
    eventually(lambda: tunnel.status.links == either.links_of_a_tunnel, 20)
    # The cell as it was: what had taken effect is taken back, for the engine knows what holds.
    assert taipy_tunnel.expose(app, **known, token_version=2) is tunnel
    assert (token(tunnel), seen(tunnel, second)) == (second, 200)


def test_visitors_settings_change_while_the_proxy_is_away(either: Proxy, app: str, known: dict[str, Any]) -> None:
    """A link that is withdrawn meanwhile admits nobody when the proxy is back."""
    tunnel = taipy_tunnel.expose(app, **known)
    eventually(lambda: tunnel.status.links == either.links_of_a_tunnel)  # one being made outlives its sshd
    first = token(tunnel)
    either.stop_sshd()
    try:
        eventually(lambda: tunnel.state == "reconnecting")
        with pytest.raises(ProxyUnreachableError) as raised:
            taipy_tunnel.expose(app, **known, token_version=2, timeout=1)
        assert "already in force: token_version" in raised.value.message
    finally:
        either.start_sshd()
    tunnel.reconnect()
    assert tunnel.wait_ready(20)
    assert (seen(tunnel, first), seen(tunnel, token(tunnel))) == (403, 200)


def test_a_right_change_breaks_nothing(either: Proxy, app: str, known: dict[str, Any]) -> None:
    """Visitors of a plain proxy may meet the round trip in which its port passes on."""
    tunnel = taipy_tunnel.expose(app, **known)
    with Stream(tunnel.status.url, token(tunnel)) as visitor:
        eventually(lambda: visitor.asked > 3)
        changed = {**known, "key": pathlib.Path(known["key"]).read_text()}
        assert taipy_tunnel.expose(app, **changed) is tunnel
        asked = visitor.asked
        eventually(lambda: visitor.asked > asked + 3)
    print(f"{either.kind}: {len(visitor.failed)} of {visitor.asked} failed")
    assert set(visitor.failed) <= (set() if either.kind == "prepared" else {"HTTP Error 502: Bad Gateway"})
    with Stream(tunnel.status.url, token(tunnel)) as visitor:
        eventually(lambda: visitor.asked > 10)
    assert visitor.failed == []
    assert (tunnel.state, tunnel.status.last_error) == ("up", None)


def test_ctrl_c_at_any_instant_of_a_change(either: Proxy, app: str, known: dict[str, Any]) -> None:
    """Visitors of a plain proxy may meet the moment in which its port passes on, or back: 2 s at most."""
    tunnel = taipy_tunnel.expose(app, **known)
    link, text = tunnel.url, pathlib.Path(known["key"]).read_text()
    start = time.monotonic()
    taipy_tunnel.expose(app, **{**known, "key": text})
    takes = time.monotonic() - start

    def interrupted(after: float, key: str) -> None:
        timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        taipy_tunnel.expose(app, **{**known, "key": key})
        timer.join(10)  # where the change was faster

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for n in range(20):
            with pytest.raises(KeyboardInterrupt):
                interrupted(takes * n / 16, text + "\n" * (n + 1))  # differs, and means the same
            assert (taipy_tunnel.tunnels(), tunnel.url) == ([tunnel], link), n
            if either.kind == "prepared":
                assert seen(tunnel, token(tunnel)) == 200, (n, tunnel.logs())
            eventually(lambda: seen(tunnel, token(tunnel)) == 200, 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert taipy_tunnel.expose(app, **known) is tunnel
    assert seen(tunnel, token(tunnel)) == 200
    eventually(lambda: (tunnel.state, tunnel.status.links) == ("up", either.links_of_a_tunnel))


def test_an_address_is_checked_again(plain: Plain, app: str) -> None:
    """A login stood before it when the cell was run first, and is gone when it is run again."""
    passes = threading.Event()

    class Front(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not passes.is_set():
                self.send_error(401)
                return
            behind = http.client.HTTPConnection(urllib.parse.urlsplit(plain.url).netloc, timeout=5)
            behind.request("GET", self.path, headers=dict(self.headers))
            answer = behind.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.read())
            behind.close()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Front) as front:
        thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            settings = arguments(plain, url=f"http://127.0.0.1:{front.server_port}/", check="url")
            tunnel = taipy_tunnel.expose(app, **settings)
            assert "401 Unauthorized" in tunnel.status.unchecked
            passes.set()
            assert taipy_tunnel.expose(app, **settings) is tunnel
            assert (tunnel.status.checked, tunnel.status.unchecked) == ("url", "")
        finally:
            front.shutdown()
            thread.join()


def test_however_a_server_is_written(plain: Plain, app: str) -> None:
    """It is the same tunnel, with the same link."""
    known = arguments(plain)
    host, port = plain.server.rsplit(":", 1)
    tunnel = taipy_tunnel.expose(app, **known)
    link = tunnel.url
    pasted = f"ssh -N -R {plain.remote}:127.0.0.1:5000 {host} -p {port}"
    for other in ({"server": f"ssh://{plain.server}/"}, {"server": pasted}, {"server": pasted, "remote": None}):
        assert taipy_tunnel.expose(app, **{**known, **other}) is tunnel
        assert tunnel.url == link

# SPDX-License-Identifier: Apache-2.0
"""Ways out of the network: an egress proxy with a password, what the environment names, SSH inside TLS."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator

import pytest
import taipy_tunnel
from chain import egress
from chain.egress import Egress
from chain.proxy import Missing, Proxy
from chain.testing import arguments, eventually
from chain.visits import visit
from taipy_tunnel import HostKeyError, ProxyHopError, ProxyUnreachableError
from taipy_tunnel._abi import library

PASSWORD = "hunter2-secret"

Start = Callable[..., "contextlib.AbstractContextManager[Egress]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server of chain.egress; the test is skipped where its program is missing, and fails in CI."""
    with contextlib.ExitStack() as stack:

        @contextlib.contextmanager
        def enter(make: Start, *args: object) -> Iterator[Egress]:
            try:
                yield stack.enter_context(make(*args))
            except Missing as missing:
                if os.environ.get("CI"):
                    raise
                pytest.skip(str(missing))

        yield enter


def test_a_proxy_with_a_password(
    proxy: Proxy, app: str, start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with start(egress.tinyproxy, f"BasicAuth me {PASSWORD}") as way:
        via = f"http://me:{PASSWORD}@127.0.0.1:{way.port}"
        tunnel = taipy_tunnel.expose(app, **arguments(proxy, via=via))
        assert visit(tunnel.url) == "hello"
        assert f"CONNECT 127.0.0.1:{proxy.ssh_port}" in way.log()
        assert taipy_tunnel.expose(app, **arguments(proxy, via=via)) is tunnel
        lost = tunnel.status.reconnects
        proxy.kill_links()
        eventually(lambda: tunnel.status.reconnects > lost and tunnel.state == "up")
        assert visit(tunnel.url) == "hello"
        left = [repr(tunnel), str(tunnel), tunnel._repr_html_(), repr(tunnel.status), repr(vars(tunnel))]
        left += tunnel.logs(1000)
        assert any(f"http://127.0.0.1:{way.port}" in line for line in tunnel.logs(1000))
        tunnel.close()

        monkeypatch.setenv("TAIPY_TUNNEL_VIA", via)
        connects = way.log().count("Established connection")
        taipy_tunnel.expose(app, **arguments(proxy)).close()
        assert way.log().count("Established connection") > connects
        monkeypatch.delenv("TAIPY_TUNNEL_VIA")

        for wrong in (f"http://127.0.0.1:{way.port}", f"http://me:x{PASSWORD}@127.0.0.1:{way.port}"):
            with pytest.raises(ProxyHopError, match="wants a password") as raised:
                taipy_tunnel.expose(app, **arguments(proxy, via=wrong, timeout=5))
            assert "via=" in raised.value.hint
            left += [str(raised.value), repr(raised.value)]
    assert PASSWORD not in "\n".join([*left, *capfd.readouterr()])


def test_what_the_environment_says(proxy: Proxy, app: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked at each expose(), though Go knows only the variables that its process began with."""
    library()
    # This machine as well, but not a loopback address, which no variable sends to a proxy.
    server = proxy.server.replace("127.0.0.1", "0.0.0.0")
    with start(egress.tinyproxy) as way:

        def proxied(**changed: object) -> bool:
            connects = way.log().count("Established connection")
            # One link: a second one may still be on its way when expose() returns, and be counted with the next.
            known = arguments(proxy, **{"server": server, "connections": 1, **changed})
            taipy_tunnel.expose(app, **known).close()
            return way.log().count("Established connection") > connects

        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            with monkeypatch.context() as env:
                env.setenv(name, f"http://127.0.0.1:{way.port}")
                assert proxied(), name
                assert not proxied(via="none"), name
                assert not proxied(server=proxy.server), name
                env.setenv("NO_PROXY", "example.com,0.0.0.0")
                assert not proxied(), name


def test_ssh_inside_tls(
    proxy: Proxy, app: str, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    with start(egress.tls, proxy.ssh_port) as way, start(egress.tinyproxy) as out:
        server = f"tls://{proxy.server.split('@')[0]}@127.0.0.1:{way.port}"
        with pytest.raises(ProxyUnreachableError, match="is not trusted") as raised:
            taipy_tunnel.expose(app, **arguments(proxy, server=server))
        assert "SSL_CERT_FILE" in raised.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(way.directory / "cert.pem"))
        with taipy_tunnel.expose(app, **arguments(proxy, server=server)) as tunnel:
            assert visit(tunnel.url) == "hello"
            assert tunnel.status.server == server
            assert "[127.0.0.1 nginx]" in str(tunnel)
        via = f"http://127.0.0.1:{out.port}"
        with taipy_tunnel.expose(app, **arguments(proxy, server=server, via=via)) as tunnel:
            assert visit(tunnel.url) == "hello"
            assert f"CONNECT 127.0.0.1:{way.port}" in out.log()
        with pytest.raises(HostKeyError):
            taipy_tunnel.expose(app, **arguments(proxy, server=server, host_key="SHA256:" + 43 * "A"))

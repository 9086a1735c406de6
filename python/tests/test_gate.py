# SPDX-License-Identifier: Apache-2.0
"""Who is admitted, as an owner and as visitors with and without the link see it, through a real nginx."""

from __future__ import annotations

import base64
import datetime
import http.client
import http.server
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import taipy_tunnel
from chain.apps import web_app
from chain.browser import NAME, Browser
from chain.interpreters import run, script
from chain.plain import Plain
from chain.proxy import Proxy
from chain.testing import arguments, eventually, link
from chain.visits import bearer

PASSWORD = "correct horse"


def ask(url: str, **headers: str) -> tuple[int, str]:
    """Status and text of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def secret_app() -> Iterator[str]:
    with web_app("company data") as address:
        yield address


class Heads(http.server.BaseHTTPRequestHandler):
    """Answers with the host that it was asked for, and a head of 12 KB."""

    def do_GET(self) -> None:
        said = self.headers["Host"].encode()
        self.send_response(200)
        for n in range(12):
            self.send_header(f"X-Large-{n}", "x" * 1000)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


def test_nginx_passes_large_heads_and_the_port_of_the_host(proxy: Proxy) -> None:
    app = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Heads)
    thread = threading.Thread(target=app.serve_forever)
    thread.start()
    try:
        tunnel = taipy_tunnel.expose(app.server_port, **arguments(proxy))
        host = urllib.parse.urlsplit(proxy.url).netloc
        assert ask(tunnel.url, Cookie="large=" + "x" * 12_000) == (200, host)
    finally:
        app.shutdown()
        thread.join()
        app.server_close()


def test_only_the_link_admits(proxy: Proxy, secret_app: str) -> None:
    tunnel = taipy_tunnel.expose(secret_app, **link(proxy))
    base, _, token = tunnel.url.partition("#token=")
    assert base == proxy.url == tunnel.status.url
    assert len(token) == 24
    assert tunnel.status.token_kept
    for path in ("", "asset.js", "?token=" + "x" * 24, ".well-known/taipy-tunnel"):
        status, said = ask(base + path)
        assert status in (403, 404)
        assert "company data" not in said
    assert ask(base, **bearer(tunnel)) == (200, "company data")
    assert ask(base, Authorization="Bearer x") == (403, ask(base)[1])
    # For clients without script: redirected to the clean address, with a cookie.
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(f"{base}?a=1&token={token}", timeout=5) as answer:
        assert (answer.read().decode(), answer.url) == ("company data", base + "?a=1")
    # It is shown by url and the card, and by nothing else.
    assert token in tunnel._repr_html_()
    assert token in str(tunnel)
    assert token not in repr(tunnel) + repr(tunnel.status) + "\n".join(tunnel.logs(1000)) + str(tunnel.requests())
    tunnel.reconnect()
    eventually(lambda: tunnel.status.reconnects >= 1 and tunnel.state == "up")
    assert tunnel.url == f"{base}#token={token}"


def test_the_link_survives_a_new_kernel(proxy: Proxy, secret_app: str) -> None:
    code = "import taipy_tunnel\nprint(taipy_tunnel.expose(«app», **«arguments»).url)"

    def of_new_kernel(**changed: Any) -> str:
        done = run(sys.executable, script(code, app=secret_app, arguments=link(proxy, **changed)))
        assert done.returncode == 0, done.stderr
        return str(done.stdout.strip())

    first = of_new_kernel()
    assert "#token=" in first
    assert of_new_kernel() == first
    assert of_new_kernel(token_version=2) != first


def test_new_token(proxy: Proxy, secret_app: str, capsys: pytest.CaptureFixture[str]) -> None:
    tunnel = taipy_tunnel.expose(secret_app, **link(proxy))
    before, old = tunnel.url, bearer(tunnel)
    assert tunnel.new_token() == tunnel.url != before
    assert "token_version=2" in capsys.readouterr().out
    assert not tunnel.status.token_kept
    assert ask(proxy.url, **old)[0] == 403
    assert ask(proxy.url, **bearer(tunnel)) == (200, "company data")
    assert taipy_tunnel.expose(secret_app, **link(proxy)) is tunnel
    assert tunnel.url != before


def test_given_token_and_end(proxy: Proxy, secret_app: str) -> None:
    given = "Zk3v9QmX7bTn2LrW5cYh8JpD"
    tunnel = taipy_tunnel.expose(secret_app, **link(proxy, token=given))
    assert tunnel.url.endswith("#token=" + given)
    assert ask(proxy.url, Authorization="Bearer " + given)[0] == 200
    tunnel = taipy_tunnel.expose(secret_app, **link(proxy, token=given, expires=datetime.timedelta(seconds=5)))
    assert tunnel.status.expires is not None
    good = bearer(tunnel)
    assert ask(proxy.url, Authorization="Bearer " + given)[0] == 403  # it has no end
    assert ask(proxy.url, **good)[0] == 200
    eventually(lambda: ask(proxy.url, **good)[0] == 403)
    assert "expired" in ask(proxy.url, **good)[1]
    eventually(lambda: tunnel.state == "expired", 1)
    assert "later expires=" in str(tunnel)
    visitor = taipy_tunnel.doctor()[-1]
    assert (visitor.step, visitor.ok, "403" in visitor.seen) == ("visitor", False, True)
    assert "later expires=" in visitor.hint
    with pytest.raises(taipy_tunnel.ConfigError, match="the link ended at"):
        tunnel.wait_ready()
    assert tunnel in taipy_tunnel.tunnels()
    # The cell again: the same arguments are the same tunnel, another end is another one.
    tunnel = taipy_tunnel.expose(secret_app, **link(proxy, token=given, expires="2100-01-01"))
    assert ask(proxy.url, **bearer(tunnel))[0] == 200


def test_passwords(proxy: Proxy, secret_app: str) -> None:
    tunnel = taipy_tunnel.expose(secret_app, **link(proxy, access=("ann", PASSWORD)))
    assert tunnel.url == proxy.url
    assert PASSWORD not in repr(tunnel._settings)

    def basic(password: str) -> tuple[int, str]:
        return ask(proxy.url, Authorization="Basic " + base64.b64encode(f"ann:{password}".encode()).decode())

    assert ask(proxy.url)[0] == 401
    assert basic("wrong")[0] == 401
    assert basic(PASSWORD) == (200, "company data")


def test_public_is_said(proxy: Proxy, secret_app: str) -> None:
    tunnel = taipy_tunnel.expose(secret_app, **arguments(proxy))
    assert ask(proxy.url) == (200, "company data")
    assert "Open to everybody" in str(tunnel)
    assert any("open to everybody" in line for line in tunnel.logs(1000))
    with pytest.raises(taipy_tunnel.ConfigError, match="no token"):
        tunnel.new_token()


def test_raw_carries_anything(proxy: Proxy, secret_app: str) -> None:
    tunnel = taipy_tunnel.expose(secret_app, **arguments(proxy, raw=True))
    assert ask(proxy.url) == (200, "company data")
    assert (tunnel.status.access, tunnel.requests(), tunnel.url) == ("", [], proxy.url)


def test_requests_are_seen(proxy: Proxy, secret_app: str) -> None:
    tunnel = taipy_tunnel.expose(secret_app, **link(proxy))
    ask(proxy.url + "report?month=5&key=secret", **bearer(tunnel))
    ask(proxy.url + "other")  # without the token: only counted
    seen = [(r["method"], r["path"], r["status"]) for r in tunnel.requests(2)]
    assert seen[-1] == ("GET", "/report?…", 200)
    assert all(path != "/other" for _, path, _ in seen)
    status = tunnel.status
    assert (status.visitors, status.visitors_today, status.refused, status.failed) == (1, 1, 1, 0)
    assert "1 refused" in str(tunnel)


def test_another_sites_page_changes_nothing(proxy: Proxy, secret_app: str) -> None:
    tunnel = taipy_tunnel.expose(secret_app, **link(proxy))
    host = proxy.url.split("/")[2]
    for origin, status in ((f"http://{host}", 501), ("http://evil.example", 403), ("null", 403)):
        connection = http.client.HTTPConnection(host, timeout=5)
        connection.request("POST", "/", body=b"x", headers={**bearer(tunnel), "Origin": origin})
        assert connection.getresponse().status == status  # 501: the app knows no POST
        connection.close()


def test_away_page(proxy: Proxy) -> None:
    tunnel = taipy_tunnel.expose("127.0.0.1:9", **link(proxy))
    status, said = ask(proxy.url, Accept="text/html", **bearer(tunnel))
    assert (status, "The app is starting" in said) == (503, True)
    assert ask(proxy.url, Accept="text/html")[0] == 403  # nor is that told to strangers


def test_browser_follows_the_link(proxy: Proxy, secret_app: str) -> None:
    tunnel = taipy_tunnel.expose(secret_app, **link(proxy))
    with Browser() as browser:
        page = browser.open(proxy.url)
        page.wait_text("h1", "This app is private")
        page.close()
        page = browser.open(tunnel.url)
        page.wait_text("body", "company data")
        assert page.evaluate("location.href") == proxy.url  # without the token
        assert page.evaluate("document.cookie") == ""  # not for scripts
        again = "fetch('/').then((answer) => answer.status)"
        assert page.evaluate(again) == 200  # the cookie admits from now on
        tunnel.new_token()
        assert page.evaluate(again) == 403


class InFront(http.server.BaseHTTPRequestHandler):
    """Shows the gate's page, and answers what it sends by itself."""

    page = b""
    answer = 403

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        self.wfile.write(self.page)

    def do_POST(self) -> None:
        self.send_response(self.answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_what_a_link_that_does_not_open_says(proxy: Proxy, secret_app: str) -> None:
    """The cause is the link only where the gate itself refuses it."""
    tunnel = taipy_tunnel.expose(secret_app, **link(proxy))
    old = tunnel.url
    tunnel.new_token()
    InFront.page = ask(proxy.url, Accept="text/html")[1].encode()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), InFront) as server, Browser() as browser:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            browser.open(old).wait_text("h1", "This link is not valid any more")
            for InFront.answer, says in (
                (403, "The web server in front of the app did not pass your link on"),
                (404, "The web server in front of the app did not pass your link on"),
                (502, "The app cannot be reached"),
                (204, "Your browser did not keep your link"),  # no cookie comes back
            ):
                browser.open(f"http://127.0.0.1:{server.server_port}/#token=x").wait_text("h1", says)
        finally:
            server.shutdown()
            thread.join()


def test_a_link_of_https_that_is_opened_without(plain: Plain, secret_app: str) -> None:
    """The browser keeps no cookie that is for https alone."""
    secure = plain.url.replace("http:", "https:")
    tunnel = taipy_tunnel.expose(secret_app, **{**link(plain), "url": secure, "check": "off"})
    with Browser() as browser:
        page = browser.open(f"http://{NAME}:{plain.port}/#{tunnel.url.partition('#')[2]}")
        page.wait_text("h1", "Your browser did not keep your link")
        assert "with https:// at its beginning" in page.text("#text")


class WithoutPort(InFront):
    """Passes on what it is asked, for the host alone: nginx with $host."""

    to = ""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        headers = {**dict(self.headers), "Host": self.headers["Host"].partition(":")[0], "Connection": "close"}
        further = http.client.HTTPConnection(self.to, timeout=5)
        further.request(self.command, self.path, body, headers)
        answer = further.getresponse()
        said = answer.read()
        further.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_GET


def test_a_web_server_that_keeps_the_port_to_itself(plain: Plain, secret_app: str) -> None:
    """What the browser calls the app's own page gets in; where it says nothing, both addresses are named."""
    tunnel = taipy_tunnel.expose(secret_app, **link(plain))
    token = tunnel.url.partition("#")[2]
    WithoutPort.to = urllib.parse.urlsplit(plain.url).netloc
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), WithoutPort) as server, Browser() as browser:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            for host in ("127.0.0.1", "localhost"):
                browser.open(f"http://{host}:{server.server_port}/#{token}").wait_text("body", "company data")
            opened = f"http://{NAME}:{server.server_port}"
            page = browser.open(f"{opened}/#{token}")
            page.wait_text("h1", "The addresses do not agree")
            said = page.text("#text")
            assert f"a page of {opened}, and the web server in front of the app says" in said
            assert f" sent to {NAME}." in said
            assert "proxy_set_header Host $http_host;" in said
        finally:
            server.shutdown()
            thread.join()

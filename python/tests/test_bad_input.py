# SPDX-License-Identifier: Apache-2.0
"""Bad input: each a clear error of the right class in time, and no secret in anything that is left."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import taipy_tunnel
from chain.apps import web_app
from chain.plain import Plain
from chain.testing import arguments, eventually, new_key
from taipy_tunnel import AuthError, ConfigError, HostKeyError, ProxyHopError, ProxyUnreachableError, TunnelError

TIMEOUT = 2.0


@pytest.fixture(scope="module")
def listeners() -> Iterator[dict[str, int]]:
    """Ports that are not what they should be."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))  # bound, never listening
        web = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        web.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stack.callback(lambda: (web.shutdown(), thread.join(), web.server_close()))
        yield {
            "silent": silent.getsockname()[1],
            "closed": closed.getsockname()[1],
            "web": web.server_port,
        }


# What is changed of right arguments; the class of the error; words of the message; words of the hint.
ROWS: dict[str, tuple[dict[str, Any], type[TunnelError], str, str]] = {
    "no server": ({"server": None}, ConfigError, "no server", "TAIPY_TUNNEL_SERVER"),
    "no user": ({"server": "203.0.113.7"}, ConfigError, "names no user", "user@host"),
    "no host": ({"server": "me@"}, ConfigError, "names no host", "user@host"),
    "port of the server": ({"server": "me@host:99999"}, ConfigError, "port", "user@host:port"),
    "space in the server": ({"server": "me@ho st"}, ConfigError, "character", "user@host"),
    "option as the server": ({"server": "-oProxyCommand=x@h"}, ConfigError, "dash", "user@host"),
    "server of a wrong type": ({"server": 22}, ConfigError, "server is an int", ""),
    "key that is not there": ({"key": "/no/such/key"}, ConfigError, 'key "/no/such/key" cannot be read', "path"),
    "directory as the key": ({"key": "{dir}"}, ConfigError, "cannot be read", "path"),
    "not a key": ({"key": "{dir}/text"}, ConfigError, "not a private key", ""),
    "broken key text": (
        {"key": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"},
        ConfigError, "not a private key", "",
    ),
    "public key": ({"key": "{dir}/key.pub"}, ConfigError, "public", ""),
    "bytes that are not text": ({"key": b"\xff\xfe"}, ConfigError, "not text", ""),
    "secret of Databricks": ({"key": "secret:team/key"}, ConfigError, "not Databricks", "PATH"),
    "no passphrase": ({"key": "{dir}/locked"}, ConfigError, "passphrase", "key_passphrase"),
    "wrong passphrase": ({"key": "{dir}/locked", "key_passphrase": "wrong"}, ConfigError, "passphrase", ""),
    "refused key": ({"key": "{dir}/key"}, AuthError, "refused", "authorized_keys"),
    "unknown host key": ({"host_key": "{dir}/known_hosts"}, HostKeyError, "not known", "host_key=\"SHA256:"),
    "changed host key": ({"host_key": "SHA256:" + 43 * "A"}, HostKeyError, "NOT THE KNOWN ONE", "ssh-keygen -lf"),
    "not a host key": ({"host_key": "SHA256:short"}, ConfigError, "host_key", ""),
    "name does not resolve": ({"server": "me@no-such-name.invalid"}, ProxyUnreachableError, "resolve", "spelling"),
    "port closed": ({"server": "me@127.0.0.1:{closed}"}, ProxyUnreachableError, "no connection", "firewall"),
    "not ssh": ({"server": "me@127.0.0.1:{web}"}, ProxyUnreachableError, "not an SSH server", ""),
    "no banner": ({"server": "me@127.0.0.1:{silent}"}, ProxyUnreachableError, "no SSH banner", ""),
    "no handshake of TLS": ({"server": "tls://me@127.0.0.1:{silent}"}, ProxyUnreachableError, "TLS handshake", ""),
    "TLS port closed": ({"server": "tls://me@127.0.0.1:{closed}"}, ProxyUnreachableError, "no connection", "sshd"),
    "ssh without tls": ({"server": "tls://me@127.0.0.1:{ssh}"}, ProxyUnreachableError, "not speak TLS", "drop the tls"),
    "user of tls": ({"server": "tls://127.0.0.1"}, ConfigError, "names no user", "user@host"),
    "kind of via": ({"via": "ftp://proxy:1"}, ConfigError, "via names a kind", "via=\"http://"),
    "port of via": ({"via": "http://proxy:99999"}, ConfigError, "via", "via=\"http://"),
    "via of a wrong type": ({"via": 3128}, ConfigError, "via is an int", ""),
    "via refuses": ({"via": "http://127.0.0.1:{closed}"}, ProxyHopError, "no connection", "via="),
    "via does not resolve": ({"via": "socks5://no-such-name.invalid:1080"}, ProxyHopError, "resolve", "via="),
    "via says nothing": ({"via": "http://127.0.0.1:{silent}"}, ProxyHopError, "gave no connection", "kind"),
    "via is a web server": ({"via": "http://127.0.0.1:{web}"}, ProxyHopError, "is not such a proxy", "kind"),
    "via is sshd": ({"via": "http://127.0.0.1:{ssh}"}, ProxyHopError, "SSH-2.0-", "kind"),
    "via is sshd as socks": ({"via": "socks5://127.0.0.1:{ssh}"}, ProxyHopError, "is not such a proxy", "kind"),
    "remote too large": ({"remote": 70000}, ConfigError, "not a TCP port", "8080"),
    "remote below 0": ({"remote": -1}, ConfigError, "not a TCP port", "8080"),
    "remote is text": ({"remote": "http"}, ConfigError, "whole number", ""),
    "url": ({"url": "ftp://example.com/"}, ConfigError, "not an http", "https://"),
    "check": ({"check": "maybe"}, ConfigError, "check", 'check="off"'),
    "url with a password": ({"url": "http://me:pw@example.com/"}, ConfigError, "url is not", "password"),
    "app is a server": ({"app": "me@203.0.113.7"}, ConfigError, "looks like a server", "server="),
    "app is no port": ({"app": 70000}, ConfigError, "app is '70000'", "port"),
    "app of a wrong type": ({"app": object()}, ConfigError, "app is a object", "Gui"),
    "timeout": ({"timeout": 0}, ConfigError, "timeout is 0", ""),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_bad_input(row: str, plain: Plain, app: str, listeners: dict[str, int], tmp_path: pathlib.Path) -> None:
    changed, kind, words, advice = ROWS[row]
    (tmp_path / "text").write_text("not a key\n")
    (tmp_path / "known_hosts").write_text("other.example.com ssh-ed25519 " + KNOWN + "\n")
    new_key(tmp_path)
    new_key(tmp_path, "right", "locked")
    filled = {
        name: value.format(dir=tmp_path, ssh=plain.ssh_port, **listeners) if isinstance(value, str) else value
        for name, value in changed.items()
    }
    links = plain.links()
    started = time.monotonic()
    with pytest.raises(kind) as raised:
        taipy_tunnel.expose(**{"app": app, **arguments(plain, timeout=TIMEOUT), **filled})
    assert time.monotonic() - started < 5 * TIMEOUT
    assert type(raised.value) is kind
    assert words in raised.value.message
    assert advice in raised.value.hint
    assert taipy_tunnel.tunnels() == []
    eventually(lambda: plain.links() == links)
    assert not plain.slot_held()


KNOWN = "AAAAC3NzaC1lZDI1NTE5AAAAIJx4qF0mNPPnGDwbWDqLUXRMM8JVi1bmZ8mmYPWyM0Lh"

NO_KEY = """
import json, sys, taipy_tunnel
try:
    taipy_tunnel.expose(5000, **json.loads(sys.argv[1]))
except taipy_tunnel.ConfigError as error:
    print(error)
"""


def test_no_key_anywhere(plain: Plain, tmp_path: pathlib.Path) -> None:
    """Without key=, ~/.ssh/id_* is read; there is none."""
    given = json.dumps(arguments(plain, key=None))
    ran = subprocess.run(
        [sys.executable, "-c", NO_KEY, given],
        env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "key" in ran.stdout
    assert "key=" in ran.stdout.splitlines()[1]


SECRET = "correct horse battery staple"


@pytest.mark.parametrize("name", ["app", "remote", "timeout"])
def test_a_secret_in_the_wrong_place_is_not_quoted(name: str, plain: Plain) -> None:
    with pytest.raises(ConfigError) as raised:
        taipy_tunnel.expose(**{"app": 5000, **arguments(plain), name: 50 * "-" + SECRET})
    assert SECRET not in str(raised.value)


def test_no_secret_is_left(plain: Plain, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """Keys and passphrases are in none of what a run leaves, be it a success or any failure."""
    path = new_key(tmp_path, SECRET)
    plain.add_key(path.with_suffix(".pub").read_text())
    key = path.read_text()
    secrets = [SECRET, "wrong horse", *[line for line in key.splitlines() if "-----" not in line]]
    left: list[str] = []
    caplog.set_level(logging.DEBUG)
    calls: list[dict[str, Any]] = [
        {},
        {"key_passphrase": "wrong horse"},
        {"host_key": "SHA256:" + 43 * "A"},
        {"server": "nobody@" + plain.server.split("@")[1]},
        {"server": "me@127.0.0.1:1"},
        {"via": f"http://me:{SECRET}@127.0.0.1:1"},
        {"via": f"socks5://me:{SECRET.replace(' ', '%20')}@127.0.0.1:1"},
        {"via": f"http://me:{SECRET.replace(' ', '%20')}@{plain.server.split('@')[1]}"},
        {"via": SECRET.encode() + b"\xff"},
        {"remote": 70000},
        {"url": "ftp://x"},
        {"key": key.replace("A", "!")},
        {"key": key.encode() + b"\xff"},
    ]
    with web_app("hello") as app:
        for changed in calls:
            given = {**arguments(plain, key=key, key_passphrase=SECRET, timeout=TIMEOUT), **changed}
            try:
                tunnel = taipy_tunnel.expose(app, **given)
                left += [repr(tunnel), str(tunnel), tunnel._repr_html_(), tunnel.url, repr(tunnel.status)]
                left += [repr(vars(tunnel)), *tunnel.logs(1000)]
                tunnel.close()
            except TunnelError as error:
                left += [repr(error), str(error), error.hint]
                # As IPython's verbose tracebacks do, with what each of our frames holds.
                shown = traceback.TracebackException.from_exception(error, capture_locals=True)
                ours = [f for f in shown.stack if "taipy_tunnel" in f.filename]
                assert ours
                left += [line for frame in ours for line in traceback.StackSummary.from_list([frame]).format()]
                left += [str(frame.locals) for frame in ours]
    left += [record.getMessage() for record in caplog.records]
    left += [str(os.environ), pathlib.Path("/proc/self/environ").read_text(), plain.sshd_log(), plain.nginx_log()]
    left += [pathlib.Path("/proc/self/cmdline").read_text()]
    everything = "\n".join(left)
    assert "hello" in everything or "up" in everything
    for secret in secrets:
        assert secret not in everything, secret[:6]


@pytest.mark.parametrize(
    ("argument", "value", "hint"), [("check", False, 'check="off"'), ("access", "pubic", 'access="public"')]
)
def test_words_that_are_misspelt(argument: str, value: Any, hint: str) -> None:
    with pytest.raises(ConfigError) as told:
        taipy_tunnel.expose(5000, server="me@h", **{argument: value})
    assert hint in told.value.hint


def test_a_variable_that_is_misspelt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told once, and nothing of its value; others may have variables of their own."""
    for name in ("SEVER", "KEEP", "USER", "RAM"):
        monkeypatch.setenv(f"TAIPY_TUNNEL_{name}", "secret")
    for _ in range(2):
        with pytest.raises(ConfigError):
            taipy_tunnel.expose(5000, server="?")
    said = capsys.readouterr().out
    assert said == "taipy-tunnel: there is no variable TAIPY_TUNNEL_SEVER; did you mean TAIPY_TUNNEL_SERVER?\n"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ssh_key", "key"),
        ("username", "server"),
        ("passphrase", "key_passphrase"),
        ("host_kye", "host_key"),
        ("acces", "access"),
    ],
)
def test_an_argument_of_another_name(name: str, meant: str) -> None:
    """As other programs call it, or misspelt."""
    with pytest.raises(TypeError, match=f"no argument '{name}'; did you mean '{meant}'"):
        taipy_tunnel.expose(5000, **{name: "x"})


def test_an_argument_that_nothing_is_like() -> None:
    with pytest.raises(TypeError, match=r"no argument 'insecure'; it has app, .*host_key"):
        taipy_tunnel.expose(5000, insecure=True)

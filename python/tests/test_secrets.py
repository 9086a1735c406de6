# SPDX-License-Identifier: Apache-2.0
"""A secret in the wrong place is in nothing that people are shown, and asked of no network.

The places are those that there are: the parameters of expose(), their variables and secrets, the options of
the command. 12 characters of a secret in a row are an echo.
"""

from __future__ import annotations

import base64
import inspect
import io
import itertools
import json
import logging
import pathlib
import re
import secrets
import subprocess
import sys
import textwrap
import traceback
import types
from collections.abc import Iterator
from typing import Any

import pytest
import taipy_tunnel
from chain.testing import new_key
from chain.workspace import Workspace
from taipy_tunnel import TunnelError, _registry
from taipy_tunnel._cli import command
from taipy_tunnel._databricks import notebook
from taipy_tunnel._databricks.notebook import Login

LEAST = 12
FULLY = ("base64", "token")  # the forms that are tried in every way; the others in the plainest, for time's sake
OURS = str(pathlib.Path(taipy_tunnel.__file__).parent)
PARAMETERS = [name for name in inspect.signature(taipy_tunnel.expose).parameters if name != "unknown"]
HOST_KEY = "SHA256:" + 43 * "A"


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A private key in many forms, a token, one that could be a fingerprint, and a password."""
    place = tmp_path_factory.mktemp("key")
    text = new_key(place).read_text()
    der = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ED25519", "-outform", "DER"], capture_output=True, check=True
    ).stdout
    flat, file = text.strip(), base64.b64encode(text.encode()).decode()
    return {
        "PEM": text,
        "one line": flat.replace("\n", " "),
        "literal \\n": flat.replace("\n", "\\n"),
        "quoted": '"' + flat.replace("\n", "\\n") + '"',
        "base64": file,
        "base64, wrapped": "\n".join(textwrap.wrap(file, 76)),
        "body": "".join(flat.splitlines()[1:-1]),
        "body of PKCS 8": base64.b64encode(der).decode(),
        "PuTTY": f"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{secrets.token_urlsafe(33)}\n",
        "base64 twice": base64.b64encode(file.encode()).decode(),
        "base64 of UTF-16": base64.b64encode(text.encode("utf-16-le")).decode(),
        "JSON": '{"key": "' + flat.replace("\n", "\\n") + '"}',
        "broken": text.replace("b3BlbnNz", "b3Blbn", 1),
        "URL": f"dbfs:/{secrets.token_urlsafe(33)}",
        "command": f"ssh -i {secrets.token_urlsafe(33)} me@{secrets.token_urlsafe(33)}",
        "secret": f"{{{{secrets/scope/{secrets.token_urlsafe(33)}}}}}",
        "long token": base64.b64encode(secrets.token_bytes(32)).decode().rstrip("="),  # as long as a fingerprint
        "token": secrets.token_urlsafe(18),
        "token after a slash": "/" + secrets.token_urlsafe(32),
        "slashed token": "/".join(secrets.token_urlsafe(11) for _ in range(3)),  # each of its parts could be a name
        "password": secrets.token_urlsafe(15) + "!",
    }


def echo(secret: str, shown: str) -> str:
    """The first characters of a secret that stand in what is shown, "" if none do."""
    for part in re.findall(r"[^\s\"\\:]{12,}", secret.replace("\\n", "\n")):
        if "-----" not in part and not part.startswith(("PuTTY", "ssh-")):
            pieces = (part[i : i + LEAST] for i in range(len(part) - LEAST + 1))
            if found := next((piece for piece in pieces if piece in shown), ""):
                return found
    return ""


def frames(error: BaseException) -> Iterator[str]:
    """Each frame of this package in a verbose traceback, as debuggers and IPython's %xmode Verbose show them."""
    shown: Any = traceback.TracebackException.from_exception(error, capture_locals=True)
    while shown is not None:
        for frame in shown.stack:
            if frame.filename.startswith(OURS):
                yield f"{frame.line}\n{frame.locals}"
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)


def verbose(error: BaseException) -> str:
    """What IPython shows of it, from the first frame of this package on."""
    from IPython.core.ultratb import VerboseTB

    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(OURS):
        trace = trace.tb_next
    return str(VerboseTB().text(type(error), error, trace))


def left(error: BaseException | None) -> list[str]:
    """What is left of a call of expose() for people to see."""
    seen = []
    if error is not None:
        seen += [str(error), repr(error), getattr(error, "hint", ""), *frames(error)]
    for tunnel in _registry._tunnels.values():
        seen += [repr(vars(tunnel)), *tunnel.logs(1000)]
        if tunnel._known is not None:
            seen += [repr(tunnel), str(tunnel), tunnel._repr_html_(), repr(tunnel.status)]
    taipy_tunnel.close_all(drain=0)
    _registry._tunnels.clear()
    return seen


@pytest.fixture
def attempt(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Any:
    """Calls expose() with right arguments but those that are given, and collects what is shown."""
    caplog.set_level(logging.DEBUG)
    right = {
        "app": 5000,
        "server": "me@127.0.0.1:1",
        "host_key": HOST_KEY,
        "key": str(new_key(tmp_path)),
        "timeout": 0.02,
    }

    def call(leave_out: str = "", **given: Any) -> tuple[str, BaseException | None]:
        caplog.clear()
        error: BaseException | None = None
        arguments = {name: value for name, value in {**right, **given}.items() if name != leave_out}
        try:
            taipy_tunnel.expose(**arguments)
        except (TunnelError, TypeError) as raised:
            error = raised
        assert "resolve" not in str(error)  # nothing was asked of a name server
        captured = capfd.readouterr()
        shown = [*left(error), captured.out, captured.err, *(record.getMessage() for record in caplog.records)]
        return "\n".join(shown), error

    return call


def shapes(name: str, form: str, secret: str) -> list[Any]:
    """A secret as a value of various kinds."""
    if form not in FULLY:
        return [secret]
    inside = ["me@" + secret, f"http://me:{secret}@127.0.0.1:1", f"secret:{secret}/key", f"secret:scope/{secret}"]
    return [secret, secret.encode(), [secret], ("me", secret), {secret: secret}, *(inside if name != "url" else [])]


def names_a_socket(name: str, value: Any) -> bool:
    """Of base64 one text in 64 begins with a slash: as remote= it is a path, and no secret."""
    return name == "remote" and isinstance(value, (str, bytes)) and value[:1] in ("/", b"/")


def test_no_argument_is_echoed(forms: dict[str, str], attempt: Any) -> None:
    echoes, tried = [], 0
    for name, (form, secret) in itertools.product(PARAMETERS, forms.items()):
        for value in shapes(name, form, secret):
            if names_a_socket(name, value):
                continue
            tried += 1
            shown, error = attempt(**{name: value})
            if error is not None and form == "base64" and value == secret:
                shown += verbose(error)
            if part := echo(secret, shown):
                echoes.append((name, form, type(value).__name__, part))
    for form, secret in forms.items():
        for given in ({secret: 1}, {"keyy": secret}):
            tried += 1
            if part := echo(secret, attempt(**given)[0]):
                echoes.append(("unknown", form, "", part))
    print(f"{len(echoes)} echoes in {tried} tries")
    assert echoes == []


def test_no_variable_is_echoed(forms: dict[str, str], attempt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    echoes = []
    for name, (form, secret) in itertools.product(PARAMETERS, forms.items()):
        if names_a_socket(name, secret):
            continue
        with monkeypatch.context() as patch:
            patch.setenv(f"TAIPY_TUNNEL_{name.upper()}", "me:" + secret if name == "access" else secret)
            if part := echo(secret, attempt(leave_out=name)[0]):
                echoes.append((name, form, part))
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSH_AUTH_SOCK"):
        for form, secret in forms.items():
            with monkeypatch.context() as patch:
                patch.setenv(name, secret)
                if part := echo(secret, attempt()[0]):
                    echoes.append((name, form, part))
    assert echoes == []


def test_no_secret_of_a_scope_is_echoed(forms: dict[str, str], attempt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    echoes, held = [], {}

    def get(scope: str, key: str) -> str:
        if key not in held:
            raise ValueError(f"Secret does not exist with scope: {scope} and key: {key}")
        return held[key]

    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "15.4")
    dbutils = types.SimpleNamespace(secrets=types.SimpleNamespace(get=get))
    monkeypatch.setattr(sys.modules["__main__"], "dbutils", dbutils, raising=False)
    for name, (form, secret) in itertools.product(PARAMETERS, forms.items()):
        if names_a_socket(name, secret):
            continue
        held = {name: secret}
        if part := echo(secret, attempt(leave_out=name)[0]):
            echoes.append((name, form, part))
    assert echoes == []


HOST = {"tenants": [{
    "name": "sales",
    "keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx4qF0mNPPnGDwbWDqLUXRMM8JVi1bmZ8mmYPWyM0Lh"],
    "apps": [{"name": "a", "host": "a.example.com"}],
}]}  # fmt: skip

# Package command tries each word of each command. Here it is what the wheel's command adds: the way through the C
# interface, standard input and the screen.
LINES = [line.split() for line in (
    "SECRET", "proxy SECRET", "proxy check SECRET", "proxy check me@127.0.0.1:1 --SECRET",
    "proxy check me@127.0.0.1:1 --key SECRET", "proxy check me@127.0.0.1:1 --host-key SECRET", "proxy script -",
    "proxy setup SECRET host.json --json", "proxy script host.json SECRET",
    "databricks store --server me@h --host-key SECRET", "databricks store --key SECRET",
)]  # fmt: skip


def test_no_word_of_a_command_line_is_echoed(
    forms: dict[str, str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "host.json").write_text(json.dumps(HOST))
    echoes = []
    with Workspace() as workspace:
        monkeypatch.setattr(notebook, "here", lambda: True)
        monkeypatch.setattr(notebook, "workspace", lambda: Login(host=workspace.host, token=workspace.token))
        for line, (form, secret) in itertools.product(LINES, forms.items()):
            monkeypatch.setenv("TAIPY_TUNNEL_KEY_PASSPHRASE", secret)
            monkeypatch.setattr(sys, "stdin", io.StringIO(secret))
            command.main([word.replace("SECRET", secret) for word in line])
            captured = capfd.readouterr()
            shown = [captured.out, captured.err, *(record.getMessage() for record in caplog.records)]
            if part := echo(secret, "\n".join(shown)):
                echoes.append((line, form, part))
    assert echoes == []


def test_a_short_password_is_not_echoed(attempt: Any) -> None:
    """Where the argument is a secret by its name, nothing of it is shown, however short it is."""
    for given in (
        {"key_passphrase": "hunter2horse"},
        {"token": "hunter2horse"},
        {"access": "hunter2horse"},
        {"access": "me:hunter2horse"},
        {"access": ("me:", "hunter2horse")},
        {"via": "hunter2horse"},
        {"via": "http://me:hunter2horse@127.0.0.1:x"},
        {"url": "https://me:hunter2horse@example.com/"},
        {"server": "me:hunter2horse@127.0.0.1:1"},
    ):
        shown, error = attempt(**given)
        assert error is not None
        assert "hunter2horse" not in shown

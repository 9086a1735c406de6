# SPDX-License-Identifier: Apache-2.0
"""expose(): what it is given, and what it says."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Mapping
from typing import Any, NoReturn

from . import _settings
from ._databricks import notebook, scope
from ._databricks.cluster import facts, spark
from ._errors import AuthError, ForwardError, ProxyHopError, ProxyUnreachableError, TunnelError
from ._quote import Hidden, quote
from ._registry import tunnel_of, tunnels
from ._settings import DEFAULT_TIMEOUT, Access, Expires, Key, Settings, flag, seconds, slot, text, variable
from ._status import ENDED, KEEP_MINUTES, SETTLED
from ._taipy.app import App
from ._tunnel import Tunnel

KEEPS = (
    f"taipy-tunnel: keep_cluster=True sends a tiny Spark job every {KEEP_MINUTES} minutes, so this cluster does not "
    "stop for idleness, and costs what it costs, until the tunnel is closed or the notebook detached."
)


def expose(
    app: object = None,
    *,
    server: str | None = None,
    name: str | None = None,
    connections: int | None = None,
    key: Key = None,
    key_passphrase: str | bytes | None = None,
    host_key: str | os.PathLike[str] | None = None,
    remote: int | str | None = None,
    url: str | None = None,
    check: str | None = None,
    access: Access = None,
    token: str | bytes | None = None,
    token_version: int = 1,
    expires: Expires = None,
    allow: list[str] | None = None,
    raw: bool = False,
    via: str | None = None,
    jump: str | None = None,
    keep_cluster: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    **unknown: NoReturn,
) -> Tunnel:
    """Show the app that runs in this notebook to the visitors of a proxy machine.

    Returns when a visitor could open the URL; with no app yet, at once, in state "waiting": the
    app is taken up when it starts. The tunnel is kept open until it is closed or the process ends.

    app             None: the running Taipy app. Or a port (of this machine's loopback, 127.0.0.1 or ::1),
                    "host:port", "http://host:port"; a Taipy Gui; or the object of another app that a server
                    of this process serves: Flask, FastAPI, Dash, …, or, within it, the module streamlit.
    server          The proxy, "user@host[:port]", or an alias of ~/.ssh/config; "ssh://…" and an "ssh -R …" line are
                    taken too. "tls://user@host[:443]": SSH inside TLS, where a network lets nothing else out.
    name            The app's public name on a prepared proxy. None: the account's only one.
    connections     How many links to hold. While one is replaced the others serve all visitors; on a plain proxy the
                    second stands by. None: 2.
    key             Private key to log in with: its path, or its text, base64 too. An OpenSSH certificate beside it
                    ("-cert.pub") or after it is used. "secret:SCOPE/KEY": a secret of Databricks. None:
                    the ssh-agent's, then ~/.ssh/id_*.
    key_passphrase  Opens an encrypted key.
    host_key        What is known of the proxy's host key: what `ssh-keygen -lf` prints of it ("SHA256:…"), its .pub
                    line, a known_hosts line, or a file with one of these.
                    None: the known_hosts files. It is always checked.
    remote          TCP port to take on the 127.0.0.1 of a plain proxy, or the path of a unix socket there.
                    None: that of an "ssh -R …" line as server, what a prepared proxy says of itself, or 8080.
    url             What visitors open. None: what a prepared proxy says, else http://HOST/ of the server.
    check           Who tests, before this returns, that the URL leads here. "url": only this machine; "link": only
                    the proxy; "off": nobody. None: this machine, and where it does not get there, the proxy.
    access          Whom to admit: "token" (default), who has the link `tunnel.url`; ("user", "password")
                    or a mapping of several; "public", everybody.
    token           Admits visitors, 22 random letters and digits or more. None: one that is derived
                    from the key, the server and the slot, the same after a restart of the kernel.
    token_version   Count it up, and earlier links admit nobody.
    expires         When the link ends: seconds from now, a timedelta, or a datetime. From then on visitors are refused
                    (state "expired"). None: never.
    allow           Networks of visitors, ["10.0.0.0/8"]; on a prepared proxy, which tells their addresses.
    raw             True: bytes of any kind instead of HTTP, so that app may be "https://host:port"; only with
                    access="public".
    via             An egress proxy to connect through: "http://[user:password@]host:port", or https,
                    socks5. None: HTTPS_PROXY, ALL_PROXY and NO_PROXY; "none": no proxy.
    jump            A machine on the way, "user@bastion[:port]", or several, separated by commas. None:
                    ProxyJump of ~/.ssh/config; "none": no machine.
    keep_cluster    True: keep a Databricks cluster from stopping when it is idle, by a tiny Spark job every
                    few minutes. The cluster costs as long as the tunnel is open.
    timeout         Seconds until a set-up that does not succeed is given up. Default 30.

    Each argument has an environment variable, TAIPY_TUNNEL_SERVER and so on; an argument wins. On
    Databricks what is in neither is looked for in the secret scope "taipy-tunnel", by the same name.

    The same server and name (or remote) are the same tunnel: called again with equal arguments (a cell that
    is run again) it returns the same object; with others, the same object with the new settings.

    Raises a TunnelError, whose `hint` says what to do: ConfigError, HostKeyError, AuthError,
    ForwardError or AppNotFoundError at once, ProxyUnreachableError, ProxyHopError and a port in use
    after `timeout`; WorkspaceError if Databricks' secrets cannot be read. Nothing of a tunnel that was
    not open before then goes on, and one that was open goes on as before: settings are validated before
    anything is touched, and the tunnel with the new ones is opened beside the old one. Changes of access, token,
    token_version, expires and allow need no proxy: they hold at once, and stay if the rest fails.
    """
    settings = None
    try:
        if unknown:
            raise TypeError(_no_such_argument(next(iter(unknown))))
        for line in _settings.misspelt(_arguments()):
            print(f"taipy-tunnel: {line}", flush=True)
        with scope.looked_up(_left_out(locals()), _live):
            settings = _completed(Hidden(locals()))
            keep = spark() if flag("keep_cluster", keep_cluster) else None
            shown, patience = App(app, settings.raw), seconds("timeout", timeout, DEFAULT_TIMEOUT)
        scope.check(settings)
        shown.check()  # before anything is opened
        tunnel = tunnel_of(settings, shown)
        tunnel.expose(settings, shown, patience)
    except BaseException as error:
        # A verbose traceback shows what this frame holds, and any of it may be a secret in the wrong place.
        app = server = name = connections = key = key_passphrase = host_key = remote = url = access = token = None
        check = token_version = expires = allow = raw = via = jump = keep_cluster = timeout = None  # type: ignore[assignment]
        # What is no TunnelError is a defect of ours, to be shown with its frames. A notebook shows the lines around a
        # raise, so this is not said there.
        misspelt, unknown = bool(unknown), {}
        if isinstance(error, TunnelError):
            error = _pointed(scope.advised(error, settings))
            if goes_on := _goes_on():
                error.message += f"; {goes_on}"
        elif isinstance(error, Exception) and not misspelt:
            raise
        raise error.with_traceback(None) from None
    if tunnel.keep(keep):
        print(KEEPS, flush=True)
    facts.look()
    _show(tunnel)
    return tunnel


def settings_of(given: Mapping[str, object]) -> tuple[Settings, dict[str, str]]:
    """Arguments of expose() by name, completed as it does, and where each that was given anywhere came from."""
    known = _arguments()
    if unknown := [name for name in given if name not in known]:
        raise TypeError(_no_such_argument(unknown[0]).replace("expose()", "doctor()", 1))
    arguments = Hidden({name: given.get(name, parameter.default) for name, parameter in known.items()})
    with scope.looked_up(_left_out(arguments), _live):
        origin = {}
        for name, parameter in known.items():
            if arguments[name] is not None and arguments[name] is not parameter.default:
                origin[name] = f"{name}="
            elif _settings.elsewhere(name)[0]:
                origin[name] = _settings.elsewhere(name)[1]
        settings = _completed(arguments)
        flag("keep_cluster", arguments["keep_cluster"])
        seconds("timeout", arguments["timeout"], DEFAULT_TIMEOUT)
    scope.check(settings)
    return settings, origin


def _completed(given: Mapping[str, Any]) -> Settings:
    return Settings(
        server=text("server", given["server"]),
        name=text("name", given["name"]),
        connections=_settings.whole("connections", given["connections"], 0),
        key=scope.opened(text("key", given["key"])),
        key_passphrase=text("key_passphrase", given["key_passphrase"]),
        host_key=text("host_key", given["host_key"]),
        remote=slot("remote", given["remote"]),
        url=text("url", given["url"]),
        check=_settings.check(given["check"]),
        via=text("via", given["via"]),
        jump=text("jump", given["jump"]),
        access=_settings.access(given["access"]),
        token=text("token", given["token"]),
        token_version=_settings.whole("token_version", given["token_version"], 1),
        expires=_settings.expires(given["expires"]),
        allow=_settings.texts("allow", given["allow"]),
        raw=flag("raw", given["raw"]),
    )


def _arguments() -> dict[str, inspect.Parameter]:
    """What expose() takes, by name."""
    return {name: p for name, p in inspect.signature(expose).parameters.items() if p.kind is not p.VAR_KEYWORD}


def _left_out(given: Mapping[str, object]) -> list[str]:
    """On Databricks, the arguments that were not passed and do not stand in the environment."""
    names: list[str] = []
    if not notebook.here():
        return names
    for name, parameter in _arguments().items():
        if given[name] is None or given[name] is parameter.default:
            names += [] if os.environ.get(variable(name)) else [name]
    return names


def _live() -> bool:
    """Whether a tunnel is open, or will be again by itself."""
    return any(tunnel.state not in ENDED for tunnel in tunnels())


def _pointed(error: TunnelError) -> TunnelError:
    """An error of the way to the proxy, or there, with who looks further."""
    if isinstance(error, (AuthError, ForwardError, ProxyHopError, ProxyUnreachableError)):
        error.advice += f"{'; ' if error.advice else ''}doctor(…) in place of expose(…) shows how far it gets"
    return error


def _goes_on() -> str:
    """What is to be said of the tunnels that are open, when an expose() has failed."""
    states = [tunnel.state for tunnel in tunnels()]
    if any(state in SETTLED for state in states):
        return f"the open tunnel{'s go' if len(states) > 1 else ' goes'} on as before"
    return "the open tunnel stays, and goes on reconnecting" if "reconnecting" in states else ""


def _show(tunnel: Tunnel) -> None:
    """On Databricks, what is not shown by itself: nobody looks at the result of a job's cell."""
    if not notebook.here():
        return
    display = notebook.named("displayHTML")
    if notebook.job():
        print(tunnel, flush=True)
    elif callable(display) and not notebook.shows_html():
        display(tunnel._repr_html_())


# What is called so elsewhere (ssh_config, paramiko, Ansible), and here otherwise.
_ELSEWHERE = {
    **dict.fromkeys(("ssh_key", "private_key", "key_path", "key_file", "key_filename", "identity_file"), "key"),
    **dict.fromkeys(("host", "hostname", "user", "username"), "server"),
    **dict.fromkeys(("passphrase", "key_password"), "key_passphrase"),
}


def _no_such_argument(name: str) -> str:
    known = list(_arguments())
    near = [_ELSEWHERE[name]] if name in _ELSEWHERE else difflib.get_close_matches(name, known, 1, 0.6)
    advice = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
    return f"expose() has no argument {quote(name)}; {advice}"

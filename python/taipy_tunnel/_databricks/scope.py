# SPDX-License-Identifier: Apache-2.0
"""Arguments from a secret scope of the Databricks workspace.

What was neither passed nor stands in the environment is looked for in the scope "taipy-tunnel", under
the argument's name. What was found, or was not there, is remembered while a tunnel is open: a cell that
is run again asks for nothing, and a workspace that is down does not matter to it. It is put into
nobody's environment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from .._errors import ConfigError, HostKeyError, TunnelError
from .._hints import plain
from .._quote import keylike, quote
from .._settings import Settings, stored, variable
from . import notebook
from .secrets import Reading, Secret

SCOPE = "taipy-tunnel"
STORE = "taipy-tunnel databricks store --server USER@HOST --host-key SHA256:…"
VAULT = "with an Azure Key Vault, put it into the vault as the secret host-key"

_found: dict[tuple[str, str], Secret | None] = {}  # by scope and key; None: it is not there
_why: dict[str, str] = {}  # by scope: why it could not be read


@contextlib.contextmanager
def looked_up(names: list[str], live: Callable[[], bool]) -> Iterator[None]:
    """Let the scope stand behind the environment, for arguments of these names.

    live: whether a tunnel is open; if not, all is asked for again.
    """
    if not names:
        yield
        return
    if not live():
        _found.clear()
    before = stored.set({name: value or "" for name, value in _read(SCOPE, names, "server").items()})
    try:
        yield
    finally:
        stored.reset(before)


def opened(key: str) -> str:
    """The text of a key: of "secret:scope/key" that secret's, else itself. "{{secrets/scope/key}}", which Databricks
    fills in in the variables of a cluster and nowhere else, is the same."""
    named = key.strip()
    if named.startswith("{{secrets/") and named.endswith("}}"):
        named = "secret:" + named[len("{{secrets/") : -len("}}")]
    if not named.startswith("secret:"):
        return key
    scope, _, name = named[len("secret:") :].strip().lstrip("/").partition("/")
    if not scope or not name:
        raise ConfigError("configuration: key names no secret", 'write {key="secret:SCOPE/KEY"}')
    if not notebook.here():
        raise ConfigError("configuration: key names a secret, and this is not Databricks", 'write {key="PATH"}')
    found = _read(scope, [name], name)[name]
    if found is None:
        _found.pop((scope, name), None)
        raise ConfigError(
            f"configuration: there is no secret {quote(name)} in scope {quote(scope)}{_because(scope)}",
            f"what there is: databricks secrets list-secrets {'SCOPE' if keylike(scope) else plain(scope)}",
        )
    return found


def check(settings: Settings) -> None:
    """Raise ConfigError if nothing tells where the proxy is."""
    if not settings.server.strip() and notebook.here():
        raise ConfigError(f"configuration: no server was given{_looked_at('server')}", _remedy())


def advised(error: TunnelError, settings: Settings | None) -> TunnelError:
    """An error, on Databricks with the places where what is missing was looked for."""
    if settings is None or not notebook.here():
        return error
    if not settings.key and isinstance(error, ConfigError) and "no private key" in error.message:
        return ConfigError(error.message + _looked_at("key"), f"{error.advice}; {_remedy()}")
    if not settings.host_key and isinstance(error, HostKeyError):
        error.advice += f"; for all notebooks: {STORE}; {VAULT}"
    return error


def forget() -> None:
    """What was found is none of a forked child's business."""
    _found.clear()


def _read(scope: str, keys: list[str], needed: str) -> dict[str, Secret | None]:
    """What a scope has of the keys; asks for those that are not known. Several threads may be here."""
    known = dict(_found)
    found = {key: known[scope, key] for key in keys if (scope, key) in known}
    if missing := [key for key in keys if key not in found]:
        reading = Reading(scope, {key: _hyphened(key) if scope == SCOPE else [] for key in missing})
        reading.read(needed if needed in missing else "")
        _why[scope] = reading.why
        found.update((key, reading.found.get(key)) for key in missing)
        _found.update(((scope, key), value) for key, value in found.items())
    return found


def _hyphened(key: str) -> list[str]:
    return [key.replace("_", "-")] if "_" in key else []


def _looked_at(name: str) -> str:
    return (
        f": not as {name}=, not in the variable {variable(name)}, "
        f"and not as key {name!r} of secret scope {SCOPE!r}{_because(SCOPE)}"
    )


def _because(scope: str) -> str:
    return f" ({_why[scope]})" if _why.get(scope) else ""


def _remedy() -> str:
    here = 'or here: expose({server="user@host"}, {host_key="SHA256:…"}, {key="secret:SCOPE/KEY"})'
    rest = (
        "serverless compute has no environment variables"
        if notebook.serverless()
        else f"or in the cluster's environment variables: {variable('server')} and so on"
    )
    return f"an administrator stores it once for all notebooks: {STORE}; {here}; {rest}"

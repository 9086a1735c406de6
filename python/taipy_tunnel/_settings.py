# SPDX-License-Identifier: Apache-2.0
"""The arguments of expose(), completed from the environment.

Each argument has a variable, TAIPY_TUNNEL_SERVER and so on; the argument wins, an empty variable
counts as none. What a value means is decided by the engine, which gets them all as one JSON object.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from typing import Union

from ._errors import ConfigError

DEFAULT_REMOTE = 8080  # the port to which the documentation's nginx hands its requests
DEFAULT_TIMEOUT = 30.0

Key = Union[str, bytes, "os.PathLike[str]", None]


@dataclass(frozen=True)
class Settings:
    """What opens a tunnel. Equal settings are the same tunnel; secrets are not in its repr."""

    server: str
    key: str = field(repr=False)
    key_passphrase: str = field(repr=False)
    host_key: str
    remote: int | str
    url: str
    jump: str

    @property
    def identity(self) -> tuple[str, int | str]:
        """What two calls of expose() share if they mean the same tunnel."""
        server = self.server.strip()
        port = "" if re.search(r"[^:]:\d+$|\]:\d+$", server) else ":22"
        return server + port, self.remote

    def config(self, target: str) -> bytes:
        """The `config` of tt_expose."""
        # The library's copy of the environment is as old as the library.
        agent = os.environ.get("SSH_AUTH_SOCK") or "none"
        return json.dumps({**asdict(self), "agent": agent, "target": target}).encode()


def text(name: str, value: object) -> str:
    """An argument that is text, or its variable; "" if there is neither."""
    if value is None:
        return os.environ.get(variable(name), "")
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ConfigError(f"configuration: {name} is bytes that are not text") from None
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise ConfigError(f"configuration: {name} is {_kind(value)}, want text")
    return value


def slot(name: str, value: object) -> int | str:
    """An argument that is a port or the path of a unix socket, or its variable, or the default port."""
    source = name
    if value is None:
        value, source = os.environ.get(variable(name)) or DEFAULT_REMOTE, variable(name)
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.startswith("/"):
        return value
    raise ConfigError(f"configuration: {source} is {_kind(value)}, want a whole number or the path of a socket")


def seconds(name: str, value: object, default: float) -> float:
    """An argument in seconds; its variable is asked where the default was left alone."""
    source = name
    if value is default or value is None:
        value, source = os.environ.get(variable(name)) or default, variable(name)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number <= 3600:
        shown = f"{number:g}" if number == number else _kind(value)
        raise ConfigError(f"configuration: {source} is {shown}, want seconds, more than 0 and at most 3600")
    return number


def variable(name: str) -> str:
    """The environment variable of an argument."""
    return f"TAIPY_TUNNEL_{name.upper()}"


def _kind(value: object) -> str:
    """How a wrong value is shown: never as itself, it may be a secret in the wrong place."""
    return f"a {type(value).__name__}"

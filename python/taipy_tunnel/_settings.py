# SPDX-License-Identifier: Apache-2.0
"""The arguments of expose(), completed from the environment and from what is stored.

Each argument has a variable, TAIPY_TUNNEL_SERVER and so on; the argument wins, an empty variable
counts as none. On Databricks a secret of the argument's name comes next, in the same form. What a
value means is decided by the engine, which gets them all as one JSON object.
"""

from __future__ import annotations

import codecs
import datetime
import difflib
import os
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Union

from ._errors import ConfigError
from ._quote import Hidden

DEFAULT_TIMEOUT = 30.0

# What the engine asks of the environment about the way out of the network.
_ASKED = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE")

_FIGURES = re.compile(r"\d{1,18}")  # int() raises at 4301 digits, and the engine counts to 2**63

_told: set[str] = set()  # variables that misspelt() has named

Key = Union[str, bytes, "os.PathLike[str]", None]

# Texts of arguments, by name, from outside the environment.
stored: ContextVar[Mapping[str, str]] = ContextVar("stored", default={})  # noqa: B039  (never changed)


@dataclass(frozen=True, repr=False)
class Settings:
    """What opens a tunnel. Equal settings are the same tunnel; its repr shows none of them."""

    server: str
    name: str
    connections: int
    key: str
    key_passphrase: str
    host_key: str
    remote: int | str  # 0: what the proxy says of itself, else 8080
    url: str
    check: str
    via: str
    jump: str
    access: str | dict[str, str]
    token: str
    token_version: int
    expires: float | str  # seconds from the call, or a moment (ISO 8601); 0: never
    allow: tuple[str, ...]
    raw: bool

    def __repr__(self) -> str:
        return "<Settings>"  # a traceback shows it, and any of them may be a secret

    def config(self, target: str) -> Hidden:
        """The `config` of tt_expose."""
        # The library's copy of the environment is as old as the library.
        agent = os.environ.get("SSH_AUTH_SOCK") or "none"
        environment = {name: os.environ[name] for name in _ASKED if name in os.environ}
        config = Hidden(asdict(self), agent=agent, environment=environment, target=target)
        if isinstance(self.expires, float):
            end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.expires)
            config["expires"] = end.isoformat()
        if not self.expires:
            del config["expires"]
        return config


def text(name: str, value: object) -> str:
    """An argument that is text, or its variable; "" if there is neither."""
    if value is None:
        return elsewhere(name)[0]
    if isinstance(value, bytes):
        try:
            return decoded(value)
        except UnicodeDecodeError:
            raise ConfigError(f"configuration: {name} is bytes that are not text") from None
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise ConfigError(f"configuration: {name} is {_kind(value)}, want text")
    return value


def check(value: object) -> str:
    """Who tests the URL; False would be nobody."""
    if value is False:
        raise ConfigError("configuration: check is a bool, want text", 'to skip the check, write {check="off"}')
    return text("check", value)


def decoded(value: bytes) -> str:
    """The text of a file's bytes; UnicodeDecodeError if they are none."""
    wide = len(value) > 2 and value[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # a file of PowerShell's
    return value.decode("utf-16" if wide else "utf-8-sig")


def slot(name: str, value: object) -> int | str:
    """An argument that is a port or the path of a unix socket, or its variable; 0 if there is neither."""
    source = name
    if value is None:
        value, source = elsewhere(name)
        value = value or 0
    if isinstance(value, str) and _FIGURES.fullmatch(value.strip()):
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
        value, source = elsewhere(name)
        value = value or default
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number <= 3600:
        shown = f"{number:g}" if number == number else _kind(value)
        raise ConfigError(f"configuration: {source} is {shown}, want seconds, more than 0 and at most 3600")
    return number


Access = Union[str, "tuple[str, str]", "Mapping[str, str]", None]
Expires = Union[float, datetime.timedelta, datetime.datetime, str, None]


def access(value: object) -> str | dict[str, str]:
    """Whom to admit: a word, or users and their passwords; as a variable, "user:password,…"."""
    if value is None:
        word = text("access", None) or "token"
        if ":" not in word:
            return word
        return dict(pair.split(":", 1) if ":" in pair else (pair, "") for pair in word.split(","))  # type: ignore[misc]
    if isinstance(value, str):
        return value
    pairs = {}
    if isinstance(value, Mapping):
        pairs = dict(value)
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        pairs = {value[0]: value[1]}
    if not pairs or not all(isinstance(part, str) for pair in pairs.items() for part in pair):
        kind = _kind(value)
        raise ConfigError(f'configuration: access is {kind}, want "token", "public", ("user", "password") or several')
    return pairs


def expires(value: object) -> float | str:
    """When the link ends: in so many seconds, or at a moment."""
    source = "expires"
    if value is None:
        value, source = elsewhere("expires")
        value = value or 0
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).isoformat()
    if isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
        try:
            return (
                datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
                .astimezone(datetime.timezone.utc)
                .isoformat()
            )
        except ValueError:
            pass
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number < 1e9 or isinstance(value, bool) or (number == 0 and source == "expires"):
        shown = _kind(value) if isinstance(value, (bool, str)) or number != number else f"{number:g}"
        raise ConfigError(f"configuration: {source} is {shown}, want seconds from now, more than 0, or a datetime")
    return number


def whole(name: str, value: object, default: int) -> int:
    """An argument that is a whole number; its variable is asked where the default was left alone."""
    source = name
    if value is default or value is None:
        value, source = elsewhere(name)
        value = value or default
    if isinstance(value, str) and _FIGURES.fullmatch(value.strip()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"configuration: {source} is {_kind(value)}, want a whole number")
    return value


def flag(name: str, value: object) -> bool:
    """An argument that is true or false, or its variable."""
    source = name
    if value is None or value is False:
        value, source = elsewhere(name)
        value = value.strip().lower()
        if value in ("", "0", "false", "no", "off"):
            return False
        if value in ("1", "true", "yes", "on"):
            return True
    if value is not True:
        raise ConfigError(f"configuration: {source} is {_kind(value)}, want True or False")
    return True


def texts(name: str, value: object) -> tuple[str, ...]:
    """An argument that is a list of texts, or one with commas, or its variable."""
    if value is None or isinstance(value, str):
        return tuple(part.strip() for part in text(name, value).split(",") if part.strip())
    if isinstance(value, (tuple, list)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise ConfigError(f"configuration: {name} is {_kind(value)}, want a list of texts")


def elsewhere(name: str) -> tuple[str, str]:
    """The text of an argument that was not passed, "" if there is none; and where it stands."""
    value = os.environ.get(variable(name))
    if not value and (secret := stored.get().get(name)):
        return secret.strip("\r\n"), f"secret {name!r}"  # an editor's last newline belongs to nothing
    return value or "", variable(name)


def misspelt(names: Iterable[str]) -> list[str]:
    """Variables that no argument has, each with the argument's variable that it resembles; each is told once."""
    known, told = set(names), []
    for stray in sorted(name for name in os.environ if name.startswith(variable("")) and name not in _told):
        name = stray[len(variable("")) :].lower()
        if name not in known and (near := difflib.get_close_matches(name, known, 1, 0.8)):
            _told.add(stray)
            told.append(f"there is no variable {stray}; did you mean {variable(near[0])}?")
    return told


def variable(name: str) -> str:
    """The environment variable of an argument."""
    return f"TAIPY_TUNNEL_{name.upper()}"


def _kind(value: object) -> str:
    """How a wrong value is shown: never as itself, it may be a secret in the wrong place."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"

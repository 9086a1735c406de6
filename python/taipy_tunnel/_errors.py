# SPDX-License-Identifier: Apache-2.0
"""What goes wrong.

    TunnelError
    ├── ConfigError            an argument, key or host key that cannot be used
    ├── HostKeyError           the proxy's host key is unknown, changed or revoked
    ├── AuthError              the proxy refused the login
    ├── ForwardError           the port is in use, forbidden or privileged, or the URL leads elsewhere or nowhere
    ├── AppNotFoundError       several apps run and none was named, or the app's server is dead
    ├── ProxyUnreachableError  no way to the proxy, or none any more
    ├── ProxyHopError          no way to or past a machine on the way (jump, via)
    ├── WorkspaceError         the Databricks workspace refuses, is missing something or does not answer
    └── ForkedProcessError     called in a forked process

Each has a `hint`: what to do. TunnelError itself is raised where none of these fits, such as when this process has
no file descriptors left.
"""

from __future__ import annotations

from typing import Any

from ._hints import worded


class TunnelError(Exception):
    """What happened and why; `hint` says what to do ("" where nothing can be advised)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = hint  # with settings as marks

    @property
    def hint(self) -> str:
        """What to do, with settings as arguments of expose()."""
        return worded(self.advice)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(TunnelError):
    """An argument, key or host key cannot be used. Nothing was sent anywhere, and no open tunnel was touched."""


class HostKeyError(TunnelError):
    """The proxy's host key is unknown, changed or revoked. Nothing was sent after seeing it."""


class AuthError(TunnelError):
    """The proxy refused the login."""


class ForwardError(TunnelError):
    """The port on the proxy is in use, forbidden or privileged, or the URL leads elsewhere, or a new one nowhere."""


class AppNotFoundError(TunnelError):
    """Several apps run and none was named, or the app's server thread is dead."""


class ProxyUnreachableError(TunnelError):
    """There is no way to the proxy, or none any more."""


class ProxyHopError(TunnelError):
    """There is no way to a machine on the way to the proxy (jump, via), or past it."""


class WorkspaceError(TunnelError):
    """The Databricks workspace refuses, has no such thing, or does not answer. An open tunnel needs none."""


class ForkedProcessError(TunnelError):
    """The library was loaded before this process was forked; tunnels stay with the parent."""


_CLASSES: dict[str, type[TunnelError]] = {
    "config": ConfigError,
    "host_key": HostKeyError,
    "auth": AuthError,
    "forward": ForwardError,
    "unreachable": ProxyUnreachableError,
    "hop": ProxyHopError,
    "app": AppNotFoundError,
    "workspace": WorkspaceError,
}


def from_json(error: dict[str, Any]) -> TunnelError:
    """The exception for an error of the C interface."""
    cls = _CLASSES.get(error["class"], TunnelError)
    return cls(error["message"], error["hint"])

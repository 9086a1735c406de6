# SPDX-License-Identifier: Apache-2.0
"""Open the Taipy app that runs in this notebook to the visitors of a proxy machine.

    import taipy_tunnel

    tunnel = taipy_tunnel.expose(server="me@203.0.113.7", host_key="SHA256:…")
    tunnel

A managed reverse SSH tunnel runs in this process until it ends: it reconnects by itself, follows
the app when its cell is run again, and waits for one that was not started yet. Importing the
package starts nothing. The tunnel says what happens (its card, `status`, `logs()`), and so does
logging.getLogger("taipy_tunnel"); nothing is printed from the background. When visitors do not get in, doctor()
looks along the chain and says where it breaks.
"""

from ._doctor import doctor
from ._errors import (
    AppNotFoundError,
    AuthError,
    ConfigError,
    ForkedProcessError,
    ForwardError,
    HostKeyError,
    ProxyHopError,
    ProxyUnreachableError,
    TunnelError,
    WorkspaceError,
)
from ._expose import expose
from ._registry import close_all, tunnels
from ._status import Status
from ._tunnel import Tunnel

__version__ = "0.1.0"

__all__ = [
    "AppNotFoundError",
    "AuthError",
    "ConfigError",
    "ForkedProcessError",
    "ForwardError",
    "HostKeyError",
    "ProxyHopError",
    "ProxyUnreachableError",
    "Status",
    "Tunnel",
    "TunnelError",
    "WorkspaceError",
    "__version__",
    "close_all",
    "doctor",
    "expose",
    "tunnels",
]

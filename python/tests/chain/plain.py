# SPDX-License-Identifier: Apache-2.0
"""A plain proxy: the account of who runs this, a TCP port, and nginx as docs/proxy.md gives it to admins.

with Plain() as proxy:
    taipy_tunnel.expose(server=proxy.server, key=proxy.key, host_key=proxy.host_key,
                        remote=proxy.remote, url=proxy.url)
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from . import processes
from .proxy import ROOT, Proxy, program

DOCUMENT = ROOT / "docs" / "proxy.md"

# HOME: a login shell reads its owner's files, and this machine's may run for a minute.
SSHD = """\
AuthorizedKeysFile {dir}/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
SetEnv HOME={dir}
"""


class Plain(Proxy):
    """A plain proxy, with other ports than the documented ones."""

    kind = "plain"
    links_of_a_tunnel = 2
    remote: int  # the slot: where nginx sends visitors

    def __init__(self, sshd_config: Sequence[str] = ()) -> None:
        """sshd_config: lines that win over ours; those from the first Match on come last."""
        super().__init__()
        match = next((i for i, line in enumerate(sshd_config) if line.startswith("Match")), len(sshd_config))
        self._first, self._last = sshd_config[:match], sshd_config[match:]

    @property
    def _user(self) -> str:
        return pwd.getpwuid(os.getuid()).pw_name

    def _move_in(self, stack: contextlib.ExitStack) -> pathlib.Path:
        self.slot = self.remote = processes.free_port()
        return pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taipy-tunnel-proxy-")))

    def add_key(self, public: str) -> None:
        """Accept another key: one line, as it would stand in authorized_keys."""
        with open(self.directory / "authorized_keys", "a") as f:
            f.write(public.strip() + "\n")

    def _configure(self) -> None:
        own = SSHD.format(dir=self.directory)
        self._write_sshd_config("\n".join(self._first), own + "\n".join(self._last))
        # root: its workers must be able to enter our directory
        self._write_nginx_config(documented_site(self.port, self.remote), workers="root")

    def known(self) -> dict[str, Any]:
        return {
            "server": self.server,
            "key": self.key,
            "host_key": self.host_key,
            "remote": self.remote,
            "url": self.url,
        }

    def slot_held(self) -> bool:
        return processes.listening(self.remote)

    def nginx_log(self) -> str:
        return self._read("access.log") + self._read("nginx.log")

    def told(self) -> Iterable[tuple[str, str]]:
        yield "sshd", f"{self.server}, which leads 127.0.0.1:{self.remote} to the notebook"
        yield "nginx", f"configured as docs/proxy.md says: {self.directory / 'nginx.conf'}"

    @contextlib.contextmanager
    def plain_ssh(self, target: int) -> Iterator[int]:
        """What people do by hand: `ssh -N -R`, to a port here. Yields its port on the proxy."""
        port = processes.free_port()
        options = {
            "BatchMode": "yes",
            "ExitOnForwardFailure": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": f"{self.directory}/known_hosts",
        }
        argv = [program("ssh"), "-F", "none", "-i", self.key, "-p", str(self.ssh_port)]
        for name, value in options.items():
            argv += ["-o", f"{name}={value}"]
        argv += ["-N", "-R", f"127.0.0.1:{port}:127.0.0.1:{target}", self.server.rsplit(":", 1)[0]]
        process = self._start(argv, "ssh", port)
        try:
            yield port
        finally:
            processes.end(process)


def documented_site(port: int, remote: int) -> str:
    """The nginx configuration that docs/proxy.md gives to admins, for other ports."""
    found = re.search(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.S)
    site = found.group(1) if found else ""
    for old, new in (("listen 80;", f"listen 127.0.0.1:{port};"), ("127.0.0.1:8080", f"127.0.0.1:{remote}")):
        if site.count(old) != 1:
            raise RuntimeError(f"docs/proxy.md: its nginx block should hold {old!r} once:\n{site}")
        site = site.replace(old, new)
    return site

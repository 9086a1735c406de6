# SPDX-License-Identifier: Apache-2.0
"""A prepared proxy, for root: an account that can do nothing but serve its app, and what the project renders.

with Prepared() as proxy:
    taipy_tunnel.expose(server=proxy.server, key=proxy.key, host_key=proxy.host_key)

It has what `taipy-tunnel proxy script` gives a machine, beside the machine's own: all files, the chroot and the
slots are in a directory of the account's below /run, which like all above it is root's, as sshd demands of a chroot
and (StrictModes) of a list of keys. Both are removed afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pwd
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from . import processes
from .accounts import Account, account
from .plain import Plain
from .proxy import Missing, Proxy, importable, program

WORKERS = ("www-data", "nginx")  # accounts of nginx's workers: Debian's, others'


class Prepared(Proxy):
    """A prepared proxy with one tenant, who has one app."""

    kind = "prepared"
    links_of_a_tunnel = 2

    def __init__(self, path: str = "") -> None:
        """path: the app's name, below which it is reached: "sales" for /sales/. "": it has the whole host."""
        super().__init__()
        self._path = path
        self._keys: list[str] = []
        self._stale: subprocess.Popen[bytes] | None = None

    @property
    def _user(self) -> str:
        return self._account.name

    @property
    def name(self) -> str:
        """The app's. Unless it is part of the URL no other app has it, so that its slots are told from theirs."""
        return self._path or self._account.name

    def _move_in(self, stack: contextlib.ExitStack) -> pathlib.Path:
        self._account: Account = stack.enter_context(account())
        self._check = processes.free_port()
        return self._account.directory

    @property
    def _run(self) -> pathlib.Path:
        return self._account.directory / "run"

    def add_key(self, public: str) -> None:
        self._keys.append(public.strip())
        self._render()

    def _host(self) -> dict[str, Any]:
        """The machine, as docs/proxy.md describes it."""
        app = {"name": self.name} if self._path else {"name": self.name, "host": "127.0.0.1"}
        tenant = {"name": self._user, "keys": self._keys, "check": self._check, "apps": [app]}
        if self._path:
            tenant["host"] = "127.0.0.1"
        files = ("sshd", "site", "tmpfiles", "limits", "unit")
        layout = {name: f"{self.directory}/etc/{name}.conf" for name in files}
        layout.update({name: f"{self.directory}/{name}" for name in ("etc", "run", "cache")}, log=str(self.directory))
        return {"http": self.port, "tenants": [tenant], "layout": {**layout, "loopback": True}}

    def _render(self) -> None:
        """Put the files in place by the command that administrators have."""
        ran = subprocess.run(
            [sys.executable, "-m", "taipy_tunnel", "proxy", "render", "-", "/"],
            input=json.dumps(self._host()),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **importable()},
            umask=0o022,
        )
        if ran.returncode != 0:
            raise RuntimeError(f"taipy-tunnel proxy render: {ran.stdout}")

    def _make_slots(self, workers: str) -> None:
        """The account's directory, as install.sh makes it."""
        own = self._run / self._user
        slots = own / "s"
        slots.mkdir(parents=True)
        for directory in (self._run, own):
            directory.chmod(0o755)
        os.chown(slots, self._account.uid, pwd.getpwnam(workers).pw_gid)
        slots.chmod(0o2750)
        description = self.directory / "etc" / "proxy" / f"{self._user}.json"
        (own / "proxy.json").write_bytes(description.read_bytes())
        (own / "proxy.json").chmod(0o644)
        self.slot = f"{slots}/{self.name}.0.sock"

    def _configure(self) -> None:
        workers = next(filter(_exists, WORKERS), None)
        if workers is None:
            raise Missing("nginx's account, " + " or ".join(WORKERS))
        self._make_slots(workers)
        if self._path:
            self.url += f"{self._path}/"
        # Where Debian has them: the drop-ins first, and what SFTP is later.
        self._write_sshd_config(f"Include {self.directory}/etc/sshd.conf", "Subsystem sftp internal-sftp")
        self._write_nginx_config(f"include {self.directory}/etc/site.conf;", workers)
        self._end_stale()

    def _end_stale(self) -> None:
        """Run what the machine's service does, told what differs here: sshd's port, and the tenant's group."""
        program("ss")
        here = [f"GIDS={pwd.getpwnam(self._user).pw_gid}", f"PORTS={self.ssh_port}"]
        with open(self.directory / "stale.log", "ab") as log:
            self._stale = processes.start(["env", *here, "sh", f"{self.directory}/etc/stale.sh"], log)
        if not processes.until(lambda: "looks" in self._read("stale.log"), 10):
            raise RuntimeError(f"stale.sh does not look:\n{self._read('stale.log')}")

    def _end(self) -> None:
        super()._end()
        if self._stale is not None:
            processes.end(self._stale)
            self._stale = None

    def known(self) -> dict[str, Any]:
        return {"server": self.server, "key": self.key, "host_key": self.host_key}

    def slot_held(self) -> bool:
        return processes.listening(f"/s/{self.name}.")  # sshd binds it within the chroot

    def nginx_log(self) -> str:
        return "".join(
            map(self._read, ("taipy-tunnel.access.log", "access.log", "taipy-tunnel.error.log", "nginx.log"))
        )

    def told(self) -> Iterable[tuple[str, str]]:
        yield "account", f"{self._user}, which can do nothing but serve this app; removed at the end"
        yield "sshd", f"{self.server}, which leads sockets to the notebook, by two links"
        yield "nginx", f"its workers pass visitors to those sockets, in {self._run / self._user / 's'}"
        yield "files", f"as `taipy-tunnel proxy render` writes them, in {self.directory}; removed at the end"


def usual(plain: bool = False) -> Proxy:
    """A prepared proxy for root, and a plain one for others or where that is wanted."""
    return Plain() if plain or os.getuid() != 0 else Prepared()


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True

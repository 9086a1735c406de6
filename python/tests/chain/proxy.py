# SPDX-License-Identifier: Apache-2.0
"""A proxy machine of one's own: a private sshd and nginx on loopback, for as long as `with` lasts.

    with usual() as proxy:
        taipy_tunnel.expose(**proxy.known())

There are two kinds, as in docs/proxy.md: chain.plain.Plain, and chain.prepared.Prepared, which root alone can
have. `usual` (in chain.prepared) is the second one where it can be had. The machine's own sshd and nginx are
not touched.
"""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from . import processes

ROOT = pathlib.Path(__file__).resolve().parents[3]
START = 15.0  # seconds until a server that does not listen is an error

SSHD = """\
ListenAddress 127.0.0.1:{port}
HostKey {dir}/host_key
PidFile none
AllowUsers {user}
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
MaxStartups 100
LogLevel VERBOSE
"""

NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log {dir}/access.log;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
{site}
}}
"""


class Missing(Exception):
    """A program that the proxy is made of is not on this machine."""

    def __init__(self, program: str) -> None:
        super().__init__(f"{program} is not installed")
        self.program = program


def program(name: str) -> str:
    """The path of a program; Missing if there is none. sbin is not in everybody's PATH."""
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))
    if path is None:
        raise Missing(name)
    return path


def importable() -> dict[str, str]:
    """Variables with which another Python finds the package: where it is not installed, this checkout's."""
    if importlib.util.find_spec("taipy_tunnel") is not None:
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "python"), os.environ.get("PYTHONPATH", "")]))}


P = TypeVar("P", bound="Proxy")


class Proxy(abc.ABC):
    """A private sshd and nginx. Attributes are there once it was entered."""

    kind: str  # "plain" or "prepared"
    links_of_a_tunnel: int  # how many expose() makes

    server: str  # user@127.0.0.1:PORT
    key: str  # path of a private key that may log in
    host_key: str  # SHA256:…
    url: str  # what visitors open, http://127.0.0.1:PORT/
    port: int  # nginx's
    ssh_port: int
    slot: int | str  # a listening end, to be asked without nginx: a port of 127.0.0.1, or a socket's path
    directory: pathlib.Path

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._sshd: subprocess.Popen[bytes] | None = None
        self._nginx: subprocess.Popen[bytes] | None = None

    def __enter__(self: P) -> P:
        self._paths = {name: program(name) for name in ("sshd", "ssh-keygen", "nginx")}
        with contextlib.ExitStack() as stack:
            self.directory = self._move_in(stack)
            stack.callback(self._end)
            self.ssh_port, self.port = processes.free_port(), processes.free_port()
            self.url = f"http://127.0.0.1:{self.port}/"
            self.server = f"{self._user}@127.0.0.1:{self.ssh_port}"
            self._make_keys()
            self._configure()
            self.start_sshd()
            argv = [self._paths["nginx"], "-p", f"{self.directory}/", "-c", str(self.directory / "nginx.conf")]
            self._nginx = self._start(argv, "nginx", self.port)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # what the kinds differ in

    @property
    @abc.abstractmethod
    def _user(self) -> str:
        """The account that notebooks log in to."""

    @abc.abstractmethod
    def _move_in(self, stack: contextlib.ExitStack) -> pathlib.Path:
        """Make the directory, and what else has to be there first."""

    @abc.abstractmethod
    def _configure(self) -> None:
        """Write the configurations of sshd and nginx, and what they name."""

    @abc.abstractmethod
    def add_key(self, public: str) -> None:
        """Accept another key: the line of a file that ends in .pub."""

    @abc.abstractmethod
    def known(self) -> dict[str, Any]:
        """What expose() has to be told, by the names of its arguments."""

    @abc.abstractmethod
    def slot_held(self) -> bool:
        """Whether something listens on a slot."""

    @abc.abstractmethod
    def nginx_log(self) -> str:
        """nginx's access log, then its errors."""

    @abc.abstractmethod
    def told(self) -> Iterable[tuple[str, str]]:
        """What was started, for people: a word, and what it is."""

    # what they have in common

    def environment(self) -> dict[str, str]:
        """known() as variables."""
        return {f"TAIPY_TUNNEL_{name.upper()}": str(value) for name, value in self.known().items()}

    def _make_keys(self) -> None:
        for name in ("host_key", "client_key"):
            self._keygen("-q", "-t", "ed25519", "-N", "", "-C", "taipy-tunnel test", "-f", name)
        self.host_key = self._keygen("-lf", "host_key.pub").split()[1]
        self.key = str(self.directory / "client_key")
        self.add_key((self.directory / "client_key.pub").read_text())

    def _keygen(self, *arguments: str) -> str:
        ran = subprocess.run(
            [self._paths["ssh-keygen"], *arguments],
            cwd=self.directory,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        return ran.stdout

    def _write_sshd_config(self, first: str, last: str) -> None:
        common = SSHD.format(port=self.ssh_port, dir=self.directory, user=self._user)
        (self.directory / "sshd_config").write_text(f"{first}\n{common}\n{last}\n")

    def _write_nginx_config(self, site: str, workers: str) -> None:
        user = f"user {workers};" if os.getuid() == 0 else ""
        (self.directory / "nginx.conf").write_text(NGINX.format(user=user, dir=self.directory, site=site))

    def start_sshd(self) -> None:
        """Start sshd, again on the same port if it was stopped."""
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # privilege separation's empty root
        argv = [self._paths["sshd"], "-D", "-e", "-f", str(self.directory / "sshd_config")]
        self._sshd = self._start(argv, "sshd", self.ssh_port)

    def stop_sshd(self) -> None:
        """End sshd and its connections: the proxy is gone until start_sshd."""
        if self._sshd is not None:
            processes.end(self._sshd)
            self._sshd = None

    @contextlib.contextmanager
    def without_listener(self) -> Iterator[None]:
        """No login succeeds, and none is refused either: nothing listens; connections that are there live on."""
        assert self._sshd is not None
        links = processes.descendants(self._sshd.pid)
        self._sshd.kill()
        self._sshd.wait()
        try:
            yield
        finally:
            processes.kill(links)  # which nobody else would find any more
            self.start_sshd()

    def links(self) -> list[int]:
        """The pids of the processes of sshd that serve a connection, one each."""
        return [process.pid for process in self._links()]

    def _links(self) -> list[processes.Process]:
        if self._sshd is None:
            return []
        found = processes.descendants(self._sshd.pid)
        return [p for p in found if p.name.startswith("sshd") and p.parent == self._sshd.pid]

    def signal_links(self, number: int, most: int | None = None) -> int:
        """Send a signal to what serves connections, or to what serves so many; how many those were."""
        links = self._links()[:most]
        # Of root's there is one process each, of others' there are two, of which either has the connection open.
        below = [child for link in links for child in processes.descendants(link.pid)]
        count = processes.kill(links, number)
        processes.kill(below, number)
        return count

    def kill_links(self, most: int | None = None) -> int:
        """End them without a word to the other end."""
        return self.signal_links(signal.SIGKILL, most)

    def _start(self, argv: list[str], name: str, port: int) -> subprocess.Popen[bytes]:
        with open(self.directory / f"{name}.log", "ab") as log:
            process = processes.start(argv, log)
        ready = processes.until(lambda: processes.listening(port) or process.poll() is not None, START)
        if not ready or process.poll() is not None:
            code = process.poll()
            processes.end(process)
            why = f"does not listen after {START:.0f} s" if code is None else f"ended with {code}"
            raise RuntimeError(f"{name} {why}:\n{self._read(f'{name}.log')}")
        return process

    def _end(self) -> None:
        for process in (self._nginx, self._sshd):
            if process is not None:
                processes.end(process)
        self._nginx = self._sshd = None

    def _read(self, name: str) -> str:
        path = self.directory / name
        return path.read_text(errors="replace") if path.exists() else ""

    def sshd_log(self) -> str:
        """What sshd said so far."""
        return self._read("sshd.log")

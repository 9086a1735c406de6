# SPDX-License-Identifier: Apache-2.0
"""A proxy machine of one's own: a private sshd and nginx on loopback, for as long as `with` lasts.

    with Proxy() as proxy:
        taipy_tunnel.expose(server=proxy.server, key=proxy.key, host_key=proxy.host_key,
                            remote=proxy.remote, url=proxy.url)

nginx's configuration is the one that docs/proxy.md gives to admins, with other ports.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from . import processes

ROOT = pathlib.Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "proxy.md"
START = 15.0  # seconds until a server that does not listen is an error

# HOME: a login shell reads its owner's files, and this machine's may run for a minute.
SSHD = """\
{first}
ListenAddress 127.0.0.1:{port}
HostKey {dir}/host_key
PidFile none
AuthorizedKeysFile {dir}/authorized_keys
AllowUsers {user}
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
SetEnv HOME={dir}
MaxStartups 100
LogLevel VERBOSE
{match}
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


class Proxy:
    """A private sshd and nginx. Attributes are there once it was entered."""

    server: str  # user@127.0.0.1:PORT
    key: str  # path of a private key that may log in
    host_key: str  # SHA256:…
    url: str  # http://127.0.0.1:PORT/
    remote: int  # the slot: where nginx sends visitors
    directory: pathlib.Path

    def __init__(self, sshd_config: Sequence[str] = ()) -> None:
        """sshd_config: lines that win over ours; those from the first Match on come last."""
        self._sshd_config = list(sshd_config)
        self._stack = contextlib.ExitStack()
        self._sshd: subprocess.Popen[bytes] | None = None
        self._nginx: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Proxy:
        paths = {name: program(name) for name in ("sshd", "ssh-keygen", "nginx")}
        self._paths = paths
        with contextlib.ExitStack() as stack:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="taipy-tunnel-proxy-"))
            self.directory = pathlib.Path(made)
            stack.callback(self._end)
            self._make_keys()
            self.remote = processes.free_port()
            self.ssh_port = processes.free_port()
            self.server = f"{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{self.ssh_port}"
            self._write_sshd()
            self.start_sshd()
            self._start_nginx()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

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

    def add_key(self, public: str) -> None:
        """Accept another key: one line, as it would stand in authorized_keys."""
        with open(self.directory / "authorized_keys", "a") as f:
            f.write(public.strip() + "\n")

    # sshd

    def _write_sshd(self) -> None:
        lines = self._sshd_config
        match = next((i for i, line in enumerate(lines) if line.startswith("Match")), len(lines))
        (self.directory / "sshd_config").write_text(
            SSHD.format(
                first="\n".join(lines[:match]),
                match="\n".join(lines[match:]),
                port=self.ssh_port,
                dir=self.directory,
                user=pwd.getpwuid(os.getuid()).pw_name,
            )
        )

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

    def links(self) -> list[int]:
        """The pids of the processes of sshd that serve a connection."""
        return [process.pid for process in self._links()]

    def _links(self) -> list[processes.Process]:
        if self._sshd is None:
            return []
        return [p for p in processes.descendants(self._sshd.pid) if p.name.startswith("sshd")]

    def kill_links(self) -> int:
        """SIGKILL what serves connections, without a word to the other end; how many that were."""
        return processes.kill(self._links())

    def slot_held(self) -> bool:
        """Whether something listens on the slot's port."""
        return processes.listening(self.remote)

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

    # nginx

    def _start_nginx(self) -> None:
        port = processes.free_port()
        self.url = f"http://127.0.0.1:{port}/"
        site = documented_site(port, self.remote)
        user = "user root;" if os.getuid() == 0 else ""  # its workers must be able to enter our directory
        path = self.directory / "nginx.conf"
        path.write_text(NGINX.format(user=user, dir=self.directory, site=site))
        argv = [self._paths["nginx"], "-p", f"{self.directory}/", "-c", str(path)]
        self._nginx = self._start(argv, "nginx", port)

    # both

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

    def nginx_log(self) -> str:
        """nginx's access log, then its errors."""
        return self._read("access.log") + self._read("nginx.log")


def documented_site(port: int, remote: int) -> str:
    """The nginx configuration that docs/proxy.md gives to admins, for other ports."""
    found = re.search(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.S)
    site = found.group(1) if found else ""
    for old, new in (("listen 80;", f"listen 127.0.0.1:{port};"), ("127.0.0.1:8080", f"127.0.0.1:{remote}")):
        if site.count(old) != 1:
            raise RuntimeError(f"docs/proxy.md: its nginx block should hold {old!r} once:\n{site}")
        site = site.replace(old, new)
    return site

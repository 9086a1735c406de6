# SPDX-License-Identifier: Apache-2.0
"""Ways out of a network, real ones: an HTTP proxy, and TLS in front of sshd."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import processes
from .proxy import ROOT, START, program

DOCUMENT = ROOT / "docs" / "databricks.md"
MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


class Egress(NamedTuple):
    """A server on a port of 127.0.0.1."""

    port: int
    directory: pathlib.Path

    def log(self) -> str:
        """What it said so far."""
        return (self.directory / "log").read_text(errors="replace")


@contextlib.contextmanager
def tinyproxy(*lines: str) -> Iterator[Egress]:
    """An HTTP proxy; lines of tinyproxy.conf: "BasicAuth user password"."""
    with _directory() as directory:
        port = processes.free_port()
        text = [f"Port {port}", "Listen 127.0.0.1", "Timeout 600", "MaxClients 100", "LogLevel Connect", *lines]
        (directory / "tinyproxy.conf").write_text("\n".join(text) + "\n")
        with _running([program("tinyproxy"), "-d", "-c", str(directory / "tinyproxy.conf")], port, directory) as egress:
            yield egress


@contextlib.contextmanager
def tls(ssh_port: int) -> Iterator[Egress]:
    """nginx as docs/databricks.md has it, in front of an sshd. Its certificate, cert.pem, is its own authority."""
    with _directory() as directory:
        port = processes.free_port()
        new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=test"
        files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
        subprocess.run([program("openssl"), *new.split(), *files], cwd=directory, check=True, capture_output=True)
        head = f"load_module {MODULE};\n" if os.path.exists(MODULE) else ""
        head += f"daemon off;\npid {directory}/nginx.pid;\nerror_log stderr info;\nevents {{}}\n"
        (directory / "nginx.conf").write_text(head + documented_stream(port, ssh_port, directory))
        argv = [program("nginx"), "-e", "stderr", "-p", f"{directory}/", "-c", str(directory / "nginx.conf")]
        with _running(argv, port, directory) as egress:
            yield egress


def documented_stream(port: int, ssh_port: int, directory: pathlib.Path) -> str:
    """The stream block that docs/databricks.md gives to admins, for other ports and files."""
    found = re.search(r"```nginx\n(stream.*?)```", DOCUMENT.read_text(), re.S)
    block = found.group(1) if found else ""
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("127.0.0.1:22;", f"127.0.0.1:{ssh_port};"),
        ("/etc/letsencrypt/live/proxy.example.com/fullchain.pem", f"{directory}/cert.pem"),
        ("/etc/letsencrypt/live/proxy.example.com/privkey.pem", f"{directory}/key.pem"),
    ):
        if block.count(old) != 1:
            raise RuntimeError(f"docs/databricks.md: its stream block should hold {old!r} once:\n{block}")
        block = block.replace(old, new)
    return block


@contextlib.contextmanager
def _directory() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="taipy-tunnel-egress-") as made:
        yield pathlib.Path(made)


@contextlib.contextmanager
def _running(argv: Sequence[str], port: int, directory: pathlib.Path) -> Iterator[Egress]:
    egress = Egress(port, directory)
    with open(directory / "log", "ab") as log:
        process = processes.start(list(argv), log)
    try:
        ready = processes.until(lambda: processes.listening(port) or process.poll() is not None, START)
        if not ready or process.poll() is not None:
            raise RuntimeError(f"{argv[0]} does not listen:\n{egress.log()}")
        yield egress
    finally:
        processes.end(process)

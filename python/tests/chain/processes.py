# SPDX-License-Identifier: Apache-2.0
"""Processes that we started, and theirs: seen in /proc, ended by pid."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, NamedTuple

# Below those that the kernel gives to connections, or one of them may hold a port on some address before who asked for
# it listens there.
PORTS = range(10_000, 32_000)
LISTENS = "00010000"  # of a unix socket: the flag __SO_ACCEPTCON


class Process(NamedTuple):
    """A process; `started` tells it from a later one with the same pid."""

    pid: int
    parent: int
    name: str
    started: int


def look(pid: int) -> Process | None:
    """The process, None if it is gone or a zombie."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    rest = stat[stat.rindex(")") + 2 :].split()
    if rest[0] in "ZX":
        return None
    return Process(pid, int(rest[1]), name, int(rest[19]))


def command(pid: int) -> str:
    """Its command line."""
    with contextlib.suppress(OSError):
        line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return line.decode(errors="replace").strip()
    return ""


def descendants(pid: int) -> list[Process]:
    """All processes below `pid`, parents first."""
    children: dict[int, list[Process]] = {}
    for entry in os.listdir("/proc"):
        process = look(int(entry)) if entry.isdigit() else None
        if process is not None:
            children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    below = [pid]
    while below:
        more = children.get(below.pop(), [])
        found += more
        below += [process.pid for process in more]
    return found


def kill(processes: Iterable[Process], how: int = signal.SIGKILL) -> int:
    """Signal those that are still the same; how many that were."""
    count = 0
    for process in processes:
        now = look(process.pid)
        if now is not None and now.started == process.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, how)
                count += 1
    return count


def start(argv: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a server that gets no Ctrl-C of the terminal's and ends with us, however we end."""
    if shutil.which("setpriv"):
        argv = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def end(process: subprocess.Popen[bytes], patience: float = 3.0) -> None:
    """End a server and everything below it."""
    below = descendants(process.pid)
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    kill(below)


def until(what: Callable[[], bool], timeout: float, every: float = 0.005) -> bool:
    """Poll `what` until it holds; False if it did not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def free_port() -> int:
    """A port that nobody uses now, on any address. Each call's is another one, as is each worker's."""
    while True:
        port = next(_ports)
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("", port))
            return port


def _mine() -> Iterator[int]:
    """In no order that another process has; of the workers of pytest-xdist each has ports that no other has."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = PORTS[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    return itertools.cycle(random.sample(mine, len(mine)))


_ports = _mine()


def listening(slot: int | str) -> bool:
    """Whether anything listens on a port, or on a unix socket whose path begins so. Asked of the kernel: connecting
    would be a visit.
    """
    if isinstance(slot, str):
        sockets = (line.split() for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:])
        return any(len(s) > 7 and s[3] == LISTENS and s[7].startswith(slot) for s in sockets)
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == slot:
                    return True
    return False

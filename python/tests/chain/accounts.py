# SPDX-License-Identifier: Apache-2.0
"""Accounts of this machine that live no longer than a process of ours, each with a directory below /run.

A process that is killed cannot remove its own. So the account's comment names the process, and whoever
next needs an account removes those whose process is gone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import NamedTuple

from . import processes
from .proxy import program

NAME = "tt-demo-{}-{}"
COMMENT = "taipy-tunnel demo of process {} since {}"
OURS = re.compile(NAME.format("[0-9]+", "[0-9]+"))
WHOSE = re.compile(COMMENT.format("([0-9]+)", "([0-9]+)"))
RUN = pathlib.Path("/run")

# Exit codes of useradd(8) and userdel(8) that pass: another one has the lock on /etc/passwd (1) or on
# /etc/group (10); a process of the account is just ending (8).
LATER = (1, 8, 10)
ABSENT = 6
PATIENCE = 30.0  # seconds

_numbers = itertools.count(1)


class Account(NamedTuple):
    """A system account that logs in by key alone and has no shell."""

    name: str
    uid: int
    directory: pathlib.Path  # root's, as all above it


@contextlib.contextmanager
def account() -> Iterator[Account]:
    """An account and its directory; both are gone afterwards."""
    for needed in ("useradd", "userdel"):
        program(needed)
    sweep()
    ours = processes.look(os.getpid())
    comment = COMMENT.format(os.getpid(), ours.started if ours else 0)
    name = next(filter(_is_free, (NAME.format(os.getpid(), number) for number in _numbers)))
    try:
        # As the script of a prepared proxy makes a tenant, "*" for a password included: with "!" sshd admits no key.
        # Not in that script's group, by which it knows its own.
        nobody = str(pwd.getpwnam("nobody").pw_gid)
        options = ["--system", "--no-user-group", "--gid", nobody, "--no-create-home", "--home-dir", "/nonexistent"]
        options += ["--shell", "/usr/sbin/nologin", "--password", "*", "--comment", comment]
        _patiently("useradd", *options, name)
        directory = _directory(name)
        directory.mkdir()
        directory.chmod(0o755)  # whatever the umask
        yield Account(name, pwd.getpwnam(name).pw_uid, directory)
    finally:
        _remove(name, comment)


def sweep() -> list[str]:
    """Remove the accounts of processes that were killed; their names."""
    swept = []
    for entry in pwd.getpwall():
        whose = WHOSE.fullmatch(entry.pw_gecos) if OURS.fullmatch(entry.pw_name) else None
        if whose is None:
            continue
        owner = processes.look(int(whose[1]))
        if owner is None or owner.started != int(whose[2]):
            _remove(entry.pw_name, entry.pw_gecos)
            swept.append(entry.pw_name)
    return swept


def _remove(name: str, comment: str) -> None:
    """Remove an account if it still is the one with that comment; it comes last, for it tells of the rest."""
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam(name)
        if entry.pw_gecos == comment:
            processes.kill(_processes(entry.pw_uid), signal.SIGKILL)
            shutil.rmtree(_directory(name), ignore_errors=True)
            _patiently("userdel", name)


def _directory(name: str) -> pathlib.Path:
    return RUN / name.replace("tt-", "taipy-tunnel-", 1)


def _is_free(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return not _directory(name).exists()
    return False


def _processes(uid: int) -> list[processes.Process]:
    """An account's. /proc/PID itself is root's where a program changed its user, as sshd does."""
    found = []
    for entry in os.listdir("/proc"):
        process = processes.look(int(entry)) if entry.isdigit() else None
        with contextlib.suppress(OSError):
            if process and re.search(rf"^Uid:\s+{uid}\s", pathlib.Path(f"/proc/{entry}/status").read_text(), re.M):
                found.append(process)
    return found


def _patiently(name: str, *arguments: str) -> None:
    """Run useradd or userdel, again while another one is under way. A Ctrl-C of the terminal does not end it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        ran = subprocess.run(
            [program(name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if ran.returncode in (0, ABSENT):
            return
        if ran.returncode not in LATER or time.monotonic() > deadline:
            raise RuntimeError(f"{name} ended with {ran.returncode}: {ran.stdout.strip()}")
        time.sleep(random.uniform(0.02, 0.2))

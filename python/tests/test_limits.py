# SPDX-License-Identifier: Apache-2.0
"""Where a process may have too little for the library, expose() says so, and the process lives on."""

from __future__ import annotations

import os
import pathlib
import re
import resource
import sys

import pytest
from chain import interpreters
from chain.compat import TAKEN, Row
from chain.proxy import Proxy
from chain.testing import arguments

EXPOSE = """
import os, re, resource, sys
import taipy_tunnel
def statm(field):
    return int(open("/proc/self/statm").read().split()[field]) * resource.getpagesize()
def limit(which, most):
    resource.setrlimit(which, (most, resource.getrlimit(which)[1]))
def expose():
    try:
        with taipy_tunnel.expose(**«known») as tunnel:
            print(tunnel.state)
    except taipy_tunnel.TunnelError as error:
        print(type(error).__name__, error.message)
        print(re.sub(r"\\d+", "N", error.hint))
"""
MB = 1 << 20
LIMITS = {
    "700 MB of address space (ulimit -v)": ("RLIMIT_AS", f"statm(0) + {700 * MB}"),
    "100 MB of memory for data (ulimit -d)": ("RLIMIT_DATA", f"statm(5) + {100 * MB}"),
    "3 file descriptors (ulimit -n)": ("RLIMIT_NOFILE", "max(map(int, os.listdir('/proc/self/fd'))) + 3"),
    "3 threads (ulimit -u, or a container's)": ("RLIMIT_NPROC", "4"),
}
# The message, N for a number, and how the hint begins.
SAID = {
    "RLIMIT_AS": (
        "library: this process has 700 MB of address space left (ulimit -v), and the tunnel needs 1200 MB",
        "raise the limit before Python starts: ulimit -v unlimited",
    ),
    "RLIMIT_DATA": (
        "library: this process has 100 MB of memory for data left (ulimit -d), and the tunnel needs 250 MB",
        "raise the limit before Python starts: ulimit -d unlimited",
    ),
    "RLIMIT_NOFILE": (
        "library: this process has 3 file descriptors left (limit N), and the tunnel needs 16",
        "close files and connections that are not needed (ls -l /proc/N/fd shows them), or raise the limit",
    ),
    "RLIMIT_NPROC": (
        "library: this process has 3 threads left, and the tunnel needs N",
        "end other programs of this user, or raise the limit: ulimit -u shows it; in a container",
    ),
}
# A user whose only process this is, and who has no privileges: limits of processes are not for root.
ALONE = "os.setgid(54329)\nos.setuid(54329)\n"
RAISED = "resource.setrlimit(which, 2 * (resource.getrlimit(which)[1],))\nexpose()\n"


@pytest.mark.parametrize("tried", LIMITS)
def test_too_little(tried: str, python: str, proxy: Proxy, compat: Row) -> None:
    """It is said before the library is loaded, for Go would end the process; where the limit is raised it works."""
    which, most = LIMITS[tried]
    alone = which == "RLIMIT_NPROC"
    if alone and os.geteuid() != 0:
        pytest.skip("another user's processes are root's to make")
    known = arguments(proxy)
    known["key"] = pathlib.Path(known["key"]).read_text()  # which the other user cannot
    code = interpreters.script(EXPOSE, known=known)
    code += f"which = resource.{which}\n" + (ALONE if alone else "") + f"limit(which, {most})\nexpose()\n" + RAISED
    ran = interpreters.run(python, code)
    assert ran.returncode == 0, ran.stderr
    first, hint, again = ran.stdout.strip().split("\n")
    message, advice = SAID[which]
    assert re.fullmatch(f"TunnelError {re.escape(message)}".replace("N", r"\d+"), first), first
    assert hint.startswith(advice)
    assert again == "waiting"
    if python == sys.executable:
        compat("platforms", tried, f"refused: {message}")


def test_stacks_that_fill_the_address_space(python: str, compat: Row) -> None:
    """That no thread starts is put down to what it lacks, as where a batch system has a limit of both."""
    code = """
    from taipy_tunnel import TunnelError, _limits
    try:
        _limits.check()
    except TunnelError as error:
        print(error.message)
        print(error.hint)
    """

    def limits() -> None:  # libc reads that of stacks when a process begins
        resource.setrlimit(resource.RLIMIT_STACK, (1024 * MB, resource.getrlimit(resource.RLIMIT_STACK)[1]))
        resource.setrlimit(resource.RLIMIT_AS, (4096 * MB, resource.getrlimit(resource.RLIMIT_AS)[1]))

    ran = interpreters.run(python, interpreters.script(code), preexec_fn=limits)
    assert ran.stdout, ran.stderr
    message, hint = ran.stdout.strip().split("\n")
    said = (
        "MB of address space left (ulimit -v) where each thread's stack takes 1024 MB (ulimit -s), and the tunnel needs"
    )
    assert said in message, message
    assert hint.startswith("have smaller stacks before Python starts: ulimit -s 8192")
    if python == sys.executable:
        compat("platforms", "stacks of 1 GB in 4 GB of address space (ulimit -s)", f"refused: library: … {said} …")


def test_just_enough(python: str, proxy: Proxy, compat: Row) -> None:
    """What is asked for is enough: the tunnel opens, and goes on."""
    code = interpreters.script(EXPOSE, known=arguments(proxy))
    code += f"limit(resource.RLIMIT_AS, statm(0) + {1205 * MB})\n"
    code += f"limit(resource.RLIMIT_DATA, statm(5) + {255 * MB})\n"
    code += "limit(resource.RLIMIT_NOFILE, max(map(int, os.listdir('/proc/self/fd'))) + 16)\nexpose()\n"
    ran = interpreters.run(python, code)
    assert (ran.returncode, ran.stdout) == (0, "waiting\n"), ran.stderr
    if python == sys.executable:
        compat("platforms", "1.2 GB of address space, 250 MB of it for data, and 16 file descriptors", TAKEN)


def test_what_cannot_be_loaded(python: str, compat: Row) -> None:
    """A file that is not a library of this machine's stands for one of another's."""
    code = """
    import pathlib, tempfile
    import taipy_tunnel
    from taipy_tunnel import _abi
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "libtaipy_tunnel.so")
        path.write_bytes(b"\\x7fELF of another processor" * 100)
        try:
            _abi.Library(path)
        except taipy_tunnel.TunnelError as error:
            print(error.message.replace(folder, "…"))
            print(error.hint)
    """
    ran = interpreters.run(python, interpreters.script(code))
    message, hint = ran.stdout.strip().split("\n")
    assert message.startswith("library: it cannot be loaded: …/libtaipy_tunnel.so: "), ran
    assert hint.startswith("possible causes, the likeliest first: the package was installed for another processor")
    if python == sys.executable:
        compat("platforms", "a library that is for another processor", f"refused: {message}")

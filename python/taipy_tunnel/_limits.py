# SPDX-License-Identifier: Apache-2.0
"""Whether this process may have what the library needs.

Go ends the process where it gets no memory, thread or descriptor at its start, and with it the variables of a person's
notebook. So it is seen before the library is loaded. Needed on 2 processors, of address space, data, threads and
descriptors: between 700 and 900 MB, 80 and 160 MB, 6, and 4.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import time
from typing import NoReturn

from ._errors import TunnelError
from ._signals import deaf

MEMORY = (  # the limit, its place in /proc/self/statm, MB that must be left, and what people call it
    (resource.RLIMIT_AS, 0, 1200, "address space", "ulimit -v"),
    (resource.RLIMIT_DATA, 5, 250, "memory for data", "ulimit -d"),
)
THREADS = 8  # and one for each processor, up to 8
DESCRIPTORS = 16

_MB = 1 << 20
_semaphores: list[object] = []


def check() -> None:
    """Raise TunnelError if a limit of this process, or of its container, is too low."""
    _memory()
    _descriptors()
    _threads()


def _memory() -> None:
    for which, field, need, what, ulimit in MEMORY:
        if (left := _left(which, field)) < need:
            _refuse(
                f"{max(left, 0)} MB of {what} left ({ulimit}), and the tunnel needs {need} MB",
                f"raise the limit before Python starts: {ulimit} unlimited; a batch system has a setting for it "
                "(Grid Engine h_vmem). Most of it is only reserved: a tunnel uses about 30 MB",
            )


def _left(which: int, field: int) -> float:
    """How many MB a limit leaves."""
    limit = resource.getrlimit(which)[0]
    with contextlib.suppress(OSError):  # no /proc
        if limit != resource.RLIM_INFINITY:
            with open("/proc/self/statm") as f:
                return (limit - int(f.read().split()[field]) * resource.getpagesize()) // _MB
    return float("inf")


def _descriptors() -> None:
    taken: list[int] = []
    try:
        while len(taken) < DESCRIPTORS:
            taken.append(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno != errno.EMFILE:
            return  # the machine's own limit, or a sandbox: the engine tells when it gets none
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        _refuse(
            f"{len(taken)} file descriptors left (limit {limit}), and the tunnel needs {DESCRIPTORS}",
            f"close files and connections that are not needed (ls -l /proc/{os.getpid()}/fd shows them), or raise the "
            "limit: resource.setrlimit(resource.RLIMIT_NOFILE, …) in Python, ulimit -n before it starts",
        )
    finally:
        for fd in taken:
            os.close(fd)


def _threads() -> None:
    """By trial: a user's limit counts all of the user's processes, and a container has one of its own.

    The threads are C's and wait for a semaphore: each of Python's would leave 64 MB of address space reserved, for its
    own use of malloc.
    """
    need = THREADS + min(len(os.sched_getaffinity(0)), 8)
    libc, threads = ctypes.CDLL(None), (ctypes.c_ulong * need)()
    end = ctypes.create_string_buffer(64)  # a sem_t; 32 bytes on Linux
    _semaphores.append(end)  # for ever: a thread that Ctrl-C made us forget may still look at it
    libc.sem_init(end, 0, 0)
    wait, before, started = ctypes.cast(libc.sem_wait, ctypes.c_void_p), _tasks(), 0
    try:
        with deaf():
            while started < need:
                if libc.pthread_create(ctypes.byref(threads, started * ctypes.sizeof(ctypes.c_ulong)), None, wait, end):
                    _stacks(need)
                    _refuse(
                        f"{started} threads left, and the tunnel needs {need}",
                        "end other programs of this user, or raise the limit: ulimit -u shows it; in a container, "
                        "which has a limit for all of it, cat /sys/fs/cgroup/pids.max (Docker --pids-limit, Kubernetes "
                        "podPidsLimit)",
                    )
                started += 1
    finally:
        for _ in range(need):
            libc.sem_post(end)
        for thread in threads[:started]:
            libc.pthread_join(ctypes.c_ulong(thread), None)
        # One that was joined may still count for some microseconds.
        patience = time.monotonic() + 1.0
        while _tasks() > before and time.monotonic() < patience:
            time.sleep(0.001)


def _stacks(need: int) -> None:
    """Raise TunnelError if it is for its stack that a thread could not be started."""
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    if stack == resource.RLIM_INFINITY:
        return  # libc has a size of its own, 2 MB on x86
    for which, field, _, what, ulimit in MEMORY:
        left = _left(which, field)
        if left < stack / _MB:
            _refuse(
                f"{max(left, 0)} MB of {what} left ({ulimit}) where each thread's stack takes {stack // _MB} MB "
                f"(ulimit -s), and the tunnel needs {need} threads",
                "have smaller stacks before Python starts: ulimit -s 8192; a batch system has a setting for it (Grid "
                f"Engine h_stack). Or raise the other limit: {ulimit} unlimited",
            )


def _tasks() -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return 0


def _refuse(what: str, hint: str) -> NoReturn:
    raise TunnelError(f"library: this process has {what}", hint)

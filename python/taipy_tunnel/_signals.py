# SPDX-License-Identifier: Apache-2.0
"""Signals are the program's own: no thread of this package takes one."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Threads that start meanwhile never take a signal that is meant for the program's own.

    They inherit the signal mask: a program that blocks a signal and waits for it in sigwait() would
    lose it to them, or its life, and CPython before 3.10 would run its handler on a stack of Go's.
    """
    synchronous = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - synchronous)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

# SPDX-License-Identifier: Apache-2.0
"""libtaipy_tunnel.so, by ctypes. cshared/taipy_tunnel.h is its document."""

from __future__ import annotations

import contextlib
import ctypes
import json
import pathlib
import platform
import resource
import threading
from collections.abc import Iterator
from ctypes import POINTER, c_char, c_char_p, c_int32, c_int64, c_size_t
from typing import Any

from . import _limits
from ._errors import ForkedProcessError, TunnelError
from ._hints import plain
from ._quote import Hidden, quote
from ._signals import deaf

ABI_VERSION = 5
PATH = pathlib.Path(__file__).with_name("libtaipy_tunnel.so")

TEXT = (POINTER(c_char), c_size_t)  # (buf, len): text that comes out

# Every function of the header: its result and its arguments.
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "tt_abi_version": (c_int32, ()),
    "tt_info": (c_int32, TEXT),
    "tt_expose": (c_int64, (c_char_p, c_int32)),
    "tt_set_target": (c_int32, (c_int64, c_char_p)),
    "tt_tick": (c_int32, (c_int64,)),
    "tt_url": (c_int32, (c_int64, *TEXT)),
    "tt_new_token": (c_int32, (c_int64,)),
    "tt_requests": (c_int32, (c_int64, c_int32, *TEXT)),
    "tt_reconnect": (c_int32, (c_int64,)),
    "tt_status": (c_int32, (c_int64, *TEXT)),
    "tt_close": (c_int32, (c_int64, c_int32)),
    "tt_release": (c_int32, (c_int64,)),
    "tt_ask": (c_int64, (c_char_p, c_int32)),
    "tt_answer": (c_int32, (c_int64, *TEXT)),
    "tt_event_fd": (c_int32, ()),
    "tt_events": (c_int32, TEXT),
}

_ARGUMENT, _HANDLE, _INTERNAL, _FORKED = -1, -2, -3, -4


class NoSuchTunnelError(TunnelError):
    """A handle that was released."""


class Library:
    """The loaded library. A call that it refuses is an exception."""

    def __init__(self, path: pathlib.Path = PATH) -> None:
        _limits.check()
        with _quietly():
            self._dll = _opened(path)
            for name, (result, arguments) in FUNCTIONS.items():
                function = getattr(self._dll, name)
                function.restype, function.argtypes = result, arguments
            version = self._call("tt_abi_version")
        if version != ABI_VERSION:
            raise TunnelError(
                f"library: {path.name} has interface {version}, this package needs {ABI_VERSION}",
                "reinstall taipy-tunnel and restart the kernel",
            )

    def _call(self, name: str, *arguments: Any) -> int:
        return self._check(name, int(getattr(self._dll, name)(*arguments)))

    def _check(self, name: str, result: int) -> int:
        if result >= 0:
            return result
        if result == _HANDLE:
            raise NoSuchTunnelError(f"library: {name}: no such tunnel")
        if result == _FORKED:
            raise ForkedProcessError(
                "fork: this process was forked from the one that has the tunnels",
                "use them there, or start workers by multiprocessing's 'spawn' method",
            )
        reason = {_ARGUMENT: "bad argument", _INTERNAL: "internal error"}
        raise TunnelError(f"library: {name}: {reason.get(result, result)}")

    def _text(self, name: str, *arguments: Any, size: int = 4096) -> Any:
        while True:
            buf = ctypes.create_string_buffer(size)
            need = self._call(name, *arguments, buf, size)
            if need < size:
                return json.loads(buf.raw[:need])
            size = need + 1

    def info(self) -> dict[str, Any]:
        return dict(self._text("tt_info"))

    def expose(self, config: Hidden, timeout: float, opened: list[int]) -> None:
        """Open a tunnel and append its handle to `opened`.

        Between the call of map's function and extend's append Python takes no Ctrl-C, as it does
        between a call's return and an assignment: that left a tunnel that nobody could close.
        """
        # A buffer, not bytes: what a traceback shows of it is its type, and it holds the key.
        text = ctypes.create_string_buffer(json.dumps(config).encode())
        opened.extend(map(self._dll.tt_expose, (text,), (max(1, round(timeout * 1000)),)))
        if opened[0] < 0:
            self._check("tt_expose", opened.pop())

    def set_target(self, handle: int, target: str) -> None:
        self._call("tt_set_target", handle, target.encode())

    def tick(self, handle: int) -> None:
        self._call("tt_tick", handle)

    def url(self, handle: int) -> str:
        return str(self._text("tt_url", handle))

    def new_token(self, handle: int) -> None:
        self._call("tt_new_token", handle)

    def requests(self, handle: int, n: int) -> list[dict[str, Any]]:
        return list(self._text("tt_requests", handle, n, size=65536))

    def reconnect(self, handle: int) -> bool:
        """Whether it will; False: the tunnel has ended for good."""
        return self._call("tt_reconnect", handle) == 0

    def status(self, handle: int) -> dict[str, Any]:
        return dict(self._text("tt_status", handle))

    def close(self, handle: int, drain: float) -> None:
        self._call("tt_close", handle, max(0, round(drain * 1000)))

    def release(self, handle: int) -> None:
        self._call("tt_release", handle)

    def ask(self, question: dict[str, Any], timeout: float | None, opened: list[int]) -> None:
        """Ask, and append the handle of the answer to `opened`; as in expose(). `timeout` None: there is none."""
        text = ctypes.create_string_buffer(json.dumps(question).encode())
        del question
        opened.extend(map(self._dll.tt_ask, (text,), (0 if timeout is None else max(1, round(timeout * 1000)),)))
        ctypes.memset(text, 0, len(text))
        if opened[0] < 0:
            self._check("tt_ask", opened.pop())

    def answer(self, handle: int) -> dict[str, Any]:
        """What tt_answer() has by now."""
        return dict(self._secret("tt_answer", handle))

    def _secret(self, name: str, *arguments: Any) -> Any:
        """_text(), and nothing of it is left in memory that was C's."""
        size = 4096
        while True:
            buf = ctypes.create_string_buffer(size)
            need = self._call(name, *arguments, buf, size)
            if need < size:
                try:
                    return json.loads(buf.value)
                finally:
                    ctypes.memset(buf, 0, size)
            size = need + 1

    def event_fd(self) -> int:
        return self._call("tt_event_fd")

    def events(self) -> list[dict[str, Any]]:
        return list(self._text("tt_events", size=65536))


def _opened(path: pathlib.Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:  # the dynamic linker's words: there is no type or number
        machine = f"{platform.machine()}, {' '.join(platform.libc_ver()) or 'not glibc'}"
        raise TunnelError(
            f"library: it cannot be loaded: {error}",
            "possible causes, the likeliest first: the package was installed for another processor or system "
            f"(it is for Linux with glibc 2.17 or newer; this is {plain(machine)}; Alpine has musl); its file is "
            "damaged or missing (pip install --force-reinstall taipy-tunnel); it is on a file system that runs no "
            f"programs (noexec: findmnt -T {plain(quote(str(path.parent)))} shows it)",
        ) from None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Go's start-up, without what it does to its host.

    Blocked SIGPIPE also keeps a broken socket of ours from ending a program that wants SIGPIPE's
    default. Go raises the soft limit of open files to the hard one, which child processes would
    inherit (select() fails above 1024).
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with deaf():
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


_lock = threading.Lock()
_loaded: Library | None = None


def library() -> Library:
    """The library, loaded at the first call: importing the package starts nothing."""
    global _loaded
    if _loaded is not None:  # no lock: a forked child may have been born while it was held
        return _loaded
    with _lock:
        if _loaded is None:
            _loaded = Library()
        return _loaded

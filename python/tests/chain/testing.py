# SPDX-License-Identifier: Apache-2.0
"""What tests alone need of the chain: it skips and fails by pytest."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from . import processes
from .prepared import usual
from .proxy import Missing, Proxy

if TYPE_CHECKING:  # which needs a Jupyter client, and apps of other frameworks have none
    from .notebook import Notebook

Arguments = dict[str, Any]
P = TypeVar("P", bound=Proxy)
MakeNotebook = Callable[..., "contextlib.AbstractContextManager[Notebook]"]


@contextlib.contextmanager
def machine(make: Callable[[], P] = usual) -> Iterator[P]:  # type: ignore[assignment]
    """A proxy machine; the test is skipped where its programs are missing, and fails in CI."""
    try:
        started = make()
        started.__enter__()
    except Missing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    with contextlib.ExitStack() as stack:
        stack.push(started.__exit__)
        yield started


def arguments(proxy: Proxy, **changed: Any) -> Arguments:
    """What expose() needs to know of a proxy machine. Whoever visits is admitted: see test_gate."""
    return {"access": "public", **proxy.known(), **changed}


def link(proxy: Proxy, **changed: Any) -> dict[str, Any]:
    """What expose() needs to know to open an app for those who have the link."""
    return {name: value for name, value in arguments(proxy, **changed).items() if (name, value) != ("access", "public")}


def eventually(what: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait until what() is true; the test fails if it is not in time."""
    assert processes.until(lambda: bool(what()), timeout), f"not within {timeout:g} s"


def new_key(directory: pathlib.Path, passphrase: str = "", name: str = "key") -> pathlib.Path:
    """A new private key; its public half stands beside it."""
    path = directory / name
    keygen = shutil.which("ssh-keygen") or "ssh-keygen"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)
    return path

# SPDX-License-Identifier: Apache-2.0
"""Secrets of the Databricks workspace, as a notebook gets them.

By dbutils where the notebook has it: one secrets.get for each key, of which a missing one raises; there
is no list on every access mode. Else by the workspace's REST interface: one list, and one get for each
key that is there, side by side.

A scope of an Azure Key Vault can hold no name with an underscore (a vault's are letters, digits and hyphens), so
arguments are looked for with a hyphen too.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from .._errors import TunnelError, WorkspaceError
from .._questions import ask
from .._quote import quote
from .._signals import deaf
from . import notebook, workspace

PATIENCE = 9.0  # seconds without an answer: a person waits less than 10

# What dbutils raises has no type in common over the access modes, only words. Tried in this order.
_KINDS = (
    ("no scope", r"scope:? \S+ does ?n[o']t exist|no such scope"),
    ("missing", r"does ?n[o']t exist|not ?found|no such"),
    ("denied", r"permission|denied|forbidden|unauthori[sz]ed"),
    ("down", r"\b(429|5\d\d)\b|time[d ]*out|unavailable|too ?many ?requests|request_limit|deadline|connection"),
    ("thread", r"context not valid|main thread"),
)


class Secret(str):
    """Text that no traceback shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"


class Reading:
    """What a scope has of some keys. `why` is the reason if it could not be read.

    spelled: each key, and the other names that it may have there.
    """

    def __init__(self, scope: str, spelled: dict[str, list[str]]) -> None:
        self._scope = scope
        self._spelled = spelled
        self.found: dict[str, Secret] = {}
        self.why = ""

    def read(self, needed: str) -> None:
        """Read it. WorkspaceError if the workspace is down; or refuses, and `needed` is not there.

        needed: the key without which nothing can be done; "": none.
        """
        get = getattr(getattr(notebook.named("dbutils"), "secrets", None), "get", None)
        answered = callable(get) and self._by_dbutils(get)
        if not answered and (not callable(get) or (needed and needed not in self.found)):
            self._by_rest(needed)

    def _by_rest(self, needed: str) -> None:
        if not notebook.workspace():
            self.why = self.why or "this notebook has neither dbutils nor a login to its workspace"
            return
        try:
            names = [name for key, others in self._spelled.items() for name in (key, *others)]
            found = ask(workspace.question("secrets", scope=self._scope, keys=names), PATIENCE) or {}
            for key, others in self._spelled.items():
                self.found.update((key, Secret(found[name])) for name in (*others, key) if name in found)
            found.clear()
            self.why = ""
        except TunnelError as error:
            if needed or _kind(error) != "denied":
                raise
            self.why = "no permission to read it"

    def _by_dbutils(self, get: Callable[[str, str], str]) -> bool:
        """Whether dbutils told of each key, be it that it is not there."""
        getting = _Getting(get, self._scope, self._spelled)
        getting.in_time()
        if "thread" in getting.kinds:  # it wants to be called by the notebook's own thread
            getting = _Getting(get, self._scope, self._spelled)
            getting.run()
        self.found.update(getting.found)
        if "down" in getting.kinds:
            raise _down(self._scope, f"dbutils.secrets.get raised {getting.raised}")
        if "denied" in getting.kinds:
            self.why = "no permission to read it"
        elif "other" in getting.kinds:
            self.why = f"dbutils.secrets.get raised {getting.raised}"
        return "other" not in getting.kinds


class _Getting:
    """One call of dbutils.secrets.get after another."""

    def __init__(self, get: Callable[[str, str], str], scope: str, spelled: dict[str, list[str]]) -> None:
        self._get, self._scope, self._spelled = get, scope, spelled
        self._news = threading.Event()
        self._done = self._given_up = False
        self.found: dict[str, Secret] = {}
        self.kinds: set[str] = set()  # of what was raised
        self.raised = ""  # the type of the last one

    def run(self) -> None:
        for key in self._spelled:
            self._ask(key, key)
        # A vault has none of the first names; so where one is there, the others are not asked for.
        if not any(self._spelled[key] for key in self.found):
            for key, others in self._spelled.items():
                for name in others if key not in self.found else ():
                    self._ask(key, name)
        self._done = True
        self._news.set()

    def _ask(self, key: str, name: str) -> None:
        if self._given_up or self.kinds & {"no scope", "denied", "down", "thread"}:
            return
        try:
            self.found[key] = Secret(self._get(self._scope, name))
        except Exception as error:
            kind = _kind(error)
            if kind == "other" and name == key and self._spelled[key]:
                kind = "missing"  # what a vault says of a name that none can have; the next one tells
            else:
                self.raised = type(error).__name__
            self.kinds.add(kind)
        self._news.set()

    def in_time(self) -> None:
        """run() in a thread that ends with it, for dbutils may wait for ever. Interruptible."""
        thread = threading.Thread(target=self.run, name="taipy-tunnel-secrets", daemon=True)
        try:
            with deaf():
                thread.start()
            while not self._done:
                if not self._news.wait(PATIENCE):
                    raise _down(self._scope, f"no answer to dbutils.secrets.get within {PATIENCE:g} s")
                self._news.clear()
        finally:
            self._given_up = True


def _down(scope: str, what: str) -> WorkspaceError:
    return WorkspaceError(
        f"secret scope: the workspace does not give {quote(scope)} for now: {what}",
        "try again in a minute; a tunnel that is open is not affected",
    )


def _kind(error: Exception) -> str:
    """Of which kind a failure is, by its words; those of a Java stack below it do not count."""
    lines = [line for line in str(error).splitlines() if not re.match(r"\s+(at|\.\.\.) ", line)]
    words = f"{type(error).__name__} {' '.join(lines[:4])}"
    return next((kind for kind, pattern in _KINDS if re.search(pattern, words, re.I)), "other")

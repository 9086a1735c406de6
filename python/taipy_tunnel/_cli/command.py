# SPDX-License-Identifier: Apache-2.0
"""The command taipy-tunnel.

The engine reads the arguments and does what they say; here its events are shown, as the program of the same name shows
them (cmd/taipy-tunnel). It ends with 0, 1 after an error, which is told on standard error with what to do, 2 if the
arguments are not understood, or 130 after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from .._databricks import notebook
from .._errors import TunnelError
from .._questions import ask
from .._quote import Hidden
from .._settings import decoded, variable

WIDTH = 80  # columns of a row
INTERRUPTED = 130
PATIENCE = 5.0  # seconds for what ends gently at Ctrl-C
PASSED = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)  # to a program that is run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code. `arguments`: those of this process unless given."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    screen = _Screen()
    try:
        "".join(given).encode()
    except UnicodeEncodeError:
        screen.failed("a word of the command line is not in UTF-8")
        return 2
    try:
        code = int(ask(_question(given), None, screen.show, patience=PATIENCE))  # each has a limit of its own, or none
        if code == INTERRUPTED and screen.given_up:
            screen.failed(screen.given_up)
        return code
    except TunnelError as error:  # the library cannot be loaded
        screen.failed(error.message, error.hint)
        return 1
    except BrokenPipeError:  # nobody reads on; nor may the interpreter write to it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        screen.failed(f"standard output: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        if screen.given_up:
            screen.failed(screen.given_up)
        return INTERRUPTED
    finally:
        screen.leave()


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM, which passes to the program that is run."""

    signal = signal.SIGTERM


def _terminated(number: int, frame: object) -> None:
    raise _TerminatedError


def _question(given: list[str]) -> Hidden:
    # The library's copy of the environment is as old as the library.
    environment = {name: value for name, value in os.environ.items() if name.startswith(variable(""))}
    terminal = sys.stdout is not None and sys.stdout.isatty()
    person = sys.stdin is not None and sys.stdin.isatty()
    asked = Hidden(ask="command", args=given, environment=environment, terminal=terminal, person=person)
    if not {"databricks", "--databricks"}.isdisjoint(given) and notebook.here():
        asked.update(notebook.workspace())
    return asked


class _Screen:
    """Shows the engine's events (pkg/command)."""

    given_up = ""  # what is said after Ctrl-C
    program = 0  # the process that was started
    drawn = 0  # lines of the view that stands at the end

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}  # of signals, as they were before

    def show(self, line: str) -> str | None:
        """Show an event; the answer to one that asks."""
        event = json.loads(line)
        kind, text = event["kind"], event.get("text", "")
        if kind == "view":
            self.view(text.split("\n"))
            return None
        self.drawn = 0  # it stays where it is
        if kind == "text":
            print(text.removesuffix("\n"), flush=True)
        elif kind == "table":
            for row in event["rows"]:
                print(drawn(row), flush=True)
        elif kind == "notice":
            with contextlib.suppress(OSError):  # who does not read on is no end of what goes on
                print(text, file=sys.stderr, flush=True)
        elif kind == "failure":
            self.failed(text, event.get("hint", ""))
        elif kind == "given up":
            self.given_up = text
        elif kind == "input":
            return _input()
        elif kind == "question":
            return _answer(text, bool(event["hidden"]))
        elif kind == "start":
            return self.start(event["args"])
        return None

    def view(self, lines: list[str]) -> None:
        """Draw lines in the place of those before."""
        columns = shutil.get_terminal_size((WIDTH, 24)).columns
        above = f"\x1b[{self.drawn}A\x1b[J" if self.drawn else ""
        print(above + "\n".join(line[: columns - 1] for line in lines), flush=True)
        self.drawn = len(lines)

    def start(self, args: list[str]) -> str:
        """Start a program without our variables, to which signals pass; its process, or why there is none.

        The engine waits for it.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith(variable(""))}
        ignored = [signal.SIGPIPE, signal.SIGXFSZ]  # by this interpreter
        self.handlers = {number: signal.getsignal(number) for number in (*PASSED, signal.SIGTERM)}
        signal.signal(signal.SIGTERM, _terminated)
        try:
            self.program = os.posix_spawnp(args[0], args, environment, setsigdef=ignored)
        except FileNotFoundError:
            return "executable file not found in $PATH"  # as the program says it
        except OSError as error:
            return str(error.strerror).lower()
        for number in PASSED:
            signal.signal(number, lambda number, _: os.kill(self.program, number))
        return str(self.program)

    def leave(self) -> None:
        """Leave no program behind, as after a second Ctrl-C, and no handler of a signal."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        with contextlib.suppress(ChildProcessError, ProcessLookupError):  # the engine has waited for it
            if self.program and os.waitpid(self.program, os.WNOHANG)[0] == 0:
                os.kill(self.program, signal.SIGKILL)

    @staticmethod
    def failed(text: str, hint: str = "") -> None:
        with contextlib.suppress(OSError):
            print("\n".join(filter(None, (f"taipy-tunnel: {text}", hint))), file=sys.stderr, flush=True)


def _input() -> str:
    """All of standard input, as text, in UTF-16 too, as PowerShell writes it."""
    if sys.stdin is None:  # closed
        return ""
    whole = getattr(sys.stdin, "buffer", None)
    try:
        return decoded(whole.read()) if whole else sys.stdin.read()
    except (OSError, UnicodeDecodeError):
        return "\x00"  # which is no JSON


def _answer(text: str, hidden: bool) -> str:
    """What a person types after a question on standard error; nothing, if they end the input."""
    try:
        if hidden:
            return getpass.getpass(text, sys.stderr)
        print(text, end="", file=sys.stderr, flush=True)
        return sys.stdin.readline() or "\x00"
    except EOFError:
        return "\x00"


def drawn(row: dict[str, Any]) -> str:
    """A row, with what does not fit into 80 columns below it."""
    state = "skip" if row.get("skipped") else "FAIL" if not row["ok"] else "warn" if row.get("warn") else "ok"
    start = f"{state:<5}{row['step']:<12} "

    def wrap(text: str, first: str, then: str) -> str:
        text = " ".join(text.split())
        return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=then,
                             break_long_words=False, break_on_hyphens=False) or first  # fmt: skip

    below = " " * len(start)
    lines = [wrap(row["seen"], start, below)]
    if row.get("hint"):
        lines += [wrap(row["hint"], f"{below}-> ", f"{below}   ")]
    return "\n".join(lines)

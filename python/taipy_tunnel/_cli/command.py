# SPDX-License-Identifier: Apache-2.0
"""The command taipy-tunnel: what administrators do once, at a terminal.

It reads arguments, asks the engine and prints the answer. It ends with 0, 1 after an error, which
is told on standard error with what to do, 2 if the arguments are wrong, or 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from .._databricks import workspace
from .._errors import TunnelError
from .._hints import argument, worded
from .._questions import ask
from .._quote import keylike, quote, without
from .._settings import variable
from . import proxy
from .arguments import read, text_or_file

STORE_TIMEOUT = 60.0  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code. `arguments`: those of this process unless given."""
    options = _parser().parse_args(arguments)
    options.code = 0
    try:
        print(options.run(options))
    except TunnelError as error:
        hint = worded(error.advice, options.setting)
        print("\n".join(filter(None, (f"taipy-tunnel: {error.message}", hint))), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return int(options.code)


class _Parser(argparse.ArgumentParser):
    """argparse repeats in its errors what it does not understand; here it may be a secret."""

    given: Sequence[str] = ()

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        self.given = sys.argv[1:] if args is None else args
        namespace, rest = super().parse_known_args(args, namespace)
        vars(namespace).setdefault("setting", self.setting)  # that of the innermost command
        return namespace, rest

    def setting(self, name: str, value: str) -> str:
        """A setting of a hint as an argument of this command; of expose(), if it has none."""
        word = shlex.quote(str(json.loads(value))) if value else ""
        for action in self._actions:
            if action.dest == name and action.option_strings:
                return f"{action.option_strings[-1]} {word}".strip()
            if action.dest == name:
                return word or str(action.metavar)
        return variable(name) if name == "key_passphrase" else argument(name, value)

    def error(self, message: str) -> NoReturn:
        super().error(without(message, [self._value(argument) for argument in self.given]))

    def _value(self, argument: str) -> str:
        """What is not the name of an option in a word of the command line."""
        name, _, value = argument.partition("=")
        return value if name in self._option_string_actions else argument


def _parser() -> argparse.ArgumentParser:
    from .. import __version__

    parser = _Parser(prog="taipy-tunnel", description="Sets up what taipy_tunnel.expose() needs.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _databricks(commands)
    proxy.add(commands)
    return parser


def _databricks(commands: Any) -> None:
    group = commands.add_parser("databricks", help="a Databricks workspace").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    store = group.add_parser(
        "store",
        help="store the proxy's address, its host key and a login key where all notebooks find them",
        description="Stores the proxy's address, its host key and a private key to log in with in a secret scope of "
        "a Databricks workspace, once. Notebooks of the workspace then need no argument: taipy_tunnel.expose(). "
        "The workspace is that of your Databricks profile or environment (databricks auth login).",
    )
    add = store.add_argument
    add("--server", required=True, metavar="USER@HOST[:PORT]", help="the proxy machine, and the account there")
    add(
        "--host-key",
        required=True,
        metavar="SHA256:…",
        help="the proxy's host key, as the machine itself shows it (ssh-keygen -lf "
        "/etc/ssh/ssh_host_ed25519_key.pub), or a file of known_hosts lines; it is never taken from the network",
    )
    add("--key", metavar="FILE", help="a private key without passphrase; default: that of the scope, else a new one")
    add("--new-key", action="store_true", help="make a new key though the scope has one")
    add("--scope", default="taipy-tunnel", help="the secret scope (default: %(default)s, where expose() looks)")
    add("--group", default="users", help="who may read it (default: %(default)s, everybody in the workspace)")
    add("--profile", help="a profile of ~/.databrickscfg; default: as Databricks' own tools choose")
    store.set_defaults(run=_store)


def _store(options: argparse.Namespace) -> str:
    stored = ask(
        workspace.question(
            "store",
            profile=options.profile or "",
            scope=options.scope,
            server=options.server,
            host_key=text_or_file("--host-key", options.host_key),
            key=read("--key", options.key) if options.key else "",
            new_key=options.new_key,
            group=options.group,
        ),
        STORE_TIMEOUT,
    )
    account = options.server.rpartition("@")[0].rpartition("//")[2]
    lines = [f"Stored in secret scope {quote(stored['scope'])}; {quote(stored['group'])} may read it."]
    if stored["key_kept"]:
        lines += ["The key that the scope had was kept; --new-key makes another."]
    if stored["public_key"]:
        lines += ["", f"On the proxy machine this line belongs into ~{account}/.ssh/authorized_keys; on a prepared one"]
        lines += ["into the tenant's keys, in the file that taipy-tunnel proxy setup is then run with again:"]
        lines += ["", stored["public_key"]]
    if stored["scope"] == "taipy-tunnel":
        lines += ["", "Then, in a notebook of the workspace: import taipy_tunnel; taipy_tunnel.expose()"]
    else:
        scope = "SCOPE" if keylike(stored["scope"]) else stored["scope"]
        lines += ["", f"Then, in a notebook of the workspace: expose(…, key='secret:{scope}/key')"]
    return "\n".join(lines)

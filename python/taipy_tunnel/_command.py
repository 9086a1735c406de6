# SPDX-License-Identifier: Apache-2.0
"""The command taipy-tunnel: what administrators do once, at a terminal.

It reads arguments, asks the engine and prints the answer. It ends with 0, 1 after an error, which
is told on standard error with what to do, or 2 if the arguments are wrong.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from ._errors import ConfigError, TunnelError
from ._library import library

STORE_TIMEOUT = 60.0  # seconds
RENDER_TIMEOUT = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code. `arguments`: those of this process unless given."""
    options = _parser().parse_args(arguments)
    try:
        print(options.run(options))
    except TunnelError as error:
        print(f"taipy-tunnel: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(prog="taipy-tunnel", description="Sets up what taipy_tunnel.expose() needs.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _databricks(commands)
    _proxy(commands)
    return parser


def _proxy(commands: Any) -> None:
    group = commands.add_parser("proxy", help="the proxy machine").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    for name, what in (
        ("script", "a script that the machine's administrator runs (sudo sh)"),
        ("cloud-init", "user data of cloud-init"),
    ):
        command = group.add_parser(
            name,
            help=f"print {what}",
            description=f"Prints {what}, which makes a machine a prepared proxy: its tenants' accounts can do nothing "
            "but serve their apps. It can be run again after a change, and undoes itself (sh FILE remove).",
        )
        command.add_argument("file", help="the machine, as JSON (docs/proxy.md); -: standard input")
        command.set_defaults(run=lambda options, ask=f"proxy.{name}": str(_rendered(options, ask)))
    render = group.add_parser(
        "render",
        help="write the files that the machine needs below a directory",
        description="Writes the files of a prepared proxy below a directory, to be read, or put in place by other "
        "means than the script. Accounts, and the directories below /run, are in none of them.",
    )
    render.add_argument("file", help="the machine, as JSON (docs/proxy.md); -: standard input")
    render.add_argument("directory", type=pathlib.Path, help="where to; made if it is not there")
    render.set_defaults(run=_render)


def _render(options: argparse.Namespace) -> str:
    files = _rendered(options, "proxy.render")
    for file in files:
        path = options.directory / file["path"].lstrip("/")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file["text"], encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}", "choose another directory") from None
    return f"{len(files)} files below {options.directory}"


def _rendered(options: argparse.Namespace, ask: str) -> Any:
    text = sys.stdin.read() if options.file == "-" else _read("FILE", options.file)
    try:
        host = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"configuration: the machine is not JSON: {error}", "compare with the example in docs/proxy.md"
        ) from None
    return library().ask({"ask": ask, "host": host}, RENDER_TIMEOUT)


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
    question = {
        "ask": "databricks.store",
        "profile": options.profile or "",
        "scope": options.scope,
        "server": options.server,
        "host_key": _text_or_file(options.host_key),
        "key": _read("--key", options.key) if options.key else "",
        "new_key": options.new_key,
        "group": options.group,
    }
    stored = library().ask(question, STORE_TIMEOUT)
    account = options.server.rpartition("@")[0].rpartition("//")[2]
    lines = [f"Stored in secret scope {stored['scope']!r}; {stored['group']!r} may read it."]
    if stored["key_kept"]:
        lines += ["The key that the scope had was kept; --new-key makes another."]
    if stored["public_key"]:
        lines += ["", f"On the proxy machine this line belongs into ~{account}/.ssh/authorized_keys:"]
        lines += ["", stored["public_key"]]
    if stored["scope"] == "taipy-tunnel":
        lines += ["", "Then, in a notebook of the workspace: import taipy_tunnel; taipy_tunnel.expose()"]
    else:
        lines += ["", f"Then, in a notebook of the workspace: expose(…, key='secret:{stored['scope']}/key')"]
    return "\n".join(lines)


def _text_or_file(value: str) -> str:
    try:
        is_file = pathlib.Path(value).is_file()
    except (OSError, ValueError):  # too long for a path
        is_file = False
    return _read("--host-key", value) if is_file else value


def _read(option: str, path: str) -> str:
    shown = repr(path) if len(path) < 1024 and "\n" not in path else ""  # not the text of a key
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(1 << 20)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"configuration: {option} {shown} cannot be read: {reason}", "give the path of a file"
        ) from None

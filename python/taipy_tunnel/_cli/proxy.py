# SPDX-License-Identifier: Apache-2.0
"""taipy-tunnel proxy: a proxy machine is set up and looked at, or what that takes is printed."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import textwrap
from typing import Any

from .. import _quote
from .._errors import ConfigError
from .._hints import worded
from .._questions import ask
from .arguments import read

RENDER_TIMEOUT = 30.0  # seconds
SET_UP_TIMEOUT = 3600.0  # packages may come slowly
CHECK_TIMEOUT = 600.0  # each step ends within 10 s
WIDTH = 80  # columns of a row


def add(commands: Any) -> None:
    group = commands.add_parser("proxy", help="the proxy machine").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    _setup(group)
    _check(group)
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
        command.set_defaults(run=lambda options, what=f"proxy.{name}": str(_rendered(options, what)))
    render = group.add_parser(
        "render",
        help="write the files that the machine needs below a directory",
        description="Writes the files of a prepared proxy below a directory, to be read, or put in place by other "
        "means than the script. Accounts, and the directories below /run, are in none of them.",
    )
    render.add_argument("file", help="the machine, as JSON (docs/proxy.md); -: standard input")
    render.add_argument("directory", type=pathlib.Path, help="where to; made if it is not there")
    render.set_defaults(run=_render)


def _setup(group: Any) -> None:
    setup = group.add_parser(
        "setup",
        help="set a machine up through SSH, or bring it up to date",
        description="Runs the script of a prepared proxy (proxy script) on a Debian or Ubuntu machine, as root, and "
        "prints what its tenants' notebooks need. What the machine says meanwhile comes on standard error. Run it "
        "again after a change of FILE; what sshd or nginx refuse is taken back. Ctrl-C ends it, and takes back too.",
    )
    _login(setup, "root, or an account to which sudo gives root without a password")
    setup.add_argument("file", metavar="FILE", help="the machine, as JSON (docs/proxy.md); -: standard input")
    setup.add_argument("--remove", action="store_true", help="remove what was made; packages stay")
    setup.set_defaults(run=_set_up)


def _check(group: Any) -> None:
    check = group.add_parser(
        "check",
        help="look at a machine as one of its tenants, and say what is missing",
        description="Logs in as a tenant of a prepared proxy would and looks at the live machine, without a change: "
        "the account, what it may do and should not, nginx, the apps' addresses and certificates. Open tunnels do not "
        "notice. Ends with 0 if nothing FAILs, 1 otherwise.",
    )
    _login(check, "the tenant")
    check.set_defaults(run=_checked)


def _login(command: Any, account: str) -> None:
    add = command.add_argument
    add("server", metavar="USER@MACHINE[:PORT]", help=f"{account}; or an alias of ~/.ssh/config")
    add("--host-key", default="", metavar="SHA256:…", help="the machine's host key, a known_hosts line or file; "
        "default: the known_hosts files. It is always checked")  # fmt: skip
    add("--key", default="", metavar="FILE", help="a private key to log in with (TAIPY_TUNNEL_KEY_PASSPHRASE opens "
        "it); default: as for ssh, the agent's, then ~/.ssh/id_*")  # fmt: skip
    add("--jump", default="", metavar="USER@BASTION", help="machines on the way; default: ProxyJump of ~/.ssh/config")
    add(
        "--via",
        default="",
        metavar="URL",
        help="an egress proxy, http, https or socks5; default: HTTPS_PROXY, ALL_PROXY",
    )


def _config(options: argparse.Namespace) -> dict[str, str]:
    names = ("server", "host_key", "key", "jump", "via")
    passphrase = os.environ.get("TAIPY_TUNNEL_KEY_PASSPHRASE", "") if options.key else ""
    return {**{name: getattr(options, name) for name in names}, "key_passphrase": passphrase}


def _set_up(options: argparse.Namespace) -> str:
    host = _described(options)
    question = {"ask": "proxy.setup", "host": host, "config": _config(options), "remove": options.remove}
    try:
        made = ask(question, SET_UP_TIMEOUT, lambda line: print(line, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print("taipy-tunnel: given up; the script there is hung up, and takes back what it did", file=sys.stderr)
        raise
    if options.remove:
        return "The machine is no proxy any more."
    key = made["host_key"]
    lines = [f"The proxy is ready. Its host key: {key}"]
    for tenant in made["tenants"]:
        server = tenant["server"]
        lines += ["", f"Notebooks of {server.rpartition('@')[0].rpartition('//')[2]}:"]
        names = [json.dumps(name) if name else "" for name in tenant["names"]]
        for name in names + ['"…"  # any name'] * tenant["free"]:
            name, _, remark = name.partition("  ")
            call = f'server="{server}", host_key="{key}"' + (f", name={name}" if name else "")
            lines += [f"    taipy_tunnel.expose({call})" + (f"  {remark}" if remark else "")]
        lines += ["or, for all notebooks of a Databricks workspace:"]
        lines += [f"    taipy-tunnel databricks store --server {server} --host-key {key}"]
        lines += ["whether all is there:", f"    taipy-tunnel proxy check {server} --host-key {key}"]
    return "\n".join(lines)


def _checked(options: argparse.Namespace) -> str:
    rows = ask({"ask": "proxy.check", "config": _config(options)}, CHECK_TIMEOUT)
    options.code = 0 if all(row["ok"] for row in rows) else 1
    return "\n".join(_row(row, worded(row["hint"], options.setting)) for row in rows)


def _row(row: dict[str, Any], hint: str) -> str:
    """As doctor()'s, and what does not fit into 80 columns below."""
    state = "FAIL" if not row["ok"] else "warn" if row.get("warn") else "ok"
    start = f"{state:<5}{row['step']:<12} "

    def wrap(text: str, first: str, then: str) -> str:
        return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=then,
                             break_long_words=False, break_on_hyphens=False)  # fmt: skip

    below = " " * len(start)
    lines = [wrap(row["seen"], start, below)]
    if hint:
        lines += [wrap(hint, f"{below}-> ", f"{below}   ")]
    return "\n".join(lines)


def _render(options: argparse.Namespace) -> str:
    files = _rendered(options, "proxy.render")
    for file in files:
        path = options.directory / file["path"].lstrip("/")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file["text"], encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{_quote.path(str(path))} cannot be written: {error.strerror}", "choose another directory"
            ) from None
    return f"{len(files)} files below {_quote.quote(str(options.directory))}"


def _rendered(options: argparse.Namespace, what: str) -> Any:
    return ask({"ask": what, "host": _described(options)}, RENDER_TIMEOUT)


def _described(options: argparse.Namespace) -> Any:
    text = sys.stdin.read() if options.file == "-" else read("FILE", options.file)
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"configuration: the machine is not JSON: {error}", "compare with the example in docs/proxy.md"
        ) from None

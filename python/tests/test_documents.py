# SPDX-License-Identifier: Apache-2.0
"""What the documents tell people to write is taken: calls by expose(), command lines by the command.

The engine's twin, which tries the forms of the way to the proxy, is pkg/destination/documents_test.go.
"""

from __future__ import annotations

import ast
import inspect
import pathlib
import re
import subprocess
from typing import Any

import pytest
import taipy_tunnel
from chain.apps import no_way_out
from chain.proxy import program

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "python/README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.remove(ROOT / "docs/compatibility.md")  # it has what is refused, too
NOTEBOOKS = sorted((ROOT / "examples/databricks").glob("*.py"))
ARGUMENTS = set(inspect.signature(taipy_tunnel.expose).parameters) - {"unknown"}
FINGERPRINT = "SHA256:" + "A" * 43
FILLED = {"SHA256:…": FINGERPRINT, "http://…/": "http://host/", ".../": "http://host/", "host:port": "localhost:5000"}


def calls(text: str) -> list[str]:
    """The calls of expose() in a page, without the signature in its own block."""
    found = []
    for match in re.finditer(r"\bexpose\(", text):
        depth, at = 1, match.end()
        while depth and at < len(text):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        found.append("expose(" + text[match.end() : at])
    return [call for call in found if ") ->" not in text[text.index(call) + len(call) - 1 :][:5]]


def values(text: str) -> list[str]:
    """What is said of one argument, as in `check="off"` and in the README's table, as a call."""
    literal = r"""("[^"\n]*"|True|\d+|/[\w/.]+|\((?:"[^"]*",? ?)+\))"""
    found = [f"expose({name}={value})" for name, value in re.findall(rf"\b([a-z_]+)={literal}(?![\w…])", text)]
    for name, row in re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", text, re.MULTILINE):
        # what "is" is said of something else
        found += [f"expose({name}={value})" for value in re.findall(rf"(?<! is )`{literal}`", row)]
    return [call for call in found if call[7 : call.index("=")] in ARGUMENTS]


def meant(written: ast.expr) -> Any:
    """The value that an argument's text stands for; ... where the reader has to fill it in."""
    value = ast.literal_eval(written)
    if isinstance(value, str):
        for shown, filled in FILLED.items():
            value = value.replace(shown, filled)
    return ... if "…" in str(value) else value


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("key") / "key"
    subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return str(path)


TOLD = {call: page.name for page in [*PAGES, *NOTEBOOKS] for find in (calls, values) for call in find(page.read_text())}


@pytest.mark.parametrize("call", sorted(TOLD))
def test_calls_are_taken(call: str, key: str) -> None:
    """Each is tried with the values that it has, up to a way out of the network that is closed."""
    node = ast.parse(re.sub(r"(?<=[(,=] )…|(?<=[(,=])…", "...", call), mode="eval").body
    assert isinstance(node, ast.Call), TOLD[call]
    names = {word.arg: word.value for word in node.keywords if word.arg}
    assert set(names) <= ARGUMENTS, TOLD[call]
    args = [value for a in node.args if (value := meant(a)) is not ...]
    given = {"server": "me@203.0.113.7", "host_key": FINGERPRINT, "key": key}
    given |= {name: value for name, a in names.items() if (value := meant(a)) is not ...}
    if given["key"].startswith("secret:"):  # of a workspace: test_databricks
        given["key"] = key
    if given.get("raw"):
        given["access"] = "public"
    given.pop("keep_cluster", None)  # needs a cluster: test_databricks
    with no_way_out() as via, pytest.raises(taipy_tunnel.ProxyHopError):  # any other: TOLD says where it stands
        taipy_tunnel.expose(*args, **given | {"via": via, "timeout": 20})


def test_there_are_calls() -> None:
    assert len(TOLD) > 40, TOLD


def test_the_signature_is_ours() -> None:
    shown = re.search(r"```python\n(expose\(.*?\) -> Tunnel)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown
    scope: dict[str, Any] = {"Tunnel": taipy_tunnel.Tunnel}
    exec(f"def {shown[1]}: ...", scope)
    ours = inspect.signature(taipy_tunnel.expose).parameters.values()
    told = inspect.signature(scope["expose"]).parameters.values()
    assert [(p.name, p.kind, p.default) for p in told] == [(p.name, p.kind, p.default) for p in ours][:-1]


def test_names_in_a_key_vault_are_arguments() -> None:
    page = (ROOT / "docs/databricks.md").read_text()
    names = re.findall(r"^ {4}az keyvault secret set .*--name (\S+) --(?:value|file) \S+$", page, re.MULTILINE)
    assert len(names) == 3
    assert {name.replace("-", "_") for name in names} <= ARGUMENTS

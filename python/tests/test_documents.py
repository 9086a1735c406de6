# SPDX-License-Identifier: Apache-2.0
"""What the documents tell people to write is taken: calls by expose(), command lines by the command.

The engine's twin, which tries the values, is pkg/destination/documents_test.go.
"""

from __future__ import annotations

import ast
import inspect
import pathlib
import re
import shlex

import taipy_tunnel
from taipy_tunnel._cli.command import _parser

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "python/README.md", *sorted((ROOT / "docs").glob("*.md"))]


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


def test_calls_are_taken() -> None:
    tried = 0
    for page in PAGES:
        for call in calls(page.read_text()):
            node = ast.parse(re.sub(r"(?<=[(,=] )…|(?<=[(,=])…", "...", call), mode="eval").body
            assert isinstance(node, ast.Call)
            names = {word.arg: None for word in node.keywords}
            inspect.signature(taipy_tunnel.expose).bind(*[None for a in node.args if ast.unparse(a) != "..."], **names)
            tried += len(names)
    assert tried > 15


def test_command_lines_are_taken() -> None:
    tried = 0
    for page in PAGES:
        for line in re.findall(r"^ {4}(taipy-tunnel .*)$|`(taipy-tunnel [^`]+)`", page.read_text(), re.MULTILINE):
            words = shlex.split((line[0] or line[1]).split("|")[0])[1:]
            if words[-1] == "…" or len(words) < 3:  # named, not to be run
                continue
            try:
                _parser().parse_args(words)
            except SystemExit as refused:
                raise AssertionError(f"{page.name}: {line}") from refused
            tried += 1
    assert tried > 5

# SPDX-License-Identifier: Apache-2.0
"""Hints name settings as marks; a notebook and a terminal read of them in their own words."""

from __future__ import annotations

import ast
import inspect
import json
import pathlib
import re

import pytest
import taipy_tunnel
from taipy_tunnel import _hints
from taipy_tunnel._cli.command import main
from taipy_tunnel._errors import HostKeyError, from_json

ROOT = pathlib.Path(__file__).resolve().parents[2]
FINGERPRINT = f"SHA256:{'A' * 43}"
# The table is that of the engine's tests, too.
TABLE = json.loads((ROOT / "pkg/internal/fault/testdata/hints.json").read_text())


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["hint"])
def test_words(row: dict[str, str]) -> None:
    assert _hints.worded(row["hint"]) == row["python"]


@pytest.mark.parametrize("text", ["{host_key}", '{url="x"}', "{{key}}", "{", "}}", "}{via}{", "{jump="])
def test_what_is_filled_in_is_no_mark(text: str) -> None:
    assert _hints.worded(f"say {_hints.plain(text)}: {{key}}") == f"say {text}: key="


def test_an_error_speaks_to_notebooks() -> None:
    error = from_json({"class": "host_key", "message": "host key: unknown", "hint": 'pass {host_key="SHA256:a"}'})
    assert (type(error), error.hint) == (HostKeyError, 'pass host_key="SHA256:a"')
    assert str(error) == 'host key: unknown\npass host_key="SHA256:a"'


def test_a_command_speaks_of_its_options(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["proxy", "check", "me@127.0.0.1:1", "--via", "ftp://a", "--host-key", FINGERPRINT]) == 1
    shown = capsys.readouterr().err
    assert "write --via http://user:password@host:port (or https" in shown
    assert "--via none connects directly" in shown
    assert main(["proxy", "check", "nobody@"]) == 1
    assert "\nwrite user@host or " in capsys.readouterr().err


def test_each_setting_is_an_argument() -> None:
    parameters = set(inspect.signature(taipy_tunnel.expose).parameters)
    assert set(_hints.ARGUMENTS.values()) == parameters - {"unknown", "keep_cluster"}
    engine = [path for path in ROOT.glob("pkg/**/*.go") if not path.name.endswith("_test.go")]
    named = {
        name
        for path in [*engine, *ROOT.glob("python/taipy_tunnel/**/*.py")]
        for line in path.read_text().splitlines()
        if not line.lstrip().startswith(("//", "#"))
        for text in re.findall(r"""`[^`]*`|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", line)
        for name in re.findall(r"""\{([a-z_]+)(?:=["\d\[{%][^{}]*)\}""", text)
    }
    assert {"host_key", "server", "via", "url", "access"} <= named <= set(_hints.ARGUMENTS)


def test_no_hint_is_made_of_unknown_texts() -> None:
    """What a hint is put together from: texts of ours, other hints, and plain() of anything else."""
    wrong = []
    for path in ROOT.glob("python/taipy_tunnel/**/*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("Error") and len(call.args) == 2:
                hint = ast.unparse(call.args[1])
                if re.search(rf"\b({'|'.join(_hints.ARGUMENTS)})=", re.sub(r"\{[^{}]*\}", "", hint)):
                    wrong.append(f"{path.name}:{call.lineno}: {hint}")
                for part in ast.walk(call.args[1]):
                    if isinstance(part, ast.FormattedValue):
                        filled = ast.unparse(part.value)
                        if not re.search(r"\bplain\(|\.advice$|^_remedy\(\)$", filled):
                            wrong.append(f"{path.name}:{call.lineno}: {filled}")
    assert wrong == []

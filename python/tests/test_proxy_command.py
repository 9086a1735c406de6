# SPDX-License-Identifier: Apache-2.0
"""taipy-tunnel proxy: the text of a script, and nothing that runs here."""

from __future__ import annotations

import io
import json
import pathlib
import subprocess

import pytest
from chain.testing import new_key
from taipy_tunnel._cli.command import main


def machine(tmp_path: pathlib.Path, **changed: object) -> str:
    public = new_key(tmp_path).with_suffix(".pub").read_text()
    tenant = {"name": "sales", "keys": [public], "host": "proxy.example.com", "apps": [{"name": "forecast"}]}
    return json.dumps({"tenants": [{**tenant, **changed}]})


def test_script(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.json"
    path.write_text(machine(tmp_path))
    assert main(["proxy", "script", str(path)]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#!/bin/sh\n")
    assert "Match User sales" in script
    assert "PermitListen none" in script
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    monkeypatch.setattr("sys.stdin", io.StringIO(path.read_text()))
    assert main(["proxy", "cloud-init", "-"]) == 0
    assert capsys.readouterr().out.startswith("#cloud-config\n")


def test_render(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "machine.json"
    described = json.loads(machine(tmp_path))
    described["layout"] = {"etc": "/opt/taipy-tunnel", "sshd": "/opt/sshd.conf"}
    path.write_text(json.dumps(described))
    assert main(["proxy", "render", str(path), str(tmp_path / "below")]) == 0
    assert "Match User sales" in (tmp_path / "below/opt/sshd.conf").read_text()
    assert "forecast" in (tmp_path / "below/opt/taipy-tunnel/proxy/sales.json").read_text()
    assert "\n    /opt/sshd.conf\n" in capsys.readouterr().out
    (tmp_path / "file").touch()
    assert main(["proxy", "render", str(path), str(tmp_path / "file")]) == 1
    assert "file" in capsys.readouterr().err


@pytest.mark.parametrize(("changed", "said"), [
    ({"name": "../root"}, "account"), ({"keys": ["command=\"sh\" ssh-ed25519 AAAA"]}, "key"),
    ({"misspelt": 1}, "misspelt"),
])  # fmt: skip
def test_a_machine_that_cannot_be(
    changed: dict[str, object], said: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "machine.json"
    path.write_text(machine(tmp_path, **changed))
    assert main(["proxy", "script", str(path)]) == 1
    shown = capsys.readouterr()
    assert (shown.out, said in shown.err) == ("", True), shown.err


def test_no_json(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "machine.json"
    path.write_text("tenants: []")
    assert main(["proxy", "script", str(path)]) == 1
    assert main(["proxy", "script", str(tmp_path / "nowhere")]) == 1
    assert main(["proxy"]) == 2
    assert capsys.readouterr().out == ""

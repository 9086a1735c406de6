# SPDX-License-Identifier: Apache-2.0
"""taipy-tunnel proxy setup and check, against a real sshd.

The script itself is not run here, where it would change the machine that tests run on: what starts it there
(setsid) starts another one in its place. pkg/internal/roottest runs the real one.
"""

from __future__ import annotations

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from chain.plain import Plain
from chain.proxy import Proxy
from chain.testing import eventually, machine, new_key

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
UP = "read x || echo no input\n"
RUN = pathlib.Path("/run")
LOOKS = "looking from here at what visitors open\n"
SHOWN = "SHA256:" + "A" * 43  # the host key that the stand-in says

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a machine is set up by root")


class Admin:
    """Who sets up a machine where `script` runs in the place of the real one."""

    def __init__(self, proxy: Proxy, directory: pathlib.Path) -> None:
        self.proxy, self.directory = proxy, directory
        self.received = directory / "received"
        tenant = {"keys": [new_key(directory).with_suffix(".pub").read_text()], "host": "proxy.example.com"}
        # games: an account that the real script would refuse
        games = {**tenant, "name": "games", "apps": [{"name": "forecast"}]}
        hr = {**tenant, "name": "hr", "host": "hr.example.com", "apps": [{"name": "staff"}, {"name": "travel"}]}
        free = {**tenant, "name": "free", "apps": [], "self_service": "apps.example.com"}
        self.file = directory / "machine.json"
        self.file.write_text(json.dumps({"tenants": [games, hr, free]}))

    def script(self, text: str) -> None:
        (self.directory / "standin").write_text(text)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        login = ["--key", self.proxy.key, "--host-key", self.proxy.host_key]
        argv = [sys.executable, "-m", "taipy_tunnel", "proxy", *arguments, *login]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def set_up(self, *arguments: str) -> tuple[int, str, str]:
        with self.start("setup", self.proxy.server, str(self.file), *arguments) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def admin(tmp_path: pathlib.Path) -> Iterator[Admin]:
    before = set(RUN.glob("taipy-tunnel.*"))
    shims = tmp_path / "shims"
    shims.mkdir()
    shim = shims / "setsid"
    shim.write_text(f'#!/bin/sh\ncat /dev/fd/3 >{tmp_path}/received\nexec /usr/bin/setsid sh {tmp_path}/standin "$3"\n')
    shim.chmod(0o755)
    with machine(lambda: Plain([f"SetEnv HOME=/nonexistent PATH={shims}:{PATH}"])) as proxy:
        yield Admin(proxy, tmp_path)
    eventually(lambda: set(RUN.glob("taipy-tunnel.*")) <= before)  # other tests may run beside these


def test_set_up(admin: Admin) -> None:
    admin.script(f'echo "do $1"; echo wrong >&2; {UP}echo "taipy-tunnel: host key {SHOWN}"')
    code, out, err = admin.set_up()
    assert (code, err) == (0, f"do install\nwrong\nno input\ntaipy-tunnel: host key {SHOWN}\n{LOOKS}")
    script = subprocess.run(
        [sys.executable, "-m", "taipy_tunnel", "proxy", "script", str(admin.file)], capture_output=True, text=True
    )
    assert admin.received.read_text() == script.stdout
    at = admin.proxy.server.partition("@")[2]
    assert [line.strip() for line in out.splitlines() if "expose" in line] == [
        f'taipy_tunnel.expose(server="games@{at}", host_key="{SHOWN}")',
        f'taipy_tunnel.expose(server="hr@{at}", host_key="{SHOWN}", name="staff")',
        f'taipy_tunnel.expose(server="hr@{at}", host_key="{SHOWN}", name="travel")',
        f'taipy_tunnel.expose(server="free@{at}", host_key="{SHOWN}", name="…")  # any name',
    ]
    assert f"    taipy-tunnel databricks store --server hr@{at} --host-key {SHOWN}\n" in out
    assert f"    taipy-tunnel proxy check hr@{at} --host-key {SHOWN}\n" in out
    assert "visitors open:\n    http" in out
    assert "warn url " in out  # names of nobody's
    code, out, err = admin.set_up("--remove")
    assert (code, out, err.splitlines()[0]) == (0, "The machine is no proxy any more.\n", "do remove")


def test_lines_come_while_the_script_runs(admin: Admin) -> None:
    go = admin.directory / "go"
    admin.script(f"echo first; echo second >&2; while [ ! -e {go} ]; do sleep 0.05; done; echo third")
    with admin.start("setup", admin.proxy.server, str(admin.file)) as process:
        assert process.stderr is not None
        assert [process.stderr.readline() for _ in range(2)] == ["first\n", "second\n"]
        assert not select.select([process.stderr], [], [], 0.3)[0]
        go.touch()
        assert process.stderr.readline() == "third\n"
        assert process.wait(20) == 0


def test_much_is_said_and_none_of_it_lost(admin: Admin) -> None:
    admin.script("seq 20000")
    code, _, err = admin.set_up()
    assert (code, err) == (0, "".join(f"{n}\n" for n in range(1, 20001)) + LOOKS)


def test_the_machine_gives_the_terminal_no_orders(admin: Admin) -> None:
    admin.script("printf 'a\\033[2Jb\\a\\r\\342\\200\\256c\\302\\233d\\tü\\n'")
    assert admin.set_up()[2] == "a[2Jb cd ü\n" + LOOKS


def test_a_script_that_fails(admin: Admin) -> None:
    admin.script("echo why; exit 3")
    code, out, err = admin.set_up()
    assert (code, out) == (1, "")
    assert err.startswith("why\ntaipy-tunnel: set-up: the script on 127.0.0.1 failed with status 3\n")
    assert "Traceback" not in err


def test_ctrl_c(admin: Admin) -> None:
    """A shell says "Hangup" where nobody listens any more, so a script that undoes something traps SIGPIPE too."""
    undone, finished = admin.directory / "undone", admin.directory / "finished"
    undo = f"trap '' HUP PIPE; sleep 0.2; touch {undone}; exit 1".replace("''", '""')
    admin.script(f"trap '{undo}' HUP PIPE\necho working\nsleep 60\ntouch {finished}")
    with admin.start("setup", admin.proxy.server, str(admin.file)) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "working\n"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert time.monotonic() - began < 10  # aim 0.1 s; the script would go on for 60 s
        assert (
            process.stderr.read() == "taipy-tunnel: given up; the script there is hung up, and takes back what it did\n"
        )
    eventually(undone.exists)
    assert not finished.exists()


def test_what_is_wrong_before(admin: Admin) -> None:
    for server, file, said in (
        (admin.proxy.server, "/nowhere", 'FILE "/nowhere" cannot be read'),
        ("127.0.0.1:1", str(admin.file), "names no user"),
        ("root@127.0.0.1:1", str(admin.file), "no connection to 127.0.0.1:1"),
    ):
        with admin.start("setup", server, file) as process:
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out, said in err, "Traceback" in err) == (1, "", True, False), err
    admin.file.write_text('{"tenants": []}')
    assert "there are 0 tenants" in admin.set_up()[2]
    assert not admin.received.exists()


# What the tenant's look says is tested in Go, row by row.


def check(proxy: Proxy, *arguments: str) -> tuple[int, str, str]:
    argv = [sys.executable, "-m", "taipy_tunnel", "proxy", "check", proxy.server, "--key", proxy.key, *arguments]
    environment = {**os.environ, "DATABRICKS_RUNTIME_VERSION": "15.4"}  # it is asked on a driver as well
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment)
    return ran.returncode, ran.stdout, ran.stderr


def test_check(proxy: Proxy) -> None:
    code, out, err = check(proxy, "--host-key", proxy.host_key)
    states = {line[5:17].strip(): line[:4].strip() for line in out.splitlines() if line[:4].strip()}
    assert (code, err, set(states.values())) == (0, "", {"ok"}), out
    assert list(states) == [
        "login", "host key", "description", "commands", "ports", "addresses", "files", "sockets", "slots", "nginx",
        "stale links", "url",
    ]  # fmt: skip
    assert all(len(line) <= 80 or " " not in line.strip() for line in out.splitlines())
    code, out, err = check(proxy)
    assert (code, err, proxy.host_key in out) == (1, "", True)
    assert out.startswith("FAIL login        host key: the key of ")


def test_check_of_a_plain_account(plain: Plain) -> None:
    code, out, err = check(plain, "--host-key", plain.host_key)
    assert (code, err) == (1, "")
    assert "FAIL description  root shows no /proxy.json: it is an ordinary account" in out
    assert "FAIL commands     the account runs commands" in out
    code, out, err = check(plain, "--key", "/nowhere")
    assert (code, out) == (1, "")
    assert "/nowhere" in err

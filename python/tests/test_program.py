# SPDX-License-Identifier: Apache-2.0
"""The program taipy-tunnel, in Go, and the wheel's command of that name say the same, and end with the same."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import taipy_tunnel
from chain.apps import web_app
from chain.proxy import Proxy
from chain.testing import arguments, eventually, new_key
from chain.visits import visit

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("program") / "taipy-tunnel"
    linked = f"-X main.version={taipy_tunnel.__version__}"
    build = ["go", "build", "-trimpath", "-tags", "netgo,osusergo", "-ldflags", linked, "-o", str(made)]
    subprocess.run([*build, "./cmd/taipy-tunnel"], cwd=ROOT, check=True)
    return str(made)


LINES = {
    "nothing": "",
    "help": "--help",
    "help of a command": "proxy setup --help",
    "version": "--version",
    "completion": "completion bash",
    "a command that is not there": "proxi",
    "an option that is not there": "proxy check a@b --jupm c",
    "an argument that is missing": "proxy check",
    "an answer of many lines": "proxy script machine.json",
    "an answer in JSON": "proxy script machine.json --json",
    "standard input": "proxy cloud-init -",
    "a file that is not there": "proxy script nowhere.json",
    "an error": "proxy check me@127.0.0.1:1 --host-key x",
    "an error in JSON": "proxy check me@127.0.0.1:1 --host-key x --json",
    "rows": "proxy check SERVER --key KEY --host-key HOST_KEY",
    "rows, of which one FAILs": "proxy check SERVER --key KEY --host-key OTHER",
    "apps of nobody": "status me@127.0.0.1:1 --host-key x",
    "what would be exposed": "doctor 127.0.0.1:9 --server SERVER --key KEY --host-key OTHER",
    "what would be exposed, in JSON": "doctor --server SERVER --key nowhere --json",
    "rows in JSON": "proxy check SERVER --key KEY --host-key OTHER --json",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_both_say_the_same(line: str, program: str, proxy: Proxy, tmp_path: pathlib.Path) -> None:
    public = new_key(tmp_path).with_suffix(".pub").read_text()
    tenant = {"name": "sales", "keys": [public], "host": "proxy.example.com", "apps": [{"name": "forecast"}]}
    machine = json.dumps({"tenants": [tenant]})
    (tmp_path / "machine.json").write_text(machine)
    known = {"SERVER": proxy.server, "KEY": proxy.key, "HOST_KEY": proxy.host_key, "OTHER": f"SHA256:{'A' * 43}"}
    words = [known.get(word, word) for word in line.split()]
    said = []
    for command in ([program], [sys.executable, "-m", "taipy_tunnel"]):
        ran = subprocess.run(
            [*command, *words], input=machine, capture_output=True, text=True, cwd=tmp_path, timeout=60
        )
        said.append((ran.returncode, ran.stdout, ran.stderr))
    assert said[0] == said[1]
    code, out, err = said[0]
    assert code in (0, 1, 2)
    assert out or err


@pytest.mark.parametrize("which", ["program", "wheel"])
def test_an_app_is_exposed_until_ctrl_c(which: str, program: str, proxy: Proxy) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in arguments(proxy).items()]
    command = [program] if which == "program" else [sys.executable, "-m", "taipy_tunnel"]
    with web_app("company data") as address:
        argv = [*command, "expose", address, *options]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            assert running.stdout.readline() == f"{proxy.url}\n"
            assert visit(proxy.url) == "company data"
            running.send_signal(signal.SIGINT)
            assert running.wait(10) == 130
            assert running.stdout.read() == ""
            said = running.stderr.read().splitlines()
            assert said[0] == "connecting"
            assert said[-1] == "taipy-tunnel: the tunnel is closed"
            assert any(line.endswith(" up") for line in said)


# A server that says its variables of ours, and what it is ended by.
SERVER = """
import http.server, os, signal
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(("data" + "".join(name for name in os.environ if "TAIPY_TUNNEL" in name)).encode())
    def log_message(self, *_):
        pass
def end(number, _):
    print("ended by", number, flush=True)
    os._exit(4)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, end)
http.server.ThreadingHTTPServer(("127.0.0.1", 0), App).serve_forever()
"""


@pytest.mark.parametrize("which", ["program", "wheel"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_is_run_beside_its_tunnel(number: int, which: str, program: str, proxy: Proxy) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in arguments(proxy).items()]
    command = [program] if which == "program" else [sys.executable, "-m", "taipy_tunnel"]
    argv = [*command, "run", *options, "--", sys.executable, "-c", SERVER]
    environment = {**os.environ, "TAIPY_TUNNEL_CONNECTIONS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stderr.readline() == "connecting\n"
        assert running.stderr.readline() == f"visitors open {proxy.url}\n"
        page = []

        def answered() -> bool:
            with contextlib.suppress(OSError):
                page[:] = [visit(proxy.url)]
            return page == ["data"]

        eventually(answered)
        running.send_signal(number)
        assert running.wait(10) == 4
        assert running.stdout.read() == f"ended by {int(number)}\n"


def test_a_program_that_is_not_there(program: str, proxy: Proxy) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in arguments(proxy).items()]
    for word in ("no-such-program", secrets.token_urlsafe(32)):
        said = []
        for command in ([program], [sys.executable, "-m", "taipy_tunnel"]):
            ran = subprocess.run([*command, "run", *options, "--", word], capture_output=True, text=True, timeout=60)
            assert (ran.returncode, ran.stdout) == (1, "")
            said.append(ran.stderr.splitlines()[-2:])
        assert said[0] == said[1]
        assert "executable file not found" in said[0][0]
        assert (word in said[0][0]) == (word == "no-such-program")


@pytest.mark.parametrize("which", ["program", "wheel"])
def test_requests_under_way_are_answered_after_ctrl_c(which: str, program: str, proxy: Proxy) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in arguments(proxy).items()]
    command = [program] if which == "program" else [sys.executable, "-m", "taipy_tunnel"]
    under_way = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                under_way.set()
                time.sleep(0.5)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"company data")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as app:
        threading.Thread(target=app.serve_forever, daemon=True).start()
        argv = [*command, "expose", str(app.server_port), *options]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as running, ThreadPoolExecutor(1) as visitors:
            assert running.stdout is not None
            assert running.stdout.readline() == f"{proxy.url}\n"
            visitor = visitors.submit(visit, f"{proxy.url}slow")
            assert under_way.wait(20)
            running.send_signal(signal.SIGINT)
            assert visitor.result() == "company data"
            assert running.wait(10) == 130
        app.shutdown()


def test_ctrl_c(program: str) -> None:
    for command in ([program], [sys.executable, "-m", "taipy_tunnel"]):
        pipe = subprocess.PIPE
        with subprocess.Popen([*command, "proxy", "script", "-"], stdin=pipe, stdout=pipe, stderr=pipe) as running:
            until_it_reads(running)
            running.send_signal(signal.SIGINT)
            assert running.wait(10) == 130
            assert running.stderr is not None
            assert running.stderr.read() == b""


def until_it_reads(running: subprocess.Popen[bytes]) -> None:
    """Wait until a thread of a process is in read(0, …), system call 0 of this architecture or 63 of arm64."""
    reads = ("0 0x0 ", "63 0x0 ")

    def read() -> bool:
        told = pathlib.Path(f"/proc/{running.pid}/task").glob("*/syscall")
        with contextlib.suppress(OSError):  # of a thread that has ended
            return any(task.read_text().startswith(reads) for task in told)
        return False

    if os.getuid() != 0:
        pytest.skip("it cannot be seen here when a process waits for input")
    eventually(read)

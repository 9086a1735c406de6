# SPDX-License-Identifier: Apache-2.0
"""The chain's own prepared proxy: it leaves the machine as it was, however it ends; and a page below a path."""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import re
import signal
import sys
from collections.abc import Iterator

import pytest
import taipy_tunnel
from chain import accounts, processes
from chain.browser import Browser
from chain.interpreters import line, script, talk
from chain.notebook import Notebook
from chain.prepared import Prepared
from chain.testing import arguments, eventually, link, machine

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a prepared proxy is root's")

HERE = str(pathlib.Path(__file__).parent)
START = """
    import sys
    sys.path.insert(0, «here»)
    from chain import accounts
    from chain.prepared import Prepared
    accounts.COMMENT = «comment»
    with Prepared() as proxy:
        print(proxy.server.split("@")[0], proxy.directory, proxy.ssh_port, proxy.port, flush=True)
        sys.stdin.readline()
"""


def exists(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def of_the_machine() -> Iterator[object]:
    """Its accounts, and its own configuration; not what other tests of ours have now."""
    yield [entry for entry in pwd.getpwall() if not accounts.OURS.fullmatch(entry.pw_name)]
    # Any sshd wants /run/sshd, and leaves it.
    yield sorted(entry for entry in os.listdir("/run") if entry != "sshd" and not re.match("taipy-tunnel[-.]", entry))
    etc = ("/etc/ssh", "/etc/nginx", "/etc/security", "/etc/tmpfiles.d")
    for top in (*etc, "/var/log/nginx", "/var/cache/taipy-tunnel", "/run/taipy-tunnel"):
        for path in sorted(pathlib.Path(top).rglob("*")):
            yield path, path.lstat().st_mtime_ns, path.lstat().st_size


def test_the_machine_is_left_alone() -> None:
    before = list(of_the_machine())
    with machine(Prepared) as proxy:
        name, directory = proxy.server.split("@")[0], proxy.directory
        account = pwd.getpwnam(name)
        assert (account.pw_shell, account.pw_dir) == ("/usr/sbin/nologin", "/nonexistent")
        slots = pathlib.Path(str(proxy.slot)).parent
        assert (slots.stat().st_uid, oct(slots.stat().st_mode)) == (account.pw_uid, oct(0o42750))
        assert slots.stat().st_gid != account.pw_gid  # that of nginx's workers
        above = [path for path in slots.parents if path.stat().st_uid != 0 or path.stat().st_mode & 0o022]
        assert above == []
    assert not exists(name)
    assert not directory.exists()
    assert list(of_the_machine()) == before


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_it_nothing_stays(how: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a SIGKILL the next one removes what is left: account, directory and what still runs."""
    # What other tests begin meanwhile sweeps as well, and knows accounts by another comment.
    comment = "taipy-tunnel test of process {} since {}"
    monkeypatch.setattr(accounts, "WHOSE", re.compile(comment.format("([0-9]+)", "([0-9]+)")))
    with talk(sys.executable, script(START, here=HERE, comment=comment)) as child:
        name, directory, *ports = line(child).split()
        assert exists(name)
        child.send_signal(how)
        child.wait(20)
        assert exists(name) == (how == signal.SIGKILL)
        accounts.sweep()
        assert not exists(name)
        assert not pathlib.Path(directory).exists()
        eventually(lambda: not any(processes.listening(int(port)) for port in ports))


def test_those_who_live_are_not_swept() -> None:
    with accounts.account() as mine, talk(sys.executable, script(START, here=HERE, comment=accounts.COMMENT)) as child:
        theirs = line(child).split()[0]
        assert not {mine.name, theirs} & set(accounts.sweep())
        assert exists(mine.name)
        assert exists(theirs)
        child.stdin.close()
        assert child.wait(20) == 0, child.stderr.read()
        assert not exists(theirs)


def test_many_at_once() -> None:
    """useradd(8) and userdel(8) refuse to work while another one does."""
    with talk(sys.executable, script(MANY, here=HERE)) as one, talk(sys.executable, script(MANY, here=HERE)) as other:
        made = [child.communicate()[0].split() for child in (one, other)]
        assert [child.returncode for child in (one, other)] == [0, 0]
    names = [name for found in made for name in found]
    assert (len(names), len(set(names))) == (12, 12)
    assert not any(map(exists, names))


MANY = """
    import sys, threading
    sys.path.insert(0, «here»)
    from chain.accounts import account
    def run():
        for _ in range(2):
            with account() as made:
                sys.stdout.write(made.name + "\\n")  # at once: print would write the end of the line apart
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_a_machine_of_an_older_version_is_told_of(app: str) -> None:
    with machine(Prepared) as proxy:
        (path,) = proxy.directory.rglob("proxy.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "ends_stale": False}))
        tunnel = taipy_tunnel.expose(app, **arguments(proxy))
        warning = tunnel.status.warning
        assert isinstance(warning, taipy_tunnel.ConfigError)
        assert "wait for a minute" in warning.message
        assert "proxy setup" in warning.hint
        assert warning.message in str(tunnel)
        assert any(warning.message in line for line in tunnel.logs())


APP = """
from taipy.gui import Gui
import taipy_tunnel
text, clicks = "first", 0
def click(state):
    state.clicks += 1
gui = Gui("<|{text}|text|id=text|>\\n\\n<|{clicks}|text|id=clicks|>\\n\\n<|Click|button|id=click|on_action=click|>")
gui.run(port=%d)
print(taipy_tunnel.expose().url)
"""


@pytest.fixture
def sales() -> Iterator[Prepared]:
    """A proxy machine whose app is below a path."""
    with machine(lambda: Prepared("sales")) as proxy:
        yield proxy


@pytest.fixture
def notebook(sales: Prepared) -> Iterator[Notebook]:
    """A kernel that knows it."""
    with Notebook(env={f"TAIPY_TUNNEL_{name.upper()}": str(value) for name, value in link(sales).items()}) as notebook:
        yield notebook


def test_a_page_below_a_path(notebook: Notebook, sales: Prepared) -> None:
    """Taipy's pages think that they have the whole host; the gate writes their addresses anew."""
    url = notebook.run(APP % processes.free_port()).ok().stdout.split()[-1]
    assert re.fullmatch(rf"http://127\.0\.0\.1:{sales.port}/sales/#token=.+", url)
    with Browser() as browser:
        page = browser.open(url)
        page.wait_text("#text", "first", timeout=30)
        page.click("#click")
        page.wait_text("#clicks", "1")
        notebook.run("gui.state.text = 'set in a cell'").ok()
        page.wait_text("#text", "set in a cell")
        assert page.evaluate("location.href") == sales.url
        assert page.websockets
        assert all("/sales/" in address for address in page.websockets)
    first = carried(notebook)
    with Browser() as browser:
        browser.open(url).wait_text("#text", "set in a cell", timeout=30)
    # nginx has kept the page's code, and asked for it again with this visitor's cookie.
    assert "cache=REVALIDATED" in sales.nginx_log()
    print(f"over the link: {first} bytes for the first visitor, {carried(notebook) - first} for the second")
    assert carried(notebook) - first < first / 4


def carried(notebook: Notebook) -> int:
    """Bytes that went over the link, both ways."""
    return int(notebook.run("print(taipy_tunnel.tunnels()[0].status.bytes)").ok().stdout.split()[-1])

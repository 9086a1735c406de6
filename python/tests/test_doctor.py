# SPDX-License-Identifier: Apache-2.0
"""doctor(): each broken step is the one that it names, with what to do."""

from __future__ import annotations

import pytest
import taipy_tunnel
from chain import processes
from chain.apps import web_app
from chain.plain import Plain
from chain.proxy import Proxy
from chain.testing import arguments, eventually


def seen() -> dict[str, tuple[bool, str, str]]:
    return {step.step: (step.ok, step.seen, step.hint) for step in taipy_tunnel.doctor()}


def test_nothing_is_open() -> None:
    found = taipy_tunnel.doctor()
    assert not found.ok
    assert [(step.step, step.state) for step in found if not step.skipped] == [("settings", "FAIL"), ("app", "warn")]
    assert "server=" in found[0].hint
    assert "FAIL settings " in repr(found)
    assert [step.seen for step in found if step.step == "login"] == ["skipped: see the row settings"]
    assert "skip login " in repr(found)


def test_what_would_be_opened(either: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the arguments of expose() the chain is looked at before there is a tunnel."""
    given = arguments(either)
    monkeypatch.setenv("TAIPY_TUNNEL_KEY", given.pop("key"))
    with web_app("hello") as app:
        found = taipy_tunnel.doctor(app, **given)
        assert found.ok, found
        way = ["settings", "app", "name", "connection", "ssh", "host key", "login"]
        assert [step.step for step in found][:8] == [*way, "description" if either.kind == "prepared" else "slot"]
        assert "(server=)" in found[0].seen
        assert "key (TAIPY_TUNNEL_KEY)" in found[0].seen
        assert taipy_tunnel.tunnels() == []
    found = taipy_tunnel.doctor(app, **{**given, "host_key": "SHA256:" + "A" * 43})
    wrong = [step for step in found if not step.ok and not step.skipped]
    assert [step.step for step in wrong] == ["app", "host key"]
    assert "host_key=" in wrong[1].hint


def test_a_setting_that_is_wrong() -> None:
    """It is a row, without what may be a secret, and so is an app that is not there."""
    secret = "ssh-key-" + "x7Q" * 40
    for wrong in ({"server": secret}, {"server": "me@h", "connections": "many"}, {"server": "me@h", "key": secret}):
        found = taipy_tunnel.doctor(**wrong)
        assert next(step.step for step in found if not step.ok and not step.skipped) == "settings"
        assert secret[:20] not in repr(found)
    with pytest.raises(TypeError, match=r"doctor.. has no argument 'sever'; did you mean 'server'"):
        taipy_tunnel.doctor(sever="me@h")


def test_each_step_is_looked_at(either: Proxy) -> None:
    with web_app("hello") as app:
        tunnel = taipy_tunnel.expose(app, **arguments(either))
        found = taipy_tunnel.doctor()
        assert found.ok, found
        exposure = [] if either.kind == "prepared" else ["exposure"]
        assert [step.step for step in found] == ["app", "link", *exposure, "url", "visitor"]
        assert "a visitor gets 200 OK" in found[-1].seen
        assert (tunnel.status.requests, tunnel.requests()) == (0, [])
        assert {step.tunnel for step in found} == {either.url}
        assert repr(found).startswith(either.url + "\nok   app")
        assert found._repr_html_().count("<tr>") == 1 + len(found)
    ok, what, hint = seen()["app"]
    assert (ok, "nothing answers" in what, 'app="127.0.0.1:5000"' in hint) == (False, True, True)
    assert seen()["url"][0]  # the gate answers for itself
    tunnel.close(0)


def test_two_tunnels_with_one_url(plain: Plain, app: str) -> None:
    """Each has a block, and which one is whose is told."""
    other = processes.free_port()
    taipy_tunnel.expose(app, **arguments(plain))
    taipy_tunnel.expose(app, **arguments(plain, remote=other, check="off"))
    found = taipy_tunnel.doctor()
    names = [f"{plain.url} ({n} of 2)" for n in (1, 2)]
    assert list(dict.fromkeys(step.tunnel for step in found)) == names
    ports = [str(port) in step.seen for step in found if step.step == "link" for port in (plain.remote, other)]
    assert ports == [True, False, False, True]
    assert all(name in repr(found) for name in names)


def test_what_visitors_get_while_the_app_is_away(proxy: Proxy) -> None:
    tunnel = taipy_tunnel.expose("127.0.0.1:9", **arguments(proxy))
    ok, what, hint = seen()["visitor"]
    assert (ok, '503 Service Unavailable, "The app is starting"' in what, bool(hint)) == (False, True, True)
    tunnel.close(0)


def test_on_databricks(proxy: Proxy, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's login is for questions to its workspace; it made the doctor's one that is not understood."""
    tunnel = taipy_tunnel.expose(app, **arguments(proxy))
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "15.4")
    found = taipy_tunnel.doctor()
    assert found.ok, found
    tunnel.close(0)


def test_a_link_that_is_lost(proxy: Proxy, app: str) -> None:
    tunnel = taipy_tunnel.expose(app, **arguments(proxy))
    eventually(lambda: tunnel.status.links == proxy.links_of_a_tunnel)
    proxy.stop_sshd()
    try:
        eventually(lambda: tunnel.state == "reconnecting")
        ok, what, _ = seen()["link"]
        assert (ok, "reconnecting" in what) == (False, True)
        assert not taipy_tunnel.doctor().ok
    finally:
        proxy.start_sshd()
    eventually(lambda: tunnel.state == "up", 30)

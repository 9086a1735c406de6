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
    assert [step.step for step in found] == ["app", "link"]
    assert "expose()" in found[1].hint
    assert "FAIL link" in repr(found)


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
        assert "<pre>" in found._repr_html_()
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

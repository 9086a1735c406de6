# SPDX-License-Identifier: Apache-2.0
"""How a tunnel looks, in every state."""

from __future__ import annotations

import dataclasses
import datetime
import re
import xml.etree.ElementTree
from typing import Any

import pytest
from taipy_tunnel import AppNotFoundError, ConfigError, HostKeyError, ProxyUnreachableError, Status, _card
from taipy_tunnel._status import Cluster

NOW = datetime.datetime.now(datetime.timezone.utc)
EVIL = "<script>alert(1)</script>\"'&" * 400


def status(state: str = "up", **changed: Any) -> Status:
    known: dict[str, Any] = {
        "state": state, "url": "http://203.0.113.7/", "server": "me@203.0.113.7:22", "name": "",
        "target": "127.0.0.1:53211",
        "checked": "url", "unchecked": "", "links": 1, "slots": 1,
        "access": "token", "token_kept": True, "expires": None,
        "visitors": 3, "visitors_today": 0, "requests": 0, "refused": 0, "failed": 0, "slow": 0,
        "bytes": 0, "reconnects": 1,
        "since": NOW - datetime.timedelta(hours=2, minutes=14, seconds=3), "retry_at": None, "last_error": None,
        "warning": None,
    }  # fmt: skip
    return Status(**{**known, **changed})


STATES = {
    "up": (status(), "up for 2 h 14 min, 1 reconnect"),
    "waiting": (status("waiting", target=""), "waiting for an app: run the cell that starts it"),
    "reconnecting": (
        status("reconnecting", links=0, last_error=ProxyUnreachableError("connect: refused", "look")),
        "reconnecting for 2 h 14 min: connect: refused",
    ),
    "failed": (status("failed", links=0, last_error=HostKeyError("host key: changed", "ask")), "failed for"),
    "expired": (
        status("expired", last_error=ConfigError("access: the link ended at noon", "with a later expires=")),
        "expired for 2 h 14 min: access: the link ended at noon",
    ),
    "degraded": (
        status("degraded", last_error=ProxyUnreachableError("link: connection lost: EOF")),
        "degraded for 2 h 14 min: link: connection lost: EOF",
    ),
    "closed": (status("closed", links=0), "closed for 2 h 14 min"),
}


@pytest.mark.parametrize("name", STATES)
def test_states(name: str) -> None:
    shown, words = STATES[name]
    late = datetime.datetime.now(datetime.timezone.utc) - NOW  # what ran since this file was read
    shown = dataclasses.replace(shown, since=shown.since + late)
    card = _card.html(shown, shown.url)
    xml.etree.ElementTree.fromstring(card)  # well-formed
    assert len(card.encode()) < 8192
    assert words in re.sub(r"<[^>]*>", "", card)
    assert words in _card.text(shown, shown.url)
    assert "\n" not in _card.line(shown)
    broken = {"waiting", "reconnecting", "failed", "closed", "expired"}
    assert ("#d1242f" in card) == (name in broken)
    assert ("Whoever has this link" in card) == (name not in ("failed", "closed", "expired"))
    assert ("#1a7f37" in card) == (name == "up")  # green
    assert ("stroke-dasharray" in card) == (name != "up")
    assert ("later expires=" in card) == (name == "expired")


def test_what_helps_an_app_that_is_there_and_does_not_answer() -> None:
    waits = status(
        "waiting",
        last_error=AppNotFoundError("app: 127.0.0.1:5000 speaks TLS, and is asked for HTTP", "start it without"),
    )
    for card in (_card.text(waits, waits.url), _card.html(waits, waits.url)):
        assert "start it without" in card


def test_access_is_told() -> None:
    def told(**changed: Any) -> str:
        return _card.text(status(**changed), "http://h/")

    assert "Open to everybody" in told(access="public")
    assert "Open to everybody" in told(access="")
    assert "user name and a password" in told(access="password")
    assert "read on the way" in told()
    assert "read on the way" not in told(url="https://h/")
    assert "another one after a restart" in told(token_kept=False)
    assert "The link ends on 2030-01-02 at 03:04 UTC" in told(expires=datetime.datetime(2030, 1, 2, 3, 4))
    counted = told(requests=12, visitors_today=1, refused=2, failed=0, slow=1)
    assert "1 visitor today; 12 requests, 2 refused, 1 slow." in counted


def test_what_the_admin_should_mend_is_told() -> None:
    old = ConfigError("description: an older version has set it up", "have the admin run it again")
    words = "Warning: description: an older version has set it up; have the admin run it again."
    card = _card.html(status(warning=old), "http://h/")
    xml.etree.ElementTree.fromstring(card)
    assert words in card
    assert words in _card.text(status(warning=old), "http://h/")
    assert "Warning" not in _card.text(status("closed", warning=old), "http://h/")


def test_an_address_that_could_not_be_checked() -> None:
    shown = status(checked="", unchecked='it answers "406 Not Acceptable": a firewall')
    assert 'could not be checked: it answers "406 Not Acceptable": a firewall. Open it' in _card.text(
        shown, "http://h/"
    )
    assert "could not be checked. Open it" in _card.text(status(checked=""), "http://h/")
    assert "could not be checked: a login" in _card.text(status(checked="link", unchecked="a login"), "http://h/")
    assert "checked" not in _card.text(status(checked="link"), "http://h/")
    assert "<script>" not in _card.html(status(checked="", unchecked=EVIL), "http://h/")


LIVES = {
    "60 minutes after its last cell": Cluster("cluster", 60),
    "keeps the cluster, which costs": Cluster("cluster", 60, kept=True),
    "ends with its last cell": Cluster("job"),
    "ends idle sessions": Cluster("serverless"),
}


@pytest.mark.parametrize("words", LIVES)
def test_the_life_of_the_cluster_is_told(words: str) -> None:
    shown = status(cluster=LIVES[words])
    assert words in _card.text(shown, "http://h/")
    card = _card.html(shown, "http://h/")
    xml.etree.ElementTree.fromstring(card)
    assert words in card
    assert words not in _card.text(status("closed", cluster=LIVES[words]), "http://h/")
    assert _card.text(status(cluster=Cluster("cluster", 0)), "h") == _card.text(status(), "h")


def test_everything_is_escaped_and_short() -> None:
    error = HostKeyError(EVIL, EVIL)
    shown = status("failed", url=EVIL, server=EVIL, target=EVIL, links=0, last_error=error)
    card = _card.html(shown, shown.url)
    xml.etree.ElementTree.fromstring(card)
    assert len(card.encode()) < 8192
    assert "<script" not in card
    assert 'href="javascript' not in _card.html(status(), "javascript:alert(1)")


def test_nothing_from_outside() -> None:
    card = _card.html(status(), "http://203.0.113.7/#token=x")
    assert not re.search(r"<script|src=|url\(|@import|<link", card)
    assert re.findall(r'href="([^"]*)"', card) == ["http://203.0.113.7/#token=x"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h")],
)
def test_ages(seconds: int, words: str) -> None:
    assert _card._age(datetime.timedelta(seconds=seconds)) == words

# SPDX-License-Identifier: Apache-2.0
"""The app in a frame of another site: a wiki, a portal, a cell's displayHTML."""

from __future__ import annotations

import taipy_tunnel
from chain.apps import page_app
from chain.browser import Browser
from chain.compat import TAKEN, Row
from chain.proxy import Proxy
from chain.testing import arguments, eventually, link

PORTAL = '<!doctype html><link rel="icon" href="data:,"><h1>Portal</h1><iframe src="%s"></iframe>'
TRIED = "in a frame of another site (Confluence, SharePoint, displayHTML), "


def test_the_link_in_a_frame(proxy: Proxy, app: str, compat: Row) -> None:
    """The page that takes the token may not be framed: another site's page could have a visitor click through it."""
    tunnel = taipy_tunnel.expose(app, **link(proxy))
    with page_app(PORTAL % tunnel.url) as portal, Browser() as browser:
        page = browser.open(f"http://{portal}/")
        page.wait_text("h1", "Portal")
        eventually(lambda: any("frame-ancestors 'self'" in error for error in page.errors))
        assert not [request for request in tunnel.requests() if request["status"] == 200]
    compat("apps", TRIED + "the link", "refused: Framing … violates … directive: \"frame-ancestors 'self'\"")


def test_a_public_app_in_a_frame(proxy: Proxy, app: str, compat: Row) -> None:
    """The app's own pages say whether they may be framed; nothing is added to them."""
    tunnel = taipy_tunnel.expose(app, **arguments(proxy))
    with page_app(PORTAL % tunnel.url) as portal, Browser() as browser:
        page = browser.open(f"http://{portal}/")
        page.wait_text("h1", "Portal")
        eventually(lambda: any(request["status"] == 200 for request in tunnel.requests()))
        assert page.errors == []
    compat("apps", TRIED + 'access="public"', TAKEN)

# SPDX-License-Identifier: Apache-2.0
"""`python -m chain --check`: the demo, driven by a browser, step by step.

Each step reports what it saw; an exception is a FAIL row. Limits are what a broken tunnel exceeds
(a value set in a cell takes 4.6 s without the wake, a kept-alive request 44 ms without
TCP_QUICKACK); aims are what an idle machine shows, and missing one is "slow".
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import load, processes
from .browser import Browser, Page
from .demo import Demo, progress
from .plain import Plain
from .report import Report

TITLE = "Getting started with Taipy"
STABLE = 10.0  # backoff.Stable: a link that lived shorter than that is not replaced at once
CLICKS = 5  # of which the first is slow on a busy machine: 11 s where the second takes 0.4 s
LOAD_SECONDS = 2.0
ASKED = "/taipy-init?client_id=load"  # a page's first call: of Taipy's routes the quickest, 0.5 ms of its time
RERUN_ERROR = "OrchestratorServiceIsAlreadyRunning"  # Taipy's, where a cell runs Core or Rest again

now = time.perf_counter


def get(port: int, path: str, token: str = "", timeout: float = 5.0) -> tuple[int, bytes]:
    """Ask 127.0.0.1:port. No proxy of the environment takes part."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def expect(holds: bool, otherwise: str) -> None:
    """An AssertionError that python -O keeps."""
    if not holds:
        raise AssertionError(otherwise)


class Check:
    """The steps, in order. What one leaves behind, the next ones use."""

    page: Page
    url: str  # the visitors', with the token
    token: str

    def __init__(self, demo: Demo, browser: Browser, report: Report, brief: bool = False) -> None:
        """brief: fewer repetitions; it shows that all works, and is no measurement."""
        self.demo = demo
        self.proxy = demo.proxy
        self.browser = browser
        self.report = report
        self.kills, self.rounds = (2, 1) if brief else (5, 3)
        self.kill_rows: list[tuple[float, float, float]] = []

    def run(self) -> None:
        """All steps; up to the first that the others need."""
        for hop, step, needed in self.steps():
            try:
                step()
            except Exception as e:
                self.report.fail(hop, str(e) if isinstance(e, AssertionError) else f"{type(e).__name__}: {e}")
                if needed:
                    return

    def steps(self) -> Iterator[tuple[str, Callable[[], None], bool]]:
        yield "notebook", self.app, True
        yield "expose", self.expose, True
        yield "curl", self.curl, True
        yield "browser", self.draw, True
        yield "websocket", self.websocket, False
        yield "click", self.click, True
        yield "push", self.push, False
        yield "outage", self.outage, False
        yield "spare", self.spare, False
        yield "rerun", self.rerun, False
        yield "rest", self.rest, False
        yield "requests", self.requests, False
        yield "close", self.close, False

    def app(self) -> None:
        began = now()
        self.demo.run_app().ok()
        self.report.row("notebook", "the app's cell", (now() - began) * 1000)

    def expose(self) -> None:
        took = self.demo.expose()
        url, state = self.demo.ask("[tunnel.url, tunnel.state]")
        expect(state == "up", f"the tunnel is {state!r}")
        self.url = url
        base, _, self.token = url.partition("#token=")
        expect(
            base == self.proxy.url and len(self.token) >= 22, f"the tunnel's url is {base!r}, not {self.proxy.url!r}"
        )
        self.report.row("expose", f"{state}, {base}", took * 1000, 1000, 10_000)

    def curl(self) -> None:
        expect(get(self.proxy.port, "/")[0] in (403, 502, 503), "visitors are admitted without the link's token")
        began = now()
        status, body = get(self.proxy.port, "/", self.token)
        took = (now() - began) * 1000
        expect(status == 200, f"{self.proxy.url} answers {status}: {body[:80]!r}")
        expect(b"taipy" in body.lower(), f"{self.proxy.url} is not Taipy's page: {body[:200]!r}")
        self.report.row("curl", f"{status}, Taipy's page", took, 50, 2000)

    def draw(self) -> None:
        began = now()
        self.page = self.browser.open(self.url)
        self.page.wait_text("h1", TITLE, timeout=30)
        shown = self.page.wait_text("#clicks", "0") - began
        self.report.row("browser", f"page drawn, {self.page.requests} requests", shown * 1000, 5000)

    def websocket(self) -> None:
        frame = self.page.wait_frame(lambda frame: not frame.sent)
        expect(frame.payload != "", "an empty frame")
        seen = f"{len(self.page.websockets)} websocket, frame {frame.payload[:20]!r}"
        self.report.row("websocket", seen)

    def click(self) -> None:
        took = [self.clicked(self.page) for _ in range(CLICKS)]
        self.report.row("click", "on the page, the first", took[0])
        self.report.row("click", f"on the page, median of {CLICKS}", statistics.median(took), 200, 2000)

    def clicked(self, page: Page) -> float:
        """Click the button; the milliseconds until the page shows that the app knows."""
        count = int(page.text("#clicks"))
        began = now()
        page.click("#click")
        return (page.wait_text("#clicks", str(count + 1)) - began) * 1000

    def push(self) -> None:
        self.demo.notebook.run(self.demo.push_cell).ok()
        self.page.wait_text("#text", "Set in a cell")
        took = []
        for i in range(CLICKS):
            began = now()
            self.demo.notebook.run(f"gui.state.text = 'value {i}'").ok()
            took.append((self.page.wait_text("#text", f"value {i}") - began) * 1000)
        median = statistics.median(took)
        self.report.row("push", f"set in a cell, shown; median of {CLICKS}", median, 250, 1500)

    def outage(self) -> None:
        """All links are killed at once; they come back, and the page goes on without a reload."""
        self.page.evaluate("window.sameDocument = true")
        loads = self.page.loads  # the first handed the token over
        links = "the link" if self.links == 1 else f"all {self.links} links"
        with progress(f"killing {links} {self.kills} times, each {STABLE:.0f} s old"):
            for _ in range(self.kills):
                self.let_links_settle()
                self.kill_rows.append(self.kill_links())
        back, told, alive = (statistics.median(column) for column in zip(*self.kill_rows))
        worst = max(row[0] for row in self.kill_rows)
        # When all links end at once each waits up to 500 ms: forty notebooks do not log in in the same instant.
        self.report.row("link", f"{links} killed, app answers; median of {self.kills}", back, 500, 3000)
        self.report.row("link", "… the slowest of them", worst, 700, 4000)
        self.report.row("link", "… by the tunnel's own status", told, 700, 4000)
        self.report.row("click", f"after it, without a reload; median of {self.kills}", alive, 6000, 15_000)
        same = self.page.evaluate("window.sameDocument === true")
        expect(same and self.page.loads == loads, f"the page was loaded {self.page.loads - loads} times more")

    @property
    def links(self) -> int:
        return self.proxy.links_of_a_tunnel

    def let_links_settle(self) -> None:
        """A link that is lost young waits longer for its successor, so let all come of age."""
        age = time.time() - self.made_whole()
        if age < STABLE:
            time.sleep(STABLE - age + 0.1 * self.links)  # the second is a moment younger

    def made_whole(self, reconnects: int = -1) -> float:
        """Wait until all links are there, after so many reconnects; since when the tunnel is up."""
        asked = "(lambda s: [s.state, s.links, s.reconnects, s.since.timestamp()])(tunnel.status)"
        seen: list[Any] = []

        def look() -> bool:
            seen[:] = self.demo.ask(asked)
            return seen[:2] == ["up", self.links] and reconnects in (-1, seen[2])

        whole = processes.until(look, 20, every=0.05)
        state, links, count, since = seen
        expect(whole, f"status: {state}, {links} links, {count} reconnects in place of {reconnects}")
        return float(since)

    def kill_links(self) -> tuple[float, float, float]:
        """Milliseconds until the app answers again, by the status, and until a click works."""
        pids, before = self.proxy.links(), self.demo.ask("tunnel.status.reconnects")
        expect(len(pids) == self.links, f"{self.links} connections of sshd's should be links: {pids}")
        moment, began = time.time(), now()
        self.proxy.kill_links()
        processes.until(lambda: not any(map(processes.look, pids)), 5, every=0.0005)
        expect(processes.until(self.answers, 20, every=0.002), "the app does not answer for 20 s")
        back = (now() - began) * 1000
        self.clicked(self.page)
        alive = (now() - began) * 1000
        return back, (self.made_whole(before + self.links) - moment) * 1000, alive

    def answers(self) -> bool:
        try:
            return get(self.proxy.port, "/taipy.status.json", self.token, timeout=1)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def spare(self) -> None:
        """One of two links is killed: visitors do not notice."""
        if self.links == 1:
            return
        self.made_whole()
        before, asked, lost, worst = self.demo.ask("tunnel.status.reconnects"), 0, 0, 0.0
        expect(self.proxy.kill_links(1) == 1, "there was no link to kill")
        until = now() + 1
        while now() < until:
            began, asked = now(), asked + 1
            lost += not self.answers()
            worst = max(worst, (now() - began) * 1000)
        self.made_whole(before + 1)
        expect(lost == 0, f"{lost} of {asked} requests were lost with one of {self.links} links")
        self.report.row("link", f"one killed: none of {asked} requests lost; slowest", worst, 100, 1000)

    def rerun(self) -> None:
        """Both cells again: the same tunnel at the same address, in front of an app that lives."""
        before = self.demo.ask("[id(tunnel), tunnel.url]")
        began = now()
        error = self.demo.run_app().error
        expect(error is None or error.ename == RERUN_ERROR, f"the app's cell: {error}")
        took = self.demo.expose() * 1000
        after = self.demo.ask("[id(tunnel), tunnel.url]")
        expect(before == after, f"another tunnel: {before} became {after}")
        page = self.browser.open(self.url)
        page.wait_text("h1", TITLE, timeout=30)
        page.wait_text("#clicks", "", exactly=False)
        self.clicked(page)
        alive = (now() - began) * 1000
        page.close()
        self.report.row("expose", "its cell again: same tunnel, same URL", took, 100, 2000)
        self.report.row("rerun", "both cells, a new page, a click", alive, 8000)

    def rest(self) -> None:
        began = now()
        status, body = get(self.proxy.port, "/api/v1/scenarios/", self.token)
        took = (now() - began) * 1000
        expect(status == 200, f"/api/v1/scenarios/ answers {status}: {body[:80]!r}")
        expect(isinstance(json.loads(body), list), f"not a list of scenarios: {body[:80]!r}")
        self.report.row("rest", "GET /api/v1/scenarios/", took, 50, 2000)

    def requests(self) -> None:
        """Kept-alive requests at a slot beside plain `ssh -N -R` to the same app, which needs a plain account."""
        target = int(self.demo.ask("tunnel.status.target").rsplit(":", 1)[1])
        self.page.close()
        with Plain() as beside, beside.plain_ssh(target) as plain:
            for connections, aim, limit in ((1, 20, 5), (16, 5, 0)):  # with 16 it is the machine that is measured
                with progress(f"asking over {connections} kept alive, {self.rounds} rounds each way"):
                    ours, theirs = self.rates(plain, connections)
                seen = f"{connections:>2} kept alive: {ours:.0f}/s; ssh -N -R {theirs:.0f}/s"
                self.report.ratio("requests", seen, ours / theirs, aim, limit)

    def rates(self, plain: int, connections: int) -> tuple[float, float]:
        """Requests a second at a slot and at the port of plain ssh, medians of rounds in turn."""
        rates: dict[int | str, list[float]] = {self.proxy.slot: [], plain: []}
        for _ in range(self.rounds):
            for slot, measured in rates.items():
                one = load.measure(slot, ASKED, connections, LOAD_SECONDS, self.token)
                expect(one.failed == 0, f"{one.failed} requests failed at {slot}")
                measured.append(one.rate)
        return statistics.median(rates[self.proxy.slot]), statistics.median(rates[plain])

    def close(self) -> None:
        """The notebook is closed: nobody listens at its slots, and visitors are told so by nginx."""
        expect(self.proxy.slot_held(), "the slot was not held")
        began = now()
        self.demo.notebook.shut_down()
        free = processes.until(lambda: not self.proxy.slot_held(), 5)
        kernel = "is still alive" if self.demo.notebook.alive() else "has ended"
        expect(free, f"after 5 s the slot is still held; the kernel {kernel}")
        self.report.row("close", "notebook closed, the slot is free", (now() - began) * 1000, 1000, 1000)
        status, body = get(self.proxy.port, "/")
        prepared = self.proxy.kind == "prepared"
        expect(status == (503 if prepared else 502), f"after that {self.proxy.url} answers {status}")
        expect(not prepared or b"The app is away" in body, f"visitors are shown {body[:80]!r}")

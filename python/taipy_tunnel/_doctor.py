# SPDX-License-Identifier: Apache-2.0
"""doctor(): what stands between the app and its visitors, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from ._errors import TunnelError
from ._hints import worded
from ._near import proposals
from ._registry import tunnels
from ._taipy.app import App

_PATIENCE = 12.0  # seconds for one tunnel; the engine looks for 10


@dataclass(frozen=True)
class Step:
    """One step of the chain, as it was seen."""

    tunnel: str  # the URL, "(1 of 2)" after it if two have that; "" if no tunnel is open
    step: str  # "app", "link", "exposure" (of a plain proxy's port), "url", "visitor"
    ok: bool  # visitors get past it
    seen: str
    hint: str  # what to do, "" if nothing
    warn: bool = False  # ok, but somebody should look at it


class Diagnosis(list[Step]):
    """The steps of each open tunnel, in the order of the chain; print it, or end a cell with it."""

    @property
    def ok(self) -> bool:
        """Whether visitors get through."""
        return all(step.ok for step in self)

    def __repr__(self) -> str:
        lines, tunnel = [], None
        for step in self:
            if step.tunnel != tunnel:
                tunnel = step.tunnel
                lines += [tunnel] if tunnel else []
            word = "FAIL" if not step.ok else "warn" if step.warn else "ok"
            lines.append(f"{word:<5}{step.step:<9}{step.seen}")
            lines += [f"{'':14}-> {step.hint}"] if step.hint else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


def doctor() -> Diagnosis:
    """Look along the chain of each open tunnel, from the app to the public URL, and say what to do.

    At last it opens the page as a visitor who has the link, or a password, would. It reads only, sends one small
    request a step, is counted nowhere, and takes at most ten seconds a tunnel.
    """
    found = Diagnosis()
    known = tunnels()
    urls = [tunnel.status.url for tunnel in known]
    for at, (tunnel, url) in enumerate(zip(known, urls)):
        count = urls.count(url)
        name = url if count == 1 else f"{url} ({urls[:at].count(url) + 1} of {count})"
        for row in tunnel.examine(_PATIENCE):
            hint = worded(row["hint"])
            if row["step"] == "app" and not row["ok"]:
                hint = "; ".join([hint, *proposals(tunnel.status.target)])
            found.append(Step(name, row["step"], row["ok"], row["seen"], hint, bool(row.get("warn"))))
    if not found:
        found.append(_app())
        found.append(Step("", "link", False, "no tunnel is open in this process", "call taipy_tunnel.expose()"))
    return found


def _app() -> Step:
    """The app without a tunnel."""
    try:
        address = App(None).address()
    except TunnelError as error:
        return Step("", "app", False, error.message, error.hint)
    if not address:
        hint = "; ".join(["run the cell that starts it", *proposals()])
        return Step("", "app", False, "no Taipy app runs in this process", hint)
    return Step("", "app", True, f"it listens on {address}", "")

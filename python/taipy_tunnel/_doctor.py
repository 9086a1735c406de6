# SPDX-License-Identifier: Apache-2.0
"""doctor(): what stands between the app and its visitors, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from ._databricks.cluster import facts
from ._errors import ConfigError, TunnelError, WorkspaceError
from ._expose import settings_of
from ._hints import worded
from ._near import proposals
from ._questions import ask
from ._quote import Hidden
from ._registry import tunnels
from ._taipy.app import App

_PATIENCE = 12.0  # seconds for one tunnel; the engine looks for 10
_LOOK = 65.0  # seconds for a chain without a tunnel; the engine looks for 60
_CLUSTER = 3.0  # seconds for what the workspace knows of the cluster


@dataclass(frozen=True)
class Step:
    """One step of the chain, as it was seen."""

    tunnel: str  # the URL of an open one, "(1 of 2)" after it if two have that; "" if none was looked at
    step: str  # of an open tunnel "app", "link", "exposure" (of a plain proxy's port), "url", "visitor"
    ok: bool  # visitors get past it
    seen: str
    hint: str  # what to do, "" if nothing
    warn: bool = False  # ok, but somebody should look at it
    skipped: bool = False  # it was not looked at, because of a step before it, and is not ok

    @property
    def state(self) -> str:
        """What it comes to: "ok", "warn", "skip" or "FAIL"."""
        return "skip" if self.skipped else "FAIL" if not self.ok else "warn" if self.warn else "ok"


# How a state looks, in light and in dark: a sign, and a colour.
_SIGNS = {"ok": ("✓", "#2da44e"), "warn": ("!", "#bf8700"), "FAIL": ("✗", "#e5534b"), "skip": ("-", "#8c959f")}
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0;"


class Diagnosis(list[Step]):
    """The steps of each open tunnel, in the order of the chain; print it, or end a cell with it."""

    @property
    def ok(self) -> bool:
        """Whether visitors get through."""
        return all(step.ok or step.skipped for step in self)

    def __repr__(self) -> str:
        lines, tunnel = [], None
        width = max((len(step.step) for step in self), default=0) + 1
        for step in self:
            if step.tunnel != tunnel:
                tunnel = step.tunnel
                lines += [tunnel] if tunnel else []
            lines.append(f"{step.state:<5}{step.step:<{width}}{step.seen}")
            lines += [f"{'':{width + 5}}-> {step.hint}"] if step.hint else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows, tunnel = [], ""
        for step in self:
            if step.tunnel != tunnel:
                tunnel = step.tunnel
                rows.append(f'<tr><th colspan="3" style="{_CELL}">{escape(tunnel)}</th></tr>')
            sign, colour = _SIGNS[step.state]
            state = f'<td style="{_CELL}color:{colour};white-space:nowrap"><b>{sign} {step.state}</b></td>'
            hint = f"<br>→ {escape(step.hint)}" if step.hint else ""
            name = f'<td style="{_CELL}white-space:nowrap">{escape(step.step)}</td>'
            rows.append(f'<tr>{state}{name}<td style="{_CELL}">{escape(step.seen)}{hint}</td></tr>')
        return f'<table style="border-collapse:collapse">{"".join(rows)}</table>'


def doctor(app: object = None, **arguments: object) -> Diagnosis:
    """Look along the chain between the app and its visitors, and say where it breaks, and what to do.

    Without arguments: along that of each open tunnel, from the app to the public URL. At last it opens the page as a
    visitor who has the link, or a password, would.

    With those of expose(), or if no tunnel is open: along that of the tunnel which expose() would open, without opening
    it. It starts with the settings, and where they came from, and logs in once; what cannot be looked at because of a
    step before it is skipped. Write doctor in the place of expose, in the same cell.

    It harms nothing: it sends one small request a step, is counted nowhere, takes the port of a plain proxy for a few
    seconds, and only if it is free, and takes at most ten seconds a tunnel, or a minute.
    """
    if app is not None or arguments or not tunnels():
        try:
            return _looked(app, arguments)
        except TunnelError as error:
            step = "settings" if isinstance(error, (ConfigError, WorkspaceError)) else "doctor"
            return Diagnosis([Step("", step, False, error.message.removeprefix("configuration: "), error.hint)])
        except BaseException as error:
            raise error.with_traceback(None) from None  # whose frames hold what may be a secret in the wrong place
        finally:
            arguments.clear()
            app = None
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
    return found


def _looked(spec: object, arguments: Mapping[str, object]) -> Diagnosis:
    """The chain of a tunnel that is not open."""
    settings, origin = settings_of(arguments)
    missing, address = None, ""
    try:
        app = App(spec, settings.raw)
        app.check()
        address = app.address()
    except TunnelError as error:
        missing = Step("", "app", False, error.message.removeprefix("app: "), error.hint)
    if not address and missing is None:
        hint = "; ".join(["run the cell that starts it", *proposals()])
        seen = "no Taipy app runs in this process, and no other one was named"
        missing = Step("", "app", True, seen, hint, warn=True)
    question = {"ask": "tunnel.look", "config": settings.config(address), "origin": origin}
    rows = ask(Hidden(question), _LOOK)
    found = Diagnosis()
    for row in rows:
        warn, skipped = bool(row.get("warn")), bool(row.get("skipped"))
        step = Step("", row["step"], row["ok"], row["seen"], worded(row["hint"]), warn, skipped)
        found.append(missing if missing is not None and step.step == "app" else step)
    if (cluster := _cluster()) is not None:
        found.append(cluster)
    return found


def _cluster() -> Step | None:
    """The machine under a Databricks notebook."""
    facts.look()
    facts.settle(_CLUSTER)
    known = facts.known
    if known is None:
        return None
    ends = {"job": "it ends with the last cell of its job", "serverless": "it ends some time after its last cell"}
    minutes = known.idle_minutes
    stops = f"it stops {minutes} minutes after its last cell" if minutes else "it does not stop by itself"
    return Step("", "cluster", True, ends.get(known.kind, stops), "")

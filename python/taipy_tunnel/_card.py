# SPDX-License-Identifier: Apache-2.0
"""How a tunnel looks: as a line, as text, and as the card of a notebook."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from html import escape

from ._status import ENDED, KEEP_MINUTES, Cluster, Status

_COLOURS = {
    "up": "#1a7f37",
    "degraded": "#bf8700",
    "waiting": "#57606a",
    "connecting": "#bf8700",
    "reconnecting": "#bf8700",
}
_RED = "#d1242f"
_WRONG = ("failed", "replaced", "expired")  # until somebody does something
_ACCESS = {
    "token": "Whoever has this link can use the app; all visitors share one state.",
    "password": "Visitors need a user name and a password; all of them share one state.",
    "public": "Open to everybody who can reach this address; all visitors share one state.",
}


def line(status: Status) -> str:
    """For repr(): one line."""
    app = f"app {status.target}" if status.target else "no app yet"
    return f"<Tunnel {status.url} {status.state}, {app}, {_count(status.links, 'link')}>"


def text(status: Status, url: str, near: Sequence[str] = ()) -> str:
    """For print() and job runs: what the card says. near: what is proposed to who waits for an app."""
    chain = " -> ".join(f"[{title} {detail}]" for title, detail, _ in _hops(status))
    return "\n".join([url, f"● {state(status)}", chain, *near, *_notes(status)])


def state(status: Status) -> str:
    """The state in a few words."""
    what = status.last_error.message if status.last_error else ""
    age = _age(datetime.datetime.now(datetime.timezone.utc) - status.since)
    if status.state == "up":
        again = f", {_count(status.reconnects, 'reconnect')}" if status.reconnects else ""
        return f"up for {age}{again}"
    if status.state == "waiting":
        return f"waiting: {what}" if what else "waiting for an app: run the cell that starts it"
    if status.state == "degraded" and not what:
        what = "a link is being made again"
    return f"{status.state} for {age}" + (f": {what}" if what else "")


def doing(status: Status) -> str:
    """What is being done, or done again, while a tunnel is opened."""
    if status.last_error:
        return f"{status.last_error.message}; trying again"
    return f"checking that {status.url} leads here" if status.links else f"connecting to {status.server}"


def html(status: Status, url: str, near: Sequence[str] = ()) -> str:
    """The card: no script, nothing from outside, every value escaped, less than 8 KiB."""
    colour = _COLOURS.get(status.state, _RED if status.state in _WRONG else "#57606a")
    word, _, rest = state(status).partition(" ")
    href = escape(url) if url.startswith(("http://", "https://")) else ""
    notes = "".join(
        f'<div style="margin-top:4px;opacity:.8">{escape(_clip(n, 600))}</div>' for n in [*near, *_notes(status)]
    )
    return (
        '<div style="max-width:640px;font:14px/1.45 system-ui,sans-serif;'
        'border:1px solid color-mix(in srgb,currentColor 25%,transparent);border-radius:10px;padding:14px 16px">'
        f'<div style="font-size:18px;font-weight:600;overflow-wrap:anywhere"><a href="{href}" target="_blank" '
        f'rel="noopener" style="color:inherit">{escape(_clip(url, 300))}</a></div>'
        '<div style="margin:2px 0 10px"><span style="display:inline-block;width:9px;height:9px;border-radius:5px;'
        f'background:{colour};margin-right:6px"></span><b>{escape(word)}</b> {escape(_clip(rest, 300))}</div>'
        f"{_chain(status)}{notes}</div>"
    )


def _notes(status: Status) -> list[str]:
    notes = []
    if status.state in (*_WRONG, "waiting") and status.last_error and status.last_error.hint:
        notes.append(status.last_error.hint)
    if status.retry_at:
        wait = status.retry_at - datetime.datetime.now(datetime.timezone.utc)
        notes.append(f"Next attempt in {_age(max(wait, datetime.timedelta()))}.")
    if status.state in ("up", "degraded", "waiting") and (status.unchecked or not status.checked):
        why = f": {status.unchecked}" if status.unchecked else ""
        notes.append(f"The address could not be checked{why}. Open it to see that it leads to the app.")
    if status.state not in ENDED:
        if status.warning:
            notes.append(f"Warning: {status.warning.message}; {status.warning.hint}.")
        notes += _access(status)
        notes += _life(status.cluster)
    return notes


def _life(cluster: Cluster | None) -> list[str]:
    """When the machine under the notebook ends, and what its owner can do."""
    if cluster is None:
        return []
    if cluster.kind == "job":
        return ["This run ends with its last cell, and the tunnel with it: tunnel.wait() there keeps both."]
    if cluster.kept:
        return [
            f"A tiny Spark job every {KEEP_MINUTES} minutes keeps the cluster, which costs until you close the tunnel."
        ]
    if cluster.kind == "serverless":
        return [
            "Serverless compute ends idle sessions, whoever visits: tunnel.wait() in a cell keeps this one, or a job."
        ]
    if cluster.idle_minutes:
        return [
            f"The cluster stops {cluster.idle_minutes} minutes after its last cell, whoever visits: tunnel.wait() in a "
            "cell keeps it, or a job, or expose(keep_cluster=True)."
        ]
    return []


def _access(status: Status) -> list[str]:
    """Whom the app is open to, and what is to be known of the link."""
    ended = status.state == "expired"  # the state says when, and what to do
    notes = [] if ended else [_ACCESS.get(status.access, _ACCESS["public"])]
    if status.access == "token" and status.expires and not ended:
        notes.append(f"The link ends on {status.expires:%Y-%m-%d at %H:%M} UTC.")
    if status.access == "token" and not status.token_kept:
        notes.append("The link is another one after a restart of the kernel.")
    if status.access in ("token", "password") and status.url.startswith("http://"):
        secret = "link" if status.access == "token" else "password"
        notes.append(f"Over plain http the {secret} can be read on the way; a proxy with https keeps it secret.")
    if status.requests:
        bad = [
            f"{n} {what}"
            for n, what in ((status.refused, "refused"), (status.failed, "failed"), (status.slow, "slow"))
            if n
        ]
        counted = ", ".join([_count(status.requests, "request"), *bad])
        notes.append(f"{_count(status.visitors_today, 'visitor')} today; {counted}.")
    return notes


def _hops(status: Status) -> list[tuple[str, str, str]]:
    """The chain: each hop's title and detail, and its mark: "broken", "weak" or ""."""
    host = status.server.rpartition("@")[2].rpartition(":")[0] or "proxy"
    linked = status.links > 0
    app = status.target or "not started yet"
    refused, degraded = status.state == "expired", status.state == "degraded"
    served = status.state in ("up", "degraded", "expired")
    return [
        ("visitors", "refused" if refused else f"{status.visitors} now", "broken" if refused else ""),
        (_clip(host, 40), "nginx", ""),
        ("ssh", _count(status.links, "link"), "weak" if degraded else "" if linked else "broken"),
        ("app", _clip(app, 30), "broken" if linked and not served else ""),
    ]


def _chain(status: Status) -> str:
    """The chain as one line of boxes, with a weak hop dashed, and a broken one crossed out as well."""
    parts, x = [], 0.0
    for i, (title, detail, mark) in enumerate(_hops(status)):
        if i:
            dashed = ' stroke-dasharray="2 4"' if mark else ""
            parts.append(f'<path d="M{x + 4:g} 22h22" stroke="currentColor" opacity=".6" stroke-width="1.5"{dashed}/>')
            if mark == "broken":
                parts.append(f'<path d="M{x + 10:g} 17l10 10m0-10l-10 10" stroke="{_RED}" stroke-width="2"/>')
            x += 30
        width = max(86, 7 * max(len(title), len(detail)) + 24)
        dashed = ' stroke-dasharray="4 3"' if mark else ' opacity=".45"'
        box = f'x="{x + 0.5:g}" y=".5" width="{width}" height="43" rx="6"'
        middle = f'x="{x + width / 2:g}" text-anchor="middle"'
        parts.append(
            f'<rect {box} fill="none" stroke="currentColor"{dashed}/>'
            f'<text {middle} y="18" font-weight="600">{escape(title)}</text>'
            f'<text {middle} y="34" opacity=".75">{escape(detail)}</text>'
        )
        x += width + 1
    return (
        f'<svg viewBox="0 0 {x:g} 44" width="{x:g}" height="44" style="max-width:100%" font-size="11.5" '
        'fill="currentColor" font-family="system-ui,sans-serif" role="img" aria-label="visitors, proxy, ssh, app">'
        f"{''.join(parts)}</svg>"
    )


def _age(length: datetime.timedelta) -> str:
    """The two largest units of a length of time."""
    seconds = max(0, round(length.total_seconds()))
    units = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((i for i, (n, _) in enumerate(units) if n), 3)
    return " ".join(f"{n} {unit}" for n, unit in units[first : first + 2] if n or first == 3)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _clip(value: str, most: int) -> str:
    return value if len(value) <= most else value[: most - 1] + "…"

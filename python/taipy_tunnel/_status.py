# SPDX-License-Identifier: Apache-2.0
"""What is known of a tunnel at one moment."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from ._errors import TunnelError, from_json

SETTLED = ("up", "degraded", "waiting", "expired")  # visitors are led here
ENDED = ("failed", "replaced", "closed")  # until somebody does something
KEEP_MINUTES = 4  # between the jobs that keep a cluster; these stop after 10 minutes or more


@dataclass(frozen=True)
class Cluster:
    """The machine under a Databricks notebook, as far as it can end a tunnel.

    kind: "cluster"     it stops `idle_minutes` after the last cell or Spark job has ended, whoever visits
          "job"         the run of a job: it ends with its last cell
          "serverless"  the session ends some time after the last cell has
    """

    kind: str
    idle_minutes: int | None = None  # 0: it does not stop; None: not known
    state: str = ""  # "running", …; "" if not known
    access_mode: str = ""  # "dedicated", "standard", …; "" if not known
    kept: bool = False  # keep_cluster=True: it is kept from stopping


@dataclass(frozen=True)
class Status:
    """A tunnel at one moment. It does not change; ask `tunnel.status` again.

    state: "connecting"    no link yet
           "waiting"       visitors are led here, but no app answers
           "up"            visitors reach the app
           "degraded"      they do, but one of several links is missing, or this process has no file descriptor
                           left for new visitors; see `last_error`
           "expired"       the link that visitors have has ended, and they are refused; run expose() with a later
                           expires=
           "reconnecting"  visitors do not get here: all links were lost (the next attempt is made at `retry_at`),
                           the URL leads elsewhere, or the proxy has them wait; see `last_error`
           "replaced"      a newer tunnel with the same key has the slot; run the cell to have it back
           "failed"        an error that trying again cannot mend; tunnel.reconnect() does
           "closed"        the end
    """

    state: str
    url: str  # what visitors open
    server: str  # the proxy, "user@host:port", or "tls://user@host:port"
    name: str  # the app's on a prepared proxy, "" on a plain one
    target: str  # where the app listens, "" if nowhere
    checked: str  # how url was seen to lead here: "url", "link" (from the proxy) or "" (not possible)
    unchecked: str  # why it could not be checked, or was not to be (from here, if checked is "link"); "" where it was
    links: int  # SSH connections that are up
    slots: int  # listening ends on the proxy
    access: str  # whom it admits: "token", "password", "public"; "" if nobody is asked (raw)
    token_kept: bool  # the link is the same after a restart of the kernel
    expires: datetime.datetime | None  # when the link ends, UTC; None: never
    visitors: int  # who were admitted and are there now; with raw=True, connections that are open
    visitors_today: int  # since midnight, UTC
    requests: int  # that were answered; of them:
    refused: int  # by the gate, without the token or a password
    failed: int  # with a status of 500 or more
    slow: int  # after more than a second
    bytes: int  # carried both ways since the start
    reconnects: int  # links that took the place of another
    since: datetime.datetime  # when the state began, UTC
    retry_at: datetime.datetime | None  # when the next attempt is made, None unless one is due
    last_error: TunnelError | None  # the newest, None once all is well again
    warning: TunnelError | None  # what should be mended although visitors are served
    cluster: Cluster | None = None  # on Databricks, once it is known

    @classmethod
    def from_json(cls, found: dict[str, Any], cluster: Cluster | None = None) -> Status:
        """The Status for the object of tt_status."""
        return cls(
            state=found["state"],
            url=found["url"],
            server=found["server"],
            name=found["name"],
            target=found["target"],
            checked=found["checked"],
            unchecked=found["unchecked"],
            links=found["links"],
            slots=found["slots"],
            access=found["access"],
            token_kept=found["token_kept"],
            expires=_moment(found["expires"]) if found["expires"] else None,
            visitors=found["visitors"],
            visitors_today=found["visitors_today"],
            requests=found["requests"],
            refused=found["refused"],
            failed=found["failed"],
            slow=found["slow"],
            bytes=found["bytes"],
            reconnects=found["reconnects"],
            since=_moment(found["since"]),
            retry_at=_moment(found["retry_at"]) if found["retry_at"] else None,
            last_error=from_json(found["last_error"]) if found["last_error"] else None,
            warning=from_json(found["warning"]) if found["warning"] else None,
            cluster=cluster,
        )


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)

# SPDX-License-Identifier: Apache-2.0
"""The machine under a Databricks notebook: when it stops, and keeping it from that.

Threads in the background are no activity to Databricks, nor are visitors. What the workspace knows of
the cluster is asked for once the URL is up, without waiting for it: a workspace that does not answer
changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

from .._abi import NoSuchTunnelError, library
from .._errors import ConfigError, TunnelError
from .._signals import deaf
from .._status import KEEP_MINUTES, Cluster
from .._watcher import Watched, logger, watcher
from . import notebook, workspace

PATIENCE = 9.0  # seconds


class Facts(Watched):
    """What is known of this process's cluster."""

    def __init__(self) -> None:
        self.known: Cluster | None = None
        self._handle = 0  # of the question, while there is no answer; guarded by the watcher
        self._awaited = False  # by a card

    def look(self) -> None:
        """Find out, unless that is known, or being done; the answer comes in the background."""
        if not notebook.here() or self._handle or self.known is not None:
            return
        if notebook.job() or notebook.serverless():
            self.known = Cluster("job" if notebook.job() else "serverless")
            return
        cluster = notebook.cluster()
        if not cluster or not notebook.workspace():
            return
        opened: list[int] = []
        try:
            library().ask(workspace.question("cluster", cluster_id=cluster), PATIENCE, opened)
        except TunnelError as error:  # the tunnel is open all the same
            logger.debug("the cluster: %s", error.message)
        finally:
            if opened:
                self._expect(opened[0])

    @watcher.guarded
    def _expect(self, handle: int) -> None:
        self.drop()
        self._handle, self._awaited = handle, False
        watcher.add(handle, self)

    def settle(self, timeout: float) -> None:
        """Wait for an answer that is under way; once, for the first card is drawn before it is there."""
        watcher.wait(lambda: not self._handle or self._awaited, timeout)
        self._awaited = True

    @watcher.guarded
    def drop(self) -> None:
        """Wait for no answer any more."""
        if self._handle:
            watcher.remove(self._handle)
            with contextlib.suppress(NoSuchTunnelError):
                library().release(self._handle)
            self._handle = 0

    @watcher.guarded
    def refresh(self) -> None:
        """Take the answer, if there is one."""
        if not self._handle or not (answer := library().answer(self._handle))["done"]:
            return
        self.drop()
        if found := answer.get("value"):
            minutes = int(found["autotermination_minutes"])
            self.known = Cluster("cluster", minutes, str(found["state"]), str(found["access_mode"]))
        else:
            logger.debug("the cluster: %s", answer["error"]["message"])

    def follow(self) -> None:
        """Look again: news may have been lost."""
        self.refresh()


facts = Facts()


def spark() -> Any:
    """The notebook's, for keep_cluster=True."""
    found = notebook.named("spark")
    if found is None:
        raise ConfigError(
            "configuration: keep_cluster=True needs a notebook's `spark`, and there is none",
            "it is for clusters of Databricks that stop when they are idle; elsewhere leave it out",
        )
    return found


class Keeping:
    """Whether a tunnel keeps the cluster from stopping. wanted: asked before each job."""

    def __init__(self, wanted: Callable[[], bool]) -> None:
        self._wanted = wanted
        self._keeper: Keeper | None = None

    @watcher.guarded
    def set(self, spark: object) -> bool:
        """Keep it by jobs of spark; None: no longer. Whether that is new."""
        new = spark is not None and self._keeper is None
        if new:
            self._keeper = Keeper(spark, self._wanted)
        elif spark is None and self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
        return new

    def cluster(self) -> Cluster | None:
        """What is known of it."""
        if self._keeper is None:
            return facts.known
        return dataclasses.replace(facts.known or Cluster("cluster"), kept=True)


class Keeper:
    """Has the cluster run a tiny Spark job every few minutes, which counts as activity, until stop().

    wanted: asked before each. The thread is a daemon: a job that hangs holds up nobody, and no exit.
    """

    every = 60.0 * KEEP_MINUTES  # seconds

    def __init__(self, spark: Any, wanted: Callable[[], bool]) -> None:
        self._spark = spark
        self._wanted = wanted
        self._ended = threading.Event()
        self._failing = False
        thread = threading.Thread(target=self._run, name="taipy-tunnel-keeper", daemon=True)
        with deaf():
            thread.start()

    def stop(self) -> None:
        """Send no more of them. The thread ends at once, or with the job that is running."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self.every):
            try:
                if self._wanted():
                    self._spark.range(1).count()
                self._failing = False
            except Exception as error:
                if not self._failing:
                    logger.warning("the Spark job that keeps the cluster failed: %s", type(error).__name__)
                self._failing = True

# SPDX-License-Identifier: Apache-2.0
"""The table that a check prints: ok, slow or FAIL, the hop, what was seen, how long it took."""

from __future__ import annotations

import os
import sys
from typing import TextIO


class Report:
    """Rows, printed as they come."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self.failed = 0
        self.slow = 0

    def title(self) -> None:
        self.line(f"{'':6}{'hop':<10}{'seen':<44}{'ms':>8}{'aim':>7}")
        self.load("at the start")

    def row(
        self,
        hop: str,
        seen: str,
        ms: float | None = None,
        aim: float | None = None,
        limit: float | None = None,
    ) -> None:
        """Something that was seen. Above its aim it is "slow"; above its limit it has failed."""
        mark = "ok"
        if ms is not None and limit is not None and ms > limit:
            mark, seen = "FAIL", f"{seen} (limit {limit:.0f} ms)"
            self.failed += 1
        elif ms is not None and aim is not None and ms > aim:
            mark = "slow"
            self.slow += 1
        took = "" if ms is None else f"{ms:.0f}" if ms >= 10 else f"{ms:.1f}"
        wanted = "" if aim is None else f"{aim:.0f}"
        self.line(f"{mark:<6}{hop:<10}{seen:<44}{took:>8}{wanted:>7}")

    def ratio(self, hop: str, seen: str, times: float, aim: float, limit: float) -> None:
        """How many times better something is. Below its aim it is "slow"; below its limit it has failed."""
        mark = "ok" if times >= aim else "slow" if times >= limit else "FAIL"
        self.slow += mark == "slow"
        self.failed += mark == "FAIL"
        self.line(f"{mark:<6}{hop:<10}{seen:<44}{times:>7.1f}x{aim:>6.0f}x")

    def fail(self, hop: str, why: str) -> None:
        """A step that did not do what it should."""
        self.failed += 1
        first, *more = why.strip().splitlines() or ["?"]
        self.line(f"{'FAIL':<6}{hop:<10}{first}")
        for line in more[:12]:
            self.line(f"{'':16}{line}")

    def load(self, when: str) -> None:
        """How busy the machine is: figures of a busy one say little."""
        self.line(f"{'':6}{'machine':<10}load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {when}")

    def end(self) -> None:
        self.load("at the end")
        verdict = f"{self.failed} failed" if self.failed else "all was seen"
        self.line(f"{verdict}{f', {self.slow} slower than aimed at' if self.slow else ''}")

    def line(self, text: str) -> None:
        print(text.rstrip(), file=self._out, flush=True)

# SPDX-License-Identifier: Apache-2.0
"""What happened to a tunnel, line by line."""

from __future__ import annotations

import collections
import datetime
import logging

from ._watcher import logger

KEPT = 1000


class Lines:
    """The newest lines; each goes to Python's logging as well."""

    def __init__(self) -> None:
        self._kept: collections.deque[str] = collections.deque(maxlen=KEPT)

    def add(self, level: int, moment: float, message: str) -> None:
        """Take a line of a moment, in seconds since 1970."""
        when = datetime.datetime.fromtimestamp(moment)
        self._kept.append(f"{when:%Y-%m-%d %H:%M:%S} {logging.getLevelName(level).lower()} {message}")
        logger.log(level, "%s", message)

    def newest(self, n: int) -> list[str]:
        """The newest n, oldest first."""
        return list(self._kept)[-n:] if n > 0 else []

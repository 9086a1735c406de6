# SPDX-License-Identifier: Apache-2.0
"""What the arguments of the command taipy-tunnel name: files, or texts in their place."""

from __future__ import annotations

import pathlib

from .. import _quote
from .._errors import ConfigError
from .._settings import decoded


def text_or_file(option: str, value: str) -> str:
    """The text of the file that `value` names, if it does, else `value`; ConfigError if it cannot be read."""
    try:
        is_file = pathlib.Path(value).is_file()
    except (OSError, ValueError):  # too long for a path
        is_file = False
    return read(option, value) if is_file else value


def read(option: str, path: str) -> str:
    """The text of a file, at most a megabyte of it; ConfigError, which names the option, if it cannot be read.

    As for expose(), it may be in UTF-16, as PowerShell writes it.
    """
    try:
        with open(path, "rb") as file:
            return decoded(file.read(1 << 20))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"configuration: {option} {_quote.path(path)} cannot be read: {reason}", "give the path of a file"
        ) from None

# SPDX-License-Identifier: Apache-2.0
"""What people are shown of the values that they gave.

An error is saved with the notebook and mailed, and any value may be a secret that was pasted into the
wrong place. The engine's twin of this is pkg/internal/fault/quote.go.
"""

from __future__ import annotations

import os
import re
from typing import Any

_MOST = 40  # characters; a key has more, and so have most tokens
_RUN = re.compile(r"[A-Za-z0-9+/_=-]{20,}")  # of base64, or of a token
_MIXED = re.compile(r"(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])(?=[^0-9]*[0-9]).{20,}", re.DOTALL)
_LABELS = r"(?:[{0}0-9-]{{1,63}}\.)+(?=[{0}0-9-]{{1,63}}\.?\Z)[{0}0-9-]*[{0}][{0}0-9-]*\.?"
_HOST_NAME = re.compile(f"{_LABELS.format('a-z')}|{_LABELS.format('A-Z')}")  # tokens with dots have both


class Hidden(dict[str, Any]):
    """Fields of which any may be a secret; no traceback shows them."""

    def __repr__(self) -> str:
        return f"<{len(self)} fields>"


def quote(value: str) -> str:
    """A value in quotes if it cannot be a secret: the path of something that exists, or a short text that
    is not keylike(). Otherwise it says how long the value is."""
    if (len(value) <= _MOST and not keylike(value)) or _exists(value):
        return repr(value)
    return f"(a text of {len(value)} characters)"


def keylike(text: str) -> bool:
    """Whether a text might hold a key or a token: 20 or more characters of [A-Za-z0-9+/_=-] in a row, outside
    a dotted host name; or, of these, "." and "~", between two slashes, with small letters, capitals and figures
    among them (client secrets of Microsoft Entra, tokens in two parts)."""
    for word in re.findall(r"[A-Za-z0-9+/_=.~-]+", text):
        parts = ["." if _HOST_NAME.fullmatch(part) else part for part in word.split("/")]
        if any(map(_MIXED.fullmatch, parts)) or _RUN.search("/".join(parts)):
            return True
    return False


def _exists(value: str) -> bool:
    try:
        return os.path.exists(value)
    except ValueError:  # with a NUL
        return False

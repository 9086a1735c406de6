# SPDX-License-Identifier: Apache-2.0
"""What to do, in the words of its reader.

A setting in a hint is a mark, {host_key} or {url="https://host/"}: its name as the engine has it, and perhaps a value
as in JSON. A notebook reads of an argument of expose(); for its command the engine writes options. A brace that is no
mark's is written twice. The engine's twin of this is pkg/internal/fault/hint.go.
"""

from __future__ import annotations

import re

# The settings that people pass to expose(), and their names there.
ARGUMENTS = {"target": "app"} | {name: name for name in (
    "server", "name", "connections", "key", "key_passphrase", "host_key", "remote", "url", "check", "access", "token",
    "token_version", "expires", "allow", "raw", "via", "jump", "timeout",
)}  # fmt: skip

_MARK = re.compile(r"\{\{|\}\}|\{([a-z_]+)(?:=((?:[^{}]|\{\{|\}\})+))?\}")


def _argument(name: str, value: str) -> str:
    """A setting as an argument of expose(); value: "" for none, else as in JSON."""
    return f"{ARGUMENTS[name]}={ {'true': 'True', 'false': 'False'}.get(value, value) }"


def worded(hint: str) -> str:
    """A hint with its marks as arguments of expose()."""

    def word(mark: re.Match[str]) -> str:
        if mark[1] is None:
            return mark[0][0]
        return _argument(mark[1], _single(mark[2] or "")) if mark[1] in ARGUMENTS else mark[0]

    return _MARK.sub(word, hint)


def plain(text: str) -> str:
    """A text as a part of a hint, in which braces mean nothing."""
    return text.replace("{", "{{").replace("}", "}}")


def _single(text: str) -> str:
    return text.replace("{{", "{").replace("}}", "}")

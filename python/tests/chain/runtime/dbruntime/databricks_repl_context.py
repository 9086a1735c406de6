# SPDX-License-Identifier: Apache-2.0
"""The context of a notebook; see the package."""

from __future__ import annotations

import types

from . import MODE, ask


def get_context() -> types.SimpleNamespace:
    if MODE == "entry point":
        raise RuntimeError("no context on this runtime")
    return types.SimpleNamespace(**ask("context"))

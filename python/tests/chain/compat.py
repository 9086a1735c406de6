# SPDX-License-Identifier: Apache-2.0
"""What tests have tried, for docs/compatibility.md: what package compat is to Go's tests (pkg/internal/compat).

def test_keys(compat: Row) -> None:
    …  # the test's own judgement, which does not depend on this
    compat("keys", "a key in Downloads, mode 0777", TAKEN)
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Callable, Union

GROUPS = ("keys", "host keys", "accounts", "shells", "servers", "apps", "platforms")
TAKEN = "taken"

# (group, tried, outcome): one of GROUPS; words that no other row of the group has; "taken…", "refused: …", or the
# error with which it was refused.
Row = Callable[[str, str, Union[str, Exception]], None]

_ROWS = os.environ.get("TAIPY_TUNNEL_COMPAT")  # before a test's environment is cleared
WANTED = bool(_ROWS)


def row(group: str, tried: str, outcome: str | Exception) -> None:
    """Append a row to the file that the environment names; nothing if it names none."""
    text = f"refused: {outcome}" if isinstance(outcome, Exception) else outcome
    text = text.split("\n", 1)[0]  # without the hint
    assert group in GROUPS, group
    assert text.split(":")[0] in (TAKEN, "refused"), text
    if _ROWS:
        with pathlib.Path(_ROWS).open("a", buffering=1) as f:  # one write for a line: other processes append too
            f.write(json.dumps({"group": group, "tried": tried, "outcome": text}, ensure_ascii=False) + "\n")

# SPDX-License-Identifier: Apache-2.0
"""The demo, driven by a browser, passes; with a library that does nothing it fails."""

from __future__ import annotations

import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).parent


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "chain", "--check", *arguments]
    return subprocess.run(argv, env=None, cwd=TESTS, capture_output=True, text=True, check=False, timeout=600)


def test_the_demo_passes() -> None:
    ran = demo("--brief")
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_library_that_does_nothing_fails_it() -> None:
    """With a plain proxy, for the other one is started above."""
    ran = demo("--stub", "--plain")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "FAIL" in ran.stdout
    assert "proxy     plain" in ran.stdout

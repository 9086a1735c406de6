# SPDX-License-Identifier: Apache-2.0
"""The demo: examples/databricks/gui_and_rest.py in a kernel, with a proxy for it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from . import processes
from .notebook import Cell, Notebook, cells
from .prepared import usual
from .proxy import ROOT, importable

NOTEBOOK = ROOT / "examples" / "databricks" / "gui_and_rest.py"
EXPOSE = "tunnel = taipy_tunnel.expose()"

# Stands in for the package where a check has to fail: it promises everything and opens nothing.
STUB = """
import os

class Tunnel:
    state = "up"
    url = os.environ["STUB_URL"] + "#token=opens-nothing-at-all-0"

def expose():
    return Tunnel()
"""


class Demo:
    """A proxy and a notebook that knows where it is; its cells were not run yet."""

    def __init__(self, python: str = sys.executable, stub: bool = False, plain: bool = False) -> None:
        self._python = python
        self._stub = stub
        self.proxy = usual(plain)
        self._stack = contextlib.ExitStack()
        self.app_cell, self.expose_cell, self.push_cell = cells(NOTEBOOK)
        if self.expose_cell.count(EXPOSE) != 1:
            raise RuntimeError(f"{NOTEBOOK}: its second cell should say {EXPOSE!r}")

    def __enter__(self) -> Demo:
        with contextlib.ExitStack() as stack:
            with progress("starting sshd and nginx"):
                stack.enter_context(self.proxy)
            environment = {**self.proxy.environment(), **importable()}
            if self._stub:
                first = stack.enter_context(tempfile.TemporaryDirectory(prefix="taipy-tunnel-stub-"))
                (pathlib.Path(first) / "taipy_tunnel.py").write_text(STUB)
                environment["PYTHONPATH"] = os.pathsep.join(filter(None, [first, os.environ.get("PYTHONPATH", "")]))
                environment["STUB_URL"] = self.proxy.url
            with progress("starting a Jupyter kernel"):
                self.notebook = stack.enter_context(Notebook(self._python, environment, processes.free_port()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with progress("closing the notebook"):
            self._stack.close()

    def run_app(self) -> Cell:
        """Run the app's cell."""
        with progress("running the app's cell"):
            return self.notebook.run(self.app_cell, timeout=120)

    def expose(self) -> float:
        """Run the cell with expose(); the seconds that expose() took, by the kernel's clock."""
        timed = f"_began = _time.perf_counter(); {EXPOSE}; _took = _time.perf_counter() - _began"
        code = "import time as _time\n" + self.expose_cell.replace(EXPOSE, timed)
        with progress("waiting for expose()"):
            self.notebook.run(code).ok()
        return float(self.ask("_took"))

    def ask(self, expression: str) -> Any:
        """The value of an expression in the kernel, if JSON knows it."""
        return json.loads(self.notebook.run(f"import json; print(json.dumps({expression}))").ok().stdout)


@contextlib.contextmanager
def progress(doing: str) -> Iterator[None]:
    """Say what is being done if that takes over a second."""
    timer = threading.Timer(1.0, print, (f"... {doing}",), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

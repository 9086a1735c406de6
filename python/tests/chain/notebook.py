# SPDX-License-Identifier: Apache-2.0
"""A notebook: a real Jupyter kernel, and the cells of a Databricks notebook to run in it.

with Notebook() as notebook:
    cell = notebook.run("1 + 1")
    assert cell.text == "2"
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import queue
import re
import select
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from . import processes
from .interpreters import said

# The app's declared port is 5000 where nothing else is said, which two notebooks cannot share; and
# a kernel is no place to open a window from.
TAIPY = """\
[gui]
run_browser = false
"""
# Taipy draws the port of its real server from 49152 up. Linux gives those below 61000 to connections, and
# if one of the many that a test makes has it, the server's thread dies.
STARTUP = """\
import random
_randint = random.randint
random.randint = lambda a, b: _randint(61000, b) if (a, b) == (49152, 65535) else _randint(a, b)
del random
"""
START = 60.0  # seconds until a kernel that does not answer is an error


class Error(NamedTuple):
    """What a cell raised."""

    ename: str
    evalue: str
    traceback: list[str]


@dataclass
class Cell:
    """What a cell left behind. `text` and `html` are of its result, or of what it displayed last."""

    stdout: str = ""
    stderr: str = ""
    text: str = ""
    html: str = ""
    error: Error | None = None
    seconds: float = 0.0
    done: bool = False

    def take(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            name = content["name"]
            setattr(self, name, getattr(self, name) + content["text"])
        elif kind in ("execute_result", "display_data"):
            self.text = content["data"].get("text/plain", "")
            self.html = content["data"].get("text/html", "")
        elif kind == "error":
            plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in content["traceback"]]
            self.error = Error(content["ename"], content["evalue"], plain)
        elif kind == "status" and content["execution_state"] == "idle":
            self.done = True

    @property
    def said(self) -> str:
        """stdout without what expose() says on a busy machine."""
        return said(self.stdout)

    def ok(self) -> Cell:
        """Itself, unless it raised."""
        if self.error is not None:
            raise RuntimeError(f"{self.error.ename}: {self.error.evalue}\n" + "\n".join(self.error.traceback))
        return self


class Running:
    """A cell that was sent to the kernel."""

    def __init__(self, notebook: Notebook, code: str) -> None:
        self._notebook = notebook
        self._started = time.perf_counter()
        self._id = notebook._client.execute(code, allow_stdin=False, stop_on_error=False)
        self.cell = notebook._cells[self._id] = Cell()

    def wait(self, timeout: float = 60.0) -> Cell:
        """The cell once it has ended. TimeoutError if it has not; it goes on then."""
        deadline = time.monotonic() + timeout
        while not self.cell.done:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the cell runs for more than {timeout:g} s: {self.cell}")
            self._notebook._pump(deadline)
        if not self.cell.seconds:
            self.cell.seconds = time.perf_counter() - self._started
        self._notebook._cells.pop(self._id, None)
        return self.cell

    def poll(self) -> Cell:
        """The cell as far as it is now; waits up to a second for news of it."""
        self._notebook._pump(time.monotonic() + 1)
        return self.cell


class Notebook:
    """A Jupyter kernel of `python`, in a directory of its own."""

    def __init__(
        self,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        startup: str = "",
        transport: str = "ipc",
    ) -> None:
        """env: added to this process's own. port: that of Taipy apps, whatever a cell says; None: a
        cell's own. startup: what a kernel runs before its first cell. transport: "ipc": it has no ports, and warns of
        none; "tcp": it has, as in a JupyterLab.
        """
        self._python = python
        self._env = dict(env or {})
        self._port = port
        self._startup = startup
        self._transport = transport
        self._stack = contextlib.ExitStack()
        self._cells: dict[str, Cell] = {}

    def __enter__(self) -> Notebook:
        with contextlib.ExitStack() as stack:
            self.directory = pathlib.Path(tempfile.mkdtemp(prefix="taipy-tunnel-notebook-"))
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self.manager = self._manager()
            stack.callback(self.close)
            self.cwd.mkdir()
            taipy = self.directory / "taipy.toml"
            taipy.write_text(TAIPY + (f"port = {self._port}\n" if self._port else ""))
            startup = self.directory / "ipython" / "profile_default" / "startup"
            startup.mkdir(parents=True)
            (startup / "00-ports.py").write_text(STARTUP)
            (startup / "01-startup.py").write_text(self._startup)
            ours = {"IPYTHONDIR": str(self.directory / "ipython"), "TAIPY_CONFIG_PATH": str(taipy)}
            # Open for as long as the kernel may be restarted: jupyter_client starts it with it again.
            log = stack.enter_context(open(self.directory / "kernel.log", "ab"))
            self.manager.start_kernel(
                cwd=str(self.cwd), env={**os.environ, **ours, **self._env}, stdout=log, stderr=log
            )
            self._connect()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _manager(self) -> KernelManager:
        argv = [self._python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "chain", "language": "python"}
        kernel = self.directory / "kernels" / "chain"
        kernel.mkdir(parents=True)
        (kernel / "kernel.json").write_text(json.dumps(spec))
        specs = KernelSpecManager(kernel_dirs=[str(kernel.parent)], ensure_native_kernel=False)
        return KernelManager(
            kernel_name="chain",
            kernel_spec_manager=specs,
            connection_file=str(self.directory / "connection.json"),
            transport=self._transport,
        )

    def _connect(self) -> None:
        client = self.manager.client()
        assert isinstance(client, BlockingKernelClient)
        self._client = client
        client.start_channels()
        client.wait_for_ready(timeout=START)

    @property
    def cwd(self) -> pathlib.Path:
        """The directory that the kernel works in."""
        return self.directory / "work"

    @property
    def pid(self) -> int:
        """The kernel's process."""
        return int(getattr(self.manager.provisioner, "pid", 0) or 0)

    def run(self, code: str, timeout: float = 60.0) -> Cell:
        """Run a cell to its end."""
        return self.run_nowait(code).wait(timeout)

    def run_nowait(self, code: str) -> Running:
        """Start a cell."""
        return Running(self, code)

    def _pump(self, deadline: float) -> None:
        """Take one message, for whichever cell it is."""
        left = min(1.0, max(0.0, deadline - time.monotonic()))
        try:
            message = self._client.get_iopub_msg(timeout=left)
        except queue.Empty:
            if not self.manager.is_alive():
                raise RuntimeError("the kernel has ended") from None
            return
        cell = self._cells.get(message["parent_header"].get("msg_id", ""))
        if cell is not None:
            cell.take(message["msg_type"], message["content"])

    def interrupt(self) -> None:
        """What the stop button does."""
        self.manager.interrupt_kernel()

    def restart(self) -> None:
        """A new process, as after "Restart kernel"."""
        below = processes.descendants(self.pid)
        self._client.stop_channels()
        self.manager.restart_kernel()
        processes.kill(below)
        self._cells.clear()
        self._connect()

    def shut_down(self) -> None:
        """Ask the kernel to end, as closing the notebook does. close() waits for that."""
        self._client.shutdown()

    def alive(self) -> bool:
        """Whether the kernel's process is there."""
        return bool(self.pid) and processes.look(self.pid) is not None

    def wait_end(self) -> None:
        """Wait until the kernel's process has ended, by itself or by somebody else."""
        if self.alive():
            end = os.pidfd_open(self.pid)
            try:
                select.select([end], [], [])
            finally:
                os.close(end)

    def close(self) -> None:
        """End the kernel and everything that it started."""
        below = processes.descendants(self.pid) if self.pid else []
        with contextlib.suppress(Exception):  # a kernel that never came up has no channels
            self._client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=False)
        processes.kill(below)


def cells(path: str | pathlib.Path) -> Iterator[str]:
    """The Python cells of a notebook in Databricks' source format."""
    text = pathlib.Path(path).read_text()
    first, _, rest = text.partition("\n")
    if first.strip() != "# Databricks notebook source":
        raise ValueError(f"{path}: not a notebook in Databricks' source format")
    for source in re.split(r"^# COMMAND -+$", rest, flags=re.M):
        lines = [line for line in source.strip().splitlines() if not line.startswith("# MAGIC")]
        if any(line.strip() and not line.startswith("#") for line in lines):
            yield "\n".join(lines).strip()

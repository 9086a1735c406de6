# SPDX-License-Identifier: Apache-2.0
"""The demo's command line; see the package."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import sys
import types

from . import processes
from .browser import Browser
from .check import Check
from .demo import Demo, progress
from .proxy import Missing
from .report import Report

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chain", description="the whole chain on this machine")
    parser.add_argument("--check", action="store_true", help="drive it with a browser, print what was seen")
    parser.add_argument("--brief", action="store_true", help="--check with fewer repetitions: no measurement")
    parser.add_argument("--plain", action="store_true", help="a plain proxy where root would have a prepared one")
    parser.add_argument("--stub", action="store_true", help="a package that opens nothing: --check must fail")
    parser.add_argument("--python", default=sys.executable, help="the notebook's (default: this one)")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of ours come to us, and _sweep finds them
    try:
        demo = Demo(arguments.python, arguments.stub, arguments.plain)
        return check(demo, arguments.brief) if arguments.check else stay(demo)
    except Missing as e:
        print(f"{e}; the demo needs sshd, nginx and ssh, and --check needs chromium", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        _sweep()


def stay(demo: Demo) -> int:
    """Start the demo and stay until Ctrl-C."""
    with demo:
        demo.run_app().ok()
        took = demo.expose()
        print(f"{demo.ask('str(tunnel)')}\n")
        print(f"expose() took {took * 1000:.0f} ms. Started for this:")
        print(f"  notebook  examples/databricks/gui_and_rest.py in a Jupyter kernel, pid {demo.notebook.pid}")
        for what, is_ in demo.proxy.told():
            print(f"  {what:<9} {is_}")
        print("Ctrl-C ends and removes all of it. This machine's own sshd and nginx are not touched.", flush=True)
        try:
            demo.notebook.wait_end()
        except KeyboardInterrupt:
            return 0
    print("the kernel has ended", file=sys.stderr)
    return 1


def check(demo: Demo, brief: bool) -> int:
    """Drive the demo and print what was seen."""
    report = Report()
    report.title()
    with demo:
        report.line(f"{'':6}{'proxy':<10}{demo.proxy.kind}")
        with Browser() as browser:
            Check(demo, browser, report, brief).run()
        if report.failed:
            print("\nsshd:\n" + _tail(demo.proxy.sshd_log()) + "\nnginx:\n" + _tail(demo.proxy.nginx_log()))
            with contextlib.suppress(Exception):
                print("tunnel:\n" + _tail("\n".join(demo.ask("tunnel.logs()"))))
    left = _sweep()
    if left:
        report.fail("left", f"still running after it was closed: {left}")
    report.end()
    return 1 if report.failed else 0


def _tail(text: str, lines: int = 8) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def _interrupt(number: int, frame: types.FrameType | None) -> None:
    """The first Ctrl-C or SIGTERM ends us in an orderly way, which the next ones do not disturb."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _sweep() -> list[str]:
    """End what was started here and is still there; their names."""
    with progress("waiting for processes to end"):
        processes.until(lambda: not processes.descendants(os.getpid()), 2)
    left = processes.descendants(os.getpid())
    seen = [f"{process.pid} {processes.command(process.pid)}" for process in left]
    processes.kill(left)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # orphans that ended, which only we can wait for
            pass
    return seen


if __name__ == "__main__":
    sys.exit(main())

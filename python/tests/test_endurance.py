# SPDX-License-Identifier: Apache-2.0
"""Nothing grows with time, and an idle tunnel costs next to nothing.

ENDURANCE=1000 makes that many cycles instead of 50; -s shows the figures.
"""

from __future__ import annotations

import json
import os

from chain.interpreters import CONNECT, EXPOSE, RENEW, run, script
from chain.proxy import Proxy
from chain.testing import arguments

CYCLES = int(os.environ.get("ENDURANCE", "50"))
WARM_UP = 50  # buffers, caches and threads that are kept come in the first cycles

LOOK = """
    import gc, json, os, sys, threading, time
    def memory():
        "KiB of RSS."
        for line in open("/proc/self/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1])
    bare = memory()
"""
CYCLE = """
    from taipy_tunnel._abi import library
    def cycles(count):
        for _ in range(count):
            renew(tunnel, 30)
    def held():
        "What a process may leak, once what is ending has ended."
        gc.collect()
        lowest = None
        end = time.monotonic() + 1
        while time.monotonic() < end:
            now = {
                "goroutines": library().info()["goroutines"], "handles": library().info()["handles"],
                "descriptors": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(),
                "tasks": len(os.listdir("/proc/self/task")),
            }
            lowest = now if lowest is None else {k: min(v, lowest[k]) for k, v in now.items()}
            time.sleep(0.05)
        return {**lowest, "rss": memory()}
    cycles(«warm»)
    before = held()
    began = time.monotonic()
    cycles(«count»)
    took = time.monotonic() - began
    after = held()
    tunnel.close()
    assert library().info()["handles"] == 0
    print(json.dumps({"before": before, "after": after, "seconds": took}))
"""


def test_reconnecting_leaves_nothing(python: str, proxy: Proxy, app: str) -> None:
    code = script(LOOK, EXPOSE, RENEW, CYCLE, app=app, arguments=arguments(proxy), warm=WARM_UP, count=CYCLES)
    ran = run(python, code, timeout=120 + CYCLES)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    before, after = found["before"], found["after"]
    print(f"{CYCLES} cycles in {found['seconds']:.1f} s: {before} -> {after}")
    for what in ("goroutines", "handles", "descriptors", "threads"):
        assert after[what] <= before[what], (what, found)
    assert after["tasks"] <= before["tasks"] + 3, found  # Go keeps threads; it must not be one for each cycle
    assert after["rss"] - before["rss"] < 5 * 1024, found


# What a notebook has where Taipy runs: an entry in its registry, whose server we follow and wake.
TAIPY = """
    import types
    gui = type("Gui", (), {"__module__": "taipy.gui.gui"})()
    gui._server = types.SimpleNamespace(_port=int(«app».rsplit(":", 1)[1]), _thread=threading.current_thread())
    class _RuntimeManager:
        def __init__(self):
            self._RuntimeManager__port_gui = {5000: gui}
    registry = types.ModuleType("taipy.gui.utils._runtime_manager")
    registry._RuntimeManager = _RuntimeManager
    sys.modules[registry.__name__] = registry
"""
IDLE = """
    import taipy_tunnel
    from taipy_tunnel import _tunnel
    woken, wake = 0, _tunnel.wake
    def counted(gui):
        global woken
        woken += 1
        wake(gui)
    _tunnel.wake = counted
    tunnel = taipy_tunnel.expose(**«arguments»)
    assert tunnel.status.target == «app», tunnel
    visitors = [connect() for _ in range(20)]
    for s in visitors:
        s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        assert s.recv(4096)
    began, used, woken = time.monotonic(), time.process_time(), 0
    threading.Event().wait(«seconds»)
    took = time.monotonic() - began
    print(json.dumps({
        "cpu": (time.process_time() - used) / took, "wakes": woken / took, "mib": (memory() - bare) / 1024,
    }))
"""


def test_idle_costs_nothing(python: str, proxy: Proxy, app: str) -> None:
    """Less than 1 % of a CPU (10x ceiling here) with the wakes of Taipy's server, and 64 MiB."""
    known = {"app": app, "arguments": arguments(proxy), "slot": proxy.slot, "seconds": 8.0}
    ran = run(python, script(LOOK, TAIPY, CONNECT, IDLE, **known))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    print(f"idle: {found['cpu']:.2%} of a CPU, {found['wakes']:.1f} wakes/s, {found['mib']:.1f} MiB")
    assert found["wakes"] > 2
    assert found["cpu"] < 0.1
    assert found["mib"] < 64

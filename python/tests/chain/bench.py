# SPDX-License-Identifier: Apache-2.0
"""What is measured rather than tested: medians of interleaved rounds, and how busy the machine was.

    python -m chain.bench gil    requests through the tunnel while the notebook holds the GIL
    python -m chain.bench gate   requests and a download through the gate, and without one (raw)
    python -m chain.bench taipy  the same of Taipy's quickest route

Ratios are what counts: figures of one machine say little on another.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from .check import ASKED
from .demo import Demo
from .load import WARM_UP, _Visitor, slot
from .plain import Plain
from .proxy import Missing
from .report import Report

ROUNDS = 9  # each way
GATE_ROUNDS = 4
HELD = 2.0  # seconds that the GIL is held
MEASURED = HELD - 0.2  # within them
WITHIN = 0.1  # of the figures without

# The app: another process than the notebook's, or it could not answer while the GIL is held.
APP = """
import asyncio
BIG = 4 << 20
async def answer(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            if head.startswith(b"GET /big "):
                length = b"Content-Type: application/zip\\r\\nContent-Length: %d" % (BIG * 64)
                writer.write(b"HTTP/1.1 200 OK\\r\\n" + length + b"\\r\\n\\r\\n")
                for _ in range(64):
                    writer.write(bytes(BIG))
                    await writer.drain()
                continue
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
    except (OSError, asyncio.IncompleteReadError):
        writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

# The notebook. A thread of it counts: it must stand still while the GIL is held.
KERNEL = """
import ctypes, json, sys, threading, time
import taipy_tunnel
known = json.loads(sys.stdin.readline())
tunnel = taipy_tunnel.expose(**known)
counted = 0
def count():
    global counted
    while True:
        time.sleep(0.01)
        counted += 1
threading.Thread(target=count, daemon=True).start()
sleep = ctypes.PyDLL(None).usleep
print("up", flush=True)
for line in sys.stdin:
    if line.startswith("raw"):
        taipy_tunnel.expose(**known, raw=line == "raw yes\\n")
    print("go", flush=True)
    if line.startswith("raw"):
        continue
    before = counted
    if line == "hold\\n":
        sleep(2_000_000)
    else:
        time.sleep(2)
    print(counted - before, flush=True)
"""


class Figures(NamedTuple):
    """Of one round."""

    rate: float  # requests a second
    median_ms: float
    p99_ms: float


async def _visit(where: int | str, connections: int, path: str, token: str) -> dict[str, Any]:
    """Ask all the time; what is measured begins with a line on stdin, so that it is under way then."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    visitors = [await _Visitor(where, request, end).connect() for _ in range(connections)]
    await asyncio.sleep(WARM_UP)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    for visitor in visitors:
        visitor.took.clear()
    began = loop.time()
    await asyncio.sleep(MEASURED)
    took = [t for visitor in visitors for t in visitor.took]
    rate = len(took) / (loop.time() - began)
    end.set()
    if any(visitor.failed for visitor in visitors) or len(took) < 100:
        raise RuntimeError(f"{sum(visitor.failed for visitor in visitors)} of {len(took)} requests failed")
    p99 = statistics.quantiles(took, n=100)[98]
    return Figures(rate, statistics.median(took) * 1000, p99 * 1000)._asdict()


@contextlib.contextmanager
def _talk(*arguments: str) -> Iterator[Any]:
    """A Python that is spoken with by lines, and gone afterwards."""
    argv = [sys.executable, *arguments]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _tell(process: Any, line: str) -> None:
    print(line, file=process.stdin, flush=True)


def _hear(process: Any) -> str:
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"it ended with {process.wait()}: {process.args}")
    return str(line).strip()


def gil(report: Report) -> None:
    """Requests through the tunnel while the notebook holds the GIL for 2 s, and while it does not."""
    with Plain() as proxy, _talk("-c", APP) as app, _talk("-c", KERNEL) as kernel:
        _tell(kernel, json.dumps({"access": "public", "app": f"127.0.0.1:{_hear(app)}", **proxy.known()}))
        _hear(kernel)
        for connections in (1, 16):
            found: dict[str, list[Figures]] = {"free": [], "hold": []}
            for number in range(2 * ROUNDS):
                how = ("free", "hold")[(number + number // 2) % 2]  # neither always comes first
                found[how].append(_round(kernel, proxy.remote, connections, how))
            free, held = (Figures(*map(statistics.median, zip(*found[how]))) for how in ("free", "hold"))
            for name, one in (("free", free), ("held", held)):
                seen = f"{connections:>2} kept alive, GIL {name}: {one.rate:.0f}/s, p99 {one.p99_ms:.2f} ms"
                report.row("gil", seen, one.median_ms)
            rate, p99 = held.rate / free.rate, held.p99_ms / free.p99_ms
            near = rate > 1 - WITHIN and p99 < 1 + WITHIN
            report.slow += not near
            report.line(f"{'ok' if near else 'slow':<6}{'gil':<10}held / free: rate {rate:.3f}, p99 {p99:.3f}")


def gate(report: Report) -> None:
    """The same through the gate and without it: at the slot, and through nginx."""
    with Plain() as proxy, _talk("-c", APP) as app, _talk("-c", KERNEL) as kernel:
        _tell(kernel, json.dumps({"access": "public", "app": f"127.0.0.1:{_hear(app)}", **proxy.known()}))
        _hear(kernel)
        cases = [(place, port, n) for place, port in (("slot", proxy.remote), ("nginx", proxy.port)) for n in (1, 16)]
        found: dict[tuple[str, int, str], list[Figures]] = {}
        bulk: dict[str, list[float]] = {"gate": [], "raw": []}
        for number in range(2 * GATE_ROUNDS):
            how = ("gate", "raw")[(number + number // 2) % 2]
            _tell(kernel, "raw yes" if how == "raw" else "raw no")
            _hear(kernel)
            for place, port, connections in cases:
                found.setdefault((place, connections, how), []).append(_visits(port, connections))
            bulk[how] += [_download(proxy.remote) for _ in range(3)]
        for place, _, connections in cases:
            ours, raw = (Figures(*map(statistics.median, zip(*found[place, connections, how]))) for how in bulk)
            aim = 0.8 if place == "nginx" else 0.5
            _compare(report, f"{place}, {connections:>2} kept alive: {ours.rate:.0f}/s", ours.rate / raw.rate, aim)
            _compare(
                report,
                f"{place}, {connections:>2} kept alive: p99 {ours.p99_ms:.2f} ms, raw / gate",
                raw.p99_ms / ours.p99_ms,
                0.5,
            )
        ours_mb, raw_mb = (statistics.median(bulk[how]) for how in bulk)
        _compare(report, f"download: {ours_mb:.0f} MB/s", ours_mb / raw_mb, 1.0)


def _compare(report: Report, seen: str, ratio: float, aim: float) -> None:
    report.slow += ratio < aim
    report.line(f"{'ok' if ratio >= aim else 'slow':<6}{'gate':<10}{seen:<44}{ratio:>7.2f}x{aim:>6.2f}x")


def taipy(report: Report) -> None:
    """Taipy through the gate, with its token, and without a gate: at the slot."""
    with Demo() as demo:
        demo.run_app()
        demo.expose()
        token = demo.ask("tunnel.url").partition("#token=")[2]
        found: dict[tuple[int, str], list[Figures]] = {}
        for number in range(2 * GATE_ROUNDS):
            how = ("gate", "raw")[(number + number // 2) % 2]
            demo.notebook.run(
                f"taipy_tunnel.expose({'' if how == 'gate' else 'raw=True, access=' + repr('public')})"
            ).ok()
            for connections in (1, 16):
                figures = _visits(demo.proxy.slot, connections, ASKED, token)
                found.setdefault((connections, how), []).append(figures)
    for connections in (1, 16):
        ours, raw = (Figures(*map(statistics.median, zip(*found[connections, how]))) for how in ("gate", "raw"))
        _compare(report, f"Taipy, {connections:>2} kept alive: {ours.rate:.0f}/s", ours.rate / raw.rate, 0.85)
        seen = f"Taipy, {connections:>2} kept alive: p99 {ours.p99_ms:.2f} ms, raw / gate"
        _compare(report, seen, raw.p99_ms / ours.p99_ms, 0.5)


def _visits(where: int | str, connections: int, path: str = "/", token: str = "") -> Figures:
    with _talk("-m", "chain.bench", "visit", str(where), str(connections), path, token) as visitor:
        _hear(visitor)
        _tell(visitor, "go")
        return Figures(**json.loads(_hear(visitor)))


def _download(port: int) -> float:
    """MB a second of 256 MB."""
    argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{speed_download}", f"http://127.0.0.1:{port}/big"]
    return float(subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=120).stdout) / 1e6


def _round(kernel: Any, port: int, connections: int, how: str) -> Figures:
    with _talk("-m", "chain.bench", "visit", str(port), str(connections), "/", "") as visitor:
        _hear(visitor)
        _tell(kernel, how)
        _hear(kernel)
        _tell(visitor, "go")
        figures = Figures(**json.loads(_hear(visitor)))
    counted = int(_hear(kernel))
    if (counted > 2) == (how == "hold"):
        raise RuntimeError(f"GIL {how}: another thread ran {counted} times")
    return figures


BENCHES = {"gil": gil, "gate": gate, "taipy": taipy}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chain.bench", description="measure, and print ratios")
    parser.add_argument("what", nargs="*", choices=[*BENCHES, "visit"], default=list(BENCHES), metavar="WHAT")
    if sys.argv[1:2] == ["visit"]:  # ours: a visitor
        where, connections, path, token = sys.argv[2:6]
        print(json.dumps(asyncio.run(_visit(slot(where), int(connections), path, token))), flush=True)
        os._exit(0)  # the executor's thread may still read
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = Report()
    report.line(f"{'':6}{'bench':<10}{'seen':<44}{'ms':>8}")
    report.load("at the start")
    try:
        for what in parser.parse_args().what:
            BENCHES[what](report)
    except Missing as missing:
        print(f"{missing}; the bench needs sshd and nginx", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    report.end()
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())

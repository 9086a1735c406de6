# SPDX-License-Identifier: Apache-2.0
"""A notebook with a tunnel: says what it is, ten times a second where that changes, and does what it is told."""

import json
import sys
import threading
import time

import taipy_tunnel
from taipy_tunnel._abi import library

lock = threading.Lock()
known = json.loads(sys.stdin.readline())
tunnel = taipy_tunnel.expose(**known)


def say(**what):
    with lock:
        print(json.dumps(what), flush=True)


def watch():
    before, said = None, 0.0
    while True:
        status = tunnel.status
        now = (status.state, status.links, str(status.last_error or ""))
        if now != before or time.time() - said >= 0.5:
            before, said = now, time.time()
            say(at=said, state=now[0], links=now[1], error=now[2])
        time.sleep(0.1)


say(url=tunnel.url)
threading.Thread(target=watch, daemon=True).start()
for line in sys.stdin:
    word, _, rest = line.strip().partition(" ")
    if word == "logs":
        say(logs=tunnel.logs(1000))
    elif word == "goroutines":
        say(goroutines=library().info()["goroutines"])
    elif word == "reconnect":
        tunnel.reconnect()
        say(done=True)
    elif word == "change":
        tunnel = taipy_tunnel.expose(**known, **json.loads(rest))
        say(done=True)
tunnel.close(drain=0)

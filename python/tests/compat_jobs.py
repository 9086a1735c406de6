# SPDX-License-Identifier: Apache-2.0
"""Taipy 3.1's standalone jobs really fork the kernel, beside a live tunnel. For ./build.sh compat."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chain import processes
from chain.notebook import Notebook
from chain.proxy import Proxy
from chain.testing import arguments
from chain.visits import visit

APP = """
import os
import taipy as tp
from taipy import Config, Core, Gui
import taipy_tunnel

def work(x):
    import os
    try:
        tunnel.status
    except taipy_tunnel.ForkedProcessError:
        return x + 1, os.getpid()
    return -1, os.getpid()

number, result = Config.configure_data_node("number", default_data=20), Config.configure_data_node("result")
task = Config.configure_task("task", work, number, result)
scenario = Config.configure_scenario("scenario", [task])
Config.configure_job_executions(mode="standalone", max_nb_of_workers=2)
core, gui = Core(), Gui("# jobs")
tp.run(core, gui, port=%d, title="jobs")
tunnel = taipy_tunnel.expose()
"""
SUBMIT = """
found = []
for _ in range(4):
    one = tp.create_scenario(scenario)
    one.submit(wait=True, timeout=30)
    found.append(one.result.read())
assert all(value == 21 and pid != os.getpid() for value, pid in found), found
assert tunnel.status.reconnects == 0 and tunnel.state == "up", tunnel.logs()
"""


@pytest.fixture
def notebook(proxy: Proxy) -> Iterator[Notebook]:
    known = {f"TAIPY_TUNNEL_{name.upper()}": str(value) for name, value in arguments(proxy).items()}
    with Notebook(env=known) as notebook:
        yield notebook


def test_jobs_beside_a_tunnel(notebook: Notebook, proxy: Proxy) -> None:
    notebook.run(APP % processes.free_port()).ok()
    notebook.run(SUBMIT, timeout=200).ok()
    assert "jobs" in visit(proxy.url)

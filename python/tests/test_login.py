# SPDX-License-Identifier: Apache-2.0
"""Ways to log in, as far as Python takes part: what the environment of this very moment says."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

from chain.interpreters import EXPOSE, outcome, run, script
from chain.proxy import Proxy
from chain.testing import arguments, eventually


def test_an_alias_and_an_agent(proxy: Proxy, app: str, tmp_path: pathlib.Path) -> None:
    """The agent is started, and named, after the library was loaded."""
    (tmp_path / ".ssh").mkdir()
    user, at = proxy.server.split("@")
    (tmp_path / ".ssh" / "config").write_text(
        f"Host box\n  HostName {at.split(':')[0]}\n  Port {at.split(':')[1]}\n  User {user}\n"
    )
    socket = tmp_path / "agent"
    agent = subprocess.Popen([shutil.which("ssh-agent") or "ssh-agent", "-D", "-a", str(socket)])
    try:
        eventually(socket.exists)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", proxy.key], env=environment, check=True)
        late = f"""
            from taipy_tunnel._abi import library
            library()
            import os
            os.environ["SSH_AUTH_SOCK"] = {str(socket)!r}
        """
        code = script(late, EXPOSE, "print(tunnel.state)", app=app, arguments=arguments(proxy, server="box", key=None))
        environment = {**os.environ, "HOME": str(tmp_path), "SSH_AUTH_SOCK": ""}
        assert outcome(run(sys.executable, code, env=environment)) == (0, "up\n", "")
    finally:
        agent.terminate()
        agent.wait()

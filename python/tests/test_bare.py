# SPDX-License-Identifier: Apache-2.0
"""A process that has little: no home, no temporary directory, nothing that it may write to, no name."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from chain import interpreters
from chain.compat import TAKEN, Row
from chain.proxy import Proxy
from chain.testing import arguments

EXPOSE = """
import os
import taipy_tunnel
places = ("/tmp", os.environ.get("TMPDIR", "/tmp"), os.path.expanduser("~"), ".")
written = [place for place in places if os.access(place, os.W_OK)]
with taipy_tunnel.expose(**«known») as tunnel:
    print(tunnel.state, taipy_tunnel.doctor().ok, written)
"""
# In a mount namespace of its own: nothing is changed outside.
READ_ONLY = 'for at in / /tmp; do mount --bind $at $at && mount -o remount,ro,bind $at || exit; done; exec "$@"'
ANOTHER = ["setpriv", "--reuid", "54333", "--regid", "54333", "--clear-groups"]
BARE = {
    "HOME is not set (a service of systemd's)": ([], {}),
    "HOME does not exist": ([], {"HOME": "/nonexistent"}),
    "no temporary directory": ([], {"TMPDIR": "/nonexistent"}),
    "a user id that /etc/passwd does not have (OpenShift)": (ANOTHER, {}),
    "a root file system that is read-only (Kubernetes readOnlyRootFilesystem)": (
        ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh"],
        {"TMPDIR": "/nonexistent", "HOME": "/nonexistent"},
    ),
}

# Of a line and of a file nothing is written anywhere to be read again.
TRIED = [(tried, "fingerprint") for tried in BARE] + [
    (tried, form) for tried in BARE if "director" in tried or "read-only" in tried for form in ("line", "file")
]


@pytest.mark.parametrize(("tried", "form"), TRIED)
def test_little(tried: str, form: str, proxy: Proxy, app: str, tmp_path: pathlib.Path, compat: Row) -> None:
    before, environment = BARE[tried]
    if before and (os.geteuid() != 0 or not shutil.which(before[0])):
        pytest.skip(f"{before[0]} is root's")
    if before[:1] == ["unshare"] and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no namespaces on this machine (a container?)")
    known = arguments(proxy, app=app)
    known["key"] = pathlib.Path(known["key"]).read_text()  # there may be no file that it could read
    if form != "fingerprint":
        host, _, port = known["server"].rpartition("@")[2].rpartition(":")
        known["host_key"] = f"[{host}]:{port} {(proxy.directory / 'host_key.pub').read_text()}"
    if form == "file":
        (tmp_path / "known_hosts").write_text(known["host_key"])
        known["host_key"] = str(tmp_path / "known_hosts")
    code = interpreters.script(EXPOSE, known=known)
    ran = subprocess.run(
        [*before, sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    said = interpreters.said(ran.stdout)
    assert said.startswith("up True ")
    if "read-only" in tried:
        assert said.endswith(" []\n"), "something could be written to"
    if form == "fingerprint":
        compat("platforms", tried, TAKEN)

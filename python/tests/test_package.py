# SPDX-License-Identifier: Apache-2.0
"""The package as it is installed, and the border between Python and C."""

from __future__ import annotations

import importlib.metadata
import inspect
import pathlib
import re
import subprocess
import sys

import pytest
import taipy_tunnel
from taipy_tunnel import _abi

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_wheel_is_what_is_tested() -> None:
    assert ROOT / "python" not in pathlib.Path(taipy_tunnel.__file__).resolve().parents


def test_version_is_one() -> None:
    assert importlib.metadata.version("taipy-tunnel") == taipy_tunnel.__version__
    assert _abi.library().info()["version"] == taipy_tunnel.__version__


def test_public_names() -> None:
    """What the package promises; a name more or less is a decision."""
    assert set(taipy_tunnel.__all__) == {
        "AppNotFoundError", "AuthError", "ConfigError", "ForkedProcessError", "ForwardError", "HostKeyError",
        "ProxyHopError",
        "ProxyUnreachableError", "Status", "Tunnel", "TunnelError", "WorkspaceError", "__version__", "close_all",
        "doctor", "expose", "tunnels",
    }  # fmt: skip
    public = {name for name in vars(taipy_tunnel) if not name.startswith("_")}
    assert public == {name for name in taipy_tunnel.__all__ if not name.startswith("_")}
    for name in public:
        assert inspect.getdoc(getattr(taipy_tunnel, name)), f"{name} has no documentation"


def test_no_dependencies() -> None:
    assert importlib.metadata.requires("taipy-tunnel") is None


def test_header_and_argtypes_agree() -> None:
    """Every function of the header has its ctypes declaration, with the same types, and no other."""
    header = (ROOT / "cshared" / "taipy_tunnel.h").read_text()
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    declared = {
        name: (result, *(" ".join(a.split()[:-1]) + "*" * a.count("*") for a in arguments.split(",") if a != "void"))
        for result, name, arguments in re.findall(r"^(\w+) (tt_\w+)\(([^)]*)\);", code, flags=re.M)
    }
    names = {"c_int": "int32_t", "c_long": "int64_t", "c_ulong": "size_t", "c_char_p": "const char*"}

    def spell(ctype: type) -> str:
        return "char*" if ctype.__name__ == "LP_c_char" else names[ctype.__name__]

    ours = {
        name: (spell(result), *(spell(argument) for argument in arguments))
        for name, (result, arguments) in _abi.FUNCTIONS.items()
    }
    assert ours == declared
    assert int(re.findall(r"#define TT_ABI_VERSION (\d+)", header)[0]) == _abi.ABI_VERSION
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", str(_abi.PATH)], capture_output=True, text=True, check=True
    ).stdout
    assert set(re.findall(r" T (tt_\w+)", symbols)) == set(declared)


def test_old_glibc_is_enough() -> None:
    needed = subprocess.run(["objdump", "-T", str(_abi.PATH)], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([0-9.]+)", needed)}
    assert max(versions) <= (2, 17)


IMPORT = """
import sys, threading
before = set(sys.modules)
import taipy_tunnel
assert threading.active_count() == 1, "a thread was started"
assert "libtaipy_tunnel" not in open("/proc/self/maps").read(), "the library was loaded"
outside = {m.split(".")[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names) - {"taipy_tunnel"}
assert not outside, outside
"""


def test_importing_starts_nothing() -> None:
    subprocess.run([sys.executable, "-I", "-c", IMPORT], check=True)


LOAD = """
import resource, signal
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
handlers = {s: signal.getsignal(s) for s in signal.valid_signals()}
def dispositions():
    lines = open("/proc/self/status").read().splitlines()
    return [line for line in lines if line.startswith(("SigBlk", "SigIgn"))]
before = dispositions()
from taipy_tunnel._abi import library
library()
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256, "the limit of open files changed"
assert {s: signal.getsignal(s) for s in signal.valid_signals()} == handlers
assert dispositions() == before
"""


def test_loading_leaves_the_process_as_it_was() -> None:
    ran = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


FORK = """
import os
from taipy_tunnel import ForkedProcessError
from taipy_tunnel._abi import library
library()
child = os.fork()
if child == 0:
    try:
        library().info()
    except ForkedProcessError as error:
        os._exit(7 if "spawn" in error.hint else 1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


def test_a_forked_child_is_refused() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=20)


@pytest.mark.parametrize("name", ["sever", "hostkey", "passphrase", "xyz"])
def test_unknown_argument_names_the_nearest(name: str) -> None:
    near = {"sever": "'server'", "hostkey": "'host_key'", "passphrase": "'key_passphrase'", "xyz": "it has app, server"}
    with pytest.raises(TypeError, match=near[name]):
        taipy_tunnel.expose(**{name: "x"})  # type: ignore[arg-type]

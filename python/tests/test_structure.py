# SPDX-License-Identifier: Apache-2.0
"""The package's structure: who imports whom, and who touches what; pkg/internal/rules holds the Go side to the like."""

from __future__ import annotations

import ast
import graphlib
import pathlib
from collections.abc import Iterator

import taipy_tunnel
from taipy_tunnel._taipy import relied

SOURCES = pathlib.Path(__file__).resolve().parents[1]

# Which modules of the package each one imports: what is above needs nothing of what is below.
IMPORTS = {
    "_hints": "",
    "_errors": "_hints",
    "_quote": "",
    "_signals": "",
    "_servers": "",
    "_settings": "_errors _quote",
    "_status": "_errors",
    "_card": "_status",
    # The engine: the table of its functions, the one thread and its lock, questions and their answers.
    "_limits": "_errors _signals",
    "_abi": "_errors _hints _limits _quote _signals",
    "_watcher": "_abi _hints _signals",
    "_lines": "_watcher",
    "_questions": "_abi _errors _quote _watcher",
    # Taipy.
    "_taipy": "",
    "_taipy.relied": "",
    "_taipy.app": "_errors _hints _quote _servers _settings _taipy.relied",
    "_taipy.resync": "_taipy.relied",
    "_near": "_errors _questions _servers _taipy.app",
    # Databricks.
    "_databricks": "",
    "_databricks.notebook": "_quote",
    "_databricks.workspace": "_databricks.notebook _errors _quote",
    "_databricks.secrets": "_databricks.notebook _databricks.workspace _errors _questions _quote _signals",
    "_databricks.scope": "_databricks.notebook _databricks.secrets _errors _hints _quote _settings",
    "_databricks.cluster": "_abi _databricks.notebook _databricks.workspace _errors _signals _status _watcher",
    # Tunnels.
    "_tunnel": "_abi _card _databricks.cluster _errors _lines _near _questions _settings _status _taipy.app "
    "_taipy.resync _watcher",
    "_registry": "_databricks.scope _questions _settings _taipy.app _tunnel _watcher",
    "_expose": "_databricks.cluster _databricks.notebook _databricks.scope _errors _quote _registry _settings _status "
    "_taipy.app _tunnel",
    "_doctor": "_databricks.cluster _errors _expose _hints _near _questions _quote _registry _taipy.app",
    "": "_doctor _errors _expose _registry _status _tunnel",
    # The command line, which the package itself does without.
    "_cli": "",
    "_cli.command": "_databricks.notebook _errors _questions _quote _settings",
    "__main__": "_cli.command",
}


def modules() -> dict[str, ast.Module]:
    """The parsed modules by their names below the package, "" for the package itself."""
    found = {}
    for path in sorted((SOURCES / "taipy_tunnel").rglob("*.py")):
        parts = path.relative_to(SOURCES / "taipy_tunnel").with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = ast.parse(path.read_text())
    return found


def imported(name: str, tree: ast.Module, known: set[str]) -> Iterator[str]:
    """What a module imports of the package, in functions too."""
    is_folder = not name or any(other.startswith(f"{name}.") for other in known)
    here = name.split(".") if is_folder else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert "taipy_tunnel" not in {alias.name.split(".")[0] for alias in node.names}, name
        elif isinstance(node, ast.ImportFrom):
            assert node.level or (node.module or "").split(".")[0] != "taipy_tunnel", name
            if node.level:
                base = [*here[: len(here) + 1 - node.level], *(node.module or "").split(".")]
                for alias in node.names:
                    inner, outer = (".".join(filter(None, parts)) for parts in ([*base, alias.name], base))
                    yield inner if inner in known else outer


def test_imports_point_one_way() -> None:
    found = modules()
    imports = {name: set(imported(name, tree, set(found))) for name, tree in found.items()}
    assert imports == {name: set(others.split()) for name, others in IMPORTS.items()}
    list(graphlib.TopologicalSorter(imports).static_order())  # raises CycleError
    places = list(IMPORTS)
    assert [(a, b) for a in places for b in imports[a] if places.index(b) > places.index(a)] == []


def test_what_is_private_stays_in_its_module() -> None:
    """An attribute with an underscore is touched by its own object; that of the watcher is the package's lock."""
    touched = [
        f"{name}:{node.lineno}: {ast.unparse(node)}"
        for name, tree in modules().items()
        if not name.startswith("_taipy")  # which says which attributes of Taipy it relies on
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.endswith("_")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]
    assert touched == []


def test_what_is_private_to_taipy_is_in_its_table() -> None:
    """What other modules of the folder touch, or look for by its name, canaries look after."""
    known = {name.removesuffix("()") for row in relied.RELIED for way in row.ways for name in way.split(".")}
    known.add("_RuntimeManager")
    for name in ("_taipy.app", "_taipy.resync"):
        for node in ast.walk(modules()[name]):
            touched = ""
            if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                touched = node.attr
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
                touched = ast.literal_eval(node.args[1]) if isinstance(node.args[1], ast.Constant) else ""
            assert touched in known or not touched.startswith("_") or touched.endswith("__"), f"{name}: {touched}"


def test_files_are_short() -> None:
    files = [path for folder in ("taipy_tunnel", "tests") for path in (SOURCES / folder).rglob("*.py")]
    assert {path.name: n for path in files if (n := len(path.read_text().splitlines())) > 400} == {}


def test_the_wheel_has_all_of_it() -> None:
    installed = pathlib.Path(taipy_tunnel.__file__).parent
    ours, theirs = ({str(p.relative_to(at)) for p in at.rglob("*.py")} for at in (SOURCES / "taipy_tunnel", installed))
    assert theirs == ours


def test_what_tests_share_is_in_the_chain() -> None:
    """No test imports another, or conftest."""
    beside = {path.stem for path in (SOURCES / "tests").glob("*.py")}
    assert [
        f"{path.name}:{node.lineno}: {node.module}"
        for path in (SOURCES / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and not node.level and node.module in beside
    ] == []

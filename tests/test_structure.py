"""The structure of the code: which layer may import which, how long a file and how complex a function may be.

Each list of exceptions only shrinks: an entry that is no longer needed fails the test.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from radon.complexity import cc_visit

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "hybridbridge_vol"
FOLDERS = (PACKAGE, "plugins", "samples", "benchmarks", "build_support", "examples", "tests")

LAYERS = (
    ("cli", "volatility_plugin", "pytest_plugin", "__main__"),
    ("api", "lab"),
    ("workflow",),
    ("tools",),
    ("check", "toolkit"),
    ("guest",),
    ("procfs", "netlink"),
    ("bridge",),
    ("trust",),
    ("snapshot",),
    ("memory_image", "kernel_file"),
    ("machine",),
    ("units", "errors", "progress", ""),
)
"""From the top; a module imports from its own layer and from those below. "" is the package itself."""

_SOCKETS = "what finds a socket's process and what parses its line are in one file, which is to be split"
UPWARD = {
    (
        PACKAGE,
        f"{PACKAGE}.api.snapshot",
    ): "hybridbridge_vol.open is the package's front door; it imports when called",
    (f"{PACKAGE}.procfs.net", f"{PACKAGE}.guest.kernel"): _SOCKETS,
    (f"{PACKAGE}.procfs.net", f"{PACKAGE}.guest.values"): _SOCKETS,
    (f"{PACKAGE}.procfs.net", f"{PACKAGE}.toolkit.cells"): _SOCKETS,
    (f"{PACKAGE}.procfs.net", f"{PACKAGE}.toolkit.reading"): _SOCKETS,
}
"""`(importer, imported)` modules, with the reason why an import leads up all the same."""

MOST_LINES = 350
LONGER = {
    "tests/bridge/test_memo.py": 385,
    "tests/check/test_check.py": 477,
    "tests/cli/test_cli.py": 374,
    "tests/lab/batch/test_batch.py": 364,
}
"""Files that are longer, and how long they may be."""

MOST_COMPLEX = 15
"""Of one function (radon's cyclomatic complexity)."""
MORE_COMPLEX = {
    "hybridbridge_vol/tools/files.py:rows": 17,
    "tests/check/test_check.py:test_every_plant_is_found_on_each_kernel": 19,
}
"""Functions that are more complex, by `path:name`, and how complex they may be."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its full name."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str) -> Iterator[str]:
    """The modules of the package that a module imports, wherever in it that is written."""
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [target if target in modules() else node.module for target in inner]
        else:
            continue
        yield from (target for target in targets if target in modules() and target != name)


def layer(module: str) -> int:
    """The number of a module's layer, counted from the top. KeyError for a module that has none."""
    part = module.split(".")[1] if "." in module else ""
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    raise KeyError(f"{module}: give it a layer")


def files() -> Iterator[Path]:
    """The Python files that are held to length and complexity."""
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_no_import_leads_up() -> None:
    upward = {
        (module, imported)
        for module in modules()
        for imported in imports(module)
        if layer(imported) < layer(module)
    }
    assert upward == UPWARD.keys()


def test_no_imports_form_a_circle() -> None:
    """A package's own `__init__` counts with what is imported from it, not with each of its modules."""
    graph = {module: set(imports(module)) for module in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_no_module_of_the_list_of_long_lines_is_clean() -> None:
    """pyproject.toml lists the files in which ruff does not enforce the length of a line."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    for name in settings["lint"]["per-file-ignores"]:
        lines = (ROOT / name).read_text().splitlines()
        assert any(len(line) > settings["line-length"] for line in lines), name


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in files()}
    longer = {path: length for path, length in lengths.items() if length > MOST_LINES}
    assert longer.keys() == LONGER.keys()
    assert {path: length for path, length in longer.items() if length > LONGER[path]} == {}


def test_no_function_is_too_complex() -> None:
    found = {}
    for path in files():
        for block in cc_visit(path.read_text()):
            for function in (block, *getattr(block, "methods", ()), *getattr(block, "closures", ())):
                if not hasattr(function, "methods") and function.complexity > MOST_COMPLEX:
                    found[f"{path.relative_to(ROOT)}:{function.name}"] = function.complexity
    assert found.keys() == MORE_COMPLEX.keys()
    assert {name: value for name, value in found.items() if value > MORE_COMPLEX[name]} == {}

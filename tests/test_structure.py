"""The house keeps its shape: imports point down, files and functions stay small.

The order of the layers is the one of docs/ARCHITECTURE.md. The lists of exceptions may only shrink.
"""

from __future__ import annotations

import ast
import configparser
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hybridbridge_vol"
LAYERS = (
    ("units", "elf_headers", "cached_method"),
    ("errors",),
    ("allowance", "child_process", "short_run"),
    ("machine",),
    ("memory_image", "kernel_file"),
    ("snapshot",),
    ("trust",),
    ("bridge",),
    ("procfs",),
    ("netlink",),
    ("bpf", "xtables"),
    ("guest",),
    ("toolkit",),
    ("check",),
    ("tools",),
    ("native",),
    ("workflow",),
    ("api", "lab", "progress"),
    ("cli", "volatility_plugin"),
    ("pytest_plugin", "__main__"),
)
"""From the bottom up. What stands in one line does not import each other."""
MOST_LINES = 350
LONGER = {"tests/support/kernel_makers.py": 360}
MOST_COMPLEX = 15


def rank(layer: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if layer in names)


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path, whole: bool) -> Iterator[str]:
    """The modules of the package that a file imports; `whole`: also inside of functions, else at its top
    level. What only type checkers see does not count."""
    tree = ast.parse(path.read_text())
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test):
            block.body = []
    for node in ast.walk(tree) if whole else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hybridbridge_vol"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_every_module_has_a_layer() -> None:
    known = {name for names in LAYERS for name in names}
    assert {layer_of(module) for module in MODULES} - {""} == known


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    layer = layer_of(module)
    if not layer:
        return  # the package itself names its fronts
    for other in map(layer_of, imports(MODULES[module], whole=True)):
        assert not other or other == layer or rank(other) < rank(layer), other


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: set(imports(path, whole=False)) & set(MODULES) for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_architecture_shows_the_same_folders() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    shown = set(re.findall(r"`(\w+)(?:/|\.py)", text))
    assert {name for names in LAYERS for name in names if (PACKAGE / name).is_dir()} <= shown


def sources() -> list[Path]:
    folders = ("hybridbridge_vol", "tests", "samples", "benchmarks", "plugins", "build_support", "examples")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_file_is_longer_than_a_stranger_reads_at_once() -> None:
    for path in sources():
        name = str(path.relative_to(ROOT))
        assert len(path.read_text().splitlines()) <= LONGER.get(name, MOST_LINES), name


def test_no_function_is_more_complex_than_it_must_be() -> None:
    from radon.complexity import cc_visit

    for path in sources():
        if path.is_relative_to(ROOT / "tests"):
            continue  # each assert counts as a branch
        for block in cc_visit(path.read_text()):
            assert block.complexity <= MOST_COMPLEX, f"{path.relative_to(ROOT)}: {block.name}"


def test_test_modules_have_names_of_their_own() -> None:
    """pytest imports them by name alone (rootdir without packages)."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_every_package_is_installed() -> None:
    """setup.cfg names them one by one, as two of them lie in other folders here; tests import them from here,
    installed or not."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    named = set(settings["options"]["packages"].split())
    here = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert here == {name for name in named if name.startswith("hybridbridge_vol")} - {
        "hybridbridge_vol.symbols"
    }

"""Writes hybridbridge_vol/api/methods.pyi, by which type checkers know the tools' methods and rows.

A row type has the fields of all options together, because the columns depend on the options that are given: a
field that was not asked for is an AttributeError when the program runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
STUB = ROOT / "hybridbridge_vol" / "api" / "methods.pyi"

HEAD = '''\
# Written by build_support/stubs.py from the tools' descriptions: `make stubs` writes it anew.
import datetime
from collections.abc import Iterable
from typing import Any

from hybridbridge_vol.api.table import Table

class Record(tuple[Any, ...]):
    """A row: a named tuple."""

    _fields: tuple[str, ...]
    def _asdict(self) -> dict[str, Any]: ...
'''


def stub_text() -> str:
    """The whole file."""
    from hybridbridge_vol import tools

    loaded = [tools.load(name) for name in tools.NAMES]
    return "\n".join([HEAD, *map(_row, loaded), "class ToolMethods:", *map(_method, loaded)]) + (
        "    def session(self) -> Any: ...\n"
    )


def _row(tool: Any) -> str:
    from hybridbridge_vol.api.table import PYTHON_TYPES, field_of

    types: dict[str, dict[str, None]] = {}
    for options in _ways(tool):
        for column in tool.columns_for(options):
            types.setdefault(field_of(column.name), {})[PYTHON_TYPES[column.kind]] = None
    lines = [f"    {field}: {' | '.join([*kinds, 'None'])}" for field, kinds in types.items()]
    if tool.tree_column is not None:
        lines.append("    depth: int")
    return "\n".join([f"class {tool.name.capitalize()}(Record):", *lines, ""])


def _ways(tool: Any) -> Iterator[dict[str, Any]]:
    """Options that between them make all of a tool's columns."""
    plain = {option.name: option.default for option in tool.options}
    chosen = [
        (option.name, value)
        for option in tool.options
        for value in (option.examples or ((("1", "2") if option.many else True),))
    ]
    for size in (0, 1, 2):
        for pairs in combinations(chosen, size):
            yield plain | dict(pairs)


def _method(tool: Any) -> str:
    from hybridbridge_vol.api.methods import annotation_of

    places = [f"{option.name}: {annotation_of(option)}" for option in tool.options if option.positional]
    names = [
        f"{option.name}: {annotation_of(option)} = ..." for option in tool.options if not option.positional
    ]
    arguments = ", ".join(["self", *places, *["*"] * bool(names), *names])
    return (
        f'    def {tool.name}({arguments}) -> Table[{tool.name.capitalize()}]:\n        """{tool.help}."""\n'
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    STUB.write_text(stub_text())
    print(STUB)

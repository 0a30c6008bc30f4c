"""Writes hybridbridge_vol/api/methods.pyi, from which type checkers know the tools' methods and rows.

A row type has the fields of all options together, because the columns depend on the options that are given: a
field that was not asked for is an AttributeError at run time. The text is formatted as `ruff format` would.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from hybridbridge_vol import tools
from hybridbridge_vol.api.signatures import annotation_of, keyword_of
from hybridbridge_vol.api.table import PYTHON_TYPES, field_of
from hybridbridge_vol.toolkit.tool import Tool

ROOT = Path(__file__).resolve().parents[1]
STUB = ROOT / "hybridbridge_vol" / "api" / "methods.pyi"
LINE = 110
"""Columns of a line (pyproject.toml)."""

HEAD = '''\
# Written by build_support/stubs.py from the tools' descriptions: `make stubs` writes it anew.
import datetime
from collections.abc import Iterable
from typing import Any

from hybridbridge_vol.api.table import Table
from hybridbridge_vol.guest.kernel import GuestKernel

class Record(tuple[Any, ...]):
    """A row: a named tuple."""

    _fields: tuple[str, ...]
    def _asdict(self) -> dict[str, Any]: ...
'''


def stub_text() -> str:
    """The whole file."""
    loaded = [tools.load(name) for name in tools.NAMES]
    return "\n".join([HEAD, *map(_row, loaded), "class ToolMethods:", *map(_method, loaded)]) + (
        "    def session(self) -> GuestKernel: ...\n"
    )


def _row(tool: Tool) -> str:
    types: dict[str, dict[str, None]] = {}
    for options in _ways(tool):
        for column in tool.columns_for(options):
            types.setdefault(field_of(column.name), {})[PYTHON_TYPES[column.kind]] = None
    lines = [f"    {field}: {' | '.join([*kinds, 'None'])}" for field, kinds in types.items()]
    if tool.tree_column is not None:
        lines.append("    depth: int")
    return "\n".join([f"class {tool.name.capitalize()}(Record):", *lines, ""])


def _ways(tool: Tool) -> Iterator[dict[str, Any]]:
    """Options that between them give all of a tool's columns."""
    plain = tool.defaults()
    chosen = [
        (option.name, value)
        for option in tool.options
        for value in (option.examples or ((("1", "2") if option.many else True),))
    ]
    for size in (0, 1, 2):
        for pairs in combinations(chosen, size):
            yield plain | dict(pairs)


def _method(tool: Tool) -> str:
    positional = [
        f"{keyword_of(option)}: {annotation_of(option)}" for option in tool.options if option.positional
    ]
    keywords = [
        f"{keyword_of(option)}: {annotation_of(option)} = ..."
        for option in tool.options
        if not option.positional
    ]
    arguments = ["self", *positional, *["*"] * bool(keywords), *keywords]
    return f'{_definition(tool, arguments)}\n        """{tool.help}."""\n'


def _definition(tool: Tool, arguments: list[str]) -> str:
    """The line of a method, or the lines if it is too long."""
    start, end = f"    def {tool.name}(", f") -> Table[{tool.name.capitalize()}]:"
    line = f"{start}{', '.join(arguments)}{end}"
    if len(line) <= LINE:
        return line
    together = f"        {', '.join(arguments)}"
    middle = together if len(together) <= LINE else "\n".join(f"        {item}," for item in arguments)
    return f"{start}\n{middle}\n    {end}"


if __name__ == "__main__":
    STUB.write_text(stub_text())
    print(STUB)

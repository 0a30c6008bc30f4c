"""free, vmstat, iostat, mpstat and pidstat against what the native tools printed of the same files, in every field."""

from __future__ import annotations

import re
from typing import Any

import pytest
from live_kernel import LiveKernel

from hybridbridge_vol.guest import tools
from hybridbridge_vol.guest.render import shown

Lab = Any


class Copy(LiveKernel):
    """A guest's own copy of its /proc (samples/guest/still.sh)."""

    def read_file(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return super().read_file(path)

    def listdir(self, path: str) -> list[str]:
        if path == "/sys/block":
            return [f"loop{number}" for number in range(8)]
        return list(dict.fromkeys(name[len(path) + 1 :].split("/")[0] for name in self.files if name.startswith(f"{path}/")))


def native(text: str, first: str) -> list[list[str]]:
    """The words of a report's lines below the one that begins with `first`, without times of day."""
    lines = [[word for word in line.split() if not re.fullmatch(r"\d\d:\d\d:\d\d", word)] for line in text.splitlines()]
    start = next(number for number, words in enumerate(lines) if words[:1] == [first]) + 1
    end = next((number for number in range(start, len(lines)) if not lines[number]), len(lines))
    return lines[start:end]


@pytest.mark.parametrize(
    ("command", "first", "name", "options"),
    [
        ("free", "total", "free", {}),
        ("free -b", "total", "free", {"bytes": True}),
        ("free -m", "total", "free", {"mebi": True}),
        ("free -h", "total", "free", {"human": True}),
        ("vmstat", "r", "vmstat", {}),
        ("vmstat -s", "", "vmstat", {"counters": True}),
        ("iostat", "Device", "iostat", {}),
        ("iostat", "avg-cpu:", "iostat", {"processors": True}),
        ("iostat -x", "Device", "iostat", {"extended": True}),
        ("mpstat -P ALL", "CPU", "mpstat", {}),
        ("pidstat -p ALL", "UID", "pidstat", {}),
        ("pidstat -p ALL -dl", "UID", "pidstat", {"io": True}),
        ("pidstat -p ALL -r", "UID", "pidstat", {"memory": True}),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_every_field_is_what_the_native_tool_printed(
    lab: Lab, rich_generation: str, command: str, first: str, name: str, options: dict[str, Any]
) -> None:
    files, outputs = lab.sample(rich_generation).truth.still
    tool = tools.load(name)
    given = {option.name: option.default for option in tool.options} | options
    columns = tool.columns_for(given)
    rows = [
        [shown(cell, column.kind) for cell, column in zip(row.cells, columns, strict=True) if cell is not None]
        for row in tool.rows(Copy(dict(files)), given)
    ]
    said = [line.split() for line in outputs[command].splitlines()] if not first else native(outputs[command], first)
    if name == "pidstat":  # names and command lines may hold blanks, and the copy has no order
        width = len(columns) - 1
        rows, said = (sorted((row[:width] for row in table), key=lambda row: int(row[1])) for table in (rows, said))
    elif name == "free":
        said = [[line[0].removesuffix(":"), *line[1:]] for line in said]
    elif command == "vmstat -s":
        rows = [" ".join(row).split() for row in rows]
    assert len(said) > 0
    assert rows == said

"""The manifest of a recovery: one row for each file, and what is missing of it.

It is kept as JSON lines while the recovery runs, so that an interrupted one can be continued, and written as
CSV and, where pyarrow is installed, as Parquet at its end.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from hybridbridge_vol.guest.file_content import MissingRange, PhysicalRange
from hybridbridge_vol.toolkit.cells import without_surrogates
from hybridbridge_vol.workflow.recover.guest_disk import DiskRange


@dataclass(frozen=True, slots=True)
class Recovered:
    """A file of the guest. Sizes in bytes, times in seconds since the epoch.

    `stored_as`: relative to the output; empty if nothing was stored. `sha256` is that of what was stored, in
    order, without what is missing. `read_from`: the path by which it can be read, where `path` cannot.
    `missing`, `on_disk` and `pages` are texts: see `ranges_text`, `disk_text` and `pages_text`.
    """

    path: str
    read_from: str
    state: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: float
    stored_as: str
    complete: bool
    recovered_bytes: int
    sha256: str
    missing: str
    on_disk: str
    pages: str
    error: str

    def dump(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


_NAMES = tuple(field.name for field in fields(Recovered))


def parse_line(line: str) -> Recovered | None:
    """What `Recovered.dump` gave; None for a line that was cut."""
    with contextlib.suppress(ValueError, TypeError):
        return Recovered(**json.loads(line))
    return None


def ranges_text(missing: Iterable[MissingRange]) -> str:
    """`0-4095 not in the page cache; 8192-12287 ...`: first and last byte, and why."""
    return "; ".join(f"{item.offset}-{item.offset + item.size - 1} {item.reason}" for item in missing)


def disk_text(ranges: Iterable[DiskRange]) -> str:
    """`0-4095@1048576; ...`: first and last byte of the file, and the offset of the first on its device."""
    return "; ".join(f"{item.offset}-{item.offset + item.size - 1}@{item.device_offset}" for item in ranges)


def pages_text(ranges: Iterable[PhysicalRange], offset_of: Callable[[int], int | None]) -> str:
    """`0-8191@0x1f000/0x1f000; ...`: first and last byte of the file, the guest-physical address of the
    first, and its offset in the image's file (`-` where that is not made of plain slices of memory)."""
    return "; ".join(
        f"{item.offset}-{item.offset + item.size - 1}@{item.paddr:#x}/{_hex(offset_of(item.paddr))}"
        for item in ranges
    )


def _hex(offset: int | None) -> str:
    return "-" if offset is None else f"{offset:#x}"


def write_csv(path: Path, rows: Iterable[Recovered]) -> None:
    """The manifest as CSV; bytes of names that are not UTF-8 are written as `\\xff`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_NAMES)
        writer.writerows(_printable_values(row) for row in rows)


def write_parquet(path: Path, rows: Iterable[Recovered]) -> bool:
    """The manifest as Parquet; False, and nothing is written, without pyarrow."""
    if find_spec("pyarrow") is None:
        return False
    import pyarrow  # costs more than everything else where it is not needed
    import pyarrow.parquet

    types = {
        "mode": pyarrow.uint32(), "uid": pyarrow.uint32(), "gid": pyarrow.uint32(), "size": pyarrow.int64(),
        "mtime": pyarrow.float64(), "complete": pyarrow.bool_(), "recovered_bytes": pyarrow.int64(),
    }  # fmt: skip
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in _NAMES])
    records = [dict(zip(_NAMES, _printable_values(row), strict=True)) for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records, schema), path)
    return True


def _printable_values(row: Recovered) -> Iterator[object]:
    for name in _NAMES:
        value = getattr(row, name)
        yield without_surrogates(value) if isinstance(value, str) else value

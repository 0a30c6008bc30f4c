"""The formats of /proc/PID/maps, smaps and numa_maps.

Sources: fs/proc/task_mmu.c (`show_map_vma`, `show_smap`; Linux 5.10 to 6.12) and fs/seq_file.c (`seq_path`,
which writes a newline of a name as `\\012`: no name begins a line; a name that holds these four characters
looks the same). Names of anonymous mappings have no character below a blank (kernel/sys.c,
`is_valid_name_char`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source

_LINE = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][ps]) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) ([0-9]+)(?: +(.*))?"
)
DELETED = " (deleted)"


class Mapping(NamedTuple):
    """One line of /proc/PID/maps: `[start_vaddr, end_vaddr)` of a process's address space."""

    start_vaddr: int
    end_vaddr: int
    permissions: str
    """`rwx` and `p` (private) or `s` (shared)."""
    offset: int
    """Bytes into the file."""
    major: int
    minor: int
    inode: int
    """0 where no file is mapped."""
    path: str
    """The file as the process sees it, followed by ` (deleted)` if it is; `[heap]` and the like; or empty."""

    @property
    def size(self) -> int:
        return self.end_vaddr - self.start_vaddr

    @property
    def device(self) -> str:
        return f"{self.major}:{self.minor}"


def parse_mapping(line: bytes) -> Mapping:
    """One line of maps without its newline. Raises ParseError."""
    found = _LINE.fullmatch(line)
    if not found:
        raise ParseError(f"not in the form of /proc/PID/maps: {line[:60]!r}")
    start, end, permissions, offset, major, minor, inode, path = found.groups()
    mapping = Mapping(
        int(start, 16), int(end, 16), permissions.decode(), int(offset, 16), int(major, 16), int(minor, 16),
        int(inode), text((path or b"").replace(rb"\012", b"\n")),
    )  # fmt: skip
    if not mapping.start_vaddr < mapping.end_vaddr <= 1 << 64:
        raise ParseError(f"an impossible range in /proc/PID/maps: {line[:60]!r}")
    return mapping


class Entry(NamedTuple):
    """A mapping (or why a line could not be read as one), what smaps reports about it by key (KiB; without
    `VmFlags`), and the bytes of the file that it was read from."""

    mapping: Mapping | ParseError
    sizes: dict[str, int]
    source: Source


def entries(path: str, data: bytes) -> Iterator[Entry]:
    """The mappings in the text of maps or smaps. Mappings ascend: where one does not, the kernel's list is
    cyclic, and the last entry is a ParseError that says so."""
    block: list[bytes] = []
    start, offset, last = 0, 0, 0
    for line in [*data.split(b"\n"), b""]:
        if block and (not line or _is_head(line)):
            entry = _entry(block, Source(path, start, offset))
            if isinstance(entry.mapping, Mapping):
                if entry.mapping.start_vaddr < last:
                    yield Entry(ParseError("the list of mappings is cyclic"), {}, entry.source)
                    return
                last = entry.mapping.end_vaddr
            yield entry
            block, start = [], offset
        if line:
            block.append(line)
        offset += len(line) + 1


def populated(data: bytes) -> frozenset[int]:
    """The start addresses of the mappings of which numa_maps counts pages (fs/proc/task_mmu.c,
    `show_numa_map`: `N0=` and the like follow, if there are any)."""
    lines = (line.split() for line in data.split(b"\n"))
    counting = (words for words in lines if any(re.match(rb"N[0-9]+=", word) for word in words[2:]))
    return frozenset(int(words[0], 16) for words in counting if re.fullmatch(rb"[0-9a-f]{1,16}", words[0]))


def _is_head(line: bytes) -> bool:
    return not re.match(rb"[A-Za-z_]+:", line)


def _entry(block: list[bytes], source: Source) -> Entry:
    sizes = {}
    for line in block[1:]:
        key, _, value = line.partition(b":")
        words = value.split()
        if words and words[0].isdigit() and (len(words) == 1 or words[1] == b"kB"):
            sizes[text(key)] = int(words[0])
    try:
        return Entry(parse_mapping(block[0]), sizes, source)
    except ParseError as error:
        return Entry(error, sizes, source)

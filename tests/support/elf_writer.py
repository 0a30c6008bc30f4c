"""Small ELF cores, written for tests (System V gABI)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

PT_LOAD, PT_NOTE = 1, 4
HEADER_SIZE, SEGMENT_SIZE, SECTION_SIZE = 64, 56, 64
_PN_XNUM = 0xFFFF


class Load(NamedTuple):
    """A PT_LOAD header; `memory_size` is by default the size in the file."""

    paddr: int
    size: int
    offset: int
    memory_size: int | None = None
    vaddr: int = 0


def header(
    segments: int = 0,
    kind: int = 4,
    machine: int = 62,
    sections_at: int = 0,
    sections: int = 0,
    names: int = 0,
) -> bytes:
    """The ELF header; program headers follow it."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    shown = min(segments, _PN_XNUM)
    return head + struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, 0, HEADER_SIZE if segments else 0, sections_at, 0, HEADER_SIZE,
        SEGMENT_SIZE, shown, SECTION_SIZE, sections, names,
    )  # fmt: skip


def segment(kind: int, load: Load) -> bytes:
    """One program header."""
    memory_size = load.size if load.memory_size is None else load.memory_size
    return struct.pack(
        "<IIQQQQQQ", kind, 7, load.offset & (1 << 64) - 1, load.vaddr, load.paddr, load.size, memory_size, 0
    )


def note(name: bytes, content: bytes, kind: int = 0) -> bytes:
    """One note."""
    name += b"\0"
    return (
        struct.pack("<III", len(name), len(content), kind)
        + name.ljust(-(-len(name) // 4) * 4, b"\0")
        + content.ljust(-(-len(content) // 4) * 4, b"\0")
    )


def elf_core(loads: Sequence[Load | tuple[int, int, int]], notes: bytes = b"", kind: int = 4) -> bytes:
    """Headers of a core, the notes right behind them. Of 65,535 segments and more a section header has the
    number."""
    segments = [Load(*load) for load in loads]
    count = len(segments) + bool(notes)
    table_end = HEADER_SIZE + SEGMENT_SIZE * count
    many = count >= _PN_XNUM
    notes_at = table_end + SECTION_SIZE * many
    head = header(count, kind, sections_at=table_end if many else 0, sections=int(many))
    table = segment(PT_NOTE, Load(0, len(notes), notes_at)) if notes else b""
    table += b"".join(segment(PT_LOAD, load) for load in segments)
    section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, count, 0, 0) if many else b""
    return head + table + section + notes


def headers_size(loads: int, notes: bytes = b"") -> int:
    """How long `elf_core` is."""
    return len(elf_core([(0, 0, 0)] * loads, notes))


def makedumpfiles(
    pieces: Iterable[tuple[int, bytes, int]],
    vmcoreinfo: bytes = b"OSRELEASE=6.1.0\nPAGESIZE=4096\n",
    more_notes: bytes = b"",
) -> bytes:
    """What `makedumpfile -E` writes: `(paddr, data, size in memory)`, the data one behind the other."""
    pieces = list(pieces)
    notes = note(b"CORE", bytes(336), 1) + note(b"VMCOREINFO", vmcoreinfo) + more_notes
    at = headers_size(len(pieces), notes)
    loads = []
    for paddr, data, memory_size in pieces:
        loads.append(Load(paddr, len(data), at if data else 0, memory_size, 0xFFFF888000000000 + paddr))
        at += len(data)
    return elf_core(loads, notes) + b"".join(data for _, data, _ in pieces)


def xen_core(frames: Sequence[int], pages: bytes, table: bytes = b".xen_pfn") -> bytes:
    """What `xl dump-core` writes of an HVM guest (docs/misc/dump-core-format.txt): the numbers of the frames
    and their pages, found by the names of sections."""
    names = b"\0.shstrtab\0.note.Xen\0.xen_pages\0" + table + b"\0"
    sections_at = HEADER_SIZE
    names_at = sections_at + 5 * SECTION_SIZE
    note_at = names_at + -(-len(names) // 8) * 8
    xen_note = note(b"Xen", struct.pack("<QQQQ", 0xF00FEBEE, 1, len(frames), 4096), 0x2000001)
    pages_at = -(-(note_at + len(xen_note)) // 4096) * 4096
    table_at = pages_at + len(pages)
    numbers = struct.pack(f"<{len(frames)}Q", *frames)
    rows = [
        (0, 0, 0), (1, names_at, len(names)), (11, note_at, len(xen_note)), (21, pages_at, len(pages)),
        (32, table_at, len(numbers)),
    ]  # fmt: skip
    sections = b"".join(
        struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, at, size, 0, 0, 8, 0) for name, at, size in rows
    )
    head = header(0, sections_at=sections_at, sections=len(rows), names=1) + sections
    return ((head + names).ljust(note_at, b"\0") + xen_note).ljust(pages_at, b"\0") + pages + numbers

"""The form of an ELF core of one process, as Linux writes them and gdb reads them.

Sources: fs/binfmt_elf.c (`elf_core_dump`, `fill_files_note`), include/linux/elfcore.h and include/uapi/linux/elf.h, for
x86-64. Pure functions from facts to bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

NT_PRSTATUS, NT_PRPSINFO, NT_AUXV, NT_FILE = 1, 3, 6, 0x46494C45
PAGE_SIZE = 4096
_PN_XNUM = 0xFFFF
"""In e_phnum: the count is in section header 0."""
_EHDR, _PHDR, _SHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), struct.Struct("<IIQQQQIIQQ")
_PT_LOAD, _PT_NOTE, _ET_CORE, _EM_X86_64 = 1, 4, 4, 62
_STATES = "RSDTtXZPI"


class Segment(NamedTuple):
    """A PT_LOAD: `[start_vaddr, end_vaddr)`, its `rwx`, and whether its bytes are in the file."""

    start_vaddr: int
    end_vaddr: int
    permissions: str
    filled: bool

    @property
    def size(self) -> int:
        return self.end_vaddr - self.start_vaddr


class Identity(NamedTuple):
    """Who the process is; `pids`: process, parent, group, session."""

    name: bytes
    arguments: bytes
    state: str
    nice: int
    flags: int
    uid: int
    gid: int
    pids: tuple[int, int, int, int]


class MappedFile(NamedTuple):
    """What NT_FILE says of a mapping; `offset` in bytes."""

    start_vaddr: int
    end_vaddr: int
    offset: int
    path: bytes


def head(segments: Sequence[Segment], notes: bytes) -> bytes:
    """Everything before the first segment's bytes, which begin on a page; those of the filled ones follow in order."""
    count = len(segments) + 1
    extended = count >= _PN_XNUM
    table_end = _EHDR.size + count * _PHDR.size
    sections_at = table_end if extended else 0
    notes_at = table_end + (_SHDR.size if extended else 0)
    place = data_at = -(-(notes_at + len(notes)) // PAGE_SIZE) * PAGE_SIZE
    parts = [
        _EHDR.pack(
            b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), _ET_CORE, _EM_X86_64, 1, 0, _EHDR.size, sections_at, 0, _EHDR.size,
            _PHDR.size, _PN_XNUM if extended else count, _SHDR.size if extended else 0, int(extended), 0,
        ),
        _PHDR.pack(_PT_NOTE, 0, notes_at, 0, 0, len(notes), 0, 4),
    ]  # fmt: skip
    for segment in segments:
        flags = sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in segment.permissions)
        in_file = segment.size if segment.filled else 0
        parts.append(_PHDR.pack(_PT_LOAD, flags, place, segment.start_vaddr, 0, in_file, segment.size, PAGE_SIZE))
        place += in_file
    if extended:
        parts.append(_SHDR.pack(0, 0, 0, 0, 0, 0, 1, count, 0, 0))
    parts.append(notes)
    return b"".join(parts).ljust(data_at, b"\0")


def note(kind: int, content: bytes) -> bytes:
    """One note of the owner CORE."""
    name = b"CORE\0"
    return struct.pack("<III", len(name), len(content), kind) + name.ljust(8, b"\0") + content + bytes(-len(content) % 4)


def prpsinfo(who: Identity) -> bytes:
    """`struct elf_prpsinfo`."""
    state = _STATES.find(who.state)
    return struct.pack(
        "<bcbbxxxxQII4i16s80s", max(state, 0), who.state.encode("ascii", "replace")[:1], who.state == "Z", _signed(who.nice, 7),
        who.flags & (1 << 64) - 1, who.uid & 0xFFFF_FFFF, who.gid & 0xFFFF_FFFF, *(_signed(pid, 31) for pid in who.pids),
        who.name[:15], who.arguments[:79],
    )  # fmt: skip


def prstatus(tid: int, who: Identity, registers: bytes) -> bytes:
    """`struct elf_prstatus` of a thread; `registers` is its `struct user_regs_struct`. Signals and times are left zero."""
    pids = struct.pack("<4i", *(_signed(pid, 31) for pid in (tid, *who.pids[1:])))
    return (bytes(32) + pids + bytes(64) + registers).ljust(336, b"\0")


def files(mappings: Iterable[MappedFile]) -> bytes:
    """The content of NT_FILE: `count, page size`, then start, end and offset in pages of each, then the names."""
    listed = list(mappings)
    numbers = [len(listed), PAGE_SIZE]
    for mapping in listed:
        numbers += [mapping.start_vaddr, mapping.end_vaddr, mapping.offset // PAGE_SIZE]
    return struct.pack(f"<{len(numbers)}Q", *numbers) + b"".join(mapping.path + b"\0" for mapping in listed)


def _signed(number: int, bits: int) -> int:
    """The number if it fits, else 0: what a hostile image says need not."""
    return number if -(1 << bits) <= number < 1 << bits else 0

"""The format of an ELF core of one process, as Linux writes it and gdb reads it: pure functions.

Sources: fs/binfmt_elf.c (`elf_core_dump`, `fill_files_note`), include/linux/elfcore.h and
include/uapi/linux/elf.h for x86-64; fs/compat_binfmt_elf.c and include/linux/elfcore-compat.h for i386.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hybridbridge_vol.units import PAGE_SIZE

NT_PRSTATUS, NT_PRFPREG, NT_PRPSINFO, NT_AUXV, NT_FILE = 1, 2, 3, 6, 0x46494C45
_PN_XNUM = 0xFFFF
"""In e_phnum: the count is in section header 0."""
_PT_LOAD, _PT_NOTE, _ET_CORE = 1, 4, 4
_STATES = "RSDTtXZPI"
_OF_CORE = (NT_PRSTATUS, NT_PRFPREG, NT_PRPSINFO, NT_AUXV, NT_FILE)


class Form(NamedTuple):
    """The sizes that differ between 64-bit and 32-bit cores."""

    elf_class: int
    machine: int
    word: str
    """An address or unsigned long, in the letters of `struct`."""
    status_size: int
    """Bytes of `struct elf_prstatus`."""
    before_pids: int
    """Bytes of it before the ids."""
    times_size: int
    """Bytes of it between the ids and the registers."""
    general_size: int
    """Bytes of its registers."""
    prpsinfo: str
    """`struct elf_prpsinfo`, in the letters of `struct`."""

    @property
    def ehdr(self) -> struct.Struct:
        return struct.Struct(f"<16sHHI3{self.word}IHHHHHH")

    @property
    def shdr(self) -> struct.Struct:
        return struct.Struct(f"<II4{self.word}II2{self.word}")

    @property
    def end_vaddr(self) -> int:
        """One more than the largest address, and the largest offset in the file, that fits into a word."""
        return 1 << 8 * struct.calcsize(f"<{self.word}")

    def phdr(
        self, kind: int, flags: int, offset: int, vaddr: int, in_file: int, in_memory: int, alignment: int
    ) -> bytes:
        """A program header. The position of `flags` differs."""
        sizes = (offset, vaddr, 0, in_file, in_memory)
        if self.word == "Q":
            return struct.pack("<II6Q", kind, flags, *sizes, alignment)
        return struct.pack("<8I", kind, *sizes, flags, alignment)


X86_64 = Form(2, 62, "Q", 336, 32, 64, 216, "<bcbbxxxxQII4i16s80s")
I386 = Form(1, 3, "I", 144, 24, 32, 68, "<bcbbIHH4i16s80s")
FORMS = {form.machine: form for form in (X86_64, I386)}


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
    """A mapping as NT_FILE describes it; `offset` in bytes."""

    start_vaddr: int
    end_vaddr: int
    offset: int
    path: bytes


def head(segments: Sequence[Segment], notes: bytes, form: Form = X86_64) -> bytes:
    """Everything before the bytes of the first filled segment, which begin on a page; the bytes of the others
    follow in order."""
    count = len(segments) + 1
    extended = count >= _PN_XNUM
    ehdr, shdr, phdr_size = form.ehdr, form.shdr, len(form.phdr(0, 0, 0, 0, 0, 0, 0))
    table_end = ehdr.size + count * phdr_size
    sections_at = table_end if extended else 0
    notes_at = table_end + (shdr.size if extended else 0)
    offset = data_at = -(-(notes_at + len(notes)) // PAGE_SIZE) * PAGE_SIZE
    parts = [
        ehdr.pack(
            bytes((0x7F, *b"ELF", form.elf_class, 1, 1)).ljust(16, b"\0"), _ET_CORE, form.machine, 1, 0,
            ehdr.size, sections_at, 0, ehdr.size, phdr_size, _PN_XNUM if extended else count,
            shdr.size if extended else 0, int(extended), 0,
        ),
        form.phdr(_PT_NOTE, 0, notes_at, 0, len(notes), 0, 4),
    ]  # fmt: skip
    for segment in segments:
        flags = sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in segment.permissions)
        in_file = segment.size if segment.filled else 0
        parts.append(
            form.phdr(_PT_LOAD, flags, offset, segment.start_vaddr, in_file, segment.size, PAGE_SIZE)
        )
        offset += in_file
    if extended:
        parts.append(shdr.pack(0, 0, 0, 0, 0, 0, 1, count, 0, 0))
    parts.append(notes)
    return b"".join(parts).ljust(data_at, b"\0")


def note(kind: int, content: bytes) -> bytes:
    """One note. Its owner is CORE; for the sets of registers that were added later it is LINUX."""
    name = b"CORE\0" if kind in _OF_CORE else b"LINUX\0"
    return (
        struct.pack("<III", len(name), len(content), kind)
        + name.ljust(8, b"\0")
        + content
        + bytes(-len(content) % 4)
    )


def prpsinfo(who: Identity, form: Form = X86_64) -> bytes:
    """`struct elf_prpsinfo`. i386 has no room for user ids beyond 65535: they are 65534 there
    (`high2lowuid`)."""
    state = _STATES.find(who.state)
    uid, gid = (number & 0xFFFF_FFFF for number in (who.uid, who.gid))
    if form.word == "I":
        uid, gid = (number if number < 1 << 16 else 65534 for number in (uid, gid))
    return struct.pack(
        form.prpsinfo, max(state, 0), who.state.encode("ascii", "replace")[:1], who.state == "Z",
        _signed(who.nice, 7), who.flags & form.end_vaddr - 1, uid, gid,
        *(_signed(pid, 31) for pid in who.pids), who.name[:15], who.arguments[:79],
    )  # fmt: skip


def prstatus(tid: int, who: Identity, registers: bytes, floating: bool = False, form: Form = X86_64) -> bytes:
    """`struct elf_prstatus` of a thread. `registers` is its `struct user_regs_struct`; with `floating` a note
    with the floating point registers follows. Signals and times are zero."""
    pids = struct.pack("<4i", *(_signed(pid, 31) for pid in (tid, *who.pids[1:])))
    general = registers[: form.general_size].ljust(form.general_size, b"\0")
    status = bytes(form.before_pids) + pids + bytes(form.times_size) + general + struct.pack("<i", floating)
    return status.ljust(form.status_size, b"\0")


def files(mappings: Iterable[MappedFile], form: Form = X86_64) -> bytes:
    """The content of NT_FILE: count and page size; start, end and offset in pages of each mapping; the
    names."""
    listed = list(mappings)
    numbers = [len(listed), PAGE_SIZE]
    for mapping in listed:
        numbers += [mapping.start_vaddr, mapping.end_vaddr, mapping.offset // PAGE_SIZE]
    return struct.pack(f"<{len(numbers)}{form.word}", *numbers) + b"".join(
        mapping.path + b"\0" for mapping in listed
    )


def _signed(number: int, bits: int) -> int:
    """The number if it fits, otherwise 0: numbers of a hostile image need not fit."""
    return number if -(1 << bits) <= number < 1 << bits else 0

"""Code that differs from its file: private pages of executable file mappings, held against the page cache.

A page of a private file mapping is the file's own until it is written to (mm/memory.c, `wp_page_copy`,
`do_cow_fault`); pagemap tells the two apart. The file is read through /proc/PID/map_files, which leads to the
mapped inode whatever its path says (fs/proc/base.c, `map_files_get_link`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hybridbridge_vol.guest.file_content import PieceKind
from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.procfs.maps import Mapping
from hybridbridge_vol.procfs.pagemap import PRESENT
from hybridbridge_vol.snapshot.blank_pages import ZERO_PAGE
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.user_memory.pagemap import PagesOfCode, is_private
from hybridbridge_vol.units import PAGE_SIZE

MAX_COMPARED = 4096
"""Private pages of one mapping that are compared: what is beyond is counted."""
_JOINED = 8
"""Equal bytes between two changes that make them two."""
_INT3 = 0xCC
_BLANK = "one of the two is zeros in the image, which may not have been read when it was made"


@dataclass
class Changes:
    """What differs in a mapping: the ranges `(vaddr, size)`, how many private pages there are, and why some
    could not be compared."""

    ranges: list[tuple[int, int]] = field(default_factory=list)
    private: int = 0
    unknown: list[str] = field(default_factory=list)
    first: tuple[int, bytes, bytes] | None = None
    """Address, bytes in memory and bytes in the file of the first range."""
    only_breakpoints: bool = True
    what: str = "the file"
    """What it is compared with."""

    def __bool__(self) -> bool:
        return bool(self.ranges or self.unknown)

    @property
    def breakpoints(self) -> tuple[int, ...]:
        """Their addresses, if nothing else was changed and all could be compared."""
        if not self.only_breakpoints or self.unknown:
            return ()
        return tuple(vaddr for vaddr, _size in self.ranges)

    def in_words(self) -> str:
        """What is different, in one line."""
        parts = []
        if self.ranges and self.first:
            vaddr, memory, file = self.first
            changed = sum(size for _vaddr, size in self.ranges)
            numbers = len({vaddr // PAGE_SIZE for vaddr, _size in self.ranges})
            what = "breakpoints (int3)" if self.only_breakpoints else "bytes"
            parts.append(
                f"{changed} {what} in {numbers} page{'s' * (numbers > 1)} differ from {self.what}; "
                f"at {vaddr:#x} {memory[:16].hex()} instead of {file[:16].hex()}"
            )
        for reason in dict.fromkeys(self.unknown):
            parts.append(f"{self.unknown.count(reason)} written pages cannot be compared: {reason}")
        return "; ".join(parts)


def changes(files: Files, pid: int, mapping: Mapping, pages: PagesOfCode) -> Changes:
    """How a private executable mapping of a file differs from the file. OSError, CallRolledBack if its pages
    cannot be found."""
    found = Changes()
    for part in pages.pages(mapping.start_vaddr, mapping.end_vaddr):
        for vaddr, entry in part.held():
            if is_private(entry):
                found.private += 1
                if found.private > MAX_COMPARED:
                    found.unknown.append(f"only the first {MAX_COMPARED:,} are")
                elif entry & PRESENT:
                    _compare(files, pid, mapping, vaddr, found)
                else:
                    found.unknown.append("swapped out")
    return found


def _compare(files: Files, pid: int, mapping: Mapping, vaddr: int, found: Changes) -> None:
    link = f"/proc/{pid}/map_files/{mapping.start_vaddr:x}-{mapping.end_vaddr:x}"
    try:
        memory = files.read_at(f"/proc/{pid}/mem", vaddr, PAGE_SIZE)
        file = file_page(files, link, mapping.offset + vaddr - mapping.start_vaddr)
    except UNREADABLE as error:
        found.unknown.append(why(link, error).reason)
        return
    if isinstance(file, str):
        found.unknown.append(file)
        return
    if memory != file and ZERO_PAGE in (memory, file):
        found.unknown.append(_BLANK)
        return
    _note(vaddr, memory, file, found)


def _note(vaddr: int, memory: bytes, file: bytes, found: Changes) -> None:
    for start, end in differences(memory, file):
        found.ranges.append((vaddr + start, end - start))
        found.first = found.first or (vaddr + start, memory[start:end], file[start:end])
        found.only_breakpoints &= memory[start:end] == bytes([_INT3])


def changes_of_vdso(
    files: Files, pid: int, mapping: Mapping, pages: PagesOfCode, images: Callable[[], tuple[bytes, ...]]
) -> Changes:
    """How a process's vDSO differs from the one of the kernel's `images` that it is most like. OSError,
    CallRolledBack if its pages cannot be found."""
    found = Changes(what="the kernel's")
    for part in pages.pages(mapping.start_vaddr, mapping.end_vaddr):
        for vaddr, entry in part.held():
            if not is_private(entry):
                continue
            found.private += 1
            offset = vaddr - mapping.start_vaddr
            there = [page for one in images() if len(page := one[offset : offset + PAGE_SIZE]) == PAGE_SIZE]
            try:
                memory = files.read_at(f"/proc/{pid}/mem", vaddr, PAGE_SIZE) if entry & PRESENT else b""
            except UNREADABLE as error:
                found.unknown.append(why(f"/proc/{pid}/mem", error).reason)
                continue
            if not there or not memory:
                found.unknown.append("swapped out" if there else "the kernel's is not known")
                continue
            _note(vaddr, memory, min(there, key=lambda page: _unlike(memory, page)), found)
    return found


def _unlike(left: bytes, right: bytes) -> int:
    """How many bytes of two pages differ."""
    return sum(one != other for one, other in zip(left, right, strict=True))


def file_page(files: Files, path: str, offset: int) -> bytes | str:
    """The page of a file at an offset, zeros behind its end; or why it cannot be had."""
    data = bytearray(PAGE_SIZE)
    for piece in files.window(path, offset, PAGE_SIZE):
        if piece.kind is PieceKind.MISSING:
            return f"the file's page is not known: {piece.reason}"
        if piece.kind is PieceKind.DATA:
            data[piece.offset - offset : piece.end - offset] = piece.data
    return bytes(data)


def differences(left: bytes, right: bytes) -> Iterator[tuple[int, int]]:
    """The ranges `[start, end)` in which two pages differ, those that lie close together as one."""
    if left == right:
        return
    size = min(len(left), len(right))
    unequal: Sequence[int] = [at for at in range(size) if left[at] != right[at]]
    start = end = -1
    for at in unequal:
        if start >= 0 and at - end > _JOINED:
            yield start, end
            start = at
        elif start < 0:
            start = at
        end = at + 1
    if start >= 0:
        yield start, end

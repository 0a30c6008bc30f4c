"""ELF cores of a machine's memory: /proc/vmcore, makedumpfile -E, QEMU's dump-guest-memory, VirtualBox and
others.

What a segment has in memory and not in the file (p_filesz < p_memsz) means what its writer means by it:

- makedumpfile leaves out 256 and more pages in a row: of zeros, and by its dump level, which an ELF core does
  not record, of caches, of user data and free ones. What the kernel uses for itself was zeros then; the rest
  is absent.
- QEMU, told to follow the guest's page tables (paging=true), gives one segment for each mapping: what leads
  out of memory has no bytes, and what runs over the end of one of QEMU's blocks of memory is cut there. The
  blocks lie one behind the other in ascending order, so that two addresses that are as far apart in memory as
  their bytes are in the file have all between them in the file too.
- VirtualBox means registers and memory of devices (`dbgfR3CoreWriteWorker`, src/VBox/VMM/VMMR3): no memory.
- Of other writers nothing is known: the bytes are absent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise

from hybridbridge_vol.elf_headers import PT_LOAD, PT_NOTE, Segment
from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.elf import (
    MAX_NOTES,
    Note,
    parse_elf_header,
    parse_notes,
    parse_sections,
    parse_segments,
    qemu_cpus,
)
from hybridbridge_vol.memory_image.eraseinfo import ERASEINFO, erased_in_words, joined_cautions
from hybridbridge_vol.memory_image.image_file import ImageFile, Source
from hybridbridge_vol.memory_image.kernel_pages import KernelPages
from hybridbridge_vol.memory_image.physical import MAX_PADDR, Contents, PhysicalImage, WhyAbsent, read_through
from hybridbridge_vol.memory_image.ranges import Range, joined, subtracted
from hybridbridge_vol.memory_image.runs import ZEROS, Run, RunList, disjoint
from hybridbridge_vol.memory_image.xen_core import is_xen_core, parse_xen_core
from hybridbridge_vol.units import PAGE_SIZE

_VMCOREINFO = b"VMCOREINFO"
_VIRTUALBOX = b"VBCORE"
"""The owner of its first note (include/VBox/vmm/dbgfcorefmt.h)."""
_NO_ADDRESS = (1 << 64) - 1
"""p_paddr of what is not physical memory (the kernel's fs/proc/kcore.c), p_offset of what QEMU leaves out."""
_UPPER_HALF = 1 << 63

_BY_MAKEDUMPFILE = "left out by makedumpfile, at a dump level that an ELF core does not record"
_PARTLY_ZEROS = (
    "of what makedumpfile left out, pages that the kernel uses for itself were zeros and are read so; pages "
    "of caches, of user data and free ones are missing, whether they were zeros (dump level 1) or not"
)
_NOT_MAPPED = "left out by QEMU: a page table of the guest leads there, but no memory was behind it"
_OF_A_DEVICE = "no memory, but registers or memory of a device"
_NO_BYTES = "left out by the program that wrote the file"


def parse_elf_core(source: Source, format_name: str = "ELF core") -> Contents:
    """The contents of an ELF core of a machine's memory: its PT_LOAD segments, by their physical addresses.

    ImageError if the file is an ELF file of another kind, or its segments have no physical addresses.
    """
    header = parse_elf_header(source)
    sections = parse_sections(source, header)
    if is_xen_core(sections):
        return parse_xen_core(source, sections)
    segments = list(parse_segments(source, header))
    loads = [segment for segment in segments if segment.kind == PT_LOAD]
    _check_addresses(source.name, loads)
    collected, unstored = _collected(loads, source.size)
    notes = _notes(source, segments)
    contents = Contents(format_name, collected.runs(), collected.missing(), cpus=qemu_cpus(notes))
    if unstored and _is_makedumpfiles(segments, notes):
        contents = _with_zeros(contents, unstored, _kernel_pages(source, contents, notes))
    elif any(note.name == _VIRTUALBOX for note in notes):
        contents = contents._replace(why_absent=_left_out_of(unstored, _OF_A_DEVICE))
    elif unstored:
        contents = _without(contents, unstored, _is_qemus(notes))
    erased = next((note.content for note in notes if note.name == ERASEINFO), b"")
    contents = contents._replace(caution=joined_cautions(contents.caution, erased_in_words(erased)))
    if not contents.runs and not contents.missing:
        raise ImageError(
            f"{source.name}: an ELF core without memory (no PT_LOAD segment with physical addresses)"
        )
    return contents


def _collected(loads: Iterable[Segment], file_size: int) -> tuple[RunList, list[Range]]:
    """What the segments have in the file, and what they have in memory only."""
    collected, unstored = RunList(file_size), []
    for segment in loads:
        if segment.paddr + segment.memory_size > MAX_PADDR:
            continue
        if segment.file_size:
            collected.add(segment.paddr, segment.file_size, segment.offset)
        if segment.memory_size > segment.file_size:
            unstored.append((segment.paddr + segment.file_size, segment.memory_size - segment.file_size))
    return collected, joined(unstored)


def _kernel_pages(source: Source, contents: Contents, notes: Iterable[Note]) -> KernelPages:
    note = next((note.content for note in notes if note.name == _VMCOREINFO), b"")
    return KernelPages(note, read_through(contents, source.read_at).read or (lambda _paddr, _size: b""))


def _with_zeros(contents: Contents, unstored: Sequence[Range], pages: KernelPages) -> Contents:
    """What makedumpfile left out is zeros where the kernel uses it for itself."""
    stored = [(run.paddr, run.size) for run in contents.runs]
    left_out = subtracted(subtracted(unstored, stored), contents.missing)
    if not left_out:
        return contents
    runs = sorted([*contents.runs, *(Run(start, size, ZEROS) for start, size in left_out)], key=_paddr)
    is_left_out = _left_out_of(left_out, _BY_MAKEDUMPFILE)

    def zeros(paddr: int, size: int) -> bytes:
        end = paddr
        while end < paddr + size and pages.kind(end // PAGE_SIZE) is None:
            end = (end // PAGE_SIZE + 1) * PAGE_SIZE
        return bytes(min(size, end - paddr))

    def why(paddr: int) -> str | None:
        reason, kind = is_left_out(paddr), pages.kind(paddr // PAGE_SIZE)
        return reason and (f"{reason}: {kind}" if kind else None)

    amount = f"{sum(size for _start, size in left_out) >> 10:,} KiB {_BY_MAKEDUMPFILE}"
    return contents._replace(runs=runs, left_out=amount, caution=_PARTLY_ZEROS, zeros=zeros, why_absent=why)


def _without(contents: Contents, unstored: Sequence[Range], qemus: bool) -> Contents:
    """What another writer left out is absent."""
    runs = _blocks_filled(contents.runs) if qemus else contents.runs
    absent = subtracted(unstored, ((run.paddr, run.size) for run in runs))
    why = _left_out_of(absent, _NOT_MAPPED if qemus else _NO_BYTES)
    return contents._replace(runs=runs, missing=joined([*contents.missing, *absent]), why_absent=why)


def _left_out_of(ranges: Sequence[Range], reason: str) -> WhyAbsent:
    """The reason for addresses in ascending, disjoint ranges."""
    starts = [start for start, _size in ranges]

    def why(paddr: int) -> str | None:
        index = bisect_right(starts, paddr) - 1
        return reason if index >= 0 and paddr < sum(ranges[index]) else None

    return why


def _paddr(run: Run) -> int:
    return run.paddr


def _check_addresses(name: str, loads: Sequence[Segment]) -> None:
    """ImageError if the segments have virtual addresses only."""
    if len(loads) < 2 or any(segment.paddr not in (0, _NO_ADDRESS) for segment in loads):
        return
    if all(segment.vaddr < _UPPER_HALF for segment in loads):
        raise ImageError(f"{name}: an ELF core of a process, not of a machine's memory; gdb reads it")
    raise ImageError(
        f"{name}: an ELF core whose segments have no physical addresses (a copy of /proc/kcore of an old "
        "kernel, "
        "say); acquire the memory again with AVML or LiME"
    )


def _notes(source: Source, segments: Iterable[Segment]) -> list[Note]:
    return [
        note
        for segment in segments
        if segment.kind == PT_NOTE
        for note in islice(parse_notes(source, segment.offset, segment.file_size), MAX_NOTES)
    ]


def _is_qemus(notes: Iterable[Note]) -> bool:
    """Whether QEMU's own notes are there (target/i386/arch_dump.c); makedumpfile keeps them when it filters
    what QEMU wrote."""
    return any(note.name == b"QEMU" for note in notes)


def _is_makedumpfiles(segments: Sequence[Segment], notes: Iterable[Note]) -> bool:
    """Whether makedumpfile wrote the file (`write_elf_pages_cyclic`): the segments' bytes lie one behind the
    other, in the order of the headers, right behind the notes; a segment without any has the offset 0, or the
    one that is due. The kernel's VMCOREINFO, which makedumpfile needs, is among the notes."""
    due = None
    for segment in segments:
        if segment.kind == PT_NOTE:
            due = segment.offset + segment.file_size
        elif segment.kind == PT_LOAD:
            if segment.offset != due and (segment.file_size or segment.offset):
                return False
            due = segment.offset + segment.file_size if segment.file_size else due
    return any(note.name == _VMCOREINFO for note in notes)


def _blocks_filled(runs: Sequence[Run]) -> list[Run]:
    """The runs of a file that holds QEMU's blocks of memory one behind the other, in ascending order, and
    what lies between two of them in the same block."""
    between = [
        Run(first.end_paddr, second.paddr - first.end_paddr, first.offset + first.size)
        for first, second in pairwise(runs)
        if second.paddr - first.paddr == second.offset - first.offset and second.paddr > first.end_paddr
    ]
    return disjoint([*runs, *between])


def open_file(file: ImageFile) -> PhysicalImage:
    """The memory that the file holds. ImageError, OSError."""
    return PhysicalImage(file, parse_elf_core(file.source))

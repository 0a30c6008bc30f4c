"""memdump: the memory of a process as an ELF core."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import Registers
from hybridbridge_vol.procfs.maps import DELETED
from hybridbridge_vol.procfs.pid import parse_stat, parse_status
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process import elf_core
from hybridbridge_vol.tools.process.elf_core import Form, Identity, MappedFile, Segment
from hybridbridge_vol.tools.process.listing import numbers
from hybridbridge_vol.tools.process.memory import ProcessMemory, Region
from hybridbridge_vol.units import PAGE_SIZE

LARGEST = 64 << 10
"""MiB of memory that are written if no limit is set."""
MAX_THREADS = 4096
_ROOM_FOR_NOTES = 256 << 20
"""Bytes of headers and notes at most: those of so many threads."""


class Memdump(Tool):
    name = "memdump"
    help = "The memory of a process as an ELF core, for gdb and its like"
    notes = (
        "Each mapping becomes segments of pages that are in memory, which are in the file, and of pages that are not, "
        "which have no bytes there: swapped out, never touched, still only in their file, or not in the image. With "
        "--out, on a terminal and in Volatility the answer is a table of the mappings; else the core itself goes to "
        "standard output. Registers are those with which each thread entered the kernel; floating point and vector ones "
        "of a thread that was running are not in memory. Signals are not told. A 32-bit program's core is a 32-bit one. "
        "No file is overwritten."
    )
    example = "1 --out init.core"
    options = (
        Option("pid", int, "process id", positional=True),
        Option("out", str, "file to write the core to"),
        Option("limit", int, f"write at most so many MiB of memory (default: {LARGEST})"),
    )
    columns = (
        Column("START", "hex", "first address of the mapping"),
        Column("END", "hex", "address behind the last"),
        Column("PERM", "str", "r read, w write, x execute; p private (copied on write) or s shared"),
        Column("SIZE", "int", "KiB of address space"),
        Column("DUMPED", "int", "KiB that are in memory, and so in the core"),
        Column("ABSENT", "int", "KiB never touched, or still only in the file"),
        Column("SWAPPED", "int", "KiB that are swapped out"),
        Column("LOST", "int", "KiB that should be there and are not in the core"),
        Column("PATH", "str", "the file; [heap], [stack], [vdso]; nothing for anonymous memory"),
    )

    def wants_raw(self, options: Options, terminal: bool) -> bool:
        """On a terminal and beside a file the table is the answer."""
        return not options["out"] and not terminal

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        memory = _survey(kernel, options)
        if options["out"]:
            _write(memory, options["out"])
        for region in memory.regions:
            yield Row(_cells(region), sources=(region.source,))
        if memory.gap:
            yield Row((memory.gap,) * len(self.columns))

    def raw(self, kernel: GuestKernel, options: Options) -> Iterator[bytes | Unavailable]:
        """The core, and then what is missing of it."""
        memory = _survey(kernel, options)
        yield from core(memory)
        for region in memory.regions:
            if region.gap:
                start = region.mapping.start_vaddr
                yield Unavailable(f"the mapping at {start:#x} is incomplete: {region.gap.reason}")
        if memory.gap:
            yield memory.gap


def _survey(kernel: GuestKernel, options: Options) -> ProcessMemory:
    limit = LARGEST if options["limit"] is None else max(options["limit"], 0)
    return ProcessMemory.survey(kernel, options["pid"], limit << 20)


def _cells(region: Region) -> tuple[Cell, ...]:
    mapping = region.mapping
    lost: Cell = (region.size("lost") + region.unread) // 1024
    if lost or region.gap:
        reason = region.gap.reason if region.gap else "unreadable"
        lost = Unavailable(f"{lost} KiB at {mapping.start_vaddr:#x}: {reason}")
    return (
        mapping.start_vaddr, mapping.end_vaddr, mapping.permissions, mapping.size // 1024,
        (region.size("there") - region.unread) // 1024, region.size("absent") // 1024, region.size("swapped") // 1024, lost,
        mapping.path,
    )  # fmt: skip


def _write(memory: ProcessMemory, path: str) -> None:
    """Write the core to a new file, which is removed again if it cannot be finished."""
    with open(path, "xb") as file:
        try:
            file.writelines(core(memory))
        except BaseException:
            os.unlink(path)
            raise


def core(memory: ProcessMemory) -> Iterator[bytes]:
    """The ELF core of a process, in pieces."""
    filled = [(region, run) for region in memory.regions for run in region.runs if run.state == "there"]
    total = sum(run.size for _region, run in filled) or 1
    threads = list(_threads(memory.kernel, memory.pid))
    segments = list(_segments(memory))
    form = _form(threads, segments)
    yield elf_core.head(segments, _notes(memory, threads, form), form)
    done = 0
    for region, run in filled:
        for data in memory.read(region, run):
            yield data
            done += len(data)
            memory.kernel.progress(min(done / total, 0.999), f"dumping process {memory.pid}")
    memory.kernel.progress(1, "")


def _segments(memory: ProcessMemory) -> Iterator[Segment]:
    """Runs of pages that are there, and of those that are not, whatever the reason."""
    for region in memory.regions:
        open_start: int | None = None
        for run in region.runs:
            if run.state != "there":
                open_start = run.start_vaddr if open_start is None else open_start
                continue
            if open_start is not None:
                yield Segment(open_start, run.start_vaddr, region.mapping.permissions, False)
                open_start = None
            yield Segment(run.start_vaddr, run.end_vaddr, region.mapping.permissions, True)
        if open_start is not None:
            yield Segment(open_start, region.runs[-1].end_vaddr, region.mapping.permissions, False)


def _form(threads: list[tuple[int, Registers]], segments: list[Segment]) -> Form:
    """That of the first thread's registers, if what is mapped has room in it."""
    form = elf_core.FORMS.get(threads[0][1].machine, elf_core.X86_64) if threads else elf_core.X86_64
    filled = sum(segment.size for segment in segments if segment.filled)
    end_vaddr = max((segment.end_vaddr for segment in segments), default=0)
    fits = end_vaddr <= form.end_vaddr and filled + _ROOM_FOR_NOTES <= form.end_vaddr
    return form if fits else elf_core.X86_64


def _notes(memory: ProcessMemory, threads: list[tuple[int, Registers]], form: Form) -> bytes:
    """What can be had of NT_PRPSINFO, the registers of each thread that has them in this form, NT_AUXV and
    NT_FILE."""
    kernel, folder = memory.kernel, f"/proc/{memory.pid}"
    notes = []
    who = _identity(kernel, memory.pid)
    if who:
        found = [
            list(_of_thread(tid, who, found, form)) for tid, found in threads if found.machine == form.machine
        ]
        first = found[0] if found else []
        notes += [*first[:1], elf_core.note(elf_core.NT_PRPSINFO, elf_core.prpsinfo(who, form)), *first[1:]]
        notes += [note for others in found[1:] for note in others]
    try:
        notes.append(elf_core.note(elf_core.NT_AUXV, kernel.files.read(f"{folder}/auxv")))
    except UNREADABLE:
        pass
    mappings = [region.mapping for region in memory.regions]
    files = [
        MappedFile(
            m.start_vaddr,
            m.end_vaddr,
            m.offset % (form.end_vaddr * PAGE_SIZE),
            os.fsencode(m.path.removesuffix(DELETED)),
        )
        for m in mappings
        if m.path.startswith("/")
    ]
    notes.append(elf_core.note(elf_core.NT_FILE, elf_core.files(files, form)))
    return b"".join(notes)


def _identity(kernel: GuestKernel, pid: int) -> Identity | None:
    folder = f"/proc/{pid}"
    try:
        stat = parse_stat(kernel.files.read(f"{folder}/stat"))
        status = parse_status(kernel.files.read(f"{folder}/status"))
    except UNREADABLE:
        return None
    try:
        arguments = kernel.files.read(f"{folder}/cmdline")[:80].rstrip(b"\0").replace(b"\0", b" ")
    except UNREADABLE:
        arguments = b""
    pids = (pid, stat.ppid, stat.pgrp, stat.session)
    return Identity(
        os.fsencode(stat.comm), arguments, stat.state, stat.nice, stat.flags, status.euid, status.egid, pids
    )


def _of_thread(tid: int, who: Identity, registers: Registers, form: Form) -> Iterator[bytes]:
    """A thread's notes: NT_PRSTATUS, and a set of registers each."""
    others = registers.sets[1:]
    floating = any(found.kind == elf_core.NT_PRFPREG for found in others)
    yield elf_core.note(elf_core.NT_PRSTATUS, elf_core.prstatus(tid, who, registers.general, floating, form))
    for found in others:
        yield elf_core.note(found.kind, found.content)


def _threads(kernel: GuestKernel, pid: int) -> Iterator[tuple[int, Registers]]:
    """Each thread whose registers are there, the first thread first."""
    try:
        tids = numbers(kernel.files.listdir(f"/proc/{pid}/task"))[:MAX_THREADS]
    except UNREADABLE:
        tids = [pid]
    for tid in sorted(tids, key=lambda tid: tid != pid):
        try:
            registers = kernel.threads.registers(tid)
        except (*UNREADABLE, KeyError):
            continue
        if registers:
            yield tid, registers


TOOL = Memdump()

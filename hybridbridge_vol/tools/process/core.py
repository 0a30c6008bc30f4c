"""The memory of a process as an ELF core, in pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.guest.values import Registers
from hybridbridge_vol.procfs.maps import DELETED
from hybridbridge_vol.procfs.pid import parse_stat, parse_status
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, parsed
from hybridbridge_vol.tools.process import elf_core
from hybridbridge_vol.tools.process.elf_core import Form, Identity, MappedFile, Segment
from hybridbridge_vol.tools.process.listing import numbers
from hybridbridge_vol.tools.process.memory import ProcessMemory
from hybridbridge_vol.units import PAGE_SIZE

MAX_THREADS = 4096
_ROOM_FOR_NOTES = 256 << 20
"""Bytes of headers and notes at most: those of so many threads."""


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
    """The form of the first thread's registers, if all that is mapped fits into it."""
    form = elf_core.FORMS.get(threads[0][1].machine, elf_core.X86_64) if threads else elf_core.X86_64
    filled = sum(segment.size for segment in segments if segment.filled)
    end_vaddr = max((segment.end_vaddr for segment in segments), default=0)
    fits = end_vaddr <= form.end_vaddr and filled + _ROOM_FOR_NOTES <= form.end_vaddr
    return form if fits else elf_core.X86_64


def _notes(memory: ProcessMemory, threads: list[tuple[int, Registers]], form: Form) -> bytes:
    """NT_PRPSINFO, the registers of each thread that has them in this form, NT_AUXV and NT_FILE, as far as
    they can be had."""
    files, folder = memory.kernel.files, f"/proc/{memory.pid}"
    notes: list[bytes] = []
    who = _identity(files, folder, memory.pid)
    if who:
        of_threads = [
            list(_of_thread(tid, who, found, form)) for tid, found in threads if found.machine == form.machine
        ]
        first = of_threads[0] if of_threads else []
        notes += [*first[:1], elf_core.note(elf_core.NT_PRPSINFO, elf_core.prpsinfo(who, form)), *first[1:]]
        notes += chain.from_iterable(of_threads[1:])
    auxv = attempt(f"{folder}/auxv", lambda: files.read(f"{folder}/auxv"))
    if not isinstance(auxv, Unavailable):
        notes.append(elf_core.note(elf_core.NT_AUXV, auxv))
    mapped = elf_core.files(_mapped_files(memory, form), form)
    notes.append(elf_core.note(elf_core.NT_FILE, mapped))
    return b"".join(notes)


def _mapped_files(memory: ProcessMemory, form: Form) -> Iterator[MappedFile]:
    largest = form.end_vaddr * PAGE_SIZE
    for region in memory.regions:
        mapping = region.mapping
        if mapping.path.startswith("/"):
            path = os.fsencode(mapping.path.removesuffix(DELETED))
            yield MappedFile(mapping.start_vaddr, mapping.end_vaddr, mapping.offset % largest, path)


def _identity(files: Files, folder: str, pid: int) -> Identity | None:
    """Who the process is; None if its `stat` or `status` cannot be read."""
    stat = parsed(files, f"{folder}/stat", parse_stat)
    status = parsed(files, f"{folder}/status", parse_status)
    if isinstance(stat, Unavailable) or isinstance(status, Unavailable):
        return None
    cmdline = attempt(f"{folder}/cmdline", lambda: files.read(f"{folder}/cmdline"))
    arguments = b"" if isinstance(cmdline, Unavailable) else cmdline[:80].rstrip(b"\0").replace(b"\0", b" ")
    pids = (pid, stat.ppid, stat.pgrp, stat.session)
    comm = os.fsencode(stat.comm)
    return Identity(comm, arguments, stat.state, stat.nice, stat.flags, status.euid, status.egid, pids)


def _of_thread(tid: int, who: Identity, registers: Registers, form: Form) -> Iterator[bytes]:
    """The notes of a thread: NT_PRSTATUS, and one for each of its other sets of registers."""
    others = registers.sets[1:]
    floating = any(found.kind == elf_core.NT_PRFPREG for found in others)
    yield elf_core.note(elf_core.NT_PRSTATUS, elf_core.prstatus(tid, who, registers.general, floating, form))
    for found in others:
        yield elf_core.note(found.kind, found.content)


def _threads(kernel: GuestKernel, pid: int) -> Iterator[tuple[int, Registers]]:
    """Each thread whose registers can be had, the first thread first."""
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

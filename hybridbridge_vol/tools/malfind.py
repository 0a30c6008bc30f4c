"""malfind: code of processes that no file explains."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import PID, chosen, in_parts


class Malfind(Tool):
    name = "malfind"
    help = "Code of processes that no file explains or that differs from its file"
    notes = (
        "KIND: anonymous, stack, heap: executable memory without a file; memfd, deleted: its file has no "
        "name; temporary: its file is in /tmp, /var/tmp or /dev/shm; writable: it may be written to and "
        "executed; modified: pages of a file's code that were written to and are not what the page cache "
        "has of the file; uprobe: the same, but only breakpoints that the kernel's own uprobes have put "
        "there (`hooks` and `bpf` show for whom); hollowed: the entry point of the program is not in the "
        "program's file; disguised: the process bears the name of a thread of the kernel; remote shell: a "
        "shell's or interpreter's standard input and output are a connection of TCP; preloaded: LD_PRELOAD, "
        "LD_AUDIT or /etc/ld.so.preload name a library. jit stands before the others where the process has "
        "an engine mapped that makes code at run time, which WHY names: others may hide behind it. Memory "
        "that was never touched is left out, and so is what the kernel maps itself, unless it was written "
        "to. Names of libraries in environments are those that programs were started with: they may have "
        "been removed since."
    )
    example = "--disassemble"
    options = (PID, Option("disassemble", bool, "also the first instructions that are found there"))
    columns = (
        Column("PID", "int", "process id; nothing where it concerns all programs"),
        Column("COMM", "str", "name of the executable, as the kernel stores it"),
        Column("KIND", "str", "what is odd: see above; several are separated by commas"),
        Column("START", "hex", "first address of the mapping"),
        Column("END", "hex", "address after the last"),
        Column("PERM", "str", "r read, w write, x execute; p private or s shared"),
        Column("HELD", "int", "KiB of it that are in memory or swapped out"),
        Column("AT", "hex", "first address of what is found: of code, or of a change"),
        Column("BYTES", "str", "the bytes that are there"),
        Column("WHY", "str", "what was found, in words"),
        Column("PATH", "str", "the file that is mapped, or the library's name"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        if not options["disassemble"]:
            return self.columns
        return (*self.columns, Column("CODE", "str", "the instructions at AT, up to what is none"))

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.user_memory.suspects import of_all, of_processes

        parts = in_parts(chosen(kernel, options))
        answer = partial(of_processes, kernel, disassemble=options["disassemble"])
        if not options["pid"]:
            yield from of_all(kernel.files, options["disassemble"])
        yield from chain.from_iterable(kernel.workers.map(answer, parts))


TOOL = Malfind()

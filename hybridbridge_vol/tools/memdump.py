"""memdump: the memory of a process as an ELF core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hybridbridge_vol.allowance import LONG_ANSWER_MEMORY, LONG_ANSWER_SECONDS
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool

if TYPE_CHECKING:
    from hybridbridge_vol.tools.process.memory import Missing, ProcessMemory, Region

LARGEST = 64 << 10
"""MiB of memory that are written if no limit is set."""
_RANGES_NAMED = 8
"""Ranges of one mapping that a message lists for each reason."""


class Memdump(Tool):
    name = "memdump"
    help = "The memory of a process as an ELF core, for gdb and its like"
    notes = (
        "Each mapping becomes segments: pages that are in memory have their bytes in the core; pages that "
        "are swapped out, never touched, still only in their file, or not in the image have none. With "
        "--out, on a terminal and in Volatility the answer is a table of the mappings; otherwise the core "
        "itself goes to standard output. Registers are those with which each thread entered the kernel; "
        "floating point and vector registers of a thread that was running are not in memory. Signals are not "
        "included. The core of a 32-bit program is a 32-bit core. A page that cannot be read is zeros in the "
        "core and is named with its reason; it spoils no other. No file is overwritten."
    )
    example = "1 --out init.core"
    options = (
        Option("pid", int, "process id", positional=True),
        Option("out", str, "file to write the core to"),
        Option("limit", int, f"write at most so many MiB of memory (default: {LARGEST})"),
    )
    columns = (
        Column("START", "hex", "first address of the mapping"),
        Column("END", "hex", "address after the last"),
        Column("PERM", "str", "r read, w write, x execute; p private (copied on write) or s shared"),
        Column("SIZE", "int", "KiB of address space"),
        Column("DUMPED", "int", "KiB that are in memory, and in the core"),
        Column("ABSENT", "int", "KiB never touched, or still only in the file"),
        Column("SWAPPED", "int", "KiB that are swapped out"),
        Column("LOST", "int", "KiB that should be in the core and are not"),
        Column("PATH", "str", "the file; [heap], [stack], [vdso]; nothing for anonymous memory"),
    )

    seconds, memory = LONG_ANSWER_SECONDS, LONG_ANSWER_MEMORY

    def wants_raw(self, options: Options, terminal: bool) -> bool:
        """The table is the answer on a terminal, and where the core goes to a file."""
        return not options["out"] and not terminal

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        memory = _survey(kernel, options)
        if options["out"]:
            _write(memory, options["out"])
        for region in memory.regions:
            yield Row(_cells(region), sources=(region.source,))
        if memory.read_error:
            yield Row((memory.read_error,) * len(self.columns))

    def raw(self, kernel: GuestKernel, options: Options) -> Iterator[bytes | Unavailable]:
        """The core, then what is missing in it."""
        from hybridbridge_vol.tools.process.core import core

        memory = _survey(kernel, options)
        yield from core(memory)
        for region in memory.regions:
            for reason in _missing(region):
                yield Unavailable(f"the mapping at {region.mapping.start_vaddr:#x} is incomplete: {reason}")
        if memory.read_error:
            yield memory.read_error


def _survey(kernel: GuestKernel, options: Options) -> ProcessMemory:
    # Volatility imports every tool to list its options, and this one's work takes 4 ms to import
    from hybridbridge_vol.tools.process.memory import ProcessMemory

    limit = LARGEST if options["limit"] is None else max(options["limit"], 0)
    return ProcessMemory.survey(kernel, options["pid"], limit << 20)


def _cells(region: Region) -> tuple[Cell, ...]:
    mapping = region.mapping
    lost: Cell = (region.size("lost") + region.unread) // 1024
    if region.missing:
        lost = Unavailable("; ".join(_by_reason(region.missing)))
    dumped = (region.size("there") - region.unread) // 1024
    absent, swapped = region.size("absent") // 1024, region.size("swapped") // 1024
    return (
        mapping.start_vaddr, mapping.end_vaddr, mapping.permissions, mapping.size // 1024,
        dumped, absent, swapped, lost, mapping.path,
    )  # fmt: skip


def _missing(region: Region) -> Iterator[str]:
    """What the core lacks of a mapping that the process had."""
    from hybridbridge_vol.tools.process.memory import Missing

    swapped = [
        Missing(run.start_vaddr, run.end_vaddr, "swapped out")
        for run in region.runs
        if run.state == "swapped"
    ]
    yield from _by_reason([*region.missing, *swapped])


def _by_reason(missing: list[Missing]) -> Iterator[str]:
    """For each reason how much is missing, and where."""
    for reason in dict.fromkeys(item.reason for item in missing):
        ranges = [item for item in missing if item.reason == reason]
        size = sum(item.end_vaddr - item.start_vaddr for item in ranges)
        where = ", ".join(f"{item.start_vaddr:#x}-{item.end_vaddr:#x}" for item in ranges[:_RANGES_NAMED])
        more = f" and {len(ranges) - _RANGES_NAMED:,} more ranges" if len(ranges) > _RANGES_NAMED else ""
        yield f"{size // 1024} KiB at {where}{more}: {reason}"


def _write(memory: ProcessMemory, path: str) -> None:
    """Write the core to a new file, which is removed again if it cannot be finished."""
    from hybridbridge_vol.tools.process.core import core

    with open(path, "xb") as file:
        try:
            file.writelines(core(memory))
        except BaseException:
            os.unlink(path)
            raise


TOOL = Memdump()

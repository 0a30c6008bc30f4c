"""Constants and types that every layer shares."""

from __future__ import annotations

import os
from collections.abc import Callable

PAGE_SIZE = 4096
"""Bytes of an x86-64 page, and of a page-table (SDM volume 3A, 4.5)."""

U64 = (1 << 64) - 1
"""Mask that wraps a Python integer to 64 bits."""

START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
"""Virtual minus physical address of a kernel image as it was linked (__START_KERNEL_map,
arch/x86/include/asm/page_64_types.h)."""

ELF_MACHINES = {
    2: "SPARC", 3: "32-bit x86", 8: "MIPS", 20: "32-bit PowerPC", 21: "64-bit PowerPC", 22: "s390",
    40: "32-bit ARM", 43: "64-bit SPARC", 62: "64-bit x86", 183: "arm64", 243: "RISC-V", 258: "LoongArch",
}  # fmt: skip
"""Processors by their e_machine (include/uapi/linux/elf-em.h)."""


def elf_machine(number: int) -> str:
    """A processor by its e_machine."""
    return ELF_MACHINES.get(number, f"another processor (e_machine {number})")


Progress = Callable[[float, str], None]
"""Reports progress: the fraction done, from 0 to 1 (1 ends the report), and what is being done, in a few
words."""


def part_of(progress: Progress | None, first: float, last: float) -> Progress | None:
    """For something that is done between two fractions of the whole."""
    return progress and (lambda fraction, text: progress(first + fraction * (last - first), text))


def short_size(count: int) -> str:
    """Bytes in the largest unit that is not below one: `256.0 MiB`."""
    amount, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.1f} {unit}" if count >= 1024 else f"{count} bytes"


def in_this_process_only(progress: Progress) -> Progress:
    """The same report, but silent in forked workers, which would write over each other."""
    owner = os.getpid()

    def report(fraction: float, text: str) -> None:
        if os.getpid() == owner:
            progress(fraction, text)

    return report

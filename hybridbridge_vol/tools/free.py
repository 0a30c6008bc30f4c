"""free: memory and swap, used and free."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.counters import available_memory, parse_meminfo
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool

_PATH = "/proc/meminfo"
_UNITS = {"bytes": 1, "mebi": 1 << 20, "gibi": 1 << 30, "kilo": 10**3, "mega": 10**6, "giga": 10**9}
_KIBI = 1024


class Free(Tool):
    name = "free"
    help = "Memory and swap, used and free, in KiB"
    notes = (
        "Reads /proc/meminfo. USED is TOTAL less AVAILABLE, as in free of procps 4: memory that is neither "
        "free nor available without swapping."
    )
    example = "--mebi --total"
    options = (
        Option("bytes", bool, "in bytes", short="b"),
        Option("kibi", bool, "in KiB (the default)", short="k"),
        Option("mebi", bool, "in MiB", short="m"),
        Option("gibi", bool, "in GiB", short="g"),
        Option("kilo", bool, "in kilobytes of 1000 bytes"),
        Option("mega", bool, "in megabytes of 1000 kilobytes"),
        Option("giga", bool, "in gigabytes of 1000 megabytes"),
        Option("human", bool, "each number in a unit that fits it"),
        Option("si", bool, "with --human: units of 1000 instead of 1024"),
        Option("wide", bool, "BUFFERS and CACHE in separate columns", short="w"),
        Option("total", bool, "a line with the sums of memory and swap", short="t"),
        Option("lohi", bool, "low and high memory separately; there is no high memory on 64 bits", short="l"),
    )
    columns = (
        Column("KIND", "str", "Mem, Swap or Total"),
        Column("TOTAL", "int", "all memory"),
        Column("USED", "int", "used memory"),
        Column("FREE", "int", "unused memory"),
        Column("SHARED", "int", "memory of tmpfs and shared memory"),
        Column("BUFF/CACHE", "int", "memory of buffers, the page cache and reclaimable slabs"),
        Column("AVAILABLE", "int", "memory available without swapping"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        columns: tuple[Column, ...] = self.columns
        if options["wide"]:
            parts = (
                Column("BUFFERS", "int", "memory of buffers"),
                Column("CACHE", "int", "memory of the page cache and slabs"),
            )
            columns = (*columns[:5], *parts, columns[6])
        if options["human"]:
            columns = tuple(column._replace(kind="str", left=column.name == "KIND") for column in columns)
        return columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        memory = parse_meminfo(kernel.files.read(_PATH))

        def of(name: str) -> int:
            return memory.get(name, 0)

        cache = of("Cached") + of("SReclaimable")
        available = available_memory(memory)
        used = max(of("MemTotal") - available, 0)
        caches = (of("Buffers"), cache) if options["wide"] else (of("Buffers") + cache,)
        swap = of("SwapTotal"), of("SwapTotal") - of("SwapFree"), of("SwapFree")
        lines: list[tuple[str, tuple[int, ...]]] = [
            ("Mem", (of("MemTotal"), used, of("MemFree"), of("Shmem"), *caches, available)),
            ("Swap", swap),
        ]
        if options["lohi"]:
            lines[1:1] = [
                ("Low", (of("MemTotal"), of("MemTotal") - of("MemFree"), of("MemFree"))),
                ("High", (0, 0, 0)),
            ]
        if options["total"]:
            lines.append(("Total", (of("MemTotal") + swap[0], used + swap[1], of("MemFree") + swap[2])))
        unit = next((size for name, size in _UNITS.items() if options[name]), _KIBI)
        width = len(self.columns_for(options)) - 1
        for kind, numbers in lines:
            cells = [
                human(number, options["si"]) if options["human"] else number // unit for number in numbers
            ]
            yield Row((kind, *cells, *[None] * (width - len(cells))), sources=(Source(_PATH),))


def human(number: int, si: bool = False) -> str:
    """Bytes as free shows them (procps 4, src/free.c, `scale_size`): `938Ki`, `1.5Gi`, or `1.6G` in units of
    1000. It is the smallest unit in which the number takes three characters at most, with one decimal,
    rounded, if that fits too."""
    text = f"{number}B"
    if len(text) <= 4:
        return text
    base, mark = (1000, "") if si else (1024, "i")
    for power, letter in enumerate("KMGTP", 1):
        for text in (f"{number / base**power:.1f}{letter}{mark}", f"{number // base**power}{letter}{mark}"):
            if len(text) <= 4 + len(mark):
                return text
    return text


TOOL = Free()

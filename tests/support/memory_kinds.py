"""What a dump of a process's memory must hold, by the checksums that the guest took of /proc/PID/mem."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hybridbridge_vol import tools
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.memdump import Memdump

if TYPE_CHECKING:
    from samples.truth import MemoryRange

STILL = ("smaps", "smaps_rollup", "numa_maps", "maps", "pagemap")


class Core:
    """The segments of a 64-bit core, of `size` bytes with their content at an offset of `data`."""

    def __init__(self, data: bytes) -> None:
        count = int.from_bytes(data[56:58], "little")
        words = [
            [
                int.from_bytes(data[64 + 56 * n + at : 64 + 56 * n + at + 8], "little")
                for at in range(0, 56, 8)
            ]
            for n in range(count)
        ]
        self.data = data
        self.segments = [
            (vaddr, in_memory, in_file, offset)
            for kind, offset, vaddr, _paddr, in_file, in_memory, _align in words
            if kind & 0xFFFFFFFF == 1
        ]

    def read(self, start: int, end: int) -> bytes | None:
        """Bytes of the process; None where the core has none of them."""
        found = b""
        for vaddr, in_memory, in_file, offset in self.segments:
            first, last = max(start, vaddr), min(end, vaddr + in_memory)
            if first < last and in_file:
                found += self.data[offset + first - vaddr : offset + last - vaddr]
        return found if len(found) == end - start else None if not found else b"in part"


def dumped(kernel: GuestKernel, pid: int) -> tuple[Core, list[str]]:
    """The core of a process, and what memdump says is missing in it."""
    tool = tools.load("memdump")
    assert isinstance(tool, Memdump)
    options: dict[str, Any] = tool.defaults() | {"pid": pid}
    pieces = list(tool.raw(kernel, options))
    core = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    return Core(core), [piece.reason for piece in pieces if isinstance(piece, Unavailable)]


def differences(core: Core, ranges: list[MemoryRange]) -> Iterator[str]:
    """Where a core is not what the guest read. Pages of zeros that the process does not own may be absent."""
    for start, end, crc, errno in ranges:
        data = core.read(start, end)
        if crc is None and not errno and data is not None:
            yield f"{start:#x}-{end:#x} was swapped out and is in the core"
        if crc is not None and zlib.crc32(bytes(end - start) if data is None else data) != crc:
            yield f"{start:#x}-{end:#x} is {'absent' if data is None else 'other'} in the core"

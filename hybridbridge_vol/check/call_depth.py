"""Call-depth tracking, which `retbleed=stuff` turns on: its changes to a text, reverted
(arch/x86/kernel/callthunks.c, since 6.2).

Every function is preceded by nops. If the function is called, their last bytes become an instruction that
counts the call, and the call leads there. The kernel does this after all other patching, so it is reverted
first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from hybridbridge_vol.units import U64

_COUNTING = re.compile(rb"\x65\x48\xc1\x3d(....)\x05", re.DOTALL)
"""`sar qword ptr gs:[rip + X], 5`, INCREMENT_CALL_DEPTH of arch/x86/include/asm/nospec-branch.h."""
SIZE = 9
_NOPS = b"\x90" * SIZE
_CALL, _CALL_SIZE = 0xE8, 5


class Counting(NamedTuple):
    """The counting instruction of a kernel. `counter_vaddr` is its operand, a per-CPU variable."""

    counter_vaddr: int

    @classmethod
    def of(cls, template: bytes, vaddr: int) -> Counting | None:
        """From the kernel's own `skl_call_thunk_template`, which lies at `vaddr`; None if it has another
        form."""
        match = _COUNTING.fullmatch(template)
        return None if match is None else cls(_operand_vaddr(match[1], vaddr))

    def stands_in(self, code: bytes, vaddr: int) -> bool:
        """Whether `code`, which lies at `vaddr`, is this instruction."""
        match = _COUNTING.fullmatch(code)
        return match is not None and _operand_vaddr(match[1], vaddr) == self.counter_vaddr

    def take_out(self, expected: bytes | bytearray, found: bytearray, vaddr: int) -> int:
        """Restore the nops where they are expected and the instruction was found; returns how many were
        restored. Both texts lie at `vaddr`."""
        count = 0
        for match in _COUNTING.finditer(bytes(found)):
            place = match.start()
            if expected[place : place + SIZE] == _NOPS and self.stands_in(match[0], vaddr + place):
                found[place : place + SIZE] = _NOPS
                count += 1
        return count


def lead_calls_behind(
    sites: Iterable[int], found: bytearray, vaddr: int, counts: Callable[[int], bool]
) -> None:
    """Redirect the calls at these offsets of a text from a counting instruction to the function behind it.
    `counts(vaddr)` says whether a counting instruction lies at an address."""
    for site in sites:
        if site + _CALL_SIZE > len(found) or found[site] != _CALL:
            continue
        (distance,) = struct.unpack_from("<i", found, site + 1)
        if counts(vaddr + site + _CALL_SIZE + distance & U64):
            struct.pack_into("<i", found, site + 1, distance + SIZE)


def _operand_vaddr(displacement: bytes, vaddr: int) -> int:
    (distance,) = struct.unpack("<i", displacement)
    return int(vaddr + SIZE + distance & U64)

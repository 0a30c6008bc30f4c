"""Call-depth tracking: what `retbleed=stuff` makes of a text, taken back (arch/x86/kernel/callthunks.c, since
6.2).

Every function is preceded by nops. Where a function is called, their last bytes become an instruction that
counts the call, and the call leads there; whatever else the kernel patches comes before that. So it is taken
back first.
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
    """The counting instruction of a kernel. `counter_vaddr` is what it names, a per-CPU variable."""

    counter_vaddr: int

    @classmethod
    def of(cls, template: bytes, vaddr: int) -> Counting | None:
        """By the kernel's own `skl_call_thunk_template`, which stands at `vaddr`; None if it is of another
        form."""
        match = _COUNTING.fullmatch(template)
        return None if match is None else cls(_named(match[1], vaddr))

    def stands_in(self, code: bytes, vaddr: int) -> bool:
        """Whether `code`, which stands at `vaddr`, is this instruction."""
        match = _COUNTING.fullmatch(code)
        return match is not None and _named(match[1], vaddr) == self.counter_vaddr

    def take_out(self, expected: bytes | bytearray, found: bytearray, vaddr: int) -> int:
        """Put nops back where they are expected and the instruction was found; how often it was. Both texts
        stand at `vaddr`."""
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
    """Let the calls at these offsets of a text lead to the function, not to the instruction before it that
    counts: where `counts(vaddr)` says that one stands."""
    for site in sites:
        if site + _CALL_SIZE > len(found) or found[site] != _CALL:
            continue
        (distance,) = struct.unpack_from("<i", found, site + 1)
        if counts(vaddr + site + _CALL_SIZE + distance & U64):
            struct.pack_into("<i", found, site + 1, distance + SIZE)


def _named(displacement: bytes, vaddr: int) -> int:
    (distance,) = struct.unpack("<i", displacement)
    return int(vaddr + SIZE + distance & U64)

"""Instructions that Unicorn 2.1 runs as others, without an exception: what they compute is wrong.

Those of VEX.128 are run as the ones of SSE, without their second source (target/i386/translate.c, `gen_sse`
and `disas_insn`, which forgets the prefix), and those of XOP as `pop` with the rest as another instruction.
Those of AVX-512 are invalid there; they are among these so that one reason can be given for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BEFORE_VEX = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x67))
"""Prefixes that may stand before VEX: segments and the size of addresses (SDM volume 2A, 2.3.2)."""
_VEX_3, _VEX_2, _EVEX, _XOP = 0xC4, 0xC5, 0x62, 0x8F
_BMI = {2: frozenset((0xF2, 0xF3, 0xF5, 0xF6, 0xF7)), 3: frozenset((0xF0,))}
"""By the opcode map: those opcodes with VEX that work on general registers (SDM volume 2D, tables A-4 and
A-5): andn, blsr and their like, bzhi, pext, pdep, mulx, bextr, shlx and their like; rorx."""
_MAP, _VEX_MAPS, _FIRST_XOP_MAP = 0x1F, range(1, 4), 8
"""Bits of the byte behind VEX or XOP. In a `pop` they are below 8 (APM volume 3, 1.5 and appendix A)."""


def _one_of(values: Iterable[int]) -> bytes:
    return b"[" + re.escape(bytes(values)) + b"]"


SUSPECT = re.compile(
    _one_of([_VEX_2, _EVEX])
    + b"|"
    + _one_of([_VEX_3])
    + _one_of(value for value in range(0x100) if value & _MAP in _VEX_MAPS)
    + b"|"
    + _one_of([_XOP])
    + _one_of(value for value in range(0x100) if value & _MAP >= _FIRST_XOP_MAP)
)
"""Code in which this is not found has no such instruction: most code, which need not be decoded then."""


def is_run_wrongly(code: bytes) -> bool:
    """Whether an instruction of AVX, AVX-512 or XOP begins here."""
    at = next((at for at, byte in enumerate(code) if byte not in _BEFORE_VEX), len(code))
    first, rest = code[at : at + 1], code[at + 1 :]
    if first == bytes([_VEX_3]) and len(rest) > 2:
        return rest[2] not in _BMI.get(rest[0] & _MAP, frozenset())
    if first == bytes([_XOP]) and rest:
        return rest[0] & _MAP >= _FIRST_XOP_MAP
    return first in (bytes([_VEX_2]), bytes([_EVEX]))

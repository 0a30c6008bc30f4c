"""What happens to a system call, decided by the same program as natively: `filter.program`, interpreted.

The instructions are those of classic BPF that the filter uses (include/uapi/linux/filter.h), on a
`struct seccomp_data` (include/uapi/linux/seccomp.h).
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from hybridbridge_vol.native import filter as seccomp_filter
from hybridbridge_vol.units import U64

_DATA = struct.Struct("<IIQ6Q")
_INSTRUCTION = struct.Struct("<HBBI")
_CONSTANT_BYTES = 8
"""Number and architecture, at the beginning of the data, are known before the arguments are looked at."""
_ACTION, _VALUE = 0xFFFF_0000, 0xFFFF


class Verdict(Enum):
    """Who answers."""

    LOCAL = seccomp_filter.RET_ALLOW
    """The program's own kernel: here, the emulator's."""
    ASKED = seccomp_filter.RET_NOTIFY
    """The supervisor."""
    FAILS = seccomp_filter.RET_ERRNO
    """Nobody: the call fails, or does nothing."""


class Decision(NamedTuple):
    """`error` is the errno of a call that fails; 0 is none."""

    verdict: Verdict
    error: int = 0


class Policy:
    """Interprets a filter. `program` is as `filter.program` gives it."""

    def __init__(self, program: bytes) -> None:
        self._code = list(_INSTRUCTION.iter_unpack(program))
        self._entries: dict[int, int] = {}

    def decide(self, number: int, pc: int, arguments: Sequence[int]) -> Decision:
        """What becomes of a call of an x86-64 program."""
        number &= 0xFFFF_FFFF
        given = (value & U64 for value in arguments)
        data = _DATA.pack(number, seccomp_filter.AUDIT_ARCH_X86_64, pc & U64, *given)
        if number not in self._entries:
            self._entries[number] = self._run(data, 0, _CONSTANT_BYTES)
        action = self._code[self._run(data, self._entries[number], len(data))][3]
        return Decision(Verdict(action & _ACTION), action & _VALUE)

    def _run(self, data: bytes, at: int, known: int) -> int:
        """The first instruction, from `at` on, that returns, or loads what is not among the first `known`
        bytes. Jumps lead forward only, so it ends."""
        accumulator = 0
        while True:
            code, if_true, if_false, value = self._code[at]
            if code == seccomp_filter.RETURN or (code == seccomp_filter.LOAD and value >= known):
                return at
            at += 1
            if code == seccomp_filter.LOAD:
                accumulator = int.from_bytes(data[value : value + 4], "little")
            else:
                at += if_true if _HOLDS[code](accumulator, value) else if_false


_HOLDS: dict[int, Callable[[int, int], object]] = {
    seccomp_filter.EQUAL: operator.eq,
    seccomp_filter.AT_LEAST: operator.ge,
    seccomp_filter.ANY_BIT: operator.and_,
}

"""Differences between two texts, the kernel's or a module's, as instructions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hybridbridge_vol.check.function_pointers import joined
from hybridbridge_vol.check.instructions import Instruction, Reader
from hybridbridge_vol.check.patching import NOP5
from hybridbridge_vol.check.symbol_names import Places
from hybridbridge_vol.check.tracers import Tracers
from hybridbridge_vol.units import PAGE_SIZE

SHOWN = 48
"""Bytes of one difference that are shown."""
_SAME_DIFFERENCE = 8
"""Differing bytes that are less far apart are one difference."""
_LONGEST_FUNCTION, _LONGEST_INSTRUCTION = 1 << 16, 15
_INT3 = 0xCC
_ENDS = ("jmp", "ret", "ud2")
"""Instructions behind which the next one is not reached."""
_KERNEL_ADDRESS = re.compile(r"0xffff[0-9a-f]{12}\b")


class CodeDifference(NamedTuple):
    """`start` is the offset of the first instruction, `end` that behind the last byte; `what` is
    text, traced, kprobe or livepatch."""

    what: str
    start: int
    end: int
    expected: str
    found: str
    leads: str | None


def unequal(expected: bytes | bytearray, found: bytes | bytearray, start: int, end: int) -> Iterator[int]:
    """Offsets of the bytes from `start` to `end` that differ."""
    for page in range(start & -PAGE_SIZE, end, PAGE_SIZE):
        first, last = max(start, page), min(end, page + PAGE_SIZE)
        if expected[first:last] != found[first:last]:
            yield from (at for at in range(first, last) if expected[at] != found[at])


class CodeComparison:
    """Two texts of the same length that lie at `vaddr`. `function_start` maps an offset to the start of its
    function; `traceable` are the offsets of calls of the tracer."""

    def __init__(
        self,
        expected: bytearray,
        found: bytes | bytearray,
        vaddr: int,
        reader: Reader,
        places: Places,
        tracers: Tracers,
        function_start: Callable[[int], int],
        traceable: frozenset[int],
    ) -> None:
        self._expected = expected
        self._found = found
        self._vaddr = vaddr
        self._reader = reader
        self._places = places
        self._tracers = tracers
        self._function_start = function_start
        self._traceable = traceable

    def differences(self, end: int) -> Iterator[CodeDifference]:
        """All of them up to an offset."""
        for start, last in joined(unequal(self._expected, self._found, 0, end), _SAME_DIFFERENCE, PAGE_SIZE):
            first, behind = self._whole_instructions(start, min(last, start + SHOWN))
            expected, found = self._decode(self._expected, first, behind), self._found_between(first, behind)
            more = f"; ... ({last - first} bytes)" if last > behind else ""
            reached = list(_reached(found, {instruction.vaddr for instruction in expected}))
            targets = [instruction.target for instruction in reached if instruction.target is not None]
            what, leads = self._hook(first, start, last, found) or (
                "text",
                self._places.leads([*targets, *_addresses(reached, expected)]),
            )
            yield CodeDifference(what, first, last, _words(expected) + more, _words(found) + more, leads)

    def _hook(
        self, first: int, start: int, end: int, found: list[Instruction]
    ) -> tuple[str, str | None] | None:
        """Which of the kernel's own hooks was found there, and where it leads; None if none was."""
        if self._is_breakpoint(first, start, end):
            return "kprobe", None
        if not found:
            return None
        return (
            self._tracers.at_function(found[0])
            if first in self._traceable
            else self._tracers.inside(self._vaddr + first, found[0])
        )

    def _is_breakpoint(self, first: int, start: int, end: int) -> bool:
        """Whether the only change is that the first byte of an instruction is `int3`."""
        if self._found[first] != _INT3:
            return False
        return (start, end) == (first, first + 1) or self._found[first + 1 : end] == NOP5[1 : end - first]

    def _whole_instructions(self, start: int, end: int) -> tuple[int, int]:
        """The range of the expected instructions that cover the bytes from `start` to `end`."""
        first = self._function_start(start)
        if not 0 <= start - first <= _LONGEST_FUNCTION:
            return start, end
        place = start
        for instruction in self._decode(self._expected, first, min(end + 16, len(self._expected))):
            at = instruction.vaddr - self._vaddr
            if at <= start:
                place = at
            if at >= end:
                return place, at
        return place, end

    def _found_between(self, start: int, end: int) -> list[Instruction]:
        """The found instructions that begin in a range. The last may reach out of it: its bytes may be what
        was there, as the last byte of a jump in the place of a longer piece of code."""
        decoded = self._decode(self._found, start, min(end + _LONGEST_INSTRUCTION, len(self._found)))
        return [instruction for instruction in decoded if instruction.vaddr < self._vaddr + end]

    def _decode(self, code: bytes | bytearray, start: int, end: int) -> list[Instruction]:
        return self._reader.decode(bytes(code[start:end]), self._vaddr + start)


def _words(instructions: list[Instruction]) -> str:
    return "; ".join(map(str, instructions))


def _reached(found: list[Instruction], usual: set[int]) -> Iterator[Instruction]:
    """Without what lies behind a planted jump and is the rest of an instruction, begun in its middle. `usual`
    is where instructions begin that should be there."""
    falls_through = True
    for instruction in found:
        falls_through = falls_through or instruction.vaddr in usual
        if falls_through:
            yield instruction
        falls_through = falls_through and instruction.mnemonic not in _ENDS


def _addresses(found: list[Instruction], expected: list[Instruction]) -> Iterator[int]:
    """Kernel addresses that are immediate values in the code found and not in the code expected."""
    usual = _words(expected)
    for number in _KERNEL_ADDRESS.findall(" ".join(instruction.operands for instruction in found)):
        if number not in usual:
            yield int(number, 16)

"""Code that needs no proof: what proven code reaches by jumps inside of its function, with nothing to decide.

SLOW-BRIDGE decides where static references lead, and checks what the trusted kernel's functions are given and
where indirect calls and jumps go. Plain instructions only copy and compute: they follow the pointers that
they are given, on either bridge. So where one way through a function is proven, FAST-BRIDGE may take its
other ways too, as far as they are plain: it need not trap because a list is longer, a bucket is not empty or
a sum carries over in this snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hybridbridge_vol.bridge.taint.decoder import Instruction
from hybridbridge_vol.bridge.taint.rules import Bits, OperandKind, RuleKind

MAX_BLOCKS = 8192
"""Blocks looked at after one run: all of `ps` has a quarter of that; the rest is left to later runs."""

_PLAIN = frozenset((RuleKind.COPY, RuleKind.CLEAR, RuleKind.ALU, RuleKind.BITS))
_RETURN = b"\xc3"
_NOPS = (b"\x90", b"\x66\x90", b"\x0f\x1f", b"\x66\x0f\x1f", b"\x66\x2e\x0f\x1f")
_SEGMENTS = b"\x64\x65"
"""Prefixes: FS and GS, by which per-CPU variables are named."""
_JUMP_SHORT, _JUMP = 0xEB, 0xE9
_ALWAYS = (_JUMP_SHORT, _JUMP)
_CONDITIONAL_SHORT, _CONDITIONAL = range(0x70, 0x80), range(0x80, 0x90)
_TWO_BYTES = 0x0F
_WIDTH_PREFIXES = (0x66, *range(0x40, 0x50))
"""The operand size and REX."""
_UNARY = (0xF6, 0xF7)
_FIRST_OF_MULTIPLICATION = 4
"""ModRM's middle field (SDM volume 2, table A-6, group 3): from here `mul`, `imul`, `div`, `idiv`."""


class Code(Protocol):
    """The twin's code, by virtual addresses."""

    def block(self, vaddr: int) -> Sequence[Instruction]:
        """The instructions from an address up to the first that may branch; none where there is no code."""

    def bytes_of(self, instruction: Instruction) -> bytes:
        """The instruction itself."""

    def same_function(self, one: int, other: int) -> bool:
        """Whether two addresses lie in one function."""

    def is_trampoline(self, vaddr: int) -> bool:
        """Whether the twin has code of ours there, instead of its own."""


class PlainCode:
    """See the module's text. What was found once is not given again."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._seen: set[int] = set()

    def reached_from(self, proven: Sequence[Instruction]) -> list[Instruction]:
        """The plain instructions that these proven ones reach."""
        self._seen.update(instruction.vaddr for instruction in proven)
        waiting = [vaddr for instruction in proven for vaddr in self._next(instruction)]
        found: list[Instruction] = []
        blocks = 0
        while waiting and blocks < MAX_BLOCKS:
            vaddr = waiting.pop()
            if vaddr in self._seen:
                continue
            self._seen.add(vaddr)
            blocks += 1
            new = self._plain_part(vaddr)
            self._seen.update(instruction.vaddr for instruction in new)
            found += new
            waiting += [after for instruction in new for after in self._next(instruction)]
        return found

    def _plain_part(self, vaddr: int) -> list[Instruction]:
        """The block at an address, up to the first instruction that is not plain or was seen before."""
        found = []
        for instruction in self._code.block(vaddr):
            is_new = instruction.vaddr == vaddr or instruction.vaddr not in self._seen
            if not is_new or not self._is_plain(instruction):
                break
            found.append(instruction)
        return found

    def _next(self, instruction: Instruction) -> list[int]:
        """Where a direct jump leads inside of its function."""
        if not instruction.ends_block:
            return []
        code = self._code.bytes_of(instruction)
        target = jump_target(instruction.vaddr, code)
        if target is None:
            return []
        reached = [target] if code[0] in _ALWAYS else [target, instruction.vaddr + instruction.size]
        return [vaddr for vaddr in reached if self._code.same_function(vaddr, instruction.vaddr)]

    def _is_plain(self, instruction: Instruction) -> bool:
        if self._code.is_trampoline(instruction.vaddr):
            return False
        rule, code = instruction.rule, self._code.bytes_of(instruction)
        if rule.kind is RuleKind.NONE:
            target = jump_target(instruction.vaddr, code)
            if target is not None:
                return not self._code.is_trampoline(target)
            return code == _RETURN or code.startswith(_NOPS)
        names_static = (
            instruction.static_field
            or rule.bits & Bits.STATIC
            or code[0] in _SEGMENTS
            or OperandKind.SNAPSHOT_ADDRESS in (rule.target.kind, rule.source.kind, rule.second.kind)
        )
        return (rule.kind in _PLAIN or multiplies(code)) and not names_static


def multiplies(code: bytes) -> bool:
    """Whether the instruction of these bytes multiplies or divides the accumulator, and nothing else."""
    opcode = next((at for at, byte in enumerate(code) if byte not in _WIDTH_PREFIXES), len(code))
    if opcode + 1 >= len(code) or code[opcode] not in _UNARY:
        return False
    return (code[opcode + 1] >> 3) & 7 >= _FIRST_OF_MULTIPLICATION


def jump_target(vaddr: int, code: bytes) -> int | None:
    """Where the instruction of these bytes jumps, if it is `jmp` or `jCC` with a displacement and without a
    prefix."""
    first, is_long = code[0], len(code) > 1 and code[0] == _TWO_BYTES and code[1] in _CONDITIONAL
    if first in _CONDITIONAL_SHORT or first == _JUMP_SHORT:
        size = 1
    elif first == _JUMP or is_long:
        size = 4
    else:
        return None
    return vaddr + len(code) + int.from_bytes(code[-size:], "little", signed=True)

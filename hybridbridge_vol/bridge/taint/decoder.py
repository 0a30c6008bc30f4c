"""Machine code to transfer rules, one basic block at a time.

Code counts as code up to the first instruction that Unicorn would run wrongly (`is_run_wrongly`): what it
computes would be shown as the guest's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import capstone
from capstone import x86_const as x86

from hybridbridge_vol.bridge.taint.instruction_rules import rule_of
from hybridbridge_vol.bridge.taint.operands import Addressing, Decoded, StaticTargets, addressing_of
from hybridbridge_vol.bridge.taint.registers import NO_REGISTER
from hybridbridge_vol.bridge.taint.rules import Bits, Rule
from hybridbridge_vol.bridge.text.ud1 import ud1_size
from hybridbridge_vol.machine.run_wrongly import is_run_wrongly

MAX_INSTRUCTION = 15
"""Bytes of the longest instruction (SDM volume 2A, 2.3.11)."""
MAX_BLOCK = 128
"""Instructions decoded for one block: one is rarely longer."""
_AT_ONCE = 8
"""Instructions that capstone is asked for at a time: most blocks end within as many."""
_BRANCH_GROUPS = frozenset((
    capstone.CS_GRP_JUMP,
    capstone.CS_GRP_CALL,
    capstone.CS_GRP_RET,
    capstone.CS_GRP_IRET,
    capstone.CS_GRP_BRANCH_RELATIVE,
))  # fmt: skip
"""Capstone's groups of instructions that may branch; `loop` is in the last one alone."""
_STOPS = frozenset(("ud1", "ud2", "hlt", "int3"))


@dataclass(frozen=True, slots=True)
class Instruction:
    """A decoded instruction: virtual address, bytes, rule, and whether it ends a basic block.

    `static_field`: offset in its bytes of a 32-bit displacement that names a static address of the
    snapshot's; `relative_field`: offset of a displacement from RIP; 0 without one. Without the latter the
    same bytes mean the same at any address.
    """

    vaddr: int
    size: int
    rule: Rule
    ends_block: bool
    static_field: int = 0
    relative_field: int = 0

    def at(self, vaddr: int) -> Instruction:
        """The same instruction at another address."""
        return Instruction(
            vaddr, self.size, self.rule, self.ends_block, self.static_field, self.relative_field
        )


class Decoder:
    """Decodes the code of one side. `targets` are its static addresses; instructions without a rule of their
    own are counted in `unknown`, by mnemonic, each time that they are decoded."""

    def __init__(self, targets: StaticTargets, unknown: Counter[str]) -> None:
        self._capstone = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._capstone.detail = True
        self._sizes = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._targets = targets
        self._unknown = unknown
        self._known: dict[bytes, Instruction] = {}
        """By their bytes: most occur many times, and capstone's details take long."""

    def block(self, code: bytes, vaddr: int) -> list[Instruction]:
        """The instructions of `code`, which lies at `vaddr`, up to the first that may branch or to the first
        bytes that are no instruction, or none that can be run; at most `MAX_BLOCK`."""
        found: list[Instruction] = []
        offset = 0
        while len(found) < MAX_BLOCK:
            lines = self._sizes.disasm_lite(code[offset:], vaddr + offset, _AT_ONCE)
            sizes = [size for _vaddr, size, _mnemonic, _operands in lines]
            if not sizes:
                break
            for size in sizes:
                if is_run_wrongly(code[offset : offset + size]):
                    return found
                instruction = self._decode(code, offset, size, vaddr)
                found.append(instruction)
                if instruction.ends_block:
                    return found
                offset += size
        return found

    def _decode(self, code: bytes, offset: int, size: int, vaddr: int) -> Instruction:
        """The instruction of `size` bytes at an offset of the code that lies at `vaddr`."""
        raw, here = code[offset : offset + size], vaddr + offset
        known = self._known.get(raw)
        if known is not None and (not known.relative_field or self._means_the_same(known, raw, here)):
            return known.at(here)
        unknown_before = self._unknown.total()
        (insn,) = self._capstone.disasm(raw, here, 1)
        instruction = self._instruction(insn)
        if insn.mnemonic == "ud1":  # capstone leaves its operands out
            return replace(instruction, size=ud1_size(code[offset:]) or size)
        is_unknown = self._unknown.total() != unknown_before
        if not is_unknown and not self._depends_on_address(insn, instruction):
            self._known[raw] = instruction
        return instruction

    def _means_the_same(self, known: Instruction, raw: bytes, vaddr: int) -> bool:
        """Whether the displacement from RIP leads to the snapshot's data, or not, as it did where the same
        bytes were decoded before."""
        field = known.relative_field
        reached = vaddr + known.size + int.from_bytes(raw[field : field + 4], "little", signed=True)
        return self._targets.reach_snapshot(reached) == bool(known.static_field)

    def _depends_on_address(self, insn: capstone.CsInsn, instruction: Instruction) -> bool:
        """Whether the bytes may name a per-CPU variable of the snapshot's at one address only."""
        uses_gs = insn.prefix[1] == x86.X86_PREFIX_GS
        return bool(self._targets.per_cpu and instruction.relative_field and uses_gs)

    def _instruction(self, insn: capstone.CsInsn) -> Instruction:
        name, raw_operands = insn.mnemonic.split()[-1], insn.operands
        addressing = addressing_of(insn, raw_operands, self._targets)
        operands = [self._targets.operand(operand) for operand in raw_operands]
        decoded = Decoded(insn, name, operands, raw_operands, self._targets)
        rule = rule_of(decoded, self._unknown)
        if rule.bits & Bits.MEMORY or addressing.bits and name != "lea":
            rule = _with_address(rule, addressing)
        ends_block = not _BRANCH_GROUPS.isdisjoint(insn.groups) or name in _STOPS
        return Instruction(
            insn.address, insn.size, rule, ends_block, addressing.static_field, addressing.relative_field
        )


def _with_address(rule: Rule, addressing: Addressing) -> Rule:
    """The rule with the memory operand's address; registers that the rule names itself stay."""
    return replace(
        rule,
        bits=rule.bits | addressing.bits,
        base=addressing.base if rule.base == NO_REGISTER else rule.base,
        index=addressing.index if rule.index == NO_REGISTER else rule.index,
    )

"""Which virtual addresses the instruction under way uses, by its operands and the registers before it takes
effect."""

from __future__ import annotations

from collections.abc import Iterator

import capstone
from capstone import x86_const as x86

from hybridbridge_vol.machine.cpu import GS_BASE_MSR
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.units import PAGE_SIZE, U64

_PUSHED = 8


def second_page(machine: Machine, code: bytes, vaddr: int, paddr: int) -> int:
    """The guest-physical address of the page behind the one in which an access begins, at `paddr`, that the
    instruction at `vaddr` makes; 0 if none of its operands is there, or if nothing is mapped behind it."""
    for place in _addresses(machine, code, vaddr):
        if (place - paddr) % PAGE_SIZE:
            continue
        first = machine.translate(place)
        if first is not None and first.paddr == paddr:
            second = machine.translate((place & -PAGE_SIZE) + PAGE_SIZE & U64)
            return 0 if second is None else second.paddr
    return 0


def _addresses(machine: Machine, code: bytes, vaddr: int) -> Iterator[int]:
    """Of each operand in memory; and of the stack, where it is pushed to and popped from."""
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    for insn in disassembler.disasm(code, vaddr, 1):
        for operand in insn.operands:
            if operand.type == x86.X86_OP_MEM:
                yield _address(machine, insn, operand.mem)
    stack = machine.read_register("RSP")
    yield from (stack, stack - _PUSHED & U64)


def _address(machine: Machine, insn: capstone.CsInsn, memory: capstone.x86.X86OpMem) -> int:
    """SDM volume 1, 3.7.5 "Specifying an Offset"."""
    value = int(memory.disp)
    for number, scale in ((memory.base, 1), (memory.index, memory.scale)):
        if number == x86.X86_REG_RIP:
            value += insn.address + insn.size
        elif number:
            value += machine.read_register(insn.reg_name(number).upper()) * scale
    if memory.segment == x86.X86_REG_GS:
        value += machine.read_msr(GS_BASE_MSR)
    return value & U64

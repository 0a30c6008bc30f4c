"""Where the second page of an access is that crosses the end of a page.

Unicorn reports one guest-physical address for an access, that of its first byte. Pages that touch in virtual
memory need not touch in physical memory, so the virtual address is computed again from the instruction.
"""

from __future__ import annotations

from collections.abc import Iterator

import capstone
from capstone import x86_const as x86

from hybridbridge_vol.machine.cpu import GS_BASE_MSR
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.units import PAGE_SIZE, U64

_PUSHED = 8
"""Bytes that `push` and `call` put on the stack."""


def second_page(machine: Machine, code: bytes, vaddr: int, paddr: int) -> int:
    """Guest-physical address of the page in which an access ends that begins at guest-physical `paddr`.

    `code` is the instruction at virtual address `vaddr` that makes the access; it must not have taken effect
    yet. 0 if none of its operands begins at `paddr`, or if nothing is mapped behind it.
    """
    for start in _accessed_addresses(machine, code, vaddr):
        if (start - paddr) % PAGE_SIZE:
            continue
        first = machine.translate(start)
        if first is not None and first.paddr == paddr:
            second = machine.translate((start & -PAGE_SIZE) + PAGE_SIZE & U64)
            return 0 if second is None else second.paddr
    return 0


def _accessed_addresses(machine: Machine, code: bytes, vaddr: int) -> Iterator[int]:
    """Virtual addresses at which the instruction's accesses may begin: its memory operands', and those of the
    words that are popped from and pushed to the stack."""
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    for insn in disassembler.disasm(code, vaddr, 1):
        for operand in insn.operands:
            if operand.type == x86.X86_OP_MEM:
                yield _effective_address(machine, insn, operand.mem)
    stack = machine.read_register("RSP")
    yield from (stack, stack - _PUSHED & U64)


def _effective_address(machine: Machine, insn: capstone.CsInsn, memory: capstone.x86.X86OpMem) -> int:
    """The operand's virtual address by the registers as they are (SDM volume 1, 3.7.5)."""
    vaddr = int(memory.disp)
    for register, scale in ((memory.base, 1), (memory.index, memory.scale)):
        if register == x86.X86_REG_RIP:
            vaddr += insn.address + insn.size
        elif register:
            vaddr += machine.read_register(insn.reg_name(register).upper()) * scale
    if memory.segment == x86.X86_REG_GS:
        vaddr += machine.read_msr(GS_BASE_MSR)
    return vaddr & U64

"""Processor exceptions: their vectors, what a handler may decide, and how one enters the kernel's handler.

SDM volume 3A, chapter 6; only what a kernel in 64-bit mode on one CPU needs.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

VECTOR_DIVIDE_ERROR = 0
VECTOR_DEBUG = 1
VECTOR_BREAKPOINT = 3
VECTOR_INVALID_OPCODE = 6
VECTOR_GENERAL_PROTECTION = 13
VECTOR_PAGE_FAULT = 14
VECTOR_TIMER = 0x30
"""ISA IRQ 0, arch/x86/include/asm/irq_vectors.h."""

_VECTORS_WITH_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17, 21))
_INTERRUPT_GATE = 0xE
_FLAG_TRAP, _FLAG_INTERRUPT, _FLAG_NESTED, _FLAG_RESUME = 1 << 8, 1 << 9, 1 << 14, 1 << 16
_PROTECTION, _FETCH = 3, 16  # of a page fault's error code: the page is present and was written to; a fetch
_RING = 3

GATE_SIZE = 16
"""Bytes of a gate in the interrupt descriptor table."""


class Verdict(enum.Enum):
    """What to do about an exception."""

    RESUME = enum.auto()  # its cause is gone: run the instruction again
    DELIVER = enum.auto()  # push a frame and enter the kernel's handler
    STOP = enum.auto()  # end the run


class Gate(NamedTuple):
    """A gate as delivery needs it. `stack` is the number of its interrupt stack, 0 for none."""

    handler_vaddr: int
    selector: int
    stack: int
    masks_interrupts: bool


def parse_gate(data: bytes) -> Gate:
    """The gate in `GATE_SIZE` bytes (SDM volume 3A, figure 6-8)."""
    low, selector, stack, kind, middle, high = struct.unpack_from("<HHBBHI", data)
    handler_vaddr = low | middle << 16 | high << 32
    return Gate(handler_vaddr, selector, stack & 7, kind & 0xF == _INTERRUPT_GATE)


def stack_slot(gate: Gate, cs: int) -> int | None:
    """Where in the task-state segment the handler's stack pointer is, in bytes; None: it stays the same one.

    SDM volume 3A, figure 8-11: RSP0 at 4, the interrupt stacks from 0x24 on.
    """
    if gate.stack:
        return 0x24 + 8 * (gate.stack - 1)
    return 4 if cs & _RING else None


def frame(vector: int, rip: int, cs: int, flags: int, rsp: int, ss: int, error_code: int) -> bytes:
    """What the processor pushes, as it lies in memory (SDM volume 3A, 6.14.2)."""
    pushed = struct.pack("<5Q", rip, cs, flags, rsp, ss)
    return struct.pack("<Q", error_code) + pushed if vector in _VECTORS_WITH_ERROR_CODE else pushed


def flags_in_handler(flags: int, gate: Gate) -> int:
    """EFLAGS at the handler's first instruction (SDM volume 3A, 6.12.1.3)."""
    cleared = _FLAG_TRAP | _FLAG_NESTED | _FLAG_RESUME
    return flags & ~(cleared | _FLAG_INTERRUPT if gate.masks_interrupts else cleared)


def interrupts_enabled(flags: int) -> bool:
    """Whether EFLAGS lets maskable interrupts through."""
    return bool(flags & _FLAG_INTERRUPT)


def page_fault_code(is_mapped: bool, is_fetch: bool) -> int:
    """A page fault's error code as far as an access of kernel mode tells it (SDM volume 3A, 4.7)."""
    return (_PROTECTION if is_mapped else 0) | (_FETCH if is_fetch else 0)

"""The interrupt descriptor table: the gates in it, and those that the kernel's own code installs.

The kernel fills it from tables of `struct idt_data` (arch/x86/kernel/idt.c) and with entry points that push
the number of their vector (arch/x86/entry/entry_64.S; idtentry.h from 5.8). A hypervisor's vectors are
installed by guest code.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.kernel_file.symbols import Symbols

VECTORS = 256
GATE_SIZE = 16
_GATE = struct.Struct("<HHHHII")
_IDT_DATA = struct.Struct("<IIH6xQ")
_TABLES = ("early_idts", "def_idts", "early_pf_idts", "dbg_idts", "ist_idts", "apic_idts", "ia32_idt")
_KERNEL_CS = 0x10
_INTERRUPT_GATE = 0x8E00
"""Present, for the kernel only, a 64-bit interrupt gate, no stack of its own (SDM volume 3A, 6.14.1)."""
_NUMBERED = ("irq_entries_start", "spurious_entries_start", "early_idt_handler_array")
_PUSHES = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?(?:\x6a\x00)?\x6a(.)", re.DOTALL)
"""`endbr64` in kernels built with IBT, a zero instead of an error code, the vector."""
_HYPERVISOR_VECTORS = range(0xED, 0xF4)
"""arch/x86/include/asm/irq_vectors.h: HYPERV_STIMER0_VECTOR to HYPERVISOR_CALLBACK_VECTOR."""
_HYPERVISOR_ENTRY = re.compile(r"asm_sysvec_(hyperv|kvm_asyncpf|xen|acrn)\w*")


class Gate(NamedTuple):
    """One entry of the table. `handler` is a virtual address, `bits` the 16 that hold type, privilege and
    stack."""

    handler: int
    selector: int
    bits: int


def read_gates(table: bytes) -> list[Gate]:
    """All whole gates of a table (SDM volume 3A, figure 6-8)."""
    whole = len(table) // GATE_SIZE * GATE_SIZE
    return [
        Gate(low | middle << 16 | high << 32, selector, bits)
        for low, selector, bits, middle, high, _ in _GATE.iter_unpack(table[:whole])
    ]


class ExpectedGates:
    """The gates that the kernel itself installs; handlers are link-time addresses."""

    def __init__(self, flat: bytes | bytearray, symbols: Symbols, text_link_vaddr: int) -> None:
        self._flat = flat
        self._symbols = symbols
        self._text = text_link_vaddr
        self._listed: dict[int, list[Gate]] = defaultdict(list)
        for vector, gate in self._tables():
            self._listed[vector].append(gate)
        self._by_hypervisor = {
            address
            for address, name in symbols.with_prefix("asm_sysvec_")
            if _HYPERVISOR_ENTRY.fullmatch(name)
        }

    def _tables(self) -> Iterator[tuple[int, Gate]]:
        for name in _TABLES:
            for start in self._symbols.addresses(name):
                end = self._symbols.next_address(start) or start
                for at in range(start - self._text, end - self._text - _IDT_DATA.size + 1, _IDT_DATA.size):
                    if not 0 <= at <= len(self._flat) - _IDT_DATA.size:
                        break
                    vector, selector, bits, handler = _IDT_DATA.unpack_from(self._flat, at)
                    if handler:
                        yield vector, Gate(handler, selector, bits)

    def allows(self, vector: int, gate: Gate) -> bool:
        """Whether the kernel's own code may have installed this gate."""
        if gate in self._listed[vector]:
            return True
        if (gate.selector, gate.bits) != (_KERNEL_CS, _INTERRUPT_GATE):
            return False
        if vector in _HYPERVISOR_VECTORS and gate.handler in self._by_hypervisor:
            return True
        return self._is_numbered(gate.handler, vector)

    def _is_numbered(self, handler: int, vector: int) -> bool:
        found = self._symbols.lookup(handler)
        if found is None or not self._is_entry_code(handler - found[1]):
            return False
        start = handler - self._text
        pushes = _PUSHES.match(bytes(self._flat[start : start + 10]))
        return pushes is not None and pushes[1][0] == vector

    def _is_entry_code(self, start: int) -> bool:
        """Whether one of the names of an address is that of such code: it begins the section of entries,
        which has a name, too."""
        return any(name in _NUMBERED for _kind, name in self._symbols.names_at(start))

    def usual(self, vector: int) -> Gate | None:
        """The last gate that the kernel's tables have for a vector."""
        listed = self._listed[vector]
        return listed[-1] if listed else None

"""As much of Xen as a kernel needs that finds itself its guest (HVM): its hypercalls arrive at a port."""

from __future__ import annotations

import struct
from errno import ENOSYS
from typing import Any

from unicorn import x86_const as x86

from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.units import START_KERNEL_MAP

_VERSION = 4 << 16 | 17
LEAVES: dict[int, tuple[int, ...]] = {
    0x40000001: (_VERSION, 0, 0, 0),
    0x40000002: (1, 0x40000200, 0, 0),
    0x40000004: (1 << 3, 0, 0, 0),  # the virtual CPU's number is there
}
"""Of CPUID (Xen's public/arch-x86/cpuid.h)."""
_PORT = 0x5C
_READ_PORT = bytes([0xE5, _PORT, 0x90])  # in eax, port; nop
_CALLS = {"xen_hypercall_intel": b"\x0f\x01\xc1", "xen_hypercall_amd": b"\x0f\x01\xd9"}
"""The functions that make hypercalls (arch/x86/xen/xen-head.S), and their `vmcall` and `vmmcall`."""
_CALL_SIZE = 32

# public/xen.h, version.h, features.h, memory.h, vcpu.h, event_channel.h: (hypercall, command)
_GET_VERSION, _GET_FEATURES = (17, 0), (17, 6)
_ADD_TO_PHYSMAP, _REGISTER_VCPU_INFO = (12, 7), (24, 10)
_BIND_VIRQ, _BIND_IPI = (32, 1), (32, 7)
_NEWER_CHANNELS = ((32, 11), (32, 12), (32, 13))
_FEATURES = 1 << 8 | 1 << 9
"""Events arrive by a vector; clocks are safe."""
_SHARED_INFO = 0
_TIME_AT = 32
_TIME = struct.pack("<IIQQIbBxx", 2, 0, 0, 5_000_000, 1 << 31, 1, 1)
"""struct pvclock_vcpu_time_info, in `struct vcpu_info`: the TSC as it is."""


class Xen:
    """Answers hypercalls of a kernel in `machine` from `divert` to `restore`."""

    def __init__(self) -> None:
        self._diverted: list[tuple[Machine, int, bytes]] = []
        self._channels = 0

    def divert(self, machine: Machine, kernel: KernelImage) -> None:
        """Let the kernel's hypercalls read the port."""
        for name, instruction in _CALLS.items():
            start = kernel.symbols.address(name) - START_KERNEL_MAP
            paddr = start + bytes(machine.memory.read(start, _CALL_SIZE)).index(instruction)
            self._diverted.append((machine, paddr, instruction))
            machine.memory.write(paddr, _READ_PORT)

    def restore(self) -> None:
        """The kernel's text is what it was."""
        for machine, paddr, instruction in self._diverted:
            machine.memory.write(paddr, instruction)

    def answer(self, uc: Any, port: int) -> int | None:
        """What a read of a port gives; None if that is no hypercall."""
        if port != _PORT:
            return None
        machine = self._diverted[0][0]
        number, command = uc.reg_read(x86.UC_X86_REG_EAX), uc.reg_read(x86.UC_X86_REG_EDI)
        second, third = uc.reg_read(x86.UC_X86_REG_RSI), uc.reg_read(x86.UC_X86_REG_RDX)
        asked = number, command
        if asked == _GET_VERSION:
            return _VERSION
        if asked in _NEWER_CHANNELS:
            return -ENOSYS & 0xFFFFFFFF
        if asked == _GET_FEATURES:
            (index,) = struct.unpack("<I", machine.read(second, 4))
            machine.write(second + 4, struct.pack("<I", 0 if index else _FEATURES))
        elif asked == _ADD_TO_PHYSMAP:
            _domain, _size, space, _index, frame = struct.unpack("<HHIQQ", machine.read(second, 24))
            if space == _SHARED_INFO:
                machine.memory.write((frame << 12) + _TIME_AT, _TIME)
        elif asked == _REGISTER_VCPU_INFO:
            frame, offset = struct.unpack("<QI", machine.read(third, 12))
            machine.memory.write((frame << 12) + offset + _TIME_AT, _TIME)
        elif asked in (_BIND_VIRQ, _BIND_IPI):
            self._channels += 1
            place = second + (8 if asked == _BIND_VIRQ else 4)
            machine.write(place, struct.pack("<I", self._channels))
        return 0

"""The processor of an emulated program: it runs up to the next system call, or to what ends the program."""

from __future__ import annotations

import errno
import signal

from unicorn import Uc, UcError
from unicorn.unicorn_const import (
    UC_ERR_INSN_INVALID,
    UC_HOOK_INSN,
    UC_HOOK_INTR,
)
from unicorn.x86_const import UC_X86_INS_CPUID, UC_X86_INS_SYSCALL

from hybridbridge_vol.machine.cpu import Cpu
from hybridbridge_vol.machine.devices import cpuid_leaf
from hybridbridge_vol.units import U64

_ARGUMENTS = ("RDI", "RSI", "RDX", "R10", "R8", "R9")
_OLD_GATE = 0x80
_SIGNALS = {
    0: signal.SIGFPE, 1: signal.SIGTRAP, 3: signal.SIGTRAP, 6: signal.SIGILL, 16: signal.SIGFPE,
    17: signal.SIGBUS, 19: signal.SIGFPE,
}  # fmt: skip
"""By the vector (SDM volume 3A, table 6-1; arch/x86/kernel/traps.c); the others are SIGSEGV."""
_MORE_FEATURES = 1 << 0 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23
"""Leaf 1, ECX: sse3, ssse3, cx16, sse4.1, sse4.2, popcnt: with these it is an x86-64-v2 (psABI, "Micro-
Architecture Levels"), for which some distributions compile. No AVX, which Unicorn lacks."""


def _leaf(number: int) -> tuple[int, int, int, int]:
    eax, ebx, ecx, edx = cpuid_leaf(number)
    return (eax, ebx, ecx | _MORE_FEATURES, edx) if number == 1 else (eax, ebx, ecx, edx)


CAPABILITIES = _leaf(1)[3]
"""AT_HWCAP: EDX of leaf 1."""


class ProgramCpu(Cpu):
    """See the module's text. A run ends at each system call, so that memory may be mapped anew."""

    def __init__(self) -> None:
        super().__init__()
        self._at_call = False
        self._vector = -1
        self.uc.hook_add(UC_HOOK_INSN, self._on_call, None, 1, 0, UC_X86_INS_SYSCALL)
        self.uc.hook_add(UC_HOOK_INSN, self._on_cpuid, None, 1, 0, UC_X86_INS_CPUID)
        self.uc.hook_add(UC_HOOK_INTR, self._on_interrupt)

    def start(self, entry: int, stack: int) -> None:
        """Stand at the first instruction."""
        self.write_register("RIP", entry)
        self.write_register("RSP", stack)

    def run(self) -> int:
        """Run to the next system call: 0; or to what the program cannot survive: the signal that ends it."""
        while True:
            self._at_call, self._vector = False, -1
            try:
                self.uc.emu_start(self.read_register("RIP"), 0)
            except UcError as error:
                return signal.SIGILL if error.errno == UC_ERR_INSN_INVALID else signal.SIGSEGV
            if self._at_call:
                return 0
            if self._vector != _OLD_GATE:  # a 32-bit call, which fails as the filter has it
                return _SIGNALS.get(self._vector, signal.SIGSEGV)
            self.write_register("RAX", -errno.ENOSYS & U64)

    @property
    def arguments(self) -> tuple[int, ...]:
        """Those of the system call."""
        return tuple(map(self.read_register, _ARGUMENTS))

    def _on_call(self, uc: Uc, _data: object) -> None:
        self._at_call = True
        uc.emu_stop()

    def _on_interrupt(self, uc: Uc, vector: int, _data: object) -> None:
        self._vector = vector
        uc.emu_stop()

    def _on_cpuid(self, _uc: Uc, _data: object) -> int:
        values = _leaf(self.read_register("RAX") & 0xFFFF_FFFF)
        for name, value in zip(("RAX", "RBX", "RCX", "RDX"), values, strict=True):
            self.write_register(name, value)
        return 1

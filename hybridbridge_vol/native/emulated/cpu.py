"""The processor of an emulated program: it runs up to the next system call, or to what ends the program.

Code that Unicorn would run wrongly ends it as well (`machine.run_wrongly`). Each block is looked at when
Unicorn has translated it, before it runs for the first time.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import signal

import capstone
from unicorn import Uc, UcError
from unicorn.unicorn_const import (
    UC_ERR_INSN_INVALID,
    UC_HOOK_EDGE_GENERATED,
    UC_HOOK_INSN,
    UC_HOOK_INTR,
)
from unicorn.unicorn_py3.unicorn import uc_tb, uccallback, uclib
from unicorn.x86_const import UC_X86_INS_CPUID, UC_X86_INS_SYSCALL

from hybridbridge_vol.machine.cpu import MAX_INSTRUCTION_SIZE, Cpu
from hybridbridge_vol.machine.devices import cpuid_leaf
from hybridbridge_vol.machine.run_wrongly import SUSPECT, is_run_wrongly
from hybridbridge_vol.native.emulated.address_space import TOP
from hybridbridge_vol.units import PAGE_SIZE, U64

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
_JUMP = bytes.fromhex("eb00")
"""To what is behind it."""
_TRANSLATED = ctypes.CFUNCTYPE(None, *(ctypes.c_void_p,) * 4)
"""uc_hook_edge_gen_t (unicorn.h): the emulator, the block, the one before it, what the hook was given."""
_MAX_BLOCK = 1 << 16
"""Bytes: `uc_tb.size` has 16 bits."""


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
        self._sizes = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.refused: tuple[int, str] | None = None
        """Address and name of an instruction that would be run wrongly, once a run has ended there."""
        self._run_a_block()
        self._hook_translated()
        self.uc.hook_add(UC_HOOK_INSN, self._on_call, None, 1, 0, UC_X86_INS_SYSCALL)
        self.uc.hook_add(UC_HOOK_INSN, self._on_cpuid, None, 1, 0, UC_X86_INS_CPUID)
        self.uc.hook_add(UC_HOOK_INTR, self._on_interrupt)

    def _run_a_block(self) -> None:
        """Run one behind the memory of any program. An edge has two ends: until one block has come to its end
        Unicorn translates others without calling the hook (accel/tcg/cpu-exec.c, `tb_find`)."""
        self.uc.mem_map(TOP, PAGE_SIZE)
        self.uc.mem_write(TOP, _JUMP)
        self.uc.emu_start(TOP, TOP + len(_JUMP))
        self.uc.mem_unmap(TOP, PAGE_SIZE)

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
            if self.refused:
                return signal.SIGILL
            if self._at_call:
                return 0
            if self._vector != _OLD_GATE:  # a 32-bit call, which fails as the filter has it
                return _SIGNALS.get(self._vector, signal.SIGSEGV)
            self.write_register("RAX", -errno.ENOSYS & U64)

    @property
    def arguments(self) -> tuple[int, ...]:
        """Those of the system call."""
        return tuple(map(self.read_register, _ARGUMENTS))

    def _hook_translated(self) -> None:
        """Look at each block that is translated. Past the binding's own hook and `mem_read`, which cost twice
        as much: python3 has 50,000 blocks."""
        read, handle, at = uclib.uc_mem_read, self.uc._uch, uc_tb.from_address
        buffer, look_at = ctypes.create_string_buffer(_MAX_BLOCK), self._look_at

        @uccallback(self.uc, _TRANSLATED)  # type: ignore[untyped-decorator]
        def translated(_uc: Uc, block_at: int, _before_at: int, _key: object) -> None:
            block = at(block_at)
            size = block.size
            read(handle, block.pc, buffer, size)
            if SUSPECT.search(buffer, 0, size):
                look_at(block.pc, ctypes.string_at(buffer, size))

        self._translated = translated  # as long as the hook: the C side holds no reference
        self.uc._Uc__do_hook_add(UC_HOOK_EDGE_GENERATED, translated, 1, 0)

    def _look_at(self, vaddr: int, code: bytes) -> None:
        """Refuse a block with an instruction that would be run wrongly."""
        at = 0
        for _vaddr, size, name, _operands in self._sizes.disasm_lite(code, vaddr):
            if is_run_wrongly(code[at : at + size]):
                self._refuse(vaddr + at, name)
                return
            at += size
        if SUSPECT.search(code, at):  # behind what is unknown, the next instruction is not found
            self._refuse(vaddr + at, self._name_at(vaddr + at))

    def _refuse(self, vaddr: int, name: str) -> None:
        self.refused = vaddr, name
        self.uc.emu_stop()

    def _name_at(self, vaddr: int) -> str:
        """Of an instruction that is longer than Unicorn takes it to be."""
        for size in range(MAX_INSTRUCTION_SIZE, 0, -1):
            with contextlib.suppress(UcError):
                code = bytes(self.uc.mem_read(vaddr, size))
                found = (name for _vaddr, _size, name, _operands in self._sizes.disasm_lite(code, vaddr, 1))
                return next(found, "unknown instruction")
        return "unknown instruction"

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

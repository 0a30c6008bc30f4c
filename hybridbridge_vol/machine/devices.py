"""All the hardware Linux needs to boot with the command line of `trust.boot`: a console, two interrupt
controllers (PIC), CPUID and a time-stamp counter (TSC)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from unicorn import Uc
from unicorn.unicorn_const import UC_HOOK_INSN
from unicorn.unicorn_py3.arch import intel
from unicorn.unicorn_py3.unicorn import uccallback, uclib
from unicorn.x86_const import (
    UC_X86_INS_CPUID,
    UC_X86_INS_IN,
    UC_X86_INS_OUT,
    UC_X86_INS_RDTSC,
    UC_X86_REG_RAX,
    UC_X86_REG_RBX,
    UC_X86_REG_RCX,
    UC_X86_REG_RDX,
)

SERIAL_DATA = 0x3F8
SERIAL_LINE_STATUS = 0x3FD
SERIAL_TRANSMITTER_EMPTY = 0x60
PIC_COMMAND = (0x20, 0xA0)
PIC_DATA = (0x21, 0xA1)
PIC_INIT = 0x10
TIMER2_COUNT = 0x42
NMI_STATUS = 0x61
TIMER2_OUTPUT = 0x20
RTC_DATA = 0x71
TSC_STEP = 2000
"""Cycles the TSC advances at each reading while booting: delays and calibrations end, and every boot takes
the same path."""

_VENDOR_INTEL = (0x756E6547, 0x6C65746E, 0x49656E69)  # EBX, ECX, EDX of leaf 0, SDM volume 2A, CPUID
_FEATURES_EDX = 0x078BFBFF & ~(1 << 9)  # fpu vme de pse tsc msr pae mce cx8 ... fxsr sse sse2, no APIC
_FEATURES_ECX = 0x2001  # sse3, cx16: no popcnt, no xsave, no rdrand
_EXTENDED_EDX = 0x20100800  # syscall, nx, lm
_ADDRESS_BITS = 0x302E  # 48 virtual, 46 physical
_LA57_ADDRESS_BITS = 0x392E  # 57 virtual, 46 physical
_LA57 = 1 << 16  # leaf 7, ECX


def cpuid_leaf(leaf: int, levels: int = 4) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX, EDX of a plain 64-bit CPU that makes no kernel use a feature Unicorn lacks.

    `levels` is the number of paging levels the CPU offers (4 or 5).
    """
    maximum = 7 if levels == 5 else 1
    leaves = {
        0: (maximum, _VENDOR_INTEL[0], _VENDOR_INTEL[1], _VENDOR_INTEL[2]),
        1: (0x6F1, 0x800, _FEATURES_ECX, _FEATURES_EDX),
        0x80000000: (0x80000008, 0, 0, 0),
        0x80000001: (0, 0, 1, _EXTENDED_EDX),
        0x80000008: (_LA57_ADDRESS_BITS if levels == 5 else _ADDRESS_BITS, 0, 0, 0),
    }
    if levels == 5:
        leaves[7] = (0, 0, _LA57, 0)
    return leaves.get(leaf, (0, 0, 0, 0))


class TimeStampCounter:
    """What RDTSC answers: `value` in cycles, after it advanced by `step` (0: time stands still)."""

    def __init__(self, value: int = 0, step: int = TSC_STEP) -> None:
        self.value = value
        self.step = step


class Devices:
    """Port and instruction hooks on one emulator.

    `levels` is the number of paging levels the CPU offers. `console` collects what the kernel prints, whole
    lines without the newline; `on_line` is given each.
    """

    def __init__(
        self, uc: Uc, levels: int, tsc: TimeStampCounter, on_line: Callable[[str], None] | None = None
    ) -> None:
        self.tsc = tsc
        self._uc = uc
        self._levels = levels
        self._on_line = on_line
        self._line = bytearray()
        self._pic_masks = [0xFF, 0xFF]
        self._pic_init_words = [0, 0]
        self.console: list[str] = []
        uc.hook_add(UC_HOOK_INSN, self._port_in, None, 1, 0, UC_X86_INS_IN)
        uc.hook_add(UC_HOOK_INSN, self._port_out, None, 1, 0, UC_X86_INS_OUT)
        uc.hook_add(UC_HOOK_INSN, self._cpuid, None, 1, 0, UC_X86_INS_CPUID)
        self._hook_rdtsc()

    def _hook_rdtsc(self) -> None:
        # Unicorn 2.1.4's Python binding has no RDTSC hook; the C side takes a callback of CPUID's type.
        # Some kernel code reads the clock at every step: past the binding's own reg_write, which costs five
        # times as much.
        write, handle, word, tsc = uclib.uc_reg_write, self._uc._uch, ctypes.c_uint64(), self.tsc
        at = ctypes.byref(word)

        @uccallback(self._uc, intel.HOOK_INSN_CPUID_CFUNC)  # type: ignore[untyped-decorator]
        def rdtsc(_handle: object, _key: object) -> int:
            tsc.value += tsc.step
            word.value = tsc.value & 0xFFFFFFFF
            write(handle, UC_X86_REG_RAX, at)
            word.value = tsc.value >> 32 & 0xFFFFFFFF
            write(handle, UC_X86_REG_RDX, at)
            return 1

        self._rdtsc = rdtsc  # as long as the hook: the C side holds no reference
        self._uc._Uc__do_hook_add(UC_HOOK_INSN, rdtsc, 1, 0, ctypes.c_int(UC_X86_INS_RDTSC))

    @property
    def timer_unmasked(self) -> bool:
        """Whether the kernel lets IRQ 0 through the first PIC."""
        return not self._pic_masks[0] & 1

    def _port_in(self, _uc: Uc, port: int, size: int, _data: object) -> int:
        if port == SERIAL_LINE_STATUS:
            return SERIAL_TRANSMITTER_EMPTY
        if port in PIC_DATA:
            return self._pic_masks[PIC_DATA.index(port)]
        if port == NMI_STATUS:
            return TIMER2_OUTPUT
        if port in (RTC_DATA, TIMER2_COUNT):
            # a count that has run out already: quick_pit_calibrate (arch/x86/kernel/tsc.c) waits for all ones
            # to pass, 50,000 times
            return 0
        return (1 << (8 * size)) - 1

    def _port_out(self, _uc: Uc, port: int, _size: int, value: int, _data: object) -> None:
        value &= 0xFF
        if port == SERIAL_DATA:
            self._console_byte(value)
        elif port in PIC_COMMAND:
            if value & PIC_INIT:
                self._pic_init_words[PIC_COMMAND.index(port)] = 3
        elif port in PIC_DATA:
            chip = PIC_DATA.index(port)
            if self._pic_init_words[chip]:
                self._pic_init_words[chip] -= 1  # ICW2 to ICW4 of the 8259A follow the first word
            else:
                self._pic_masks[chip] = value

    def _console_byte(self, value: int) -> None:
        if value != 0x0A:
            self._line.append(value)
            return
        line = self._line.decode("latin-1").rstrip("\r")
        self._line.clear()
        self.console.append(line)
        if self._on_line:
            self._on_line(line)

    def _cpuid(self, uc: Uc, _data: object) -> int:
        values = cpuid_leaf(uc.reg_read(UC_X86_REG_RAX) & 0xFFFFFFFF, self._levels)
        registers = (UC_X86_REG_RAX, UC_X86_REG_RBX, UC_X86_REG_RCX, UC_X86_REG_RDX)
        for register, value in zip(registers, values, strict=True):
            uc.reg_write(register, value)
        return 1

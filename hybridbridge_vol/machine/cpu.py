"""The registers of one emulated x86-64 CPU, and its whole state as plain numbers that can be stored."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from unicorn import Uc
from unicorn import x86_const as x86
from unicorn.unicorn_const import UC_ARCH_X86, UC_MODE_64
from unicorn.unicorn_py3.unicorn import uclib

from hybridbridge_vol.machine.paging import FRAME_MASK

FS_BASE_MSR, GS_BASE_MSR, KERNEL_GS_BASE_MSR = 0xC0000100, 0xC0000101, 0xC0000102
EFER_MSR = 0xC0000080
MAX_INSTRUCTION_SIZE = 15
"""Bytes (SDM volume 2A, 2.3.11)."""

_STAR_MSR, _LSTAR_MSR, _SYSCALL_MASK_MSR = 0xC0000081, 0xC0000082, 0xC0000084
_TSC_AUX_MSR, _PAT_MSR = 0xC0000103, 0x277


@cache
def _number(name: str) -> int:
    number: int = getattr(x86, "UC_X86_REG_" + name)
    return number


# The order of the registers in a stored state: what the store of trusted kernels holds depends on it.
_GENERAL = tuple(
    map(
        _number,
        [
            "RAX",
            "RBX",
            "RCX",
            "RDX",
            "RSI",
            "RDI",
            "RBP",
            "RSP",
            "R8",
            "R9",
            "R10",
            "R11",
            "R12",
            "R13",
            "R14",
            "R15",
            "RIP",
            "EFLAGS",
        ],
    )
)
_MSRS = (
    EFER_MSR,
    _STAR_MSR,
    _LSTAR_MSR,
    _SYSCALL_MASK_MSR,
    FS_BASE_MSR,
    GS_BASE_MSR,
    KERNEL_GS_BASE_MSR,
    _TSC_AUX_MSR,
    _PAT_MSR,
)
_SELECTORS = tuple(map(_number, ["CS", "SS", "DS", "ES"]))
_CONTROL = ("CR0", "CR3", "CR4")
_TABLE_PARTS = 4
"""Of a segment register as Unicorn has it: selector, base, limit, flags."""
_STATE_SIZES = (len(_GENERAL), len(_MSRS), len(_SELECTORS), len(_CONTROL), *(_TABLE_PARTS,) * 3)


class CpuState(NamedTuple):
    """A CPU's state: the values of the registers listed above, in that order."""

    general: tuple[int, ...]
    msrs: tuple[int, ...]
    selectors: tuple[int, ...]
    control: tuple[int, ...]
    gdtr: tuple[int, ...]
    idtr: tuple[int, ...]
    tr: tuple[int, ...]

    @classmethod
    def from_record(cls, record: Mapping[str, Sequence[int]]) -> CpuState:
        """Read what `record` gave. KeyError, TypeError or ValueError if it is not a state of this CPU."""
        columns = []
        for name, size in zip(cls._fields, _STATE_SIZES, strict=True):
            values = tuple(record[name])
            if len(values) != size or not all(isinstance(value, int) for value in values):
                raise ValueError(f"not a CPU state: {name}")
            columns.append(values)
        return cls(*columns)

    def record(self) -> dict[str, Sequence[int]]:
        """The state as plain lists of numbers, by name."""
        return {name: list(values) for name, values in self._asdict().items()}

    @property
    def gs_base(self) -> int:
        """Where GS leads: in kernel mode the CPU's area of per-CPU variables (virtual address)."""
        return self.msrs[_MSRS.index(GS_BASE_MSR)]

    @property
    def root_paddr(self) -> int:
        """Physical address of the top-level page table."""
        return self.control[_CONTROL.index("CR3")] & FRAME_MASK


class Cpu:
    """One emulated CPU. `uc` is the emulator, for hooks and contexts."""

    def __init__(self) -> None:
        self.uc = Uc(UC_ARCH_X86, UC_MODE_64)
        self.uc.ctl_set_cpu_model(x86.UC_CPU_X86_HASWELL)
        self._word = ctypes.c_uint64()
        self._word_at = ctypes.byref(self._word)

    # Calls read and write a dozen registers each; the binding's own functions cost ten times as much.

    def read_register(self, name: str) -> int:
        """A register of up to 64 bits by its name in upper case ("RAX", "CR3")."""
        self._word.value = 0
        uclib.uc_reg_read(self.uc._uch, _number(name), self._word_at)
        return self._word.value

    def write_register(self, name: str, value: int) -> None:
        """Set a register of up to 64 bits by its name in upper case."""
        self._word.value = value
        uclib.uc_reg_write(self.uc._uch, _number(name), self._word_at)

    def read_msr(self, number: int) -> int:
        """A model-specific register."""
        return int(self.uc.reg_read(x86.UC_X86_REG_MSR, number))

    def write_msr(self, number: int, value: int) -> None:
        """Set a model-specific register."""
        self.uc.reg_write(x86.UC_X86_REG_MSR, (number, value))

    def table_base(self, name: str) -> int:
        """Virtual address of the table that a system register ("IDTR", "TR") names."""
        return int(self.uc.reg_read(_number(name))[1])

    def save_state(self) -> CpuState:
        """The CPU's state, to be stored and given to another machine."""
        read = self.uc.reg_read
        return CpuState(
            general=tuple(read(register) for register in _GENERAL),
            msrs=tuple(self.read_msr(number) for number in _MSRS),
            selectors=tuple(read(register) for register in _SELECTORS),
            control=tuple(self.read_register(name) for name in _CONTROL),
            gdtr=tuple(read(x86.UC_X86_REG_GDTR)),
            idtr=tuple(read(x86.UC_X86_REG_IDTR)),
            tr=tuple(read(x86.UC_X86_REG_TR)),
        )

    def load_state(self, state: CpuState) -> None:
        """Take over a saved state. The tables that it points to must be in memory."""
        write = self.uc.reg_write
        write(x86.UC_X86_REG_GDTR, state.gdtr)
        write(x86.UC_X86_REG_IDTR, state.idtr)
        cr0, cr3, cr4 = state.control
        self.write_register("CR4", cr4)
        self.write_register("CR3", cr3)
        self.write_msr(EFER_MSR, state.msrs[0])
        self.write_register("CR0", cr0)
        for register, value in zip(_SELECTORS, state.selectors, strict=True):
            write(register, value)
        for number, value in zip(_MSRS[1:], state.msrs[1:], strict=True):
            self.write_msr(number, value)
        write(x86.UC_X86_REG_TR, state.tr)
        for register, value in zip(_GENERAL, state.general, strict=True):
            write(register, value)

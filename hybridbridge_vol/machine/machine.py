"""One emulated x86-64 CPU over a `PhysicalMemory`: registers, virtual memory, exceptions, runs.

Unicorn delivers no exception by itself. A run ends at each one; `Machine.run` asks its `exception_filter`
what to do: the address space may have been completed on demand (go on), the kernel may want it delivered
through its IDT, or the run may end there.
"""

from __future__ import annotations

import ctypes
import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from unicorn import Uc, UcError
from unicorn import x86_const as x86
from unicorn.unicorn_const import (
    UC_ARCH_X86,
    UC_HOOK_INSN_INVALID,
    UC_HOOK_INTR,
    UC_MODE_64,
    UC_PROT_ALL,
)
from unicorn.unicorn_py3.unicorn import uclib

from hybridbridge_vol.machine import paging, quirks
from hybridbridge_vol.machine.devices import Devices
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory, page_up
from hybridbridge_vol.machine.watchdog import Watchdog
from hybridbridge_vol.units import U64

VECTOR_DEBUG, VECTOR_BREAKPOINT, VECTOR_INVALID_OPCODE, VECTOR_GENERAL_PROTECTION, VECTOR_PAGE_FAULT = (
    1,
    3,
    6,
    13,
    14,
)
_ERROR_CODE_VECTORS = frozenset((8, 10, 11, 12, 13, 14, 17, 21))
_TIMER_VECTOR = 0x30  # ISA IRQ 0, arch/x86/include/asm/irq_vectors.h
_FLAG_TRAP, _FLAG_INTERRUPT, _FLAG_NESTED, _FLAG_RESUME = 1 << 8, 1 << 9, 1 << 14, 1 << 16

FS_BASE_MSR, GS_BASE_MSR = 0xC0000100, 0xC0000101
EFER_MSR = 0xC0000080

_GENERAL = tuple(
    getattr(x86, "UC_X86_REG_" + name)
    for name in [
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
    ]
)
_MSRS = (
    EFER_MSR,
    0xC0000081,
    0xC0000082,
    0xC0000084,
    FS_BASE_MSR,
    GS_BASE_MSR,
    0xC0000102,
    0xC0000103,
    0x277,
)
_SELECTORS = tuple(getattr(x86, "UC_X86_REG_" + name) for name in ["CS", "SS", "DS", "ES"])
_ARGUMENTS = ("RDI", "RSI", "RDX", "RCX", "R8", "R9")


@cache
def _number(name: str) -> int:
    number: int = getattr(x86, "UC_X86_REG_" + name)
    return number


class Verdict(enum.Enum):
    """What to do about an exception."""

    RESUME = enum.auto()  # its cause is gone: run the instruction again
    DELIVER = enum.auto()  # push a frame and enter the kernel's handler
    STOP = enum.auto()  # end the run


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended.

    `kind` is "returned" (reached its return address), "exception", "halted" (`hlt`: nothing to do but wait),
    "budget" (cut off; the state is not consistent), "emulator" (Unicorn gave up). `rip` is where, as a
    virtual address; `vector` and `cr2` belong to exceptions; `detail` is Unicorn's own word.
    """

    kind: str
    rip: int
    vector: int | None = None
    cr2: int = 0
    detail: str = ""


ExceptionFilter = Callable[[int, int, int], Verdict]
"""(vector, rip, cr2) -> verdict."""


def deliver_everything(_vector: int, _rip: int, _cr2: int) -> Verdict:
    """The filter of a booting kernel: it has handlers for all it does."""
    return Verdict.DELIVER


class Machine:
    """See the module's text. `memory` may grow by `place` while the machine lives."""

    def __init__(self, levels: int = 4, on_line: Callable[[str], None] | None = None) -> None:
        self.levels = levels
        self.memory = PhysicalMemory()
        self.uc = Uc(UC_ARCH_X86, UC_MODE_64)
        self.uc.ctl_set_cpu_model(x86.UC_CPU_X86_QEMU64)
        self.devices = Devices(self.uc, levels, on_line)
        self.exception_filter: ExceptionFilter = deliver_everything
        self.exceptions_delivered = 0
        self._pending: int | None = None
        self._runs = 0
        self._watchdog = Watchdog(self.uc.emu_stop)
        self._scratch = self.uc.context_save()
        self._word = ctypes.c_uint64()
        self._word_at = ctypes.byref(self._word)
        self._stack_word = (0, 0)
        self.uc.hook_add(UC_HOOK_INTR, self._on_interrupt)
        self.uc.hook_add(UC_HOOK_INSN_INVALID, self._on_invalid)
        # No hook on memory, not even on unmapped memory: where one may be called, each store takes Unicorn's
        # slow path (notdirty_write, accel/tcg/cputlb.c), and all runs take half as long again.

    def rest(self) -> None:
        """End the watchdog's thread; the next run starts it again."""
        self._watchdog.rest()

    def release(self) -> None:
        """As `rest`, and let the emulator and all memory go: the machine must not be used any more.

        They are let go here, and not when Python finds them unused: the callbacks refer to the machine and
        the machine to them, and until such a circle is collected many sessions may have come and gone.
        """
        self.rest()
        self.uc._Uc__finalizer()
        self.uc._callbacks.clear()
        self.exception_filter = deliver_everything
        self.memory = PhysicalMemory()

    def place(self, paddr: int, mapping: HostMapping, protection: int = UC_PROT_ALL) -> None:
        """Put host memory at a guest-physical address, for the emulator and for Python."""
        self.uc.mem_map_ptr(paddr, mapping.size, protection, mapping.address)
        self.memory.place(paddr, mapping)

    def place_rounded(self, paddr: int, mapping: HostMapping) -> None:
        """`place` for a mapping whose last page is partly filled (the end of a file): the emulator sees all
        of it."""
        self.uc.mem_map_ptr(paddr, page_up(mapping.size), UC_PROT_ALL, mapping.address)
        self.memory.place(paddr, mapping)

    # --- hooks: they only take note; the loop in `run` decides -------------------------------------------

    def _on_interrupt(self, uc: Uc, number: int, _data: object) -> None:
        self._pending = number
        uc.emu_stop()

    def _on_invalid(self, uc: Uc, _data: object) -> bool:
        self._pending = VECTOR_INVALID_OPCODE
        uc.emu_stop()
        return True

    # --- registers ----------------------------------------------------------------------------------------

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

    def save_state(self) -> dict[str, list[int]]:
        """The CPU's state as plain numbers, to be stored and given to `load_state` of another machine."""
        read = self.uc.reg_read
        return {
            "general": [read(register) for register in _GENERAL],
            "msrs": [self.read_msr(number) for number in _MSRS],
            "selectors": [read(register) for register in _SELECTORS],
            "control": [self.read_register(name) for name in ("CR0", "CR3", "CR4")],
            "gdtr": list(read(x86.UC_X86_REG_GDTR)),
            "idtr": list(read(x86.UC_X86_REG_IDTR)),
            "tr": list(read(x86.UC_X86_REG_TR)),
        }

    def load_state(self, state: dict[str, list[int]]) -> None:
        """Take over what `save_state` gave. The tables that the state points to must be in memory."""
        write = self.uc.reg_write
        write(x86.UC_X86_REG_GDTR, tuple(state["gdtr"]))
        write(x86.UC_X86_REG_IDTR, tuple(state["idtr"]))
        cr0, cr3, cr4 = state["control"]
        self.write_register("CR4", cr4)
        self.write_register("CR3", cr3)
        self.write_msr(EFER_MSR, state["msrs"][0])
        self.write_register("CR0", cr0)
        for register, value in zip(_SELECTORS, state["selectors"], strict=True):
            write(register, value)
        for number, value in zip(_MSRS[1:], state["msrs"][1:], strict=True):
            self.write_msr(number, value)
        write(x86.UC_X86_REG_TR, tuple(state["tr"]))
        for register, value in zip(_GENERAL, state["general"], strict=True):
            write(register, value)

    # --- virtual memory -----------------------------------------------------------------------------------

    def translate(self, vaddr: int) -> paging.Translation | None:
        """Walk the current page tables; None where nothing is mapped."""
        return paging.walk(self.memory.read_u64, self.read_register("CR3"), vaddr, self.levels)

    def _paddr(self, vaddr: int) -> int:
        translation = self.translate(vaddr)
        if translation is None and self.exception_filter(VECTOR_PAGE_FAULT, 0, vaddr) is Verdict.RESUME:
            translation = self.translate(vaddr)
        if translation is None:
            raise UnmappedVirtual(vaddr)
        return translation.paddr

    def read(self, vaddr: int, size: int) -> bytes:
        """`size` bytes at a virtual address; `UnmappedVirtual` where nothing is mapped."""
        read = self.memory.read
        return b"".join(read(self._paddr(piece), length) for piece, length in paging.pages(vaddr, size))

    def write(self, vaddr: int, data: bytes) -> None:
        """Store `data` at a virtual address, whatever its protection; `UnmappedVirtual` where nothing is
        mapped."""
        done = 0
        for piece, length in paging.pages(vaddr, len(data)):
            self.memory.write(self._paddr(piece), data[done : done + length])
            done += length

    def read_u64(self, vaddr: int) -> int:
        """The 64-bit word at a virtual address."""
        return int.from_bytes(self.read(vaddr, 8), "little")

    def write_u64(self, vaddr: int, value: int) -> None:
        """Store a 64-bit word at a virtual address."""
        self.write(vaddr, value.to_bytes(8, "little"))

    def flush_translations(self) -> None:
        """Make the processor see changed page tables: CR3 is loaded again (SDM volume 3A, 4.10.4.1)."""
        self.write_register("CR3", self.read_register("CR3"))

    # --- running ------------------------------------------------------------------------------------------

    def run(self, rip: int, until: int, budget_seconds: float) -> Stop:
        """Run from `rip` until it equals `until` (virtual addresses), handling exceptions by the filter.

        `until` is compiled into translated code: use one and the same for all runs of a machine.
        After a "budget" stop the state is not to be trusted.
        """
        self._runs += 1
        if self._runs & (self._runs - 1) == 0:
            # Unicorn's TLB has 256 entries and grows only when it is flushed while most are in use
            # (tlb_mmu_resize_locked, accel/tcg/cputlb.c): so at the 1st, 2nd, 4th, 8th ... run.
            self.flush_translations()
        self._watchdog.arm(budget_seconds)
        try:
            stop = self._run(rip, until)
        finally:
            expired = self._watchdog.disarm()
        if expired and stop.kind != "returned":
            return Stop("budget", stop.rip)
        return stop

    def _run(self, rip: int, until: int) -> Stop:
        while True:
            self._pending = None
            try:
                self.uc.emu_start(rip, until)
            except UcError as error:
                return Stop("emulator", self.read_register("RIP"), detail=str(error))
            rip = self.read_register("RIP")
            vector = self._pending
            if vector is None:
                if rip == until:
                    return Stop("returned", rip)
                if self._timer_wanted():
                    self.deliver(_TIMER_VECTOR)
                    rip = self.read_register("RIP")
                    continue
                return Stop("halted", rip)
            cr2 = self.read_register("CR2") if vector == VECTOR_PAGE_FAULT else 0
            verdict = self.exception_filter(vector, rip, cr2)
            if verdict is Verdict.STOP:
                quirks.forget_exception(self.uc, self._scratch)
                return Stop("exception", rip, vector, cr2)
            quirks.forget_exception(self.uc, self._scratch)
            if verdict is Verdict.DELIVER:
                self.deliver(vector)
            rip = self.read_register("RIP")

    def _timer_wanted(self) -> bool:
        """A kernel that halts with interrupts on and the timer unmasked waits for a tick."""
        return bool(self.read_register("EFLAGS") & _FLAG_INTERRUPT) and self.devices.timer_unmasked

    def deliver(self, vector: int) -> None:
        """Push an exception frame and enter the IDT's handler (SDM volume 3A, 6.14 "64-bit mode")."""
        gate = self.read(self.uc.reg_read(x86.UC_X86_REG_IDTR)[1] + 16 * vector, 12)
        low, selector, ist, kind, middle, high = struct.unpack("<HHBBHI", gate)
        rsp, flags = self.read_register("RSP"), self.read_register("EFLAGS")
        cs = self.read_register("CS")
        stack = rsp
        if ist & 7:
            stack = self.read_u64(self.uc.reg_read(x86.UC_X86_REG_TR)[1] + 0x24 + 8 * ((ist & 7) - 1))
        elif cs & 3:
            stack = self.read_u64(self.uc.reg_read(x86.UC_X86_REG_TR)[1] + 4)
        frame = struct.pack("<5Q", self.read_register("RIP"), cs, flags, rsp, self.read_register("SS"))
        if vector in _ERROR_CODE_VECTORS:
            frame = struct.pack("<Q", self._error_code(vector)) + frame
        stack = (stack & ~15) - len(frame)
        self.write(stack, frame)
        cleared = _FLAG_TRAP | _FLAG_NESTED | _FLAG_RESUME | (_FLAG_INTERRUPT if kind & 0xF == 0xE else 0)
        self.write_register("RSP", stack)
        self.write_register("EFLAGS", flags & ~cleared)
        self.write_register("CS", selector)
        self.write_register("RIP", low | middle << 16 | high << 32)
        self.exceptions_delivered += 1

    def _error_code(self, vector: int) -> int:
        """Page-fault error code as far as a kernel-mode access tells it apart (SDM volume 3A, 4.7)."""
        if vector != VECTOR_PAGE_FAULT:
            return 0
        cr2 = self.read_register("CR2")
        code = 3 if paging.walk(self.memory.read_u64, self.read_register("CR3"), cr2, self.levels) else 0
        return code | (16 if cr2 == self.read_register("RIP") else 0)

    def set_arguments(self, arguments: tuple[int, ...]) -> None:
        """Put the arguments of a call where the System V ABI has them."""
        for name, value in zip(_ARGUMENTS, arguments, strict=False):
            self.write_register(name, value & U64)

    def call(
        self, function_vaddr: int, arguments: tuple[int, ...], stack_vaddr: int, until: int, seconds: float
    ) -> Stop:
        """Call a kernel function by the System V ABI; RAX holds the answer if the stop is "returned".

        `stack_vaddr` is the stack pointer before the call, 16-byte aligned; `until` the return address.
        """
        self.set_arguments(arguments)
        if self._stack_word[0] != stack_vaddr - 8:  # the proxy task's stack does not move
            self._stack_word = (stack_vaddr - 8, self._paddr(stack_vaddr - 8))
        self.memory.write_u64(self._stack_word[1], until)
        self.write_register("RSP", stack_vaddr - 8)
        return self.run(function_vaddr, until, seconds)


class UnmappedVirtual(Exception):
    """Python asked for a virtual address that the current page tables do not map."""

    def __init__(self, vaddr: int) -> None:
        super().__init__(f"nothing is mapped at virtual address {vaddr:#x}")
        self.vaddr = vaddr

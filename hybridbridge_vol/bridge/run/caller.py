"""Calls into the trusted kernel by its proxy task: functions, system calls, user memory, and rolling back
what goes wrong."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.physical_map import USER_PADDR
from hybridbridge_vol.bridge.run.fast_with_fallback import Hybrid, Mode
from hybridbridge_vol.bridge.run.rollback import Mark
from hybridbridge_vol.errors import BootError, CallRolledBack, NotMemoized
from hybridbridge_vol.machine.machine import Stop, UnmappedVirtual
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.paging import ACCESSED, NO_EXECUTE, USER, WRITABLE
from hybridbridge_vol.units import U64

CALL_SECONDS = 10.0
"""Processor time that one call may take. The longest honest ones (large /proc files of busy machines) take
well under a second, smaps of a process that has a hundred gigabytes in pages of 4 KiB some seconds."""

LEAST_CALL_SECONDS = 2.0
"""In an image taken while the machine ran, locks are held and objects are let go for ever, and more than one
call waits for them: after each that was cut off the next may take half as long, but no less than this."""

PROGRAM_SECONDS = 2.0
"""The same for many small calls together, which take hundredths of a second; they are made again singly."""

USER_VADDR = 0x1000_0000
USER_SIZE = 4 << 20
"""The proxy task's user memory: paths and buffers of its system calls."""

_PT_REGS_SIZE = 168
_PT_REGS_BELOW_TOP = 0x200
_STACK_BELOW_TOP = 0x400
# struct pt_regs, arch/x86/include/asm/ptrace.h: where a system call's arguments are
_PT_REGS_ARGUMENTS = (112, 104, 96, 56, 72, 64)  # di, si, dx, r10, r8, r9


class Caller:
    """Makes calls on a bridge and rolls back those that do not end well.

    Between `__init__` and `mark` there is nothing to go back to; afterwards a failed call leaves no trace.
    """

    def __init__(self, bridge: Bridge, mode: Mode = Mode.AUTO) -> None:
        self.bridge = bridge
        self._user = HostMapping.anonymous(USER_SIZE)
        bridge.machine.place(USER_PADDR, self._user)
        self.hybrid = Hybrid(bridge, mode, range(USER_PADDR, USER_PADDR + USER_SIZE))
        self.machine = self.hybrid.machine
        self._top = self.machine.read_register("RSP")
        self._pt_regs_paddr: int | None = None
        self._mark: Mark | None = None
        self._seconds = CALL_SECONDS
        self.generation = 0
        """How often memory went back to the mark: descriptors of an earlier generation are not open."""
        self._entries: dict[tuple[str, str], int] = {}
        for offset in range(0, USER_SIZE, 2 << 20):
            flags = WRITABLE | USER | ACCESSED | NO_EXECUTE
            bridge.space.builder.map_page(USER_VADDR + offset, USER_PADDR + offset, flags, 21)
        self.machine.flush_translations()

    def mark(self) -> None:
        """From here on a failed call goes back to this moment."""
        pages = self.bridge.image_pages
        regions = [(self.bridge.ram, [(0, self.bridge.ram.size)])]
        regions += [(mapping, pages.touched(paddr, mapping)) for paddr, mapping in pages.mappings]
        self._mark = Mark(self.machine, regions)

    def roll_back(self) -> None:
        """Go back to the marked moment."""
        if self._mark is not None:
            self._mark.restore()
            self.bridge.image_pages.refill()
            self.hybrid.forget_labels()
            self.generation += 1

    def _rolled_back(self, label: str) -> None:
        self.hybrid.statistics.of(label).rolled_back += 1
        self.roll_back()

    def call(self, function_vaddr: int, *arguments: int, label: str = "call") -> int:
        """Call a kernel function; its answer as a signed 64-bit number. CallRolledBack if it does not
        return."""
        try:
            stop = self.hybrid.call(
                function_vaddr,
                arguments,
                self._top - _STACK_BELOW_TOP,
                self.bridge.boot.return_vaddr,
                self._seconds,
                label,
            )
        except NotMemoized:
            self._rolled_back(label)
            raise
        except UnmappedVirtual as error:
            self._rolled_back(label)
            raise CallRolledBack(label, f"no memory at {error.vaddr:#x}") from None
        if stop.kind != "returned":
            reason = self.explain(stop)
            self._rolled_back(label)
            if stop.kind == "budget":
                self._seconds = max(LEAST_CALL_SECONDS, self._seconds / 2)
            raise CallRolledBack(label, reason)
        answer = self.machine.read_register("RAX")
        return answer - (1 << 64) if answer >> 63 else answer

    def syscall(self, name: str, *arguments: int, side: str = "home", label: str = "") -> int:
        """Make a system call as the proxy task; the kernel's answer, negative errno included.

        `side` "twin" enters the twin's copy: for calls that answer from the kernel's own variables.
        """
        registers = bytearray(_PT_REGS_SIZE)
        for offset, value in zip(_PT_REGS_ARGUMENTS, arguments, strict=False):
            struct.pack_into("<Q", registers, offset, value & U64)
        place = self._top - _PT_REGS_BELOW_TOP
        if self._pt_regs_paddr is None:
            translation = self.machine.translate(place)
            if translation is None:
                raise UnmappedVirtual(place)
            self._pt_regs_paddr = translation.paddr
        self.machine.memory.write(self._pt_regs_paddr, registers)
        self.hybrid.wrote(self._pt_regs_paddr, len(registers))
        return self.call(self.entry(name, side), place, label=label or name)

    def entry(self, name: str, side: str) -> int:
        """The virtual address of a system call's function; BootError if there is none."""
        entry = self._entries.get((name, side))
        if entry is None:
            resolve = self.bridge.home if side == "home" else self.bridge.snapshot
            try:
                entry = resolve("__x64_sys_" + name)
            except KeyError:
                raise BootError(f"{self.bridge.kernel.name}: this kernel has no system call {name}") from None
            self._entries[name, side] = entry
        return entry

    def run_program(self, loop_vaddr: int, first_vaddr: int, names: list[str]) -> bool:
        """Run a program (see `bridge.program`) of calls of these names on FAST-BRIDGE. False if it was rolled
        back."""
        arguments = (first_vaddr, len(names))
        stack, until = self._top - _STACK_BELOW_TOP, self.bridge.boot.return_vaddr
        if self.hybrid.call_together(loop_vaddr, arguments, stack, until, PROGRAM_SECONDS, names):
            return True
        self.roll_back()
        return False

    def explain(self, stop: Stop) -> str:
        """Why a run ended, in one phrase."""
        where = self.bridge.describe(stop.rip)
        if stop.kind == "exception":
            names = {
                13: "general protection fault",
                14: "page fault",
                6: "invalid instruction",
                3: "breakpoint",
            }
            what = names.get(stop.vector or 0, f"exception {stop.vector}")
            if stop.vector == 14 and stop.cr2 == stop.rip:
                return self._foreign_code(stop.rip)
            return f"{what} in {where}" + (f" at {stop.cr2:#x}" if stop.vector == 14 else "")
        if stop.kind == "forged":
            return stop.detail
        if stop.kind == "halted":
            return f"the call would wait for something that never comes ({where})"
        if stop.kind == "budget":
            return f"budget of {self._seconds:.0f} s exceeded in {where}"
        return f"stopped in {where}: {stop.detail}"

    def _foreign_code(self, vaddr: int) -> str:
        modules = self.bridge.space.modules
        name = modules.name_at(vaddr)
        if name is None:
            return f"code outside of the trusted kernel and its modules at {vaddr:#x}"
        if not modules.has_file(name):
            return f"needs code of module {name}, of which no trusted file is stored: give its package to 'hb trust add'"
        return f"needs code of module {name}, which is not in the image as in its trusted file ({vaddr:#x})"

    # --- user memory --------------------------------------------------------------------------------------

    def put(self, data: bytes, offset: int = 0) -> int:
        """Store bytes in user memory; their virtual address."""
        self._user.view[offset : offset + len(data)] = data
        self.hybrid.wrote(USER_PADDR + offset, len(data))
        return USER_VADDR + offset

    def get(self, offset: int, size: int) -> bytes:
        """Bytes of user memory."""
        return bytes(self._user.view[offset : offset + size])

    def labels(self, offset: int, size: int) -> memoryview:
        """The taint labels of bytes of user memory, after a call in mode `slow`."""
        return self.hybrid.slow.engine.labels(USER_PADDR + offset, size)

    def frames(self) -> Iterator[int]:
        """Return addresses that may lie on the proxy task's stack, innermost first: for diagnosis only."""
        rsp = self.machine.read_register("RSP")
        for place in range(rsp, min(self._top, rsp + 4096), 8):
            try:
                word = self.machine.read_u64(place)
            except UnmappedVirtual:
                return
            if self.bridge.describe(word)[:4] in ("home", "twin"):
                yield word

"""Calls into the trusted kernel by its proxy task: functions, system calls, user memory.

The life of a `Caller`, which is written here because its users depend on it:

1. It is made. Until `mark` there is nothing to go back to: a call that fails now leaves the kernel in a state
   that cannot be used, and the session must end.
2. What is to stay is set up by calls (mounts, namespaces); then `mark`. `mark` again after further set-up,
   before which `without_sockets` goes back to where no program's socket is open: one that stays would keep
   its address.
3. Any calls. One that does not end well takes all memory back to the last mark, and raises CallRolledBack.
   All that calls have changed since then is lost, open descriptors above all: `generation` counts how often
   that happened, and whoever keeps a descriptor keeps the generation that it was opened in with it.

Labels of an answer (`labels`) are those of the last call in mode `slow`: ask for them before the next call.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NewType

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.physical_map import USER_PADDR
from hybridbridge_vol.bridge.run.budget import PROGRAM_SECONDS, CallBudget
from hybridbridge_vol.bridge.run.fast_with_fallback import Hybrid, Mode
from hybridbridge_vol.bridge.run.invocation import Invocation
from hybridbridge_vol.bridge.run.rollback import Mark
from hybridbridge_vol.bridge.run.stop_reasons import explain_stop, where_stopped
from hybridbridge_vol.bridge.run.user_memory import USER_PADDRS, UserMemory
from hybridbridge_vol.errors import BootError, CallRolledBack, LimitReached, NotMemoized
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.units import U64

Generation = NewType("Generation", int)
"""How often a caller's memory went back to the mark."""

_PT_REGS_SIZE = 168
_PT_REGS_BELOW_TOP = 0x200
_STACK_BELOW_TOP = 0x400
"""Below the top of the proxy task's stack: its system calls' registers, and where the stack of calls is."""
_WORDS_BELOW_TOP = 0x140
"""Between these registers and the top."""
_PT_REGS_ARGUMENTS = (112, 104, 96, 56, 72, 64)
"""Offsets of di, si, dx, r10, r8, r9 in struct pt_regs (arch/x86/include/asm/ptrace.h)."""


class Caller:
    """See the module's text. `machine` is the one that calls begin and end on; `generation` is the current
    one."""

    def __init__(self, bridge: Bridge, mode: Mode = Mode.AUTO) -> None:
        self.bridge = bridge
        self._user = UserMemory(bridge)  # before `Hybrid`: SLOW-BRIDGE sees the memory that there is now
        self.hybrid = Hybrid(bridge, mode, USER_PADDRS)
        self.machine = self.hybrid.machine
        self._top = self.machine.read_register("RSP")
        self._pt_regs_paddr: int | None = None
        self._mark: Mark | None = None
        self._budget = CallBudget()
        self.generation = Generation(0)
        self._at_mark = False
        """Nothing was called since memory went back to the mark."""
        self._sockets_since: Generation | None = None
        """The generation in which sockets with an address were last opened among the snapshot's."""
        self._entries: dict[tuple[str, str], int] = {}
        self.machine.flush_translations()

    # --- the mark -----------------------------------------------------------------------------------------

    def mark(self) -> None:
        """From here on a failed call goes back to this moment."""
        pages = self.bridge.image_pages
        regions = [(self.bridge.ram, [(0, self.bridge.ram.size)])]
        added = self.bridge.space.modules.room.memory
        regions.append((added, [(0, added.size)]))
        regions += [(mapping, pages.touched(paddr, mapping)) for paddr, mapping in pages.mappings]
        self._mark = Mark(self.machine, regions)

    def roll_back(self) -> None:
        """Go back to the marked moment; nothing happens if there is none."""
        if self._mark is not None:
            self._mark.restore()
            self.bridge.space.link_again()
            self.hybrid.forget_labels()
            self.generation = Generation(self.generation + 1)
            self._at_mark = True

    def refuse_devices(self) -> None:
        """End what `space.devices.answer` began: memory goes back to the mark, as drivers may have kept what
        they read."""
        self.bridge.space.refuse_devices()
        self.roll_back()

    def opened_socket(self) -> None:
        """A program's socket stands among the snapshot's until memory goes back to the mark."""
        self._sockets_since = self.generation

    def without_sockets(self) -> None:
        """Go back to the mark if sockets of a program may be open."""
        if self._sockets_since == self.generation:
            self.roll_back()

    # --- calls --------------------------------------------------------------------------------------------

    def call(self, function_vaddr: int, *arguments: int, label: str = "call") -> int:
        """Call a kernel function; its answer as a signed 64-bit number.

        CallRolledBack if it does not return, NotMemoized in mode `fast` if FAST-BRIDGE has no memo for it; it
        was rolled back then. `label` names the call in messages and, by its first word, in statistics.
        """
        reason = ""
        seconds = self._seconds_for(label)
        try:
            stop = self.hybrid.call(self._invocation(function_vaddr, arguments, seconds), label)
            if stop.kind != "returned":
                reason = explain_stop(self.bridge, stop, seconds)
        except NotMemoized:
            self._throw_away(label)
            raise
        except UnmappedVirtual as error:
            self._throw_away(label)
            where = f"no memory at {error.vaddr:#x}"
            self.hybrid.statistics.failed(label, where)
            raise CallRolledBack(
                label, self.bridge.virtual_memory.why_unreadable(error.vaddr) or where
            ) from None
        if reason:
            self.hybrid.statistics.failed(label, where_stopped(self.bridge, stop))
            self._throw_away(label)
            if stop.kind == "budget" and seconds >= self._budget.seconds:
                self._budget.timed_out()
            raise CallRolledBack(label, reason)
        answer = self.machine.read_register("RAX")
        return answer - (1 << 64) if answer >> 63 else answer

    def _invocation(self, function_vaddr: int, arguments: tuple[int, ...], seconds: float) -> Invocation:
        stack, until = self._top - _STACK_BELOW_TOP, self.bridge.boot.return_vaddr
        return Invocation(function_vaddr, arguments, stack, until, seconds)

    def _seconds_for(self, label: str) -> float:
        """The processor time that a call may take. CallRolledBack if the answer that it is for has taken all
        that it may take; LimitReached."""
        allowance = self.bridge.allowance
        try:
            refusal = allowance.refusal()
            if refusal:
                raise CallRolledBack(label, refusal)
        except (CallRolledBack, LimitReached):
            if not self._at_mark:
                self.roll_back()
            raise
        self._at_mark = False
        return allowance.seconds_left(self._budget.seconds)

    def _throw_away(self, label: str) -> None:
        self.hybrid.statistics.of(label).rolled_back += 1
        self.roll_back()

    def syscall(self, name: str, *arguments: int, side: str = "home", label: str = "") -> int:
        """Make a system call as the proxy task; the kernel's answer, a negative errno included. Raises what
        `call` does, and BootError if the kernel does not have it.

        `side` "twin" enters the twin's copy: for calls that answer from the kernel's own variables.
        """
        registers = bytearray(_PT_REGS_SIZE)
        for offset, value in zip(_PT_REGS_ARGUMENTS, arguments, strict=False):
            struct.pack_into("<Q", registers, offset, value & U64)
        pt_regs = self._top - _PT_REGS_BELOW_TOP
        if self._pt_regs_paddr is None:
            translation = self.machine.translate(pt_regs)
            if translation is None:
                raise UnmappedVirtual(pt_regs)
            self._pt_regs_paddr = translation.paddr
        self.machine.memory.write(self._pt_regs_paddr, registers)
        self.hybrid.wrote(self._pt_regs_paddr, len(registers))
        return self.call(self.entry(name, side), pt_regs, label=label or name)

    def put_words(self, *words: int) -> int:
        """Store 64-bit words, up to 40, in the trusted kernel's memory; their virtual address. Those that are
        addresses of the snapshot's are followed as its pointers, which words of user memory are not."""
        vaddr = self._top - _WORDS_BELOW_TOP
        self.machine.write(vaddr, struct.pack(f"<{len(words)}Q", *words))
        return vaddr

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

    def run_program(self, loop_vaddr: int, first_vaddr: int, count: int, names: Mapping[str, int]) -> bool:
        """Run a program (`run.program`) on FAST-BRIDGE: a loop that is given where its `count` steps begin.
        `names` is how many calls of each name it makes. False if it was rolled back."""
        try:
            seconds = min(PROGRAM_SECONDS, self._seconds_for("program"))
        except CallRolledBack:
            return False
        call = self._invocation(loop_vaddr, (first_vaddr, count), seconds)
        if self.hybrid.call_together(call, names):
            return True
        self.roll_back()
        return False

    # --- user memory --------------------------------------------------------------------------------------

    def put(self, data: bytes, offset: int = 0) -> int:
        """Store bytes in user memory; their virtual address. ValueError if they do not fit."""
        vaddr = self._user.put(data, offset)
        self.hybrid.wrote(USER_PADDR + offset, len(data))
        return vaddr

    def get(self, offset: int, size: int) -> bytes:
        """Bytes of user memory."""
        return self._user.get(offset, size)

    def labels(self, offset: int, size: int) -> memoryview:
        """The taint labels of bytes of user memory, after a call in mode `slow`."""
        return self.hybrid.slow.engine.labels(USER_PADDR + offset, size)

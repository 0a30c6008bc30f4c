"""One emulated x86-64 CPU over a `PhysicalMemory`: virtual memory, exceptions, runs.

Unicorn delivers no exception by itself. A run ends at each one; the machine asks its exception handler what
to do: the address space may have been completed on demand (go on), the kernel may want it delivered through
its IDT, or the run may end there.

A machine's life: it is made over memory, which may grow by `place`; `load_state` (or the caller, register by
register) sets the CPU; then come runs. `rest` may be called between any two of them, `release` once, last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from unicorn import Uc, UcError
from unicorn.unicorn_const import UC_HOOK_INSN_INVALID, UC_HOOK_INTR, UC_PROT_ALL

from hybridbridge_vol.machine import exceptions, paging, quirks
from hybridbridge_vol.machine.cpu import Cpu
from hybridbridge_vol.machine.devices import Devices, TimeStampCounter
from hybridbridge_vol.machine.exceptions import VECTOR_INVALID_OPCODE, VECTOR_PAGE_FAULT, Verdict
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory, UnmappedPhysical, page_up
from hybridbridge_vol.machine.watchdog import Watchdog
from hybridbridge_vol.units import U64

_ARGUMENTS = ("RDI", "RSI", "RDX", "RCX", "R8", "R9")  # System V ABI


class Stop(NamedTuple):
    """Why a run ended.

    `kind` is "returned" (reached its return address), "exception", "halted" (`hlt`: nothing to do but wait),
    "budget" or "memory" (timed out, or took more than a run may, watchdog.py: the state is not consistent),
    "emulator" (Unicorn gave up). `rip` is where, as a virtual address; `vector` and `cr2` belong to
    exceptions; `detail` is Unicorn's own word.
    """

    kind: str
    rip: int
    vector: int | None = None
    cr2: int = 0
    detail: str = ""


ExceptionHandler = Callable[["Machine", int, int, int], Verdict]
"""(machine, vector, rip, cr2) -> verdict."""


def deliver_everything(_machine: Machine, _vector: int, _rip: int, _cr2: int) -> Verdict:
    """The handler of a booting kernel: it has its own for all it does."""
    return Verdict.DELIVER


class Machine(Cpu):
    """See the module's text. `levels` are those of its page tables (4 or 5); `on_line` is given each line
    that the kernel prints."""

    def __init__(
        self,
        levels: int = 4,
        memory: PhysicalMemory | None = None,
        handler: ExceptionHandler = deliver_everything,
        tsc: TimeStampCounter | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.memory = PhysicalMemory() if memory is None else memory
        self.devices = Devices(self.uc, levels, tsc or TimeStampCounter(), on_line)
        self.exceptions_delivered = 0
        self._handler = handler
        self._pending: int | None = None
        self._runs = 0
        self._watchdog = Watchdog(self.uc.emu_stop)
        self._scratch = self.uc.context_save()
        self._stack_word = (0, 0)
        self.uc.hook_add(UC_HOOK_INTR, self._on_interrupt)
        self.uc.hook_add(UC_HOOK_INSN_INVALID, self._on_invalid)
        # No hook on memory, not even on unmapped memory: where one may be called, each store takes Unicorn's
        # slow path (notdirty_write, accel/tcg/cputlb.c), and all runs take half as long again.
        for paddr, mapping in self.memory.regions():
            self._show(paddr, mapping)

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
        self._handler = deliver_everything
        self.memory = PhysicalMemory()

    def place(self, paddr: int, mapping: HostMapping) -> None:
        """Put host memory at a guest-physical address, for the emulator and for Python. Of a last page that
        is partly filled (the end of a file) the emulator sees all."""
        self.memory.place(paddr, mapping)
        self._show(paddr, mapping)

    def _show(self, paddr: int, mapping: HostMapping) -> None:
        self.uc.mem_map_ptr(paddr, page_up(mapping.size), UC_PROT_ALL, mapping.address)

    # --- hooks: they only take note; the loop in `run` decides -------------------------------------------

    def _on_interrupt(self, uc: Uc, number: int, _data: object) -> None:
        self._pending = number
        uc.emu_stop()

    def _on_invalid(self, uc: Uc, _data: object) -> bool:
        self._pending = VECTOR_INVALID_OPCODE
        uc.emu_stop()
        return True

    # --- virtual memory -----------------------------------------------------------------------------------

    def translate(self, vaddr: int) -> paging.Translation | None:
        """Walk the current page tables; None where nothing is mapped."""
        return paging.walk(self.memory.read_u64, self.read_register("CR3"), vaddr, self.levels)

    def _paddr(self, vaddr: int) -> int:
        translation = self.translate(vaddr)
        if translation is None and self._handler(self, VECTOR_PAGE_FAULT, 0, vaddr) is Verdict.RESUME:
            translation = self.translate(vaddr)
        if translation is None:
            raise UnmappedVirtual(vaddr)
        return translation.paddr

    def read(self, vaddr: int, size: int) -> bytes:
        """`size` bytes at a virtual address; `UnmappedVirtual` where nothing is mapped."""
        parts = []
        for piece, length in paging.pages(vaddr, size):
            try:
                parts.append(self.memory.read(self._paddr(piece), length))
            except UnmappedPhysical:  # an image may end inside of a page
                raise UnmappedVirtual(piece) from None
        return b"".join(parts)

    def write(self, vaddr: int, data: bytes) -> None:
        """Store `data` at a virtual address, whatever its protection; `UnmappedVirtual`."""
        done = 0
        for piece, length in paging.pages(vaddr, len(data)):
            try:
                self.memory.write(self._paddr(piece), data[done : done + length])
            except UnmappedPhysical:
                raise UnmappedVirtual(piece) from None
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
        """Run from `rip` until it equals `until` (virtual addresses), handling exceptions by the handler.

        `until` is compiled into translated code: use one and the same for all runs of a machine.
        After a "budget" or "memory" stop the state is not to be trusted.
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
            ended = self._watchdog.disarm()
        if ended and stop.kind != "returned":
            return Stop(ended, stop.rip)
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
                    self._deliver(exceptions.VECTOR_TIMER)
                    rip = self.read_register("RIP")
                    continue
                return Stop("halted", rip)
            cr2 = self.read_register("CR2") if vector == VECTOR_PAGE_FAULT else 0
            verdict = self._handler(self, vector, rip, cr2)
            quirks.forget_exception(self.uc, self._scratch)
            if verdict is Verdict.STOP:
                return Stop("exception", rip, vector, cr2)
            if verdict is Verdict.DELIVER:
                self._deliver(vector)
            rip = self.read_register("RIP")

    def _timer_wanted(self) -> bool:
        """A kernel that halts with interrupts on and the timer unmasked waits for a tick."""
        return exceptions.interrupts_enabled(self.read_register("EFLAGS")) and self.devices.timer_unmasked

    def _deliver(self, vector: int) -> None:
        """Push an exception frame and enter the IDT's handler (SDM volume 3A, 6.14 "64-bit mode")."""
        entry_vaddr = self.table_base("IDTR") + exceptions.GATE_SIZE * vector
        gate = exceptions.parse_gate(self.read(entry_vaddr, exceptions.GATE_SIZE))
        rip, rsp, flags, cs, ss = map(self.read_register, ("RIP", "RSP", "EFLAGS", "CS", "SS"))
        slot = exceptions.stack_slot(gate, cs)
        stack = rsp if slot is None else self.read_u64(self.table_base("TR") + slot)
        frame = exceptions.frame(vector, rip, cs, flags, rsp, ss, self._error_code(vector, rip))
        stack = (stack & ~15) - len(frame)
        self.write(stack, frame)
        self.write_register("RSP", stack)
        self.write_register("EFLAGS", exceptions.flags_in_handler(flags, gate))
        self.write_register("CS", gate.selector)
        self.write_register("RIP", gate.handler_vaddr)
        self.exceptions_delivered += 1

    def _error_code(self, vector: int, rip: int) -> int:
        if vector != VECTOR_PAGE_FAULT:
            return 0
        cr2 = self.read_register("CR2")
        return exceptions.page_fault_code(self.translate(cr2) is not None, cr2 == rip)

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

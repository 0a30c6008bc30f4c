"""SLOW-BRIDGE: a second emulator over the same memory, which runs the whole twin under taint and proves what
it runs.

It sees the same physical memory as FAST-BRIDGE except for the twin, which is complete here. On every path
that it runs it proves what FAST-BRIDGE takes for granted: a pointer of the snapshot's is followed into the
snapshot only; nothing else leads there but the twin's static references; the trusted kernel's allocator and
lock state is its own (HYBRID-BRIDGE, NDSS 2014, section 4).

A run is one `call`, or one `go_on_from` where FAST-BRIDGE stopped. What it found is all in its `SlowRun`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.modules.relocated_module import TrustedSegment
from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR
from hybridbridge_vol.bridge.run.invocation import Invocation
from hybridbridge_vol.bridge.run.plain_code import PlainCode
from hybridbridge_vol.bridge.run.slab_caches import FIELD_SIZE, SlabCaches
from hybridbridge_vol.bridge.run.slow_machine import address_map, second_machine, trampoline_rules
from hybridbridge_vol.bridge.taint.decoder import Instruction
from hybridbridge_vol.bridge.taint.engine import TaintEngine
from hybridbridge_vol.bridge.taint.events import Event, EventKind
from hybridbridge_vol.bridge.taint.labels import leaf_range
from hybridbridge_vol.machine.exceptions import VECTOR_INVALID_OPCODE, VECTOR_PAGE_FAULT, Verdict
from hybridbridge_vol.machine.machine import Machine, Stop
from hybridbridge_vol.machine.registers import GENERAL_REGISTERS
from hybridbridge_vol.units import PAGE_SIZE


@dataclass(frozen=True)
class SlowRun:
    """One run under taint: how it ended, and what was noticed.

    `unattributed`: virtual addresses of instructions that accessed the snapshot by an address which does not
    come from it. `learned`: instructions of the twin and of modules met for the first time; they are proven
    if it returned.
    `redirected`: static references (offsets of their fields from `_text`) that must reach the trusted
    kernel's object from now on. Counts are of this run.
    """

    stop: Stop
    unattributed: list[int]
    learned: list[Instruction]
    redirected: set[int]
    instructions: int
    trampolines: int


class SlowBridge:
    """See the module's text. `user` is the guest-physical range of the proxy task's user memory. It is the
    `TaintHost` of its engine, and the `Code` of what is plain."""

    def __init__(self, bridge: Bridge, user: range) -> None:
        self._bridge = bridge
        self._pages: dict[int, bytes] = {}
        self._redirected: set[int] = set()
        self.machine = second_machine(bridge, self._on_exception)
        self.engine = TaintEngine(self.machine, address_map(bridge, user), self, trampoline_rules(bridge))
        self._caches = SlabCaches(bridge, self.machine)
        self._trampolines = {item.offset for item in bridge.prepared.trampolines}
        self._plain = PlainCode(self)
        bridge.space.modules.subscribe(self._add_segment)

    def close(self) -> None:
        """End the machine's thread and let the labels go."""
        self._bridge.space.modules.unsubscribe(self._add_segment)
        self.engine.close()
        self.machine.release()

    def _add_segment(self, trusted: TrustedSegment) -> None:
        """A module's segment is in use from now on."""
        self.engine.add_segment(trusted.vaddrs, trusted.twin_offset)
        self.engine.set_module_data(self._bridge.space.modules.data_ranges())

    # --- running ------------------------------------------------------------------------------------------

    def call(self, invocation: Invocation, slower: float) -> SlowRun:
        """Make a call, which may take `slower` times its seconds. Arguments that point into the snapshot are
        pointers of it."""
        self.machine.set_arguments(invocation.arguments)
        self.engine.begin(seed=any(map(self._bridge.may_be_snapshot, invocation.arguments)))
        return self._run(lambda: invocation.run(self.machine, slower))

    def go_on_from(self, machine: Machine, invocation: Invocation, slower: float) -> SlowRun:
        """Run the rest of a call that another machine over the same memory has begun, and give it back: it
        goes on where this one ends. Labels are taken from the values in registers and memory."""
        self.machine.uc.context_restore(machine.uc.context_save())
        self.machine.flush_translations()
        self.engine.reset()
        self.engine.begin(seed=True)
        rip, seconds = machine.read_register("RIP"), invocation.seconds * slower
        run = self._run(lambda: self.machine.run(rip, invocation.return_vaddr, seconds))
        machine.uc.context_restore(self.machine.uc.context_save())
        machine.flush_translations()
        return run

    def _run(self, run: Callable[[], Stop]) -> SlowRun:
        """Run, and collect what was found. What a run that did not return has met counts as never met."""
        before = self.engine.statistics
        self._redirected = set()
        try:
            with self._bridge.space.all_lent():
                stop = run()
            self.engine.finish()
            self.engine.raise_failure()
        except BaseException:
            self.engine.forget(self.engine.take_learned())
            raise
        events, after = self.engine.events(), self.engine.statistics
        stop = self._judge(stop, events)
        learned = self.engine.take_learned()
        if stop.kind == "returned":
            self._redirected |= self._cache_loads(learned)
        else:
            self.engine.forget(learned)
        counts = (after[name] - before[name] for name in ("instructions", "trampolines"))
        unattributed = [event.vaddr for event in events if event.kind is EventKind.UNATTRIBUTED]
        return SlowRun(stop, unattributed, learned, self._redirected, *counts)

    def _judge(self, stop: Stop, events: Iterable[Event]) -> Stop:
        """How the run ended, unless an event makes its answer worthless."""
        for event in events:
            if event.kind is EventKind.FORGED:
                return Stop("forged", event.vaddr, detail=self._explain_forged(event))
            if event.kind is EventKind.OUTSIDE and stop.kind != "exception":
                is_code = self.engine.is_code(event.vaddr)
                vector = VECTOR_INVALID_OPCODE if is_code else VECTOR_PAGE_FAULT
                return Stop("exception", event.vaddr, vector, event.vaddr)
        return stop

    def _on_exception(self, machine: Machine, vector: int, rip: int, cr2: int) -> Verdict:
        self.engine.cancel()
        return self._bridge.faults(machine, vector, rip, cr2)

    def _explain_forged(self, event: Event) -> str:
        origins = self.engine.origins(event.label)
        where = self._bridge.describe(event.vaddr)
        if not origins:
            return f"forged pointer followed in {where}"
        paddr, size = origins[0]
        offset = self._bridge.image.offset_of(paddr)
        origin = f"physical address {paddr:#x}" if offset is None else f"image offset {offset:#x}"
        return f"forged pointer followed in {where}, from {size} bytes at {origin}"

    # --- code ---------------------------------------------------------------------------------------------

    def code(self, twin: bool, offset: int, size: int) -> bytes:
        """See `TaintHost`."""
        if not twin:
            start = self._bridge.kernel.text_paddr + offset
            return bytes(self._bridge.ram.view[start : start + size])
        first = offset & -PAGE_SIZE
        code = b"".join(self._page(page) for page in range(first, offset + size, PAGE_SIZE))
        return code[offset - first : offset - first + size]

    def _page(self, offset: int) -> bytes:
        if offset not in self._pages:
            self._pages[offset] = bytes(self._bridge.twin.page(offset))
        return self._pages[offset]

    def plain_code(self, proven: Sequence[Instruction]) -> list[Instruction]:
        """What FAST-BRIDGE may run too, where these instructions are proven (plain_code.py)."""
        return self._plain.reached_from(proven)

    def block(self, vaddr: int) -> Sequence[Instruction]:
        """See `plain_code.Code`."""
        return self.engine.peek(vaddr)

    def bytes_of(self, instruction: Instruction) -> bytes:
        """See `plain_code.Code`."""
        offset = self._bridge.twin.offset_of(instruction.vaddr)
        return b"" if offset is None else self.code(True, offset, instruction.size)

    def same_function(self, one: int, other: int) -> bool:
        """See `plain_code.Code`."""
        return self._function(one) == self._function(other)

    def _function(self, vaddr: int) -> str:
        return self._bridge.describe(vaddr).partition("+")[0]

    def is_trampoline(self, vaddr: int) -> bool:
        """See `plain_code.Code`."""
        return self._bridge.twin.offset_of(vaddr) in self._trampolines

    def code_changed(self, pages_vaddr: Iterable[int], fields: Iterable[int]) -> None:
        """These pages of the twin were made again because these static references were redirected."""
        self._pages.clear()
        self.engine.forget_fields(fields)
        for page in pages_vaddr:
            self.machine.uc.ctl_remove_cache(page, page + PAGE_SIZE)

    # --- redirecting to the trusted kernel ----------------------------------------------------------------

    def image_holds(self, paddr: int, value: int) -> bool:
        """See `TaintHost`."""
        return self._bridge.image.read_available(paddr - SNAPSHOT_PADDR, 8) == value.to_bytes(8, "little")

    def replace_argument(self, _vaddr: int, register: int, label: int) -> bool:
        """See `TaintHost`.

        If the argument was loaded from one static variable, the load should have reached home's: it is
        redirected from now on, and the argument becomes what it would have loaded. Only if home's variable
        holds a slab cache: a forged image must not teach the memo anything else. Where the snapshot's data
        also chose the variable (RANDOM_KMALLOC_CACHES draws one of a table by a seed), it must be the only
        cache that they name, and the reference one to a table of nothing but caches.
        """
        origin = leaf_range(label)
        slot = self._caches.slot_among(self.engine.origins(label) if origin is None else [origin])
        if slot is None:
            return False
        loader = self._bridge.twin.offset_of(self.engine.loaded_by(SNAPSHOT_PADDR + slot))
        field = None if loader is None else self.engine.fields.get(loader)
        cache = self._caches.at_paddr(slot)
        if field is None or cache is None:
            return False
        if origin is None and not self._caches.are_table(self.code(True, field, FIELD_SIZE), slot):
            return False
        self.machine.write_register(GENERAL_REGISTERS[register], cache)
        self._redirected.add(field)
        return True

    def _cache_loads(self, learned: Iterable[Instruction]) -> set[int]:
        """Fields of static references that load a slab cache: they are redirected too.

        A run may have taken a path on which the cache is loaded and not used. If the load stayed as it is,
        it would give FAST-BRIDGE the snapshot's cache, and where that is used SLOW-BRIDGE would take over too
        late to see where it came from.
        """
        found = set()
        for instruction in learned:
            offset = self._bridge.twin.offset_of(instruction.vaddr)
            field = None if offset is None else self.engine.fields.get(offset)
            if field is not None and self._caches.is_loaded_by(
                instruction, self.code(True, field, FIELD_SIZE)
            ):
                found.add(field)
        return found

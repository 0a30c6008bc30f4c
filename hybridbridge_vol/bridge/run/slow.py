"""SLOW-BRIDGE: a second emulator over the same memory, that runs the whole twin under taint and proves what
it runs.

It sees the same physical memory as FAST-BRIDGE except for the twin, which is complete here. What it proves on
every path is what FAST-BRIDGE takes for granted (DESIGN, "SLOW-BRIDGE"): a pointer of the snapshot's is
followed into the snapshot only, nothing else leads there but the twin's static references, and what the
trusted kernel keeps its books with is its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.modules.snapshot_modules import MODULES_END, MODULES_START, ROOM, Part
from hybridbridge_vol.bridge.per_cpu_window import NAMES
from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR, TWIN_PADDR
from hybridbridge_vol.bridge.run.statistics import CallCount
from hybridbridge_vol.bridge.space import UPPER_HALF
from hybridbridge_vol.bridge.taint.decoder import Instruction
from hybridbridge_vol.bridge.taint.engine import AddressMap, Event, EventKind, TaintEngine
from hybridbridge_vol.bridge.taint.labels import leaf_range
from hybridbridge_vol.bridge.taint.rules import Bits, Kind, Place, Rule, trampoline
from hybridbridge_vol.machine.exceptions import Verdict
from hybridbridge_vol.machine.machine import Machine, Stop
from hybridbridge_vol.machine.memory import PhysicalMemory, page_up
from hybridbridge_vol.units import PAGE_SIZE

_GENERAL = ("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", *(f"R{i}" for i in range(8, 16)))

_FIELD = 4


def _loads_a_pointer(instruction: Instruction) -> bool:
    """Whether it moves eight bytes of the variable that it names, relative to RIP, into a register."""
    rule = instruction.rule
    plain = rule.kind is Kind.COPY and not rule.bits & (Bits.PUSHES | Bits.POPS | Bits.KEEPS_TARGET)
    moves = (
        rule.source.place is Place.MEMORY and rule.source.size == 8 and rule.target.place is Place.REGISTER
    )
    return (
        plain
        and moves
        and bool(instruction.relative_field)
        and instruction.static_field == instruction.relative_field
    )


class SlowBridge:
    """See the module's text. `user` is the guest-physical range of the proxy task's user memory."""

    def __init__(self, bridge: Bridge, user: range) -> None:
        self.bridge = bridge
        self.user = user
        self.machine = self._second_machine()
        self.engine = TaintEngine(self.machine, self._address_map(), self._code, self._trampolines())
        self.engine.on_foreign = self._is_the_images
        self.engine.on_trampoline = self._at_trampoline
        self.findings: list[Event] = []
        self.reclassified: set[int] = set()
        """Fields of static references whose class was found to be *trusted* in the current run."""
        for part in bridge.space.modules.parts:
            self._on_part(part)
        bridge.space.modules.on_part = self._on_part
        self._caches = frozenset(bridge.prepared.caches)
        self._pages: dict[int, bytes] = {}
        self._count: CallCount | None = None
        self._counted: dict[str, int] = {}

    def close(self) -> None:
        """End the machine's thread and let the shadow state go."""
        self.engine.close()
        self.machine.release()

    # --- setting up ---------------------------------------------------------------------------------------

    def _second_machine(self) -> Machine:
        bridge, memory = self.bridge, PhysicalMemory()
        for paddr, mapping in bridge.machine.memory.regions():
            memory.place(paddr, bridge.twin.whole if paddr == TWIN_PADDR else mapping)
        tsc = replace(bridge.machine.devices.tsc)
        machine = Machine(bridge.machine.levels, memory, self._on_exception, tsc)
        machine.load_state(bridge.boot.state)
        return machine

    def _address_map(self) -> AddressMap:
        bridge = self.bridge
        start = bridge.kernel.text_paddr
        return AddressMap(
            home_text=bridge.sides.home_text_vaddr,
            twin_text=bridge.layout.text_vaddr,
            text_size=bridge.layout.size,
            constants=range(start, start + bridge.prepared.rodata_end),
            trusted_size=bridge.ram.size,
            user=self.user,
            snapshot_paddr=SNAPSHOT_PADDR,
            trusted_vaddrs=bridge.boot.layout.guard_hole,
            twin_constant_end=bridge.twin.extent.rodata_end,
            ro_after_init=bridge.twin.extent.ro_after_init,
            modules=range(MODULES_START, MODULES_END),
            module_room=range(page_up(bridge.layout.size), page_up(bridge.layout.size) + ROOM),
            per_cpu=range(bridge.prepared.per_cpu.start, bridge.prepared.per_cpu.end),
            window_names=NAMES,
        )

    def _on_part(self, part: Part) -> None:
        """A module's trusted part was placed."""
        self.engine.add_area(part.vaddrs, part.offset)
        self.engine.set_module_data(self.bridge.space.modules.data_ranges())

    def _trampolines(self) -> dict[int, Rule]:
        return {
            item.offset: trampoline(item.trusted, item.action == "free")
            for item in self.bridge.prepared.trampolines
            if item.action == "home" or item.trusted
        }

    def _code(self, twin: bool, offset: int, size: int) -> bytes:
        """Code bytes of home or of the twin, as SLOW executes them."""
        if not twin:
            start = self.bridge.kernel.text_paddr + offset
            return bytes(self.bridge.ram.view[start : start + size])
        first = offset & -PAGE_SIZE
        code = b"".join(self._page(page) for page in range(first, offset + size, PAGE_SIZE))
        return code[offset - first : offset - first + size]

    def _page(self, offset: int) -> bytes:
        if offset not in self._pages:
            self._pages[offset] = bytes(self.bridge.twin.page(offset))
        return self._pages[offset]

    # --- running ------------------------------------------------------------------------------------------

    def count(self, count: CallCount | None) -> None:
        """Add instructions and trampolines to `count` from here until this is called again."""
        statistics = self.engine.statistics
        if self._count is not None:
            self._count.instructions += statistics["instructions"] - self._counted["instructions"]
            self._count.trampolines += statistics["trampolines"] - self._counted["trampolines"]
        self._count, self._counted = count, statistics

    def take_over(self, machine: Machine) -> None:
        """Go on where another machine over the same memory stands; labels are taken from values."""
        self.machine.uc.context_restore(machine.uc.context_save())
        self.machine.flush_translations()
        self.engine.reset()
        self.engine.begin(seed=True)

    def hand_back(self, machine: Machine) -> None:
        """The other machine goes on where this one stands."""
        machine.uc.context_restore(self.machine.uc.context_save())
        machine.flush_translations()

    def call(
        self, function_vaddr: int, arguments: tuple[int, ...], stack_vaddr: int, until: int, seconds: float
    ) -> Stop:
        """As `Machine.call`, under taint; arguments that point into the snapshot are its pointers."""
        self.machine.set_arguments(arguments)
        self.engine.begin(seed=any(map(self._leads_into_snapshot, arguments)))
        return self._judged(self.machine.call(function_vaddr, arguments, stack_vaddr, until, seconds))

    def _leads_into_snapshot(self, value: int) -> bool:
        bridge = self.bridge
        home = value - bridge.sides.home_text_vaddr
        return value >= UPPER_HALF and value not in bridge.boot.layout and not 0 <= home < bridge.layout.size

    def go_on(self, rip: int, until: int, seconds: float) -> Stop:
        """As `Machine.run`, under taint, after `take_over`."""
        return self._judged(self.machine.run(rip, until, seconds))

    def _judged(self, stop: Stop) -> Stop:
        """The run's end, unless the engine found something that makes its answer worthless."""
        self.engine.finish()
        if self.engine.failure:
            failure, self.engine.failure = self.engine.failure, None
            raise failure
        self.findings = self.engine.events()
        for finding in self.findings:
            if finding.kind is EventKind.FORGED:
                return Stop("forged", finding.vaddr, detail=self._explain_forged(finding))
            if finding.kind is EventKind.OUTSIDE and stop.kind != "exception":
                return Stop("exception", finding.vaddr, 14, finding.vaddr)
        return stop

    def learned(self) -> list[Instruction]:
        """Instructions of the twin met for the first time since this was asked last."""
        found, self.engine.learned = self.engine.learned, []
        return found

    def cache_loads(self, learned: Iterable[Instruction]) -> set[int]:
        """Fields of static references that load one of the slab allocator's caches: their class is *trusted*
        too.

        A run may have taken a way on which the cache is loaded and not used. Left as it is, the load would
        bring FAST-BRIDGE the snapshot's cache, and where that is used SLOW-BRIDGE would take over too late to
        see where it came from.
        """
        found = set()
        for instruction in learned:
            place = self.bridge.twin.offset_of(instruction.vaddr)
            field = None if place is None else self.engine.fields.get(place)
            if place is None or field is None or not _loads_a_pointer(instruction):
                continue
            displacement = int.from_bytes(self._code(True, field, _FIELD), "little", signed=True)
            offset = instruction.vaddr + instruction.size + displacement - self.bridge.layout.text_vaddr
            if 0 <= offset <= self.bridge.layout.size - 8 and self._home_word(offset) in self._caches:
                found.add(field)
        return found

    def forget(self, instructions: Iterable[Instruction]) -> None:
        """The run that met these did not end well: they are not proven."""
        self.engine.forget(instructions)

    def renewed(self, pages_vaddr: Iterable[int], fields: Iterable[int]) -> None:
        """Pages of the twin were made again because the class of these static references changed."""
        self._pages.clear()
        self.engine.forget_fields(fields)
        for page in pages_vaddr:
            self.machine.uc.ctl_remove_cache(page, page + PAGE_SIZE)

    # --- what the engine asks -----------------------------------------------------------------------------

    def _on_exception(self, machine: Machine, vector: int, rip: int, cr2: int) -> Verdict:
        self.engine.cancel()
        return self.bridge.faults(machine, vector, rip, cr2)

    def _is_the_images(self, paddr: int, value: int) -> bool:
        """Whether a word on the snapshot's side that points to ours stands in the image, or was put there by
        us."""
        return self.bridge.image.read_available(paddr - SNAPSHOT_PADDR, 8) == value.to_bytes(8, "little")

    def _at_trampoline(self, _vaddr: int, register: int, label: int) -> bool:
        """A pointer of the snapshot's arrives where the trusted kernel expects one of its own.

        If it was loaded from one static variable, the load should have reached home's variable: its class is
        *trusted* from now on, and the argument becomes what it would have loaded. Only if home's variable
        holds a slab cache: an image that bends a call must not teach the memo anything else.
        """
        origin = leaf_range(label)
        if origin is None or origin[1] != 8:
            return False
        paddr = origin[0]
        loader = self.bridge.twin.offset_of(self.engine.loaded_by(SNAPSHOT_PADDR + paddr))
        field = None if loader is None else self.engine.fields.get(loader)
        offset = paddr - self.bridge.layout.text_paddr
        if field is None or not 0 <= offset < self.bridge.layout.size:
            return False
        cache = self._home_word(offset)
        if cache not in self._caches:
            return False
        self.machine.write_register(_GENERAL[register], cache)
        self.reclassified.add(field)
        return True

    def _home_word(self, offset: int) -> int:
        """What the trusted kernel's variable at an offset from `_text` holds."""
        return self.machine.read_u64(self.bridge.sides.home_text_vaddr + offset)

    def _explain_forged(self, finding: Event) -> str:
        origins = self.engine.origins(finding.label)
        where = self.bridge.describe(finding.vaddr)
        if not origins:
            return f"forged pointer followed in {where}"
        paddr, size = origins[0]
        run = self.bridge.image.run_at(paddr)
        place = f"image offset {run.offset + paddr - run.paddr:#x}" if run else f"physical address {paddr:#x}"
        return f"forged pointer followed in {where}, from {size} bytes at {place}"

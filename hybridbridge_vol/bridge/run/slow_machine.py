"""What SLOW-BRIDGE is made of: a second machine over a bridge's memory, and facts for its taint engine."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.modules.segment_room import ROOM
from hybridbridge_vol.bridge.per_cpu_window import NAMES
from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR, TWIN_PADDR
from hybridbridge_vol.bridge.taint.address_map import UNKNOWN, AddressMap
from hybridbridge_vol.bridge.taint.rules import Rule, trampoline
from hybridbridge_vol.bridge.text.policy import BY_OWNER
from hybridbridge_vol.machine.devices import TimeStampCounter
from hybridbridge_vol.machine.machine import ExceptionHandler, Machine
from hybridbridge_vol.machine.memory import PhysicalMemory, page_up
from hybridbridge_vol.trust.placement import GUARD_HOLES

_POINTER_SIZE = 8


def second_machine(bridge: Bridge, handler: ExceptionHandler) -> Machine:
    """A machine that has the memory of the bridge's as it is now, but the twin whole, in the state of the
    boot."""
    memory = PhysicalMemory()
    for paddr, mapping in bridge.machine.memory.regions():
        memory.place(paddr, bridge.twin.whole if paddr == TWIN_PADDR else mapping)
    now = bridge.machine.devices.tsc
    machine = Machine(bridge.machine.levels, memory, handler, TimeStampCounter(now.value, now.step))
    bridge.space.devices.show(machine.uc)
    machine.load_state(bridge.boot.state)
    return machine


def address_map(bridge: Bridge, user: range) -> AddressMap:
    """The bridge's address space; `user` is the guest-physical range of the proxy task's user memory."""
    constants = bridge.kernel.text_paddr
    modules = page_up(bridge.layout.size)
    return AddressMap(
        home_text=bridge.sides.home_text_vaddr,
        twin_text=bridge.layout.text_vaddr,
        text_size=bridge.layout.size,
        constants=range(constants, constants + bridge.prepared.rodata_end),
        trusted_size=bridge.ram.size,
        user=user,
        snapshot_paddr=SNAPSHOT_PADDR,
        upper_half=GUARD_HOLES[bridge.boot.layout.levels].start,
        trusted_vaddrs=bridge.boot.layout.guard_hole,
        twin_constant_end=bridge.twin.extent.rodata_end,
        ro_after_init=bridge.twin.extent.ro_after_init,
        modules=bridge.layout.modules,
        module_room=range(modules, modules + ROOM),
        per_cpu=range(bridge.prepared.per_cpu.start, bridge.prepared.per_cpu.end),
        window_names=NAMES,
        pointers=frozenset(_runtime_pointers(bridge)),
        base_words=_base_words(bridge),
    )


def _base_words(bridge: Bridge) -> tuple[int, int]:
    """Where the snapshot has its `page_offset_base` and `vmemmap_base`. Lawful ones lie above the hole that
    the trusted kernel uses: what is added to them does not lead there."""
    symbols, layout = bridge.kernel.symbols, bridge.layout
    page_offset, vmemmap = symbols.get("page_offset_base"), symbols.get("vmemmap_base")
    lowest = min(layout.page_offset_base, layout.vmemmap_base)
    if page_offset is None or vmemmap is None or lowest < bridge.boot.layout.guard_hole.stop:
        return UNKNOWN, UNKNOWN
    moved = layout.text_paddr - bridge.kernel.text_link_vaddr
    return page_offset + moved, vmemmap + moved


def _runtime_pointers(bridge: Bridge) -> Iterator[int]:
    """The pointers of the snapshot's that its kernel wrote into its text."""
    for _site, code in bridge.prepared.constants.patches(bridge.virtual_memory):
        if len(code) == _POINTER_SIZE and bridge.may_be_snapshot(vaddr := int.from_bytes(code, "little")):
            yield vaddr


def trampoline_rules(bridge: Bridge) -> dict[int, Rule]:
    """The rules of the twin's trampolines, by offset from `_text`. Those that go by the
    owner of an argument look at it themselves."""
    by_owner = [action for action in BY_OWNER if action != "allocate" or bridge.prepared.slab_fields]
    return {
        item.offset: trampoline(item.trusted, optional=item.action in by_owner)
        for item in bridge.prepared.trampolines
        if item.action == "home" or item.trusted
    }

"""The taint engine's Python side: gives rules to the native engine and reads its labels.

The engine (native/taint.c) is called by Unicorn without Python in between. It asks Python only for what
happens once, decoding a basic block that it has not met, and for rare decisions.

A run is `begin`, the machine's run, `finish` (or `cancel` at each exception), then `raise_failure` and
`events`. Labels of memory outlast a run; `reset` drops them.
"""

from __future__ import annotations

import ctypes
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from hybridbridge_vol.bridge.taint.address_map import AddressMap
from hybridbridge_vol.bridge.taint.decoder import MAX_BLOCK, MAX_INSTRUCTION, Decoder, Instruction
from hybridbridge_vol.bridge.taint.events import Event, EventKind
from hybridbridge_vol.bridge.taint.labels import LEAF_BITS, LEAF_MASK, NODE, PAYLOAD, merge_ranges
from hybridbridge_vol.bridge.taint.native_library import (
    MAX_EVENTS,
    EventStruct,
    OnForeign,
    OnMiss,
    OnSplit,
    OnTrampoline,
    add_hooks,
    library,
    new_engine,
    set_regions,
)
from hybridbridge_vol.bridge.taint.operands import StaticTargets
from hybridbridge_vol.bridge.taint.page_crossing import second_page
from hybridbridge_vol.bridge.taint.rules import Rule
from hybridbridge_vol.machine.machine import Machine

MAX_ORIGINS = 65536
"""Ranges reported of one label: what is made of more is made of everything."""
_CODE_SIZE = MAX_BLOCK * MAX_INSTRUCTION // 4
"""Bytes of code fetched to decode a block; most blocks are far shorter."""


class TaintHost(Protocol):
    """What the engine asks of whoever runs it."""

    def code(self, twin: bool, offset: int, size: int) -> bytes:
        """Code bytes of home, or of the twin with the modules behind it, at an offset from `_text`."""

    def image_holds(self, paddr: int, value: int) -> bool:
        """Whether a word on the snapshot's side that points to the trusted side, at a guest-physical address,
        stands in the image. If not, it was put there by the trusted kernel."""

    def replace_argument(self, vaddr: int, register: int, label: int) -> bool:
        """At the trampoline at `vaddr` an argument, in a general register of this number, must be the trusted
        kernel's and is the snapshot's. Whether the register was given a value of the trusted kernel's."""


class TaintEngine:
    """Labels of the registers and the memory of one machine.

    `trampolines` are the rules of the twin's jumps home, by offset from `_text`.
    """

    def __init__(
        self, machine: Machine, address_map: AddressMap, host: TaintHost, trampolines: Mapping[int, Rule]
    ) -> None:
        self._native = library()
        self._machine = machine
        self._address_map = address_map
        self._host = host
        self._trampolines = trampolines
        self.unknown: Counter[str] = Counter()
        """Instructions decoded that have no rule of their own, by mnemonic."""
        self.failure: BaseException | None = None
        """What a callback raised in the run under way; it has ended the run."""
        self._home_decoder = Decoder(StaticTargets(), self.unknown)
        self._twin_decoder = Decoder(address_map.twin_targets, self.unknown)
        self._module_decoder = self._twin_decoder
        self._areas: list[tuple[range, int]] = []
        self._numbers: dict[bytes, int] = {}
        self._learned: list[Instruction] = []
        self._fields: dict[int, int] = {}
        self._is_closed = False
        self._engine = new_engine(machine, address_map)
        self._callbacks = {
            "on_miss": OnMiss(self._guarded(self._on_miss)),
            "on_foreign": OnForeign(self._guarded(host.image_holds)),
            "on_trampoline": OnTrampoline(self._guarded(host.replace_argument)),
            "on_split": OnSplit(self._guarded(self._on_split)),
        }
        for name, callback in self._callbacks.items():
            setattr(self._engine.contents, name, callback)
        add_hooks(machine, self._engine)
        self.update_regions()

    def close(self) -> None:
        """Let the labels go. The machine must not run any more."""
        if not self._is_closed:
            self._is_closed = True
            self._native.engine_free(self._engine)

    def _guarded(self, function: Callable[..., int]) -> Callable[..., int]:
        """No exception may cross native code: it is kept, and the run ends."""

        def call(*arguments: int) -> int:
            try:
                return int(function(*arguments))
            except BaseException as error:  # noqa: BLE001 - raised again by `raise_failure`
                self.failure = error
                self._machine.uc.emu_stop()
                return 0

        return call

    # --- the address space --------------------------------------------------------------------------------

    def update_regions(self) -> None:
        """Learn where the machine's memory is in this process; to be called again after some was added."""
        set_regions(self._engine, self._machine.memory.regions())

    def add_segment(self, vaddrs: range, offset: int) -> None:
        """A module's segment of trusted bytes lies at these virtual addresses; its rules are kept at this
        offset behind the twin."""
        self._areas.append((vaddrs, offset))
        self._native.engine_add_area(self._engine, vaddrs.start, len(vaddrs), offset)

    def set_module_data(self, data: Iterable[range]) -> None:
        """Virtual addresses in the modules area where the snapshot's data lie; again after `add_segment`."""
        self._module_decoder = Decoder(self._address_map.module_targets(data), self.unknown)

    # --- rules --------------------------------------------------------------------------------------------

    def _on_miss(self, vaddr: int) -> bool:
        """Decode the block at `vaddr`; False if there is no code of ours."""
        found = self._locate(vaddr)
        if found is None:
            return False
        twin, start = found
        if twin and start in self._trampolines:
            self._set_rule(True, start, self._trampolines[start])
            return True
        block = self._decoder(twin, start).block(self._host.code(twin, start, _CODE_SIZE), vaddr)
        for instruction in block:
            offset = instruction.vaddr - vaddr + start
            if twin and offset in self._trampolines:
                break
            self._set_rule(twin, offset, instruction.rule)
            if twin:
                self._learned.append(instruction)
                if instruction.static_field:
                    self._fields[offset] = offset + instruction.static_field
        return bool(block)

    def peek(self, vaddr: int) -> list[Instruction]:
        """The twin's block at an address, of which nothing counts as met. Empty where there is no code of the
        twin's."""
        found = self._locate(vaddr)
        if found is None or not found[0]:
            return []
        unknown = self.unknown.copy()
        block = self._decoder(*found).block(self._host.code(*found, _CODE_SIZE), vaddr)
        self.unknown.clear()
        self.unknown.update(unknown)
        return block

    def is_code(self, vaddr: int) -> bool:
        """Whether code of ours lies at an address, whatever it is."""
        return self._locate(vaddr) is not None

    def _decoder(self, twin: bool, offset: int) -> Decoder:
        if not twin:
            return self._home_decoder
        return self._twin_decoder if offset < self._address_map.text_size else self._module_decoder

    def _on_split(self, vaddr: int, paddr: int) -> int:
        """Where the second page of an access is that the instruction at `vaddr` makes from `paddr` on; 0 if
        that is not known."""
        found = self._locate(vaddr)
        code = b"" if found is None else self._host.code(*found, MAX_INSTRUCTION)
        return second_page(self._machine, code, vaddr, paddr)

    def _locate(self, vaddr: int) -> tuple[bool, int] | None:
        """Whether an instruction is the twin's (or a module's), and its offset from `_text`; None for code
        that is not ours."""
        address_map = self._address_map
        for twin, text in ((False, address_map.home_text), (True, address_map.twin_text)):
            if 0 <= vaddr - text < address_map.text_size:
                return twin, vaddr - text
        return next(
            ((True, offset + vaddr - vaddrs.start) for vaddrs, offset in self._areas if vaddr in vaddrs), None
        )

    def _set_rule(self, twin: bool, offset: int, rule: Rule) -> None:
        packed = rule.pack()
        number = self._numbers.get(packed)
        if number is None:
            number = self._numbers[packed] = self._native.engine_add_rule(self._engine, packed)
        self._native.engine_set_rule(self._engine, twin, offset, number)

    # --- what was learned ---------------------------------------------------------------------------------

    def take_learned(self) -> list[Instruction]:
        """Instructions of the twin, and of modules, met for the first time since this was asked last."""
        found, self._learned = self._learned, []
        return found

    @property
    def fields(self) -> Mapping[int, int]:
        """Static references that were met: the offset of an instruction of the twin from `_text`, and that of
        its 32-bit displacement."""
        return self._fields

    def forget(self, instructions: Iterable[Instruction]) -> None:
        """Let these instructions of the twin count as never met."""
        for instruction in instructions:
            found = self._locate(instruction.vaddr)
            if found is not None:
                self._native.engine_set_rule(self._engine, True, found[1], 0)

    def forget_fields(self, fields: Iterable[int]) -> None:
        """As `forget`, for the instructions that have these displacements, which were changed."""
        owners = {field: offset for offset, field in self._fields.items()}
        for field in fields:
            if field in owners:
                self._native.engine_set_rule(self._engine, True, owners[field], 0)
                del self._fields[owners[field]]

    # --- running ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Drop all labels: memory is labelled by where it lies and what it holds again."""
        self._native.engine_reset(self._engine)

    def begin(self, seed: bool = False) -> None:
        """Before a run: registers are clean; with `seed` those that hold an address of the snapshot's are
        pointers of it."""
        self._native.engine_begin(self._engine, seed)

    def finish(self) -> None:
        """After a run that ended: the last instruction takes effect."""
        self._native.engine_finish(self._engine)

    def cancel(self) -> None:
        """At an exception: the instruction under way has not taken effect."""
        self._native.engine_cancel(self._engine)

    def raise_failure(self) -> None:
        """Raise what a callback raised in the last run, if one did."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def clean(self, paddr: int, size: int) -> None:
        """Something outside of the machine wrote `size` bytes at a guest-physical address."""
        self._native.engine_clean(self._engine, paddr, size)

    @property
    def statistics(self) -> dict[str, int]:
        """Counts since the engine was made (`struct statistics`)."""
        counts = self._engine.contents.statistics
        return {name: getattr(counts, name) for name, _type in counts._fields_}

    def events(self) -> list[Event]:
        """What was noticed since `begin`: one event for each kind and instruction."""
        room = (EventStruct * MAX_EVENTS)()
        count = self._native.engine_events(self._engine, room, MAX_EVENTS)
        return [Event(EventKind(item.kind), item.vaddr, item.paddr, item.what) for item in room[:count]]

    # --- reads --------------------------------------------------------------------------------------------

    def watch_reads(self, size: int) -> None:
        """From here on note which of the first `size` bytes of the snapshot's memory are read.
        MemoryError."""
        if not self._native.engine_watch_reads(self._engine, -(-size // 8)):
            raise MemoryError("no room to note what is read")

    def take_reads(self) -> array[int]:
        """The words that were read since this was last asked, in the order of their first reads: their
        physical addresses in the image, divided by 8. None if reads are not watched."""
        words = array("I", bytes(4 * int(self._native.engine_take_reads(self._engine, None))))
        if words:
            self._native.engine_take_reads(self._engine, words.buffer_info()[0])
        return words

    # --- labels -------------------------------------------------------------------------------------------

    def labels(self, paddr: int, size: int) -> memoryview:
        """The labels of `size` bytes from a guest-physical address, as 64-bit numbers."""
        room = (ctypes.c_uint64 * size)()
        self._native.engine_labels(self._engine, paddr, size, room)
        return memoryview(room).cast("B").cast("Q")

    def loaded_by(self, paddr: int) -> int:
        """Virtual address of the static reference that last loaded the word at a guest-physical address; 0 if
        none is remembered."""
        return int(self._native.engine_loaded_by(self._engine, paddr))

    def origins(self, label: int) -> list[tuple[int, int]]:
        """The snapshot's bytes that a label names: `(physical address in the image, size)`, ascending and
        disjoint; not more than about `MAX_ORIGINS`."""
        leaves: set[tuple[int, int]] = set()
        seen: set[int] = set()
        waiting = [label & PAYLOAD]
        left, right = ctypes.c_uint64(), ctypes.c_uint64()
        while waiting and len(leaves) < MAX_ORIGINS:
            item = waiting.pop() & PAYLOAD
            if not item or item in seen:
                continue
            seen.add(item)
            if item & NODE:
                if self._native.engine_node(self._engine, item, ctypes.byref(left), ctypes.byref(right)):
                    waiting += [left.value, right.value]
            else:
                leaves.add((item & LEAF_MASK, item >> LEAF_BITS))
        return merge_ranges(leaves)

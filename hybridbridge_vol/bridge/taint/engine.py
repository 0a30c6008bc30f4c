"""The taint engine's Python side: it feeds rules to the native engine and reads its answers.

The engine (native/taint.c) is a plain shared library, called by Unicorn without Python in between. It asks
Python only for what happens once: decoding a basic block that it has not met, and the rare decisions at a
trampoline.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

from unicorn import x86_const
from unicorn.unicorn_const import UC_HOOK_CODE, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE
from unicorn.unicorn_py3.unicorn import uclib

from hybridbridge_vol.bridge.taint.decoder import MAX_BLOCK, MAX_INSTRUCTION, Decoder, Instruction
from hybridbridge_vol.bridge.taint.labels import LEAF_BITS, LEAF_MASK, NODE, PAYLOAD, merge_ranges
from hybridbridge_vol.bridge.taint.operands import second_page
from hybridbridge_vol.bridge.taint.rules import Rule
from hybridbridge_vol.errors import EngineMissing
from hybridbridge_vol.machine.machine import Machine

_MAX_EVENTS = 256
MAX_ORIGINS = 65536
"""Ranges told of one label; a byte made of more than that is made of everything."""

_GENERAL = ("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", *(f"R{i}" for i in range(8, 16)))
_READ_REGISTER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_ON_MISS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64)
_ON_FOREIGN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64)
_ON_TRAMPOLINE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint64)
_ON_SPLIT = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)


class EventKind(IntEnum):
    """What SLOW-BRIDGE noticed; `enum event_kind` of the engine."""

    FORGED = 1  # an address made by the snapshot leads to the trusted side
    UNATTRIBUTED = 2  # an address that nobody has from the snapshot leads into it
    OUTSIDE = 3  # code that is neither home's nor the twin's


class _Statistics(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "instructions",
            "twin_instructions",
            "trampolines",
            "loads",
            "stores",
            "snapshot_loads",
            "joins",
            "events",
            "rules_missed",
            "split",
        )
    ]


class _Engine(ctypes.Structure):
    """The part of `struct engine` that Python fills in and reads."""

    _fields_ = [
        ("uc", ctypes.c_void_p),
        ("read_register", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("on_miss", _ON_MISS),
        ("on_foreign", _ON_FOREIGN),
        ("on_trampoline", _ON_TRAMPOLINE),
        ("on_split", _ON_SPLIT),
        ("register_numbers", ctypes.c_int32 * 16),
        *(
            (name, ctypes.c_uint64)
            for name in (
                "home_text",
                "twin_text",
                "text_size",
                "constant_start",
                "constant_end",
                "trusted_size",
                "user_paddr",
                "user_size",
                "snapshot_paddr",
                "trusted_vaddr",
                "trusted_vaddr_end",
                "twin_constant_end",
                "ro_after_init",
                "ro_after_init_end",
                "modules_start",
                "modules_end",
                "per_cpu",
                "per_cpu_end",
            )
        ),
        ("statistics", _Statistics),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("twin", ctypes.c_uint32),
        ("vaddr", ctypes.c_uint64),
        ("paddr", ctypes.c_uint64),
        ("what", ctypes.c_uint64),
    ]


class _Region(ctypes.Structure):
    _fields_ = [("paddr", ctypes.c_uint64), ("size", ctypes.c_uint64), ("host", ctypes.c_uint64)]


@dataclass(frozen=True, slots=True)
class Event:
    """One finding: the instruction's virtual address, the guest-physical address it reached, and the label of
    what led there."""

    kind: EventKind
    vaddr: int
    paddr: int
    label: int


@dataclass(frozen=True, slots=True)
class AddressMap:
    """What the engine must know of the address space. `home_text` and `twin_text` are virtual; `constants`
    are the guest-physical addresses of home's text and `.rodata`; `trusted_vaddrs` the guard hole's part in
    use. Of the kernel image's window the twin provides what lies below `twin_constant_end` and not in
    `ro_after_init` (offsets from `_text`). `modules` is the snapshot's modules area, `module_room` where
    their trusted parts lie behind the twin, as offsets like the twin's. Addresses in `per_cpu` (offsets too)
    are names of per-CPU variables: nothing lies there. Code of modules reaches the snapshot's per-CPU
    variables by `window_names` (see per_cpu_window.py)."""

    home_text: int
    twin_text: int
    text_size: int
    constants: range
    trusted_size: int
    user: range
    snapshot_paddr: int
    trusted_vaddrs: range
    twin_constant_end: int
    ro_after_init: range = range(0)
    modules: range = range(0)
    module_room: range = range(0)
    per_cpu: range = range(0)
    window_names: range = range(0)

    @property
    def snapshot_statics(self) -> tuple[range, ...]:
        """Virtual addresses in the window where the snapshot's data lie."""
        text, hole, per_cpu = (
            self.twin_text,
            self.ro_after_init,
            self.per_cpu or range(self.text_size, self.text_size),
        )
        return (
            range(text + self.twin_constant_end, text + per_cpu.start),
            range(text + per_cpu.stop, text + self.text_size),
            range(text + hole.start, text + hole.stop),
        )


@cache
def library() -> ctypes.CDLL:
    """The native engine. EngineMissing if it was not built."""
    found = sorted(Path(__file__).parent.glob("_taint*.so"))
    if not found:
        raise EngineMissing(
            f"{Path(__file__).parent}: the taint engine was not built; install the package with pip (it needs a C compiler)"
        )
    native = ctypes.CDLL(str(found[0]))
    pointer, u64, u32, integer = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int
    for name, answer, arguments in (
        ("engine_layout", u64, []),
        ("engine_new", ctypes.POINTER(_Engine), [u64, u64, u64, u64]),
        ("engine_free", None, [pointer]),
        ("engine_reset", None, [pointer]),
        ("engine_regions", integer, [pointer, pointer, u32]),
        ("engine_add_area", integer, [pointer, u64, u64, u64]),
        ("engine_add_rule", u32, [pointer, ctypes.c_char_p]),
        ("engine_set_rule", None, [pointer, integer, u64, u32]),
        ("engine_begin", None, [pointer, integer]),
        ("engine_finish", None, [pointer]),
        ("engine_cancel", None, [pointer]),
        ("engine_clean", None, [pointer, u64, u64]),
        ("engine_labels", None, [pointer, u64, u64, pointer]),
        ("engine_node", u32, [pointer, u64, pointer, pointer]),
        ("engine_events", u32, [pointer, pointer, u32]),
        ("engine_loaded_by", u64, [pointer, u64]),
    ):
        function = getattr(native, name)
        function.restype, function.argtypes = answer, arguments
    if native.engine_layout() != 32 << 32 | ctypes.sizeof(_Engine):
        raise EngineMissing(
            f"{found[0]}: the taint engine is of another version than this package; install it again"
        )
    return native


class TaintEngine:
    """Shadow state over one machine. `code(twin, offset, size)` gives code bytes by their offset from
    `_text`; `trampolines` maps offsets of the twin's jumps home to their rules."""

    def __init__(
        self,
        machine: Machine,
        address_map: AddressMap,
        code: Callable[[bool, int, int], bytes],
        trampolines: dict[int, Rule],
    ) -> None:
        self._native = library()
        self._machine = machine
        self._address_map = address_map
        self._code = code
        self._trampolines = trampolines
        self.unknown: Counter[str] = Counter()
        self._decoders = (Decoder((), self.unknown), Decoder(address_map.snapshot_statics, self.unknown))
        self._module_decoder = self._decoders[True]
        self._areas: list[tuple[range, int]] = []
        self._numbers: dict[bytes, int] = {}
        self.learned: list[Instruction] = []
        """Instructions of the twin that were met for the first time."""
        self.fields: dict[int, int] = {}
        """For instructions of the twin with a static reference: offset from `_text` to that of the 32-bit
        field."""
        self._engine = self._native.engine_new(
            address_map.text_size,
            max(address_map.text_size, address_map.module_room.stop),
            address_map.trusted_size,
            len(address_map.user),
        )
        self._callbacks: list[object] = []
        self.on_foreign: Callable[[int, int], bool] = lambda _paddr, _value: True
        self.on_trampoline: Callable[[int, int, int], bool] = lambda _vaddr, _argument, _label: False
        self.failure: BaseException | None = None
        self._configure()
        self._hook()
        self.place_regions()

    def close(self) -> None:
        """Let the shadow state go. The machine must not run any more."""
        if self._engine:
            self._native.engine_free(self._engine)
            self._engine = None

    # --- setting up ---------------------------------------------------------------------------------------

    def _configure(self) -> None:
        state, address_map = self._engine.contents, self._address_map
        state.uc = self._machine.uc._uch
        state.read_register = ctypes.cast(uclib.uc_reg_read, ctypes.c_void_p).value
        state.stop = ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p).value
        state.on_miss = _ON_MISS(self._guarded(self._on_miss))
        state.on_foreign = _ON_FOREIGN(self._guarded(lambda paddr, value: self.on_foreign(paddr, value)))
        state.on_trampoline = _ON_TRAMPOLINE(
            self._guarded(lambda vaddr, number, label: self.on_trampoline(vaddr, number, label))
        )
        state.on_split = _ON_SPLIT(self._guarded(self._on_split))
        self._callbacks += [state.on_miss, state.on_foreign, state.on_trampoline, state.on_split]
        for number, name in enumerate(_GENERAL):
            state.register_numbers[number] = getattr(x86_const, "UC_X86_REG_" + name)
        state.home_text, state.twin_text = address_map.home_text, address_map.twin_text
        state.constant_start, state.constant_end = address_map.constants.start, address_map.constants.stop
        state.user_paddr, state.snapshot_paddr = address_map.user.start, address_map.snapshot_paddr
        state.twin_constant_end = address_map.twin_constant_end
        state.ro_after_init, state.ro_after_init_end = (
            address_map.ro_after_init.start,
            address_map.ro_after_init.stop,
        )
        state.modules_start, state.modules_end = address_map.modules.start, address_map.modules.stop
        state.per_cpu, state.per_cpu_end = address_map.per_cpu.start, address_map.per_cpu.stop
        state.trusted_vaddr, state.trusted_vaddr_end = (
            address_map.trusted_vaddrs.start,
            address_map.trusted_vaddrs.stop,
        )

    def _guarded(self, function: Callable[..., int]) -> Callable[..., int]:
        """No exception crosses native code: it is kept, and the run ends."""

        def call(*arguments: int) -> int:
            try:
                return int(function(*arguments))
            except BaseException as error:  # noqa: BLE001 - raised again when the run has ended
                self.failure = error
                self._machine.uc.emu_stop()
                return 0

        return call

    def _hook(self) -> None:
        """Register the native callbacks directly with Unicorn, past its Python binding."""
        add = uclib.uc_hook_add
        handle = ctypes.c_size_t()
        for kind, function in (
            (UC_HOOK_CODE, self._native.on_instruction),
            (UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, self._native.on_memory),
        ):
            status = add(
                self._machine.uc._uch,
                ctypes.byref(handle),
                kind,
                ctypes.cast(function, ctypes.c_void_p),
                ctypes.cast(self._engine, ctypes.c_void_p),
                ctypes.c_uint64(1),
                ctypes.c_uint64(0),
            )
            if status:
                raise RuntimeError(f"Unicorn refused a hook: error {status}")

    def place_regions(self) -> None:
        """Tell the engine where guest-physical memory lies in this process; again after more was placed."""
        regions = self._machine.memory.regions()
        array = (_Region * len(regions))(
            *(_Region(paddr, mapping.size, mapping.address) for paddr, mapping in regions)
        )
        self._native.engine_regions(self._engine, array, len(regions))

    def add_area(self, vaddrs: range, offset: int) -> None:
        """A module's trusted part lies at these virtual addresses; `offset` is its place behind the twin."""
        self._areas.append((vaddrs, offset))
        self._native.engine_add_area(self._engine, vaddrs.start, len(vaddrs), offset)

    def set_module_data(self, data: Iterable[range]) -> None:
        """Virtual addresses in the modules area where the snapshot's data lie, after an area was added."""
        address_map = self._address_map
        self._module_decoder = Decoder(
            (*address_map.snapshot_statics, *data), self.unknown, address_map.window_names
        )

    # --- rules --------------------------------------------------------------------------------------------

    def _on_miss(self, vaddr: int) -> bool:
        """Decode the block at `vaddr`."""
        found = self._place(vaddr)
        if found is None:
            return False
        twin, offset = found
        if twin and offset in self._trampolines:
            self._set_rule(True, offset, self._trampolines[offset])
            return True
        decoder = self._decoders[twin] if offset < self._address_map.text_size else self._module_decoder
        block = decoder.block(self._code(twin, offset, MAX_BLOCK * MAX_INSTRUCTION // 4), vaddr)
        for instruction in block:
            place = instruction.vaddr - vaddr + offset
            if twin and place in self._trampolines:
                break
            self._set_rule(twin, place, instruction.rule)
            if twin:
                self.learned.append(instruction)
                if instruction.static_field:
                    self.fields[place] = place + instruction.static_field
        return bool(block)

    def _on_split(self, vaddr: int, paddr: int) -> int:
        """Where the second page of an access is that the instruction at `vaddr` makes, the first part of it
        at `paddr`; 0 if it cannot be told."""
        found = self._place(vaddr)
        code = b"" if found is None else self._code(*found, MAX_INSTRUCTION)
        return second_page(self._machine, code, vaddr, paddr)

    def _place(self, vaddr: int) -> tuple[bool, int] | None:
        """Whether an instruction is the twin's (or a module's), and its offset from `_text`; None for no code
        of ours."""
        address_map = self._address_map
        for twin, text in ((False, address_map.home_text), (True, address_map.twin_text)):
            if 0 <= vaddr - text < address_map.text_size:
                return twin, vaddr - text
        return next(
            ((True, offset + vaddr - area.start) for area, offset in self._areas if vaddr in area), None
        )

    def _set_rule(self, twin: bool, offset: int, rule: Rule) -> None:
        packed = rule.pack()
        number = self._numbers.get(packed)
        if number is None:
            number = self._numbers[packed] = self._native.engine_add_rule(self._engine, packed)
        self._native.engine_set_rule(self._engine, twin, offset, number)

    def forget(self, instructions: Iterable[Instruction]) -> None:
        """Let these instructions of the twin count as never met."""
        for instruction in instructions:
            place = self._place(instruction.vaddr)
            if place is not None:
                self._native.engine_set_rule(self._engine, 1, place[1], 0)

    def forget_fields(self, fields: Iterable[int]) -> None:
        """As `forget`, for the instructions that these static references belong to: they were changed."""
        owners = {field: offset for offset, field in self.fields.items()}
        for field in fields:
            if field in owners:
                self._native.engine_set_rule(self._engine, 1, owners[field], 0)
                del self.fields[owners[field]]

    # --- running ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Drop all shadow state: what memory holds is judged by its place and value again."""
        self._native.engine_reset(self._engine)

    def begin(self, seed: bool = False) -> None:
        """Before a run: registers are clean, or if `seed` judged by their values."""
        self._native.engine_begin(self._engine, seed)

    def finish(self) -> None:
        """After a run that ended: the last instruction takes effect."""
        self._native.engine_finish(self._engine)

    def cancel(self) -> None:
        """After an exception: the instruction under way has not taken effect."""
        self._native.engine_cancel(self._engine)

    def clean(self, paddr: int, size: int) -> None:
        """Somebody outside the machine wrote here."""
        self._native.engine_clean(self._engine, paddr, size)

    @property
    def statistics(self) -> dict[str, int]:
        """Counts since the engine was made."""
        return {item[0]: getattr(self._engine.contents.statistics, item[0]) for item in _Statistics._fields_}

    def events(self) -> list[Event]:
        """What was noticed since `begin`, each instruction once."""
        array = (_Event * _MAX_EVENTS)()
        count = self._native.engine_events(self._engine, array, _MAX_EVENTS)
        return [Event(EventKind(item.kind), item.vaddr, item.paddr, item.what) for item in array[:count]]

    # --- labels -------------------------------------------------------------------------------------------

    def labels(self, paddr: int, size: int) -> memoryview:
        """The labels of `size` bytes from a guest-physical address, as 64-bit numbers."""
        array = (ctypes.c_uint64 * size)()
        self._native.engine_labels(self._engine, paddr, size, array)
        return memoryview(array).cast("B").cast("Q")

    def loaded_by(self, paddr: int) -> int:
        """Virtual address of the static reference that last loaded the word at `paddr`; 0 if unknown."""
        return int(self._native.engine_loaded_by(self._engine, paddr))

    def origins(self, label: int) -> list[tuple[int, int]]:
        """The snapshot's bytes that a label names: ascending, disjoint `(paddr in the image, size)`."""
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

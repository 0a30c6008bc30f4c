"""The native engine as ctypes has it: its structures, callbacks and functions (native/engine.h, taint.c)."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unicorn import x86_const
from unicorn.unicorn_const import UC_HOOK_CODE, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE
from unicorn.unicorn_py3.unicorn import uclib

from hybridbridge_vol.errors import EngineMissing
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.registers import GENERAL_REGISTERS

RULE_SIZE = 32
"""Bytes of the engine's `struct rule` (`rules.RULE_FORMAT`)."""
MAX_EVENTS = 256
"""Events that the engine keeps of one run."""

OnMiss = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64)
OnForeign = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64)
OnTrampoline = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint64)
OnSplit = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)

_COUNTS = (
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
_ADDRESSES = (
    "home_text",
    "twin_text",
    "text_size",
    "constant_start",
    "constant_end",
    "trusted_size",
    "user_paddr",
    "user_size",
    "snapshot_paddr",
    "upper_half",
    "trusted_vaddr",
    "trusted_vaddr_end",
    "twin_constant_end",
    "ro_after_init",
    "ro_after_init_end",
    "modules_start",
    "modules_end",
    "per_cpu",
    "per_cpu_end",
    "page_offset_word",
    "vmemmap_word",
)


class _Statistics(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in _COUNTS]


class EngineStruct(ctypes.Structure):
    """The part of `struct engine` that Python fills in and reads."""

    _fields_ = [
        ("uc", ctypes.c_void_p),
        ("read_register", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("on_miss", OnMiss),
        ("on_foreign", OnForeign),
        ("on_trampoline", OnTrampoline),
        ("on_split", OnSplit),
        ("register_numbers", ctypes.c_int32 * len(GENERAL_REGISTERS)),
        *((name, ctypes.c_uint64) for name in _ADDRESSES),
        ("statistics", _Statistics),
    ]


class EventStruct(ctypes.Structure):
    """`struct event`."""

    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("twin", ctypes.c_uint32),
        ("vaddr", ctypes.c_uint64),
        ("paddr", ctypes.c_uint64),
        ("what", ctypes.c_uint64),
    ]


class _Region(ctypes.Structure):
    """`struct mapped_region`."""

    _fields_ = [("paddr", ctypes.c_uint64), ("size", ctypes.c_uint64), ("host", ctypes.c_uint64)]


if TYPE_CHECKING:
    # with capstone, which FAST-BRIDGE does not need
    from hybridbridge_vol.bridge.taint.address_map import AddressMap

    EnginePointer = ctypes._Pointer[EngineStruct]
_POINTER, _INTEGER, _U32, _U64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint64
_FUNCTIONS: tuple[tuple[str, Any, list[Any]], ...] = (
    ("engine_layout", _U64, []),
    ("engine_new", ctypes.POINTER(EngineStruct), [_U64, _U64, _U64, _U64]),
    ("engine_free", None, [_POINTER]),
    ("engine_reset", None, [_POINTER]),
    ("engine_regions", _INTEGER, [_POINTER, _POINTER, _U32]),
    ("engine_add_area", _INTEGER, [_POINTER, _U64, _U64, _U64]),
    ("engine_add_rule", _U32, [_POINTER, ctypes.c_char_p]),
    ("engine_set_rule", None, [_POINTER, _INTEGER, _U64, _U32]),
    ("engine_begin", None, [_POINTER, _INTEGER]),
    ("engine_finish", None, [_POINTER]),
    ("engine_cancel", None, [_POINTER]),
    ("engine_clean", None, [_POINTER, _U64, _U64]),
    ("engine_labels", None, [_POINTER, _U64, _U64, _POINTER]),
    ("engine_node", _U32, [_POINTER, _U64, _POINTER, _POINTER]),
    ("engine_events", _U32, [_POINTER, _POINTER, _U32]),
    ("engine_loaded_by", _U64, [_POINTER, _U64]),
    ("engine_watch_reads", _INTEGER, [_POINTER, _U64]),
    ("engine_take_reads", _U64, [_POINTER, _POINTER]),
    ("trusted_address_in", ctypes.c_int64, [_POINTER, _U64, _POINTER, _U32]),
)
"""Name, type of the answer, types of the arguments."""


@cache
def library() -> ctypes.CDLL:
    """The native engine. EngineMissing if it was not built, or is of another version."""
    folder = Path(__file__).parent
    found = sorted(folder.glob("_taint*.so"))
    if not found:
        raise EngineMissing(
            f"{folder}: the taint engine was not built; install the package with pip (it needs a C compiler)"
        )
    native = ctypes.CDLL(str(found[0]))
    for name, answer, arguments in _FUNCTIONS:
        function = getattr(native, name)
        function.restype, function.argtypes = answer, arguments
    if native.engine_layout() != RULE_SIZE << 32 | ctypes.sizeof(EngineStruct):
        raise EngineMissing(
            f"{found[0]}: the taint engine is of another version than this package; install it again"
        )
    return native


def new_engine(machine: Machine, address_map: AddressMap) -> EnginePointer:
    """An engine for the code that a machine runs; its callbacks to Python are not set yet."""
    engine: EnginePointer = library().engine_new(
        address_map.text_size, address_map.twin_size, address_map.trusted_size, len(address_map.user)
    )
    struct = engine.contents
    struct.uc = machine.uc._uch
    struct.read_register = ctypes.cast(uclib.uc_reg_read, ctypes.c_void_p).value
    struct.stop = ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p).value
    for number, name in enumerate(GENERAL_REGISTERS):
        struct.register_numbers[number] = getattr(x86_const, "UC_X86_REG_" + name)
    for name, value in address_map.engine_fields().items():
        setattr(struct, name, value)
    return engine


def add_hooks(machine: Machine, engine: EnginePointer) -> None:
    """Let Unicorn call the engine before each instruction and at each memory access: directly, because its
    Python binding would call Python in between. RuntimeError if it refuses."""
    native, handle = library(), ctypes.c_size_t()
    for kind, function in (
        (UC_HOOK_CODE, native.on_instruction),
        (UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, native.on_memory),
    ):
        status = uclib.uc_hook_add(
            machine.uc._uch,
            ctypes.byref(handle),
            kind,
            ctypes.cast(function, ctypes.c_void_p),
            ctypes.cast(engine, ctypes.c_void_p),
            ctypes.c_uint64(1),  # from 1 to 0: everywhere
            ctypes.c_uint64(0),
        )
        if status:
            raise RuntimeError(f"Unicorn refused a hook: error {status}")


def set_regions(engine: EnginePointer, regions: list[tuple[int, HostMapping]]) -> None:
    """Where guest-physical memory is in this process: `(paddr, mapping)`, ascending."""
    array = (_Region * len(regions))(
        *(_Region(paddr, mapping.size, mapping.address) for paddr, mapping in regions)
    )
    library().engine_regions(engine, array, len(regions))

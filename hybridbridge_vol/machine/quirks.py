"""A fault of Unicorn's that we must work around: `old_exception` in its CPU state.

Unicorn delivers no exception through the IDT and never clears QEMU's `env->old_exception`
(target/i386/cpu.h), so the second page fault of a run would arrive as a double fault. The field is cleared in
a saved context; its offset there is found at run time, by comparing contexts around two probe programs, so no
header is needed.
"""

from __future__ import annotations

import ctypes
import functools

from unicorn import Uc
from unicorn.unicorn_const import UC_ARCH_X86, UC_HOOK_INTR, UC_MODE_64

from hybridbridge_vol.units import PAGE_SIZE

_CODE = 0x1000
_NO_EXCEPTION = b"\xff\xff\xff\xff"
_PROBES = (
    (bytes.fromhex("31c9f7f1"), 0),  # xor ecx, ecx; div ecx: #DE
    (bytes.fromhex("66b8f8ff8ed0"), 13),  # mov ax, 0xfff8; mov ss, ax: #GP
)


def _context_bytes(uc: Uc) -> bytes:
    context = uc.context_save()
    return ctypes.string_at(context._context, context.size)


@functools.cache
def old_exception_offset() -> int:
    """Offset of `old_exception` in a saved context of this build of Unicorn.

    Raises RuntimeError if the probes do not single out one place: then this Unicorn is not one we know.
    """
    uc = Uc(UC_ARCH_X86, UC_MODE_64)  # one for all probes: an emulator's first run takes 10 ms
    uc.mem_map(_CODE, PAGE_SIZE)
    uc.hook_add(UC_HOOK_INTR, lambda machine, _number, _data: machine.emu_stop())
    fresh = uc.context_save()
    candidates = set.intersection(*(_changed_to(uc, fresh, code, vector) for code, vector in _PROBES))
    if len(candidates) != 1:
        raise RuntimeError("this build of Unicorn is not supported: old_exception not found in its context")
    return candidates.pop()


def _changed_to(uc: Uc, fresh: object, code: bytes, vector: int) -> set[int]:
    """Context offsets that hold -1 in the context `fresh` and `vector` after `code` raised that exception."""
    uc.context_restore(fresh)
    uc.mem_write(_CODE, code)
    uc.ctl_remove_cache(_CODE, _CODE + PAGE_SIZE)
    before = _context_bytes(uc)
    uc.emu_start(_CODE, _CODE + PAGE_SIZE, count=4)
    after = _context_bytes(uc)
    wanted = vector.to_bytes(4, "little")
    return {
        offset
        for offset in range(0, len(before) - 3, 4)
        if before[offset : offset + 4] == _NO_EXCEPTION and after[offset : offset + 4] == wanted
    }


def forget_exception(uc: Uc, scratch: object) -> None:
    """Clear `old_exception` of `uc`; `scratch` is a context of this emulator to work in."""
    uc.context_update(scratch)
    address = scratch._context.value + old_exception_offset()  # type: ignore[attr-defined]
    ctypes.c_int32.from_address(address).value = -1
    uc.context_restore(scratch)

"""The code of trampolines: jumps home, answers of our own, guarded frees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hybridbridge_vol.bridge.text.policy import Trampoline
from hybridbridge_vol.bridge.text.twin_text import Patch, jump, returning

GUARD_HOLE_SHIFT = 43
"""The guard hole is 8 TiB long: the bits above tell the trusted side's objects from all others."""

_MOVE_ARGUMENT_TO_RAX = (
    b"\x48\x89\xf8",
    b"\x48\x89\xf0",
    b"\x48\x89\xd0",
    b"\x48\x89\xc8",
)  # rdi, rsi, rdx, rcx
_RETURN_ZERO = b"\x31\xc0\xc3"  # xor eax, eax; ret
_HALT = b"\xfa\xf4"  # cli; hlt
_RETURN_ARGUMENT = b"\x48\x89\xf8\xc3"  # mov rax, rdi; ret


def free_if_trusted(argument: int, from_vaddr: int, to_vaddr: int, guard_hole: int) -> bytes:
    """Code at `from_vaddr` that goes on at `to_vaddr` if the argument (counted from 0) is an object of the
    trusted side, and returns otherwise. `guard_hole` is the virtual address at which the guard hole begins.

    `mov rax, ARG; shr rax, 43; cmp eax, TAG; je home; ret`
    """
    code = _MOVE_ARGUMENT_TO_RAX[argument] + bytes((0x48, 0xC1, 0xE8, GUARD_HOLE_SHIFT))
    code += b"\x3d" + (guard_hole >> GUARD_HOLE_SHIFT).to_bytes(4, "little")
    distance = to_vaddr - (from_vaddr + len(code) + 6)
    return code + b"\x0f\x84" + (distance & 0xFFFFFFFF).to_bytes(4, "little") + b"\xc3"


def answer(action: str, value: int) -> bytes:
    """The code of a trampoline that does not go home: "return", "argument" or "halt"."""
    if action == "halt":
        return _HALT
    if action == "argument":
        return _RETURN_ARGUMENT
    return returning(value) if value else _RETURN_ZERO


def twin_trampolines(
    trampolines: Iterable[Trampoline], twin_text_vaddr: int, home_text_vaddr: int, guard_hole: int
) -> Iterator[Patch]:
    """The code of every trampoline of the twin."""
    for trampoline in trampolines:
        here, home = twin_text_vaddr + trampoline.offset, home_text_vaddr + trampoline.offset
        if trampoline.action == "home":
            yield trampoline.offset, jump(here, home)
        elif trampoline.action == "jump":
            yield trampoline.offset, jump(here, twin_text_vaddr + trampoline.value)
        elif trampoline.action == "free":
            yield trampoline.offset, free_if_trusted(trampoline.value, here, home, guard_hole)
        else:
            yield trampoline.offset, answer(trampoline.action, trampoline.value)


def home_trampolines(trampolines: Iterable[Trampoline]) -> Iterator[Patch]:
    """What the policy changes in the trusted kernel's own text."""
    for trampoline in trampolines:
        if trampoline.both_sides and trampoline.action in ("return", "argument", "halt"):
            yield trampoline.offset, answer(trampoline.action, trampoline.value)

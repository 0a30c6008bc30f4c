"""The code of trampolines: jumps home, answers of our own, guarded frees."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from errno import EINTR

from hybridbridge_vol.bridge.text.copy_log import log_or_go, note
from hybridbridge_vol.bridge.text.file_system_form import FileSystemForm
from hybridbridge_vol.bridge.text.policy import FREE_SIZE, JUMP_SIZE, LONGEST_TRAMPOLINE, Trampoline
from hybridbridge_vol.bridge.text.slab_fields import SlabFields
from hybridbridge_vol.bridge.text.twin_text import Patch, jump, returning

GUARD_HOLE_SHIFT = 43
"""The guard hole is 8 TiB long: the bits above tell the trusted side's objects from all others."""

_MOVE_ARGUMENT_TO_RAX = (
    b"\x48\x89\xf8",
    b"\x48\x89\xf0",
    b"\x48\x89\xd0",
    b"\x48\x89\xc8",
)  # rdi, rsi, rdx, rcx
_MOVE_ARGUMENT_TO_RDI = (b"", b"\x48\x89\xf7", b"\x48\x89\xd7", b"\x48\x89\xcf")  # from rsi, rdx, rcx
_GFP_ZEROED = 0xDC0
"""GFP_KERNEL | __GFP_ZERO (include/linux/gfp.h, since 6.8 gfp_types.h; the same bits from 5.10 to 7.2)."""
_LOAD_FIELD = b"\x48\x8b\x87"  # mov rax, [rdi + disp32]
_COMPARE_ARGUMENT = (b"\x83\xff", b"\x83\xfe", b"\x83\xfa", b"\x83\xf9", b"\x41\x83\xf8")
"""cmp edi, esi, edx, ecx, r8d with a byte."""
_UNLOCK_PAGE = b"\x80\x22\xfe"  # and byte [rdx], ~1: PG_locked (include/linux/page-flags.h)
_DROP = 2
"""enum behavior, mm/filemap.c."""
_RETURN = b"\xc3"
_RETURN_ZERO = b"\x31\xc0\xc3"  # xor eax, eax; ret
_HALT = b"\xfa\xf4"  # cli; hlt
_SET_BITS = b"\x81\x0f"  # or dword [rdi], imm32
_RETURN_ARGUMENT = b"\x48\x89\xf8\xc3"  # mov rax, rdi; ret


def free_if_trusted(argument: int, from_vaddr: int, to_vaddr: int, guard_hole: int) -> bytes:
    """Code at `from_vaddr` that goes on at `to_vaddr` if the argument (counted from 0) is an object of the
    trusted side, and returns otherwise."""
    return _go_if_trusted(argument, from_vaddr, to_vaddr, guard_hole) + _RETURN


def _go_if_trusted(
    argument: int, from_vaddr: int, to_vaddr: int, guard_hole: int, load: bytes = b""
) -> bytes:
    """The same without the return: what follows is for all other objects. `guard_hole` is the virtual address
    at which the guard hole begins. `load` brings what is looked at into rax, in the argument's place.

    `mov rax, ARG; shr rax, 43; cmp eax, TAG; je home`
    """
    code = (load or _MOVE_ARGUMENT_TO_RAX[argument]) + bytes((0x48, 0xC1, 0xE8, GUARD_HOLE_SHIFT))
    code += b"\x3d" + (guard_hole >> GUARD_HOLE_SHIFT).to_bytes(4, "little")
    distance = to_vaddr - (from_vaddr + len(code) + 6)
    return code + b"\x0f\x84" + (distance & 0xFFFFFFFF).to_bytes(4, "little")


def by_owner(
    argument: int, from_vaddr: int, home_vaddr: int, else_vaddr: int | None, guard_hole: int
) -> bytes:
    """Code at `from_vaddr` that goes on at `home_vaddr` if the argument (counted from 0) is an object of the
    trusted side, and else at `else_vaddr`, a function with the same arguments; without one it returns 0."""
    code = _go_if_trusted(argument, from_vaddr, home_vaddr, guard_hole)
    return code + (_RETURN_ZERO if else_vaddr is None else jump(from_vaddr + len(code), else_vaddr))


def by_mark(from_vaddr: int, home_vaddr: int, else_vaddr: int | None, guard_hole: int, mark_at: int) -> bytes:
    """As `by_owner` for the first argument; also an object of the snapshot's goes home whose word at offset
    `mark_at`, the link to the one before it on a list, has been made one to the trusted side."""
    code = _go_if_trusted(0, from_vaddr, home_vaddr, guard_hole)
    load = _LOAD_FIELD + mark_at.to_bytes(4, "little")
    code += _go_if_trusted(0, from_vaddr + len(code), home_vaddr, guard_hole, load)
    return code + (_RETURN_ZERO if else_vaddr is None else jump(from_vaddr + len(code), else_vaddr))


def allocate_by_size(
    from_vaddr: int, home_vaddr: int, kmalloc_vaddr: int, fields: SlabFields, guard_hole: int
) -> bytes:
    """Code at `from_vaddr` that goes on at `home_vaddr` if the first argument is a slab cache of the trusted
    side. Of another cache it takes the size and the constructor: the object is zeroed memory of the trusted
    `__kmalloc` (`kmalloc_vaddr`), constructed by the cache's own function."""
    code = _go_if_trusted(0, from_vaddr, home_vaddr, guard_hole)
    code += b"\x53"  # push rbx: the stack is aligned now
    code += b"\x48\x8b\x9f" + fields.constructor.to_bytes(4, "little")  # mov rbx, [rdi + constructor]
    code += b"\x8b\xbf" + fields.object_size.to_bytes(4, "little")  # mov edi, [rdi + object_size]
    code += b"\xbe" + _GFP_ZEROED.to_bytes(4, "little")  # mov esi, flags
    code += _call(from_vaddr + len(code), kmalloc_vaddr)
    construct = b"\x50\x48\x83\xec\x08\x48\x89\xc7\xff\xd3\x48\x83\xc4\x08\x58"
    # push rax; sub rsp, 8; mov rdi, rax; call rbx; add rsp, 8; pop rax
    skip_if_null = b"\x48\x85\xc0\x74" + bytes((len(construct),))  # test rax, rax; je
    skip_if_none = b"\x48\x85\xdb\x74" + bytes((len(skip_if_null) + len(construct),))  # test rbx, rbx; je
    return code + skip_if_none + skip_if_null + construct + b"\x5b\xc3"  # pop rbx; ret


def release_by_owner(
    argument: int, from_vaddr: int, home_vaddr: int, kfree_vaddr: int, guard_hole: int
) -> bytes:
    """Code at `from_vaddr` of a function whose first argument is a slab cache. An object of the snapshot's,
    the given argument, is left alone; one of the trusted side's goes to `home_vaddr` with its cache, or to
    `kfree_vaddr` if the cache is the snapshot's (see `allocate_by_size`)."""
    code = free_if_trusted(argument, from_vaddr, from_vaddr + FREE_SIZE, guard_hole)
    code += _go_if_trusted(0, from_vaddr + len(code), home_vaddr, guard_hole)
    code += _MOVE_ARGUMENT_TO_RDI[argument]
    return code + jump(from_vaddr + len(code), kfree_vaddr)


def _call(from_vaddr: int, to_vaddr: int) -> bytes:
    return b"\xe8" + (to_vaddr - (from_vaddr + JUMP_SIZE) & 0xFFFFFFFF).to_bytes(4, "little")


def lock_at_home(value: int, from_vaddr: int, to_vaddr: int) -> bytes:
    """Code at `from_vaddr` that calls the function at `to_vaddr`, which has the same arguments, and returns
    the 32-bit `value`: `sub rsp, 8; call; mov eax, VALUE; add rsp, 8; ret`."""
    aligned = b"\x48\x83\xec\x08"
    called = _call(from_vaddr + len(aligned), to_vaddr)
    return aligned + called + returning(value)[:-1] + b"\x48\x83\xc4\x08\xc3"


def wait_in_vain(argument: int) -> bytes:
    """Code that returns -EINTR; but halts if the argument, counted from 0, says that the caller drops its
    reference: it would look the page up again, and wait again, for ever."""
    interrupted = returning(-EINTR)
    skip = b"\x74" + bytes((len(interrupted),))  # je
    return _COMPARE_ARGUMENT[argument] + bytes((_DROP,)) + skip + interrupted + _HALT


def answer(action: str, value: int) -> bytes:
    """The code of a trampoline that goes nowhere else: "return", "argument", "seize", "halt" or "note"."""
    if action == "note":
        return note()
    if action == "halt":
        return _HALT
    if action == "argument":
        return _RETURN_ARGUMENT
    if action == "seize":
        return _SET_BITS + (value & 0xFFFFFFFF).to_bytes(4, "little") + _RETURN_ARGUMENT
    return returning(value) if value else _RETURN_ZERO


class TwinTrampolines:
    """The code of the trampolines of the twin, which are given in ascending order: thousands, of which an
    answer meets some dozen."""

    longest = LONGEST_TRAMPOLINE

    def __init__(
        self,
        trampolines: Sequence[Trampoline],
        twin_text_vaddr: int,
        home_text_vaddr: int,
        guard_hole: int,
        slab_fields: SlabFields | None,
        file_systems: FileSystemForm,
    ) -> None:
        self._trampolines = trampolines
        self._places = (twin_text_vaddr, home_text_vaddr, guard_hole)
        self._forms = (slab_fields, file_systems)

    def patches(self, start: int, stop: int) -> Iterator[Patch]:
        """Of those that begin in `[start, stop)`, offsets from `_text`."""
        index = bisect_left(self._trampolines, start, key=_offset)
        while index < len(self._trampolines) and self._trampolines[index].offset < stop:
            trampoline = self._trampolines[index]
            yield trampoline.offset, _twin_code(trampoline, *self._places, *self._forms)
            index += 1


def _offset(trampoline: Trampoline) -> int:
    return trampoline.offset


def _twin_code(
    trampoline: Trampoline,
    twin_text_vaddr: int,
    home_text_vaddr: int,
    guard_hole: int,
    slab_fields: SlabFields | None,
    file_systems: FileSystemForm,
) -> bytes:
    value, target = trampoline.value, trampoline.target
    here, home = twin_text_vaddr + trampoline.offset, home_text_vaddr + trampoline.offset
    twin_target = twin_text_vaddr + target if target else None
    home_target = home_text_vaddr + target
    match trampoline.action:
        case "home":
            return jump(here, home)
        case "jump":
            return jump(here, twin_text_vaddr + target)
        case "owner":
            return by_owner(value, here, home, twin_target, guard_hole)
        case "marked":
            return by_mark(here, home, twin_target, guard_hole, file_systems.mark_at)
        case "allocate":
            if slab_fields is None:
                return jump(here, home)
            return allocate_by_size(here, home, home_target, slab_fields, guard_hole)
        case "release":
            return release_by_owner(value, here, home, home_target, guard_hole)
        case "log":
            return log_or_go(value, here, home, home_target if target else None)
        case "wait":
            return wait_in_vain(value)
        case "unlock":
            return _UNLOCK_PAGE + returning(value)
        case "free":
            return free_if_trusted(value, here, home, guard_hole)
        case "lock":
            return lock_at_home(value, here, home_target)
    return answer(trampoline.action, value)


def home_trampolines(trampolines: Iterable[Trampoline]) -> Iterator[Patch]:
    """What the policy changes in the trusted kernel's own text."""
    for trampoline in trampolines:
        if trampoline.both_sides and trampoline.action in ("return", "argument", "seize", "halt"):
            yield trampoline.offset, answer(trampoline.action, trampoline.value)

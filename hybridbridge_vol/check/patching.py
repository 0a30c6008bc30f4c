"""Telling what boot-time patching did to a kernel's text from everything else.

A `Patcher` compares the text that the trusted kernel would have at the snapshot's addresses with the text
that is there. At each patch site that the kernel's own tables list it accepts exactly the forms that the
kernel itself may write there; what is accepted is copied into the expected text. Whatever differs afterwards
is unexplained.

Offsets count from `_text`. Sources: arch/x86/kernel/alternative.c, static_call.c, jump_label.c, ftrace.c,
paravirt.c of 5.10, 6.1 and 6.12; 7.x as its binaries show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import groupby

from hybridbridge_vol.check.instructions import NOPS, Meaning, Reader
from hybridbridge_vol.check.patch_tables import Alternative, PatchTables
from hybridbridge_vol.check.surroundings import Surroundings
from hybridbridge_vol.units import U64

CALL_SIZE = 5
RETURNS = b"\xc3\xcc\xcc\xcc\xcc"
CODE_SEGMENT = 0x2E
"""The prefix that clang puts before a jump to the return thunk: the site then has a byte more."""
NOP5 = b"\x0f\x1f\x44\x00\x00"
_CALL, _JUMP = 0xE8, 0xE9
_INDIRECT_CALL, _INDIRECT_CALL_SIZE = b"\xff\x15", 6
"""`call [rip + X]`."""
_LOCK, _DATA_SEGMENT = 0xF0, 0x3E
_SEALED = (b"\x0f\x1f\x40\xd6", b"\x66\x0f\x1f\x00")
"""gen_endbr_poison(), arch/x86/include/asm/ibt.h: `nopl -42(%rax)`; an ordinary nop before 6.2."""
_WARNING = b"\x67\x48\x0f\xb9\x3a"
"""`ud1 (%edx),%rdi`, which replaces a call of __WARN_trap in 7.x: the trap itself."""
_ZERO_RESULT = (("xor eax, eax",), ("xor rax, rax",))
_WRAPPER = "__raw_callee_save_"
"""PV_CALLEE_SAVE_REGS_THUNK, arch/x86/include/asm/paravirt.h: the function of the name behind it, with its
registers saved."""
_USER_PTR_MAX = ((1 << 47) - 4096, (1 << 56) - 4096)
"""TASK_SIZE_MAX with 4 and with 5 levels of paging, arch/x86/include/asm/page_64.h."""


class Patcher:
    """See the module's docstring.

    `expected` is the trusted text as linked, relocated to `text_vaddr`, where the snapshot has it; `found` is
    the snapshot's text, and may be shorter.
    """

    def __init__(
        self,
        expected: bytearray,
        found: bytes | bytearray,
        text_vaddr: int,
        reader: Reader,
        around: Surroundings,
    ) -> None:
        self.expected = expected
        self.found = found
        self._text_vaddr = text_vaddr
        self._reader = reader
        self._around = around
        self._word = around.word
        self._function = around.function
        self._in_slot = cache(self._function_in_slot)
        self.unread: set[int] = set()
        """Sites that differ and whose variable the image lacks."""

    def accept(self, tables: PatchTables) -> None:
        """Copy every form that the tables allow into the expected text."""
        self._locks(tables.locks)
        self._fixed(tables.seals, 4, _SEALED)
        self._fixed(tables.mcount, CALL_SIZE, (NOP5,), lambda found: found == ())
        self._returns(tables.returns)
        self._retpolines(tables.retpolines)
        for code, size, target, _key in tables.branches:
            self._consider(code, size, lambda target=target: ((), (f"jmp {self._vaddr(target):#x}",)))  # type: ignore[misc]
        for call in tables.static_calls:
            self._static_call(call.code, call.key, call.tail)
        for constant in tables.constants:
            self._constant(constant.code, constant.size, constant.name)
        for code, size in tables.paravirt:
            if not self._calls_slot(code, size):
                self._consider(code, size, lambda code=code, size=size: self._through_slot(code, size))  # type: ignore[misc]
        for code, choices in groupby(sorted(tables.alternatives), lambda choice: choice.code):
            self._alternative(code, list(choices))

    # --- one site -----------------------------------------------------------------------------------------

    def _vaddr(self, offset: int) -> int:
        return self._text_vaddr + offset & U64

    def _differs(self, code: int, size: int) -> bool:
        end = code + size
        return end <= len(self.found) and self.found[code:end] != self.expected[code:end]

    def _take(self, code: int, size: int) -> None:
        self.expected[code : code + size] = self.found[code : code + size]

    def _meaning_found(self, code: int, size: int) -> Meaning:
        return self._reader.meaning(bytes(self.found[code : code + size]), self._vaddr(code))

    def _meaning_expected(self, code: int, size: int) -> Meaning:
        return self._reader.meaning(bytes(self.expected[code : code + size]), self._vaddr(code))

    def _branches_to(self, code: int, size: int, opcode: int, vaddr: int) -> bool:
        """Whether the snapshot has a plain call or jump there (`opcode` with 32 bits), and nothing but nops
        behind it. This decides most sites without decoding them."""
        end = code + CALL_SIZE
        distance = int.from_bytes(self.found[code + 1 : end], "little", signed=True)
        rest = bytes(self.found[end : code + size])
        return (
            self.found[code] == opcode and self._vaddr(end + distance) == vaddr and (not rest or rest in NOPS)
        )

    def _consider(self, code: int, size: int, forms: Callable[[], Iterable[Meaning]]) -> None:
        if self._differs(code, size) and self._meaning_found(code, size) in tuple(forms()):
            self._take(code, size)

    # --- each table ---------------------------------------------------------------------------------------

    def _fixed(
        self,
        sites: Iterable[int],
        size: int,
        forms: tuple[bytes, ...],
        means: Callable[[Meaning], bool] = lambda _found: False,
    ) -> None:
        """Sites that all take one of the same forms; quick, for there are tens of thousands."""
        expected, found, end = self.expected, self.found, len(self.found) - size
        for site in sites:
            if site > end:
                continue
            there = found[site : site + size]
            if there == expected[site : site + size]:
                continue
            if there in forms or means(self._reader.meaning(bytes(there), self._vaddr(site))):
                expected[site : site + size] = there

    def _returns(self, sites: Iterable[int]) -> None:
        """A site is as long as the jump that was linked, and what is behind `ret` is filled up."""
        by_size: tuple[list[int], list[int]] = ([], [])
        for site in sites:
            by_size[site < len(self.expected) and self.expected[site] == CODE_SEGMENT].append(site)
        for longer, some in enumerate(by_size):
            form = RETURNS + RETURNS[-1:] * longer
            self._fixed(some, len(form), (form,), lambda found: found == ("ret",))

    def _locks(self, sites: Iterable[int]) -> None:
        expected, found = self.expected, self.found
        for site in sites:
            if site < len(found) and found[site] == _DATA_SEGMENT and expected[site] == _LOCK:
                expected[site] = _DATA_SEGMENT

    def _retpolines(self, sites: Iterable[int]) -> None:
        """A call of, or jump to a thunk; a conditional jump becomes the opposite one around an indirect
        jump."""
        for site in sites:
            if site + CALL_SIZE + 1 > len(self.found):
                continue
            conditional = self.expected[site] == 0x0F
            size = CALL_SIZE + (conditional or self.expected[site] == CODE_SEGMENT)
            if not self._differs(site, size):
                continue
            there = self._meaning_found(site, size)
            wanted = self._meaning_expected(site, size)
            if there == wanted or (
                conditional and there[1:] == (self._thunk_behind(wanted),) and _skips(wanted[0], there[0])
            ):
                self._take(site, size)

    def _thunk_behind(self, wanted: Meaning) -> str:
        target = int(wanted[0].split()[-1], 16)
        return f"jmp {self._reader.register(target)}"

    def _static_call(self, code: int, key: int, tail: bool) -> None:
        if _is_conditional(self.expected, code):
            self._conditional_static_call(code, key)
            return
        if not self._differs(code, CALL_SIZE):
            return
        function = self._word(self._vaddr(key))
        if function == 0:
            if self.found[code : code + CALL_SIZE] == (RETURNS if tail else NOP5):  # as nearly always
                self._take(code, CALL_SIZE)
            self._consider(code, CALL_SIZE, lambda: ((("ret",) if tail else ()),))
            return
        name = None if function is None else self._function(function)
        if function is None:
            self.unread.add(code)
        if function is None or name is None:
            return
        if self._branches_to(code, CALL_SIZE, _JUMP if tail else _CALL, function) or (
            name == "__WARN_trap" and self.found[code : code + CALL_SIZE] == _WARNING
        ):
            self._take(code, CALL_SIZE)
            return
        self._consider(code, CALL_SIZE, lambda: self._static_call_forms(function, name, tail))

    def _conditional_static_call(self, code: int, key: int) -> None:
        """clang makes a conditional jump of a tail call: only its target changes, and without a function that
        returns (`__static_call_transform`, JCC)."""
        size = CALL_SIZE + 1
        function = self._word(self._vaddr(key))
        if not self._differs(code, size) or self.found[code + 1] != self.expected[code + 1]:
            return
        if function is None:
            return self.unread.add(code)
        distance = int.from_bytes(self.found[code + 2 : code + size], "little", signed=True)
        target = self._vaddr(code + size + distance)
        empty = (self._around.address("__static_call_return"), *self._reader.return_thunks)
        leads = target in empty if function == 0 else target == function and self._function(function)
        if leads and self.found[code] == self.expected[code]:
            self._take(code, size)

    def _static_call_forms(self, function: int, name: str, tail: bool) -> Iterator[Meaning]:
        """What `__static_call_transform` (arch/x86/kernel/static_call.c) makes of a call of a function."""
        yield (f"{'jmp' if tail else 'call'} {function:#x}",)
        if name == "__static_call_return0":
            yield from _ZERO_RESULT
        body = self._body(function, name) if name.startswith(_WRAPPER) and not tail else None
        if body is not None:  # queued_spin_unlock, a static call in 7.3
            yield body

    def _constant(self, code: int, size: int, name: str) -> None:
        if not self._differs(code, size):
            return
        there = int.from_bytes(self.found[code : code + size], "little")
        variable = self._around.address(name)
        if variable is None:  # it was optimised away
            fits = size == 8 and self._fits_without_variable(name, there)
        else:
            value = self._word(variable)
            if value is None:
                self.unread.add(code)
            fits = value is not None and there == value & (1 << 8 * size) - 1
        if fits:
            self._take(code, size)

    def _fits_without_variable(self, name: str, there: int) -> bool:
        """In 7.x the variables without a symbol are slab caches (`__filp_cache` and others), and in 7.3 the
        table `__futex_queues`."""
        if name == "USER_PTR_MAX":
            return there in _USER_PTR_MAX
        return (
            self._around.is_slab_cache(there) if name.endswith("_cache") else self._around.is_allocated(there)
        )

    def _function_in_slot(self, slot_vaddr: int) -> tuple[int | None, Meaning | None]:
        """The kernel's function that a word of `pv_ops` points to, and the meaning of its body if that is
        short; None if the word is not in `pv_ops` or points to no function."""
        function = self._word(slot_vaddr) if self._around.is_paravirt_slot(slot_vaddr) else None
        name = None if function is None else self._function(function)
        if function is None or name is None:
            return None, None
        return function, self._body(function, name)

    def _body(self, function: int, name: str) -> Meaning | None:
        """The meaning of a function's body without the saving of registers around it; None if it is not
        short."""
        inner = self._around.address(name.removeprefix(_WRAPPER)) or function
        body = self._reader.meaning(self._around.body(inner), inner)
        return body[: body.index("ret")] if "ret" in body else None

    def _calls_slot(self, code: int, size: int) -> bool:
        """Accept what `_through_slot` allows for a call, without decoding the call through the slot."""
        if (
            size < _INDIRECT_CALL_SIZE
            or self.expected[code : code + 2] != _INDIRECT_CALL
            or not self._differs(code, size)
        ):
            return False
        end = code + _INDIRECT_CALL_SIZE
        slot = self._vaddr(end + int.from_bytes(self.expected[code + 2 : end], "little", signed=True))
        function, inlined = self._in_slot(slot)
        fits = function is not None and (
            self._branches_to(code, size, _CALL, function)
            or (inlined is not None and self._meaning_found(code, size) == inlined)
        )
        if fits:
            self._take(code, size)
        return fits

    def _through_slot(self, code: int, size: int) -> list[Meaning]:
        """The forms that a call through a slot of `pv_ops` may take: a call of the function in the slot, or
        that function's body."""
        words = self._meaning_expected(code, size)
        if len(words) != 1 or not words[0].startswith(("call qword ptr [0x", "jmp qword ptr [0x")):
            return []
        slot = int(words[0].split("[")[1].rstrip("]"), 16)
        function, inlined = self._in_slot(slot)
        if self._around.is_paravirt_slot(slot) and self._word(slot) is None:
            self.unread.add(code)
        forms: list[Meaning] = [] if function is None else [(f"{words[0].split()[0]} {function:#x}",)]
        return forms if inlined is None else [*forms, inlined]

    def _alternative(self, code: int, choices: list[Alternative]) -> None:
        size = max(choice.size for choice in choices)
        if (
            not self._differs(code, size)
            or self._calls_slot(code, size)
            or self._is_copy(code, size, choices)
        ):
            return
        there = self._meaning_found(code, size)
        if (
            there == self._meaning_expected(code, size)
            or any(there == self._replacement(choice, code + size) for choice in choices)
            or there in self._through_slot(code, size)
        ):
            self._take(code, size)

    def _is_copy(self, code: int, size: int, choices: list[Alternative]) -> bool:
        """Accept the most frequent form of a replacement without decoding it: its bytes unchanged, then
        nops."""
        there = bytes(self.found[code : code + size])
        for choice in choices:
            length = choice.replacement_size
            copy = bytes(self.expected[choice.replacement : choice.replacement + length])
            if (
                there[:length] == copy
                and (length == size or there[length:] in NOPS)
                and self._reader.is_same_anywhere(copy)
            ):
                self._take(code, size)
                return True
        return False

    def _replacement(self, choice: Alternative, behind: int) -> Meaning:
        start = choice.replacement
        code = bytes(self.expected[start : start + choice.replacement_size])
        return self._reader.meaning(code, self._vaddr(start), self._vaddr(behind))


def _is_conditional(code: bytes | bytearray, at: int) -> bool:
    """Whether a conditional jump with 32 bits is there (`jcc rel32`)."""
    return code[at : at + 1] == b"\x0f" and code[at + 1 : at + 2] >= b"\x80" and code[at + 1] < 0x90


def _skips(wanted: str, there: str) -> bool:
    """Whether `there` jumps over one instruction unless `wanted` would jump."""
    return there.split()[1:] == ["@2"] and _OPPOSITE.get(wanted.split()[0]) == there.split()[0]


_OPPOSITE = {
    first: second
    for pair in ("je jne", "jb jae", "jbe ja", "js jns", "jp jnp", "jl jge", "jle jg", "jo jno")
    for first, second in (pair.split(), pair.split()[::-1])
}

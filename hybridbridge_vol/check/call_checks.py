"""The checks of indirect calls, which a kernel that can choose FineIBT rewrites when it boots
(arch/x86/kernel/alternative.c, `__apply_fineibt`, since 6.2).

As linked (clang's kCFI), a preamble in front of each function whose address is taken holds a hash of its
type, and a caller compares it. Such a kernel changes all hashes by one random number, and then keeps these
checks, jumps over them (`cfi=off`), or puts templates of its own in their place, which take the hash:
FineIBT, where the function checks what its caller wanted (and since 6.15, where "paranoid", the caller, too).
The loader does the same with modules. A preamble
whose function no pointer leads to loses its hash.

What the snapshot's kernel chose is what most of its callers show, and its random number what most of its
preambles do: one that differs from the others is a difference. Offsets count from the start of a text.

A function of assembly that has no preamble loses four bytes of padding at the same distance.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

_HASH_SIZE = 4
_PLACEHOLDER = (0x12345678).to_bytes(_HASH_SIZE, "little")
"""What stands for the hash in the kernel's templates."""
PREAMBLE_SIZE = 16
"""Bytes of a preamble; the function begins behind it. Since 6.15 FineIBT's has four more, in the place of the
function's `endbr64`."""
_LARGEST_TEMPLATE = 32
_HASH_AT = 1
"""Where a preamble as linked has its hash."""
_CALLER_SIZE = 14
"""fineibt_caller_size; the call begins behind it."""
_BRANCHES = (
    b"\x41\xff\xd3\x90", b"\x41\xff\xd3\xcc", b"\x2e\x41\xff\xd3", b"\x41\xff\xe3\x90", b"\x41\xff\xe3\xcc",
)  # fmt: skip
"""`call *%r11`, `jmp *%r11`: at the end of the paranoid form, filled up with a nop, `int3`, or (since 7.0, a
call) a prefix that means nothing (`emit_indirect`)."""
_PREAMBLE = re.compile(rb"(?s)[\xb8-\xbf](.{4})")
"""`mov $hash, %eax`; since 6.15 the register says how many arguments there are."""
_CALLER = re.compile(rb"(?s)\x41\xba(.{4})\x45\x03.{2}\x74\x02\x0f\x0b")
"""mov $-hash, %r10d; add -distance(%r11), %r10d; je behind; ud2."""
_SKIP = bytes([0xEB, _CALLER_SIZE - 2])
"""`jmp` behind the check; the hash behind it stays."""
_ENDBR, _ENDBR_SIZE = 0xFA1E0FF3, 4
_ENDBR32_BIT = 0x01000000
_SEALS = (0xD6401F0F, 0x001F0F66)
"""gen_endbr_poison(), arch/x86/include/asm/ibt.h: `nopl -42(%rax)`; an ordinary nop before 6.14."""
_SEALED = tuple(seal.to_bytes(_ENDBR_SIZE, "little") for seal in _SEALS)
_POLYNOMIAL = 0x80200003
_MAX_SHIFTS = 64
"""`_rehashed` needs more than one step only for a few hashes of all 2^32."""

AS_LINKED, SKIPPED, FINE, PARANOID = "as linked", "skipped", "FineIBT", "paranoid FineIBT"


class Template(NamedTuple):
    """Code of the kernel's that takes a hash at offset `hash_at`."""

    code: bytes
    hash_at: int

    @classmethod
    def of(cls, code: bytes | None, size: int) -> Template | None:
        """From the kernel's own bytes; None if they are not at least `size` with one placeholder."""
        if code is None or not size <= len(code) <= _LARGEST_TEMPLATE or code.count(_PLACEHOLDER) != 1:
            return None
        return cls(code, code.index(_PLACEHOLDER))

    def filled(self, number: int) -> bytes:
        """With a hash."""
        end = self.hash_at + _HASH_SIZE
        return self.code[: self.hash_at] + number.to_bytes(_HASH_SIZE, "little") + self.code[end:]

    def hash_in(self, code: bytes | bytearray) -> int | None:
        """The hash in what may be this template; None if it is not."""
        number = int.from_bytes(code[self.hash_at : self.hash_at + _HASH_SIZE], "little")
        return number if self.filled(number) == code[: len(self.code)] else None


class Templates(NamedTuple):
    """Of FineIBT: what comes to be in front of a function, and in front of a call; `paranoid` takes the place
    of the call, too, and ends in front of the indirect branch. None: this kernel has none."""

    preamble: Template | None
    caller: Template | None
    paranoid: Template | None

    @classmethod
    def of(cls, code_between: Callable[[str, str], bytes | None]) -> Templates:
        """From the kernel's own, which lie between two symbols each."""
        return cls(
            Template.of(code_between("fineibt_preamble_start", "fineibt_preamble_end"), PREAMBLE_SIZE),
            Template.of(code_between("fineibt_caller_start", "fineibt_caller_end"), _CALLER_SIZE),
            Template.of(code_between("fineibt_paranoid_start", "fineibt_paranoid_ind"), _CALLER_SIZE),
        )


class CallChecks(NamedTuple):
    """What a kernel made of its checks: `choice` is AS_LINKED, SKIPPED, FINE or PARANOID, `seed` the random
    number."""

    templates: Templates
    choice: str
    seed: int

    @classmethod
    def of(
        cls,
        templates: Templates,
        expected: bytearray,
        found: bytes | bytearray,
        preambles: Iterable[int],
        calls: Iterable[int],
    ) -> CallChecks:
        """From the kernel's text as linked and as found; `preambles` as the kernel lists them, `calls` the
        indirect calls."""
        seeds = Counter(
            _linked_hash(_PREAMBLE, expected, at) ^ there
            for at in preambles
            if (there := _hash_found(templates.preamble, found, at))
        )
        choices = Counter(
            choice
            for call in calls
            if _CALLER.match(expected, max(call - _CALLER_SIZE, 0))
            and (choice := _choice(templates, found, call - _CALLER_SIZE))
        )
        return cls(
            templates,
            choices.most_common(1)[0][0] if choices else AS_LINKED,
            seeds.most_common(1)[0][0] if seeds else 0,
        )

    def accept(
        self,
        expected: bytearray,
        found: bytes | bytearray,
        preambles: Iterable[int],
        calls: Iterable[int],
        seals: Collection[int],
    ) -> None:
        """Copy every form that this kernel writes in a text of its own or of a module into the expected text.
        `seals` are the functions that no pointer leads to."""
        for at in preambles:
            function = at + PREAMBLE_SIZE
            _take(expected, found, at, self._preambles(expected, at, function in seals))
            if self._preamble is not None and _number(expected, function) == _ENDBR:
                _take(expected, found, function, _SEALED)
        for function in seals:
            _take(expected, found, function - PREAMBLE_SIZE + self._hash_at, self._lost_hash)
        for call in calls:
            if call >= _CALLER_SIZE:
                _take(expected, found, call - _CALLER_SIZE, self._callers(expected, call - _CALLER_SIZE))

    @property
    def _preamble(self) -> Template | None:
        return self.templates.preamble if self.choice in (FINE, PARANOID) else None

    @property
    def _hash_at(self) -> int:
        return _HASH_AT if self._preamble is None else self._preamble.hash_at

    @property
    def _lost_hash(self) -> tuple[bytes, ...]:
        return () if self.choice == SKIPPED else (bytes(_HASH_SIZE),)

    def _preambles(self, expected: bytearray, at: int, sealed: bool) -> Iterator[bytes]:
        linked = _PREAMBLE.match(expected, at)
        if linked is None:
            return
        number = _rehashed(_number(expected, at + _HASH_AT), self.seed)
        template = self._preamble
        if template is not None and _number(expected, at + PREAMBLE_SIZE) != _ENDBR:
            yield linked[0][:1] + number.to_bytes(_HASH_SIZE, "little")  # since 6.15: no pointer leads there
        for some in (number, 0) if sealed else (number,):
            if template is None:
                yield linked[0][:1] + some.to_bytes(_HASH_SIZE, "little")
                continue
            form = template.filled(some)
            yield form
            if sealed:
                yield from (seal + form[_ENDBR_SIZE:] for seal in _SEALED)

    def _callers(self, expected: bytearray, at: int) -> Iterator[bytes]:
        linked = _CALLER.match(expected, at)
        if linked is None:
            return
        number = _rehashed(-_number(expected, at + 2) & 0xFFFFFFFF, self.seed)
        if self.choice == FINE and self.templates.caller is not None:
            yield self.templates.caller.filled(number)
            return
        if self.choice == PARANOID and self.templates.paranoid is not None:
            begin = self.templates.paranoid.filled(number)
            yield from (begin + branch for branch in _BRANCHES)
            return
        negative = (-number & 0xFFFFFFFF).to_bytes(_HASH_SIZE, "little")
        begin = _SKIP if self.choice == SKIPPED else linked[0][:2]
        yield begin + negative + linked[0][2 + _HASH_SIZE :]


def _take(expected: bytearray, found: bytes | bytearray, at: int, forms: Iterable[bytes]) -> None:
    for form in forms:
        end = at + len(form)
        if at >= 0 and end <= len(found) and found[at:end] == form:
            expected[at:end] = form
            return


def _number(code: bytes | bytearray, at: int) -> int:
    return int.from_bytes(code[at : at + _HASH_SIZE], "little")


def _linked_hash(pattern: re.Pattern[bytes], expected: bytearray, at: int) -> int:
    match = pattern.match(expected, at)
    return 0 if match is None else int.from_bytes(match[1], "little")


def _hash_found(template: Template | None, found: bytes | bytearray, at: int) -> int:
    """The hash of the preamble that was found; 0 if there is none."""
    match = _PREAMBLE.match(found, at)
    if match is not None:
        return int.from_bytes(match[1], "little")
    return (template is not None and template.hash_in(found[at : at + len(template.code)])) or 0


def _choice(templates: Templates, found: bytes | bytearray, at: int) -> str | None:
    if found[at : at + 2] == _SKIP:
        return SKIPPED
    if _CALLER.match(found, at):
        return AS_LINKED
    for choice, template in ((FINE, templates.caller), (PARANOID, templates.paranoid)):
        if template is not None and template.hash_in(found[at : at + len(template.code)]) is not None:
            return choice
    return None


def _rehashed(number: int, seed: int) -> int:
    """`cfi_rehash`: no hash may look like the instruction at which an indirect branch may arrive."""
    if not seed:
        return number
    number ^= seed
    for _step in range(_MAX_SHIFTS):
        if not (_is_endbr(number) or _is_endbr(-number & 0xFFFFFFFF)):
            break
        number = (number >> 1) ^ (_POLYNOMIAL if number & 1 else 0)
    return number


def _is_endbr(number: int) -> bool:
    return number in _SEALS or number & ~_ENDBR32_BIT == _ENDBR

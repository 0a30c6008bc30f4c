"""Mutants: an image with some bytes changed, of many kinds, near what rows rest on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from benchmarks.hostile.places import Places, Span
from benchmarks.hostile.reads import WORD
from hybridbridge_vol.units import PAGE_SIZE, U64

NEAR = (8, 64, 512)
"""Bytes around what a row rests on, one of them: fields of the same object, and pointers to it."""
READ_SHARE = 0.5
"""Of the words and pages that are changed, those that are chosen among what tools read."""
_KERNEL_HALF = 0xFFFF_8000_0000_0000
_TRIES = 400
"""Words that are looked at for one of the wanted form."""


class Change(NamedTuple):
    """New bytes at an offset of the image."""

    offset: int
    data: bytes


class Mutant(NamedTuple):
    """What kind of mutant, and its changes."""

    kind: str
    changes: tuple[Change, ...]


class Source:
    """The good image, and where it can be changed. `moment`: the same guest's memory at another time."""

    def __init__(self, image: BinaryIO, places: Places, moment: BinaryIO | None = None) -> None:
        self.image, self.places, self.moment = image, places, moment
        self.size = image.seek(0, 2)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the good image."""
        self.image.seek(offset)
        return self.image.read(size)

    def vaddr(self, offset: int) -> int:
        """Where a raw image's byte is mapped in the guest's direct map."""
        return self.places.page_offset_base + offset & U64

    def near(self, rng: random.Random) -> int:
        """The offset of a word near what some row rests on, or, half the time, of one that a tool reads."""
        if rng.random() < READ_SHARE:
            return self._read_word(rng)
        offset, size = self._span(rng)
        near = rng.choice(NEAR)
        at = offset + rng.randrange(-near, size + near)
        return max(0, min(at, self.size - 8)) & ~7

    def word(self, rng: random.Random, wanted: Callable[[int], bool]) -> tuple[int, int]:
        """The offset of a word near what some row rests on, and the word: of the wanted form, if one is
        met."""
        at = value = 0
        for _ in range(_TRIES):
            at = self.near(rng)
            value = int.from_bytes(self.read(at, 8), "little")
            if wanted(value):
                break
        return at, value

    def page(self, rng: random.Random) -> int:
        """The offset of a page that some row rests on, or that a tool reads."""
        if rng.random() < READ_SHARE:
            return min(self._read_word(rng) & -PAGE_SIZE, self.size - PAGE_SIZE)
        return min(self._span(rng)[0] & -PAGE_SIZE, self.size - PAGE_SIZE)

    def _read_word(self, rng: random.Random) -> int:
        """A word that is read for some tool's answer: each tool has the same chance."""
        while True:
            words = self.places.read_by[rng.choice(sorted(self.places.read_by))]
            if words:
                return min(rng.choice(words) * WORD, self.size - WORD)

    def _span(self, rng: random.Random) -> Span:
        """What a row rests on: each tool has the same chance, and then each of its rows."""
        while True:
            rows = self.places.rows[rng.choice(sorted(self.places.rows))]
            under = rng.choice(rows).under if rows else ()
            if under:
                return rng.choice(under)


Maker = Callable[[random.Random, Source], tuple[Change, ...]]


def _is_pointer(word: int) -> bool:
    return word >= _KERNEL_HALF and word < U64 - 0xFFFF


def _is_count(word: int) -> bool:
    return 0 < word < 1 << 40


def _word(offset: int, value: int) -> Change:
    return Change(offset, (value & U64).to_bytes(8, "little"))


def _pointer_to(name: str, target: Callable[[random.Random, Source, int, int], int]) -> tuple[str, Maker]:
    def make(rng: random.Random, source: Source) -> tuple[Change, ...]:
        at, value = source.word(rng, _is_pointer)
        return (_word(at, target(rng, source, at, value)),)

    return f"pointer: {name}", make


def _other(rng: random.Random, source: Source, _at: int, _value: int) -> int:
    return source.word(rng, _is_pointer)[1]


def _counter(rng: random.Random, source: Source) -> tuple[Change, ...]:
    at, value = source.word(rng, _is_count)
    huge = (0, 1, U64, (1 << 31) - 1, (1 << 63) - 1, 1 << 63, value + 1, value << 16, rng.getrandbits(40))
    return (_word(at, rng.choice(huge)),)


def _half_counter(rng: random.Random, source: Source) -> tuple[Change, ...]:
    at = source.near(rng) + 4 * rng.randrange(2)
    number = rng.choice((0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, rng.getrandbits(20)))
    return (Change(at, number.to_bytes(4, "little")),)


def _random_bytes(rng: random.Random, source: Source) -> tuple[Change, ...]:
    return (Change(source.near(rng), rng.randbytes(8)),)


def _bit(rng: random.Random, source: Source) -> tuple[Change, ...]:
    at = source.near(rng)
    value = int.from_bytes(source.read(at, 8), "little")
    return (_word(at, value ^ 1 << rng.randrange(64)),)


def _zero_page(rng: random.Random, source: Source) -> tuple[Change, ...]:
    return (Change(source.page(rng), bytes(PAGE_SIZE)),)


def _random_page(rng: random.Random, source: Source) -> tuple[Change, ...]:
    return (Change(source.page(rng), rng.randbytes(PAGE_SIZE)),)


def _swap_pages(rng: random.Random, source: Source) -> tuple[Change, ...]:
    one, other = source.page(rng), source.page(rng)
    return Change(one, source.read(other, PAGE_SIZE)), Change(other, source.read(one, PAGE_SIZE))


def _table_entry(rng: random.Random, source: Source) -> tuple[Change, ...]:
    page = rng.choice(source.places.tables)
    entries = source.read(page, PAGE_SIZE)
    used = [at for at in range(0, PAGE_SIZE, 8) if any(entries[at : at + 8])] or [0]
    at = rng.choice(used)
    value = int.from_bytes(entries[at : at + 8], "little")
    frame = rng.randrange(source.size // PAGE_SIZE) * PAGE_SIZE
    flags = value & 0xFFF
    new = rng.choice(
        (0, value ^ 1, value ^ 0x80, page | flags, frame | flags, rng.getrandbits(52) & ~0xFFF | flags, U64)
    )
    return (_word(page + at, new),)


def _table_page(rng: random.Random, source: Source) -> tuple[Change, ...]:
    page = rng.choice(source.places.tables)
    data = rng.choice((bytes(PAGE_SIZE), rng.randbytes(PAGE_SIZE), source.read(source.page(rng), PAGE_SIZE)))
    return (Change(page, data),)


def _smear(rng: random.Random, source: Source) -> tuple[Change, ...]:
    """Pages of another moment of the same guest."""
    assert source.moment is not None
    changes = []
    for _ in range(rng.choice((1, 4, 64))):
        page = source.page(rng)
        source.moment.seek(page)
        changes.append(Change(page, source.moment.read(PAGE_SIZE)))
    return tuple(changes)


def _many(rng: random.Random, source: Source) -> tuple[Change, ...]:
    return tuple(change for _ in range(32) for change in _random_bytes(rng, source))


KINDS: dict[str, Maker] = dict(
    (
        _pointer_to("itself", lambda _rng, source, at, _value: source.vaddr(at)),
        _pointer_to("8 bytes on or back", lambda rng, _source, _at, value: value + rng.choice((-8, 8))),
        _pointer_to("user space", lambda rng, _source, _at, _value: rng.getrandbits(47)),
        _pointer_to("not canonical", lambda rng, _s, _at, _value: rng.getrandbits(60) | 1 << 62 & ~(1 << 63)),
        _pointer_to("another object", _other),
        _pointer_to("near the end", lambda rng, _s, _at, _v: rng.choice((U64, U64 - 7, 0, _KERNEL_HALF))),
        _pointer_to("any page", lambda rng, source, _a, _v: source.vaddr(rng.randrange(source.size) & ~7)),
        _pointer_to(
            "kernel text", lambda rng, source, _a, _v: source.places.text_vaddr + rng.getrandbits(24)
        ),
        _pointer_to("the trusted side", lambda rng, source, _a, _v: rng.choice(source.places.trusted)),
    )
) | {
    "counter or length, 8 bytes": _counter,
    "counter or length, 4 bytes": _half_counter,
    "8 random bytes": _random_bytes,
    "8 random bytes, 32 times": _many,
    "a bit": _bit,
    "page of zeros": _zero_page,
    "random page": _random_page,
    "pages exchanged": _swap_pages,
    "page-table entry": _table_entry,
    "page of page tables": _table_page,
}
"""Every kind of mutant, but `SMEAR`."""
SMEAR = "pages of another moment"


def mutants(source: Source, seed: int) -> Iterator[Mutant]:
    """Mutants without end, each kind in turn; the same for the same seed."""
    kinds = dict(KINDS)
    if source.moment is not None:
        kinds[SMEAR] = _smear
    number = 0
    while True:
        for kind, make in kinds.items():
            rng = random.Random(f"{seed}.{number}")
            yield Mutant(kind, make(rng, source))
            number += 1

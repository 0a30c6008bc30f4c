"""The hashes in front of functions, which callers by pointer read (clang's kCFI, `-fsanitize=kcfi`).

Each function whose address is taken has in front of it `mov $hash, %eax` (another register since clang 21,
which says how many arguments there are), maybe followed by room for patching; a caller adds what it finds a
fixed distance before the function to the negative of what its type demands, and traps where that is not 0.
The hash is never executed: it is data in the middle of the text, and the trusted kernel reads it in the twin.

No symbol says where the hashes are (`__cfi_*` are left out of some tables): the distance is what the kernel's
own callers use. A kernel that can choose FineIBT changes all hashes by one random number when it boots
(arch/x86/kernel/alternative.c, `cfi_rehash`), also those of modules, and makes those of functions that no
pointer leads to 0.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hybridbridge_vol.units import PAGE_SIZE

HASH_SIZE = 4
_FIRST_MOVE, _LAST_MOVE = 0xB8, 0xBF
"""`mov imm32` to eax, and to the last register (SDM volume 2B, MOV)."""
_ROOM = 0x90
_CHECK = re.compile(
    rb"(?s)\x41[\xba\xbb](.{4})"  # mov $-hash, %r10d, or %r11d where %r10 has the function
    rb"[\x44\x45]\x03(?:[\x50-\x53\x55-\x57\x5a]|\x54\x24)([\x80-\xff])"  # add -distance(%reg), %r10d
    rb"\x74\x02\x0f\x0b"  # je behind; ud2
)


class CallHashes(NamedTuple):
    """`distances`, ascending: how far in front of a function its hash begins; none in a kernel without.
    `seed`: what the booted kernel has changed all hashes by. `places`: offsets of the hashes from `_text`,
    ascending."""

    distances: array[int]
    seed: int
    places: array[int]


def no_hashes() -> CallHashes:
    """Those of a kernel without."""
    return CallHashes(array("I"), 0, array("I"))


def read_call_hashes(
    flat: bytes | bytearray, booted: memoryview, functions: Iterable[int], text_end: int
) -> CallHashes:
    """The hashes of a kernel, as linked and as booted; both begin at `_text`, code ends at `text_end`.
    `functions` are offsets from `_text`."""
    distances = {0x100 - match[2][0] for match in _CHECK.finditer(flat, 0, text_end)}
    places = hash_places(flat, functions, sorted(distances))
    changes = Counter(
        _number(flat, place) ^ _number(booted, place) for place in places if _number(booted, place)
    )
    seed = changes.most_common(1)[0][0] if changes else 0
    return CallHashes(array("I", sorted(distances)), seed, array("I", places))


def hash_places(
    code: bytes | bytearray | memoryview, functions: Iterable[int], distances: Sequence[int]
) -> list[int]:
    """Where in `code`, as it was linked, the hashes of these functions begin, ascending."""
    found = set()
    for function in functions if distances else ():
        for distance in distances:
            place = function - distance
            room = distance - HASH_SIZE
            is_move = 0 < place < len(code) and _FIRST_MOVE <= code[place - 1] <= _LAST_MOVE
            if is_move and bytes(code[place + HASH_SIZE : function]) == bytes([_ROOM]) * room:
                found.add(place)
    return sorted(found)


def change_hashes(code: bytearray, places: Iterable[int], seed: int) -> None:
    """Change the hashes of a module's code, at these places and in its calls, as the kernel does when it
    loads a module."""
    for place in places:
        _store(code, place, _number(code, place) ^ seed)
    for match in _CHECK.finditer(bytes(code)):
        _store(code, match.start(1), -(-_number(code, match.start(1)) ^ seed))


def keep_hashes(masked: bytearray, page: bytes | bytearray, start: int, places: Sequence[int]) -> None:
    """Put the hashes that lie in a page, which begins at offset `start`, back into the page where it is
    masked."""
    index = bisect_left(places, start - HASH_SIZE + 1)
    while index < len(places) and places[index] < start + PAGE_SIZE:
        first, last = max(places[index] - start, 0), min(places[index] - start + HASH_SIZE, len(page))
        masked[first:last] = page[first:last]
        index += 1


def _number(data: bytes | bytearray | memoryview, place: int) -> int:
    return int.from_bytes(data[place : place + HASH_SIZE], "little")


def _store(code: bytearray, place: int, number: int) -> None:
    code[place : place + HASH_SIZE] = (number & 0xFFFFFFFF).to_bytes(HASH_SIZE, "little")

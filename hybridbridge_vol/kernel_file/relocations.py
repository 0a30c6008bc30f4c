"""The relocation lists that follow a relocatable kernel's ELF.

arch/x86/tools/relocs.c (`emit_relocs`) writes them, arch/x86/boot/compressed/misc.c (`handle_relocations`)
reads them from the end backwards: 32-bit sites, inverse 32-bit sites (distances from per-CPU code to a
per-CPU area linked at 0; gone with that area in 6.15), 64-bit sites. Each list begins with a 0, and each
entry is the low half of a link-time address.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

import lz4.frame

_MOST_LISTS = 3
_COUNTS = struct.Struct("<3I")


@dataclass(frozen=True)
class Relocations:
    """Link-time virtual addresses (ascending) whose contents change with the load address.

    At `abs32` the low 32 bits and at `abs64` all 64 bits of an address of the kernel: add the delta. At
    `inverse32` a 32-bit distance from the kernel to something fixed: subtract it.
    """

    abs32: array[int]
    inverse32: array[int]
    abs64: array[int]

    def pack(self) -> bytes:
        """For `unpack`: compressed, with a checksum."""
        lists = (self.abs32, self.inverse32, self.abs64)
        data = b"".join([_COUNTS.pack(*map(len, lists)), *(item.tobytes() for item in lists)])
        return bytes(lz4.frame.compress(data, content_checksum=True))

    @classmethod
    def unpack(cls, packed: bytes) -> Relocations:
        """Back from `pack`. ValueError, struct.error, or lz4's RuntimeError for anything else."""
        data = lz4.frame.decompress(packed)
        at, lists = _COUNTS.size, []
        for count in _COUNTS.unpack_from(data):
            lists.append(array("Q", data[at : at + 8 * count]))
            at += 8 * count
        if at != len(data):
            raise ValueError("not relocations")
        return cls(*lists)


def parse_relocations(vmlinux: bytes, elf_end: int, start_vaddr: int, end_vaddr: int) -> Relocations | None:
    """Read the lists of a decompressed payload; `elf_end` is where the ELF's last segment ends in the file.

    Which lists there are is derived from the data: the file ends in a run of zeros and of addresses between
    `start_vaddr` and `end_vaddr`, which has two or three lists, read backwards, the 64-bit one first.
    None if there are no such lists: behind a bare vmlinux, or without CONFIG_RANDOMIZE_BASE.
    """
    words = array("I")
    words.frombytes(memoryview(vmlinux)[elf_end + (len(vmlinux) - elf_end) % 4 :])
    low, high = start_vaddr & 0xFFFFFFFF, end_vaddr - 4 & 0xFFFFFFFF
    sign_extension = start_vaddr - low
    lists: list[array[int]] = []
    current = array("Q")
    for word in reversed(words):
        if low <= word <= high:
            current.append(sign_extension + word)
        elif word == 0:
            lists.append(array("Q", sorted(current)))
            current = array("Q")
            if len(lists) == _MOST_LISTS:
                break
        else:
            break
    while lists and not lists[-1]:
        lists.pop()  # zeros that end what precedes the lists
    if len(lists) < 2 or not lists[0]:
        return None
    return Relocations(lists[0], lists[1] if len(lists) == _MOST_LISTS else array("Q"), lists[-1])

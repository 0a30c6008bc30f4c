"""The code that the kernel maps into every process, the vDSO: one image for each kind of program.

The images lie in memory that the kernel writes to while it boots (`raw_data`, arch/x86/entry/vdso/vdso2c.h):
it applies the alternatives that each image has a table of. Nothing else of them changes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.check.instructions import NOPS
from hybridbridge_vol.kernel_file.symbols import Symbols

NAMES = (
    "vdso_image_64", "vdso64_image", "vdso_image_32", "vdso32_image", "vdso_image_x32", "vdsox32_image",
)  # fmt: skip
"""The variables that describe them, before 7.0 and since."""
_IMAGE = struct.Struct("<QQQQ")
"""struct vdso_image (arch/x86/include/asm/vdso.h): data, size, and place and size of the alternatives."""
_ENTRIES = {12: 10, 14: 12, 13: 10}
"""Bytes of a struct alt_instr, and where in it the two lengths are (arch/x86/include/asm/alternative.h)."""
MAX_SIZE = 1 << 20
MAX_ENTRIES = 4096


class VdsoImage(NamedTuple):
    """`start` is its offset from `_text`. `sites` are the offsets in it that may be patched: the bytes
    there, and what may stand there instead, of which each has an entry of its own (ALTERNATIVE_2); None if
    its table has an unknown form."""

    name: str
    start: int
    size: int
    sites: dict[int, tuple[int, tuple[bytes, ...]]] | None

    def accept(self, expected: bytearray, found: bytes | bytearray) -> None:
        """Make `expected`, the kernel by its package, at each patched site what the snapshot's kernel,
        `found`, has there, if that is a replacement. Both begin at `_text`."""
        for at, (length, replacements) in (self.sites or {}).items():
            place = slice(self.start + at, self.start + at + length)
            if any(is_filled_up(found[place], code) for code in replacements):
                expected[place] = found[place]


def is_filled_up(found: bytes | bytearray, code: bytes) -> bool:
    """Whether this is that code, and nops behind it."""
    rest = bytes(found[len(code) :])
    while rest and found.startswith(code):
        size = next((size for size in range(len(rest), 0, -1) if rest[:size] in NOPS), 0)
        if not size:
            return False
        rest = rest[size:]
    return found.startswith(code)


def vdso_images(flat: bytes | bytearray, symbols: Symbols, text_link_vaddr: int) -> Iterator[VdsoImage]:
    """The images of a kernel as it was linked."""
    for name in NAMES:
        place = symbols.get(name)
        if place is None:
            continue
        data, size, alt, alt_len = _IMAGE.unpack_from(flat, place - text_link_vaddr)
        start = data - text_link_vaddr
        if not 0 <= start <= len(flat) - size or size > MAX_SIZE:
            continue
        image = bytes(flat[start : start + size])
        table = image[alt : alt + alt_len]
        yield VdsoImage(name, start, size, _sites(image, table, alt))


def _sites(image: bytes, table: bytes, table_at: int) -> dict[int, tuple[int, tuple[bytes, ...]]] | None:
    """Of the entry's size that makes all entries possible."""
    for size, lengths_at in _ENTRIES.items():
        if len(table) % size:
            continue
        found: dict[int, tuple[int, tuple[bytes, ...]]] = {}
        for at in range(0, min(len(table), size * MAX_ENTRIES), size):
            site, replacement = struct.unpack_from("<ii", table, at)
            length, replaced = table[at + lengths_at], table[at + lengths_at + 1]
            site, replacement = table_at + at + site, table_at + at + 4 + replacement
            if not (
                0 <= site <= len(image) - length and 0 <= replacement <= len(image) - replaced <= len(image)
            ):
                break
            if not 0 < length or replaced > length:
                break
            code = _moved(image[replacement : replacement + replaced], replacement - site)
            longest, others = found.get(site, (0, ()))
            found[site] = (max(length, longest), (*others, code))
        else:
            return found
    return None


def _moved(code: bytes, distance: int) -> bytes:
    """A replacement at its site: a call or jump leads to the same place from there."""
    if code[:1] not in (b"\xe8", b"\xe9") or len(code) != 5:
        return code
    (relative,) = struct.unpack_from("<i", code, 1)
    return code[:1] + struct.pack("<I", relative + distance & 0xFFFFFFFF)

"""A stored kernel as it was linked: its text before boot-time patching.

Taking it out of the vmlinuz takes a second, so it is kept beside the kernel, compressed, and made again when
absent or damaged.
"""

from __future__ import annotations

import contextlib
import struct
from array import array
from dataclasses import dataclass

import lz4.frame

from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.stored_kernel import StoredKernel

FORMAT = 2
_HEADER = struct.Struct("<5I")


@dataclass(frozen=True)
class LinkedKernel:
    """`flat`: the kernel from `_text` to its `.bss`, as the boot loader leaves it before it relocates it. The
    sites of its relocations are offsets from `_text`, ascending, see `kernel_file.relocations.Relocations`.
    `gaps` are the starts and ends, one after the other, of what no segment covers: offsets too."""

    flat: bytearray
    abs32: array[int]
    inverse32: array[int]
    abs64: array[int]
    gaps: array[int]

    def relocated(self, shift: int) -> bytearray:
        """A copy as it stands in memory before it first runs, `shift` added to every address."""
        import numpy as np  # 0.1 s, which adding a kernel does without

        flat = self.flat.copy()
        for sites, step, size in (
            (self.abs32, shift, 4),
            (self.inverse32, -shift, 4),
            (self.abs64, shift, 8),
        ):
            # the numbers at each offset, aligned or not
            kind = np.dtype("<u4" if size == 4 else "<u8")
            numbers = np.ndarray((max(len(flat) - size + 1, 0),), kind, flat, 0, (1,))
            numbers[np.frombuffer(sites, np.uint32)] += kind.type(step & (1 << 8 * size) - 1)
        return flat


def linked_kernel(kernel: StoredKernel) -> LinkedKernel:
    """The kernel as linked. StoreError or KernelFileError if its vmlinuz cannot be read."""
    path = kernel.folder / f"linked-{FORMAT}"
    with contextlib.suppress(OSError, ValueError, RuntimeError, struct.error):
        return _unpack(path.read_bytes())
    linked = _derive(kernel)
    with contextlib.suppress(OSError):  # a read-only store works, only slower
        files.write_atomically(path, _pack(linked))
    return linked


def _derive(kernel: StoredKernel) -> LinkedKernel:
    image = kernel.kernel_image()
    text = kernel.text_link_vaddr
    end = kernel.symbols.get("__bss_start", kernel.end_link_vaddr) - text
    flat = image.flat()[:end]
    # The file is decompressed to where the kernel will run, then its segments are moved to their addresses
    # (parse_elf, arch/x86/boot/compressed/misc.c): what no segment covers keeps the file's bytes.
    # A loader that takes the segments themselves (of a vmlinux, as microVMs do) leaves zeros there.
    behind = 0
    gaps = array("I")
    for segment in image.segments:
        start = segment.paddr - image.segments[0].paddr
        flat[behind:start] = image.vmlinux[behind:start]
        gaps.extend((min(behind, end), min(start, end)))
        behind = start + segment.mem_size
    relocations = image.relocations
    abs32, inverse32, abs64 = (
        array("I", sorted(site - text for site in sites if 0 <= site - text <= end - size))
        for sites, size in ((relocations.abs32, 4), (relocations.inverse32, 4), (relocations.abs64, 8))
    )
    return LinkedKernel(flat, abs32, inverse32, abs64, gaps)


def _pack(linked: LinkedKernel) -> bytes:
    lists = (linked.abs32, linked.inverse32, linked.abs64, linked.gaps)
    head = _HEADER.pack(len(linked.flat), *map(len, lists))
    data = b"".join([head, linked.flat, *(item.tobytes() for item in lists)])
    return bytes(lz4.frame.compress(data, content_checksum=True))


def _unpack(packed: bytes) -> LinkedKernel:
    """Read what `_pack` gave. ValueError, struct.error, or lz4's RuntimeError for anything else."""
    data = memoryview(lz4.frame.decompress(packed))
    size, *counts = _HEADER.unpack_from(data)
    if len(data) != _HEADER.size + size + 4 * sum(counts):
        raise ValueError("not a linked kernel")
    at = _HEADER.size + size
    lists = []
    for count in counts:
        item = array("I")
        item.frombytes(data[at : at + 4 * count])
        lists.append(item)
        at += 4 * count
    return LinkedKernel(bytearray(data[_HEADER.size : _HEADER.size + size]), *lists)

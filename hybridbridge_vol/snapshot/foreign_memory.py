"""Memory that no kernel of 64-bit x86 left: another processor's, or encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.banner import text_places
from hybridbridge_vol.snapshot.find_kernel import load_addresses
from hybridbridge_vol.units import PAGE_SIZE, START_KERNEL_MAP

if TYPE_CHECKING:
    import numpy as np

_WINDOW = 1 << 20
"""Bytes before and behind a banner that are looked at: `linux_banner` is in .rodata, which has megabytes and
is full of pointers to the kernel."""
_FEW = 256
"""Words of the form of a kernel's pointers that a window has by accident; a kernel's own has thousands."""
_KERNEL_END = START_KERNEL_MAP + (1 << 30)
"""A kernel and its shift by KASLR end below (KERNEL_IMAGE_SIZE, arch/x86/include/asm/page_64_types.h)."""
_LOW_HALF, _LOW_HALF_END = 0xC0000000, 0xD0000000
"""Where 32-bit x86 has its kernel (PAGE_OFFSET of arch/x86/include/asm/page_32_types.h, 3 GiB by default, and
what may be mapped of the kernel's own)."""
_ARM64_MAGIC_OFFSET, _ARM64_MAGIC = 0x38, b"ARM\x64"
"""Documentation/arch/arm64/booting.rst: a kernel is loaded at a multiple of 2 MiB."""
_MAX_PROBES = 1 << 20
"""Addresses at which a header is looked for: 2 TiB."""

_SAMPLES = 2048
"""Pages that are looked at to tell noise from memory."""
_FEWEST = 64
"""Pages with anything in them, below which nothing is said."""
_NOISE_BITS = 7.9
"""Bits of entropy for each byte of a page of noise, at least: 7.95 on average for 4096 random bytes; text,
code and tables have 1 to 6.5, compressed files as much as noise."""
_SURELY, _PERHAPS = 0.98, 0.85
"""Shares of noise among the pages with anything in them. A running machine's is below a third: what is
compressed in its page cache."""


def other_processor(image: PhysicalImage, banner: str) -> str | None:
    """The processor that a banner's kernel is for, if it is not 64-bit x86; None if it is or nothing is
    known.

    Of 64-bit x86 is a kernel around whose banner pointers to the kernel's own addresses lie.
    """
    import numpy as np  # only where no stored kernel fits: takes 100 ms

    of_32_bits = False
    for paddr in text_places(image, banner):
        window = _around(image, paddr)
        longs = np.frombuffer(window, "<u8", len(window) // 8)
        if np.count_nonzero((longs >= START_KERNEL_MAP) & (longs < _KERNEL_END)) >= _FEW:
            return None
        words = np.frombuffer(window, "<u4", len(window) // 4)
        of_32_bits |= bool(np.count_nonzero((words >= _LOW_HALF) & (words < _LOW_HALF_END)) >= _FEW)
    for count, paddr in enumerate(load_addresses(image)):
        if count == _MAX_PROBES:
            break
        if image.read_available(paddr + _ARM64_MAGIC_OFFSET, 4) == _ARM64_MAGIC:
            return "arm64"
    return "32-bit x86" if of_32_bits else None


def _around(image: PhysicalImage, paddr: int) -> bytes:
    """The memory around an address, zeros where it is not there."""
    return image.read_padded(max(0, paddr // PAGE_SIZE * PAGE_SIZE - _WINDOW), 2 * _WINDOW)


def encrypted(image: PhysicalImage) -> str | None:
    """Whether an image in which no kernel was found is encrypted, in words that say how sure that is; None if
    it is not."""
    noise, pages = noise_share(image)
    if pages < _FEWEST or noise < _PERHAPS * pages:
        return None
    sure = "almost certainly" if noise >= _SURELY * pages else "perhaps"
    return (
        f"it is {sure} encrypted: {noise:,} of {pages:,} sampled pages look like noise. A confidential guest "
        "(SEV, TDX) can only be read from inside: take its memory there, with LiME or AVML; a file that is "
        "encrypted or compressed itself is to be unpacked"
    )


def noise_share(image: PhysicalImage) -> tuple[int, int]:
    """Of pages all over the image: how many look like noise, and how many hold anything but zeros."""
    import numpy as np  # see `other_processor`

    noise = pages = 0
    step = max(PAGE_SIZE, sum(run.size for run in image.stored) // _SAMPLES // PAGE_SIZE * PAGE_SIZE)
    for run in image.stored:
        for paddr in range(run.paddr, run.paddr + run.size - PAGE_SIZE + 1, step):
            page = image.read_available(paddr, PAGE_SIZE)
            if page is None or not any(page):
                continue
            pages += 1
            noise += _entropy(np.bincount(np.frombuffer(page, np.uint8))) >= _NOISE_BITS
    return noise, pages


def _entropy(counts: np.ndarray[tuple[int], np.dtype[np.intp]]) -> float:
    """Bits for each byte (Shannon) of a page with so many of each value."""
    import numpy as np  # see `other_processor`

    shares = counts[counts > 0] / PAGE_SIZE
    return float(-(shares * np.log2(shares)).sum())

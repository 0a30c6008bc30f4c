"""Finding a known kernel in a memory image, without scanning it.

Kernels load at multiples of 2 MiB (CONFIG_PHYSICAL_ALIGN, arch/x86/Kconfig), so `linux_banner` is probed at
each: 128 probes for 256 MiB. By how much KASLR shifted the virtual addresses is the majority vote of
relocated pointers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.units import U64

PHYSICAL_ALIGN = 2 << 20
_STRETCH = 128 << 20
"""Bytes of memory of which it is asked whether the file has any, before each boundary in them is probed."""
BANNER_PROBE = 64
"""Bytes of the banner that are read at each address; the whole banner is compared where they match."""

MAJORITY = 0.9
"""Share of the probed pointers that must agree on one shift. On a sound image it is all of them."""


class Span(Protocol):
    """A contiguous range of guest-physical memory, in bytes."""

    @property
    def paddr(self) -> int:
        """Its start."""

    @property
    def size(self) -> int:
        """Its length."""


class Readable(Protocol):
    """As much of a memory image as finding needs."""

    def read_available(self, paddr: int, size: int) -> bytes | None:
        """`size` bytes of guest-physical memory, None if any is absent."""

    def may_hold(self, paddr: int, size: int) -> bool:
        """Whether the file may have any bytes of a physical range."""

    @property
    def stored(self) -> Sequence[Span]:
        """The physical ranges that the file has bytes for, in order: a file may claim any amount of zeros."""


class Candidate(Protocol):
    """As much of a stored kernel as finding needs (link-time addresses)."""

    banner: str
    text_link_vaddr: int
    banner_link_vaddr: int
    probes: list[tuple[int, int]]


class Found(NamedTuple):
    """Where a kernel lies in an image.

    `text_paddr` is the guest-physical address of `_text`; `shift` is what KASLR added to its link-time
    virtual addresses; `agreement` the share of probed pointers that say so.
    """

    text_paddr: int
    shift: int
    agreement: float


def load_addresses(image: Readable) -> Iterator[int]:
    """Every 2 MiB boundary inside the image's ranges, ascending; not those of stretches that the file has
    nothing of."""
    for span in image.stored:
        first = -(-span.paddr // PHYSICAL_ALIGN) * PHYSICAL_ALIGN
        end = span.paddr + span.size
        for start in range(first, end, _STRETCH):
            if image.may_hold(start, min(_STRETCH, end - start)):
                yield from range(start, min(start + _STRETCH, end), PHYSICAL_ALIGN)


def find_kernel(image: Readable, kernels: Sequence[Candidate]) -> tuple[int, Found] | None:
    """`(index, where)` of the first of `kernels` that lies in `image`; None if none does.

    AttachError when a kernel's banner is there but its pointers do not agree on a shift.
    """
    doubtful = None
    for index, found in find_kernels(image, kernels):
        if found.agreement >= MAJORITY:
            return index, found
        doubtful = found
    if doubtful is not None:
        raise AttachError(f"the kernel at physical address {doubtful.text_paddr:#x} {damage(doubtful)}")
    return None


def damage(found: Found) -> str:
    """What is wrong with a kernel whose pointers do not agree."""
    return (
        f"is damaged: only {found.agreement:.0%} of its pointers agree where it was loaded; the image was "
        "probably smeared or truncated while it was taken"
    )


def find_kernels(image: Readable, kernels: Sequence[Candidate]) -> Iterator[tuple[int, Found]]:
    """`(index, where)` of all that lie in `image`, by ascending address; also of those whose pointers do not
    agree. At each address the first of `kernels` that fits."""
    probes: dict[int, list[int]] = {}
    for index, kernel in enumerate(kernels):
        probes.setdefault(kernel.banner_link_vaddr - kernel.text_link_vaddr, []).append(index)
    for text_paddr in load_addresses(image):
        for offset, indices in probes.items():
            seen = image.read_available(text_paddr + offset, BANNER_PROBE)
            if seen is None or not seen.startswith(b"Linux version "):
                continue
            matches = ((index, _match(image, kernels[index], text_paddr)) for index in indices)
            hit = next(((index, found) for index, found in matches if found), None)
            if hit is not None:
                yield hit


def _match(image: Readable, kernel: Candidate, text_paddr: int) -> Found | None:
    banner = kernel.banner.encode("latin-1")
    banner_paddr = text_paddr + kernel.banner_link_vaddr - kernel.text_link_vaddr
    if image.read_available(banner_paddr, len(banner)) != banner:
        return None
    shift, share = vote_shift(image, text_paddr, kernel.probes)
    return Found(text_paddr, shift, share)


def vote_shift(image: Readable, text_paddr: int, probes: Sequence[tuple[int, int]]) -> tuple[int, float]:
    """The shift most `(offset, link-time value)` pointers agree on, and their share (0.0 to 1.0)."""
    votes: Counter[int] = Counter()
    for offset, link_value in probes:
        word = image.read_available(text_paddr + offset, 8)
        if word is not None:
            votes[(int.from_bytes(word, "little") - link_value) & U64] += 1
    if not votes:
        return 0, 0.0
    shift, count = votes.most_common(1)[0]
    return shift, count / len(probes)

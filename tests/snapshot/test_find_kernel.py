"""Finding a known kernel by probing where kernels load."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kdump_writer import kdump, packed

from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.runs import Run
from hybridbridge_vol.snapshot.find_kernel import find_kernel, load_addresses
from hybridbridge_vol.snapshot.kernel_origin import package_of

TEXT = 0xFFFFFFFF81000000
SHIFT = 0x1E000000
BANNER = "Linux version 6.1.0-56-cloud-amd64 (debian) #1 SMP Debian 6.1.192-2 (2026-11-16)\n"


@dataclass
class Image:
    data: bytearray
    stored: tuple[Run, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.stored = (Run(0, len(self.data), 0),)

    def may_hold(self, paddr: int, size: int) -> bool:
        return any(run.paddr < paddr + size and paddr < run.end_paddr for run in self.stored)

    def read_available(self, paddr: int, size: int) -> bytes | None:
        return bytes(self.data[paddr : paddr + size]) if paddr + size <= len(self.data) else None


@dataclass
class Kernel:
    banner: str = BANNER
    text_link_vaddr: int = TEXT
    banner_link_vaddr: int = TEXT + 0x2000
    probes: list[tuple[int, int]] = field(
        default_factory=lambda: [(0x3000 + 8 * i, TEXT + i) for i in range(64)]
    )


def image_with_kernel(at: int, shift: int = SHIFT, damaged: int = 0) -> Image:
    image = Image(bytearray(16 << 20))
    image.data[at + 0x2000 : at + 0x2000 + len(BANNER)] = BANNER.encode()
    for i, (offset, value) in enumerate(Kernel().probes):
        word = 0 if i < damaged else (value + shift) % (1 << 64)
        image.data[at + offset : at + offset + 8] = word.to_bytes(8, "little")
    return image


def test_a_kernel_is_found_with_its_shift() -> None:
    hit = find_kernel(image_with_kernel(6 << 20), [Kernel(banner="Linux version other"), Kernel()])
    assert hit is not None
    index, found = hit
    assert (index, found.text_paddr, found.shift, found.agreement) == (1, 6 << 20, SHIFT, 1.0)


def test_a_kernel_off_the_2_mib_grid_is_not_found() -> None:
    assert find_kernel(image_with_kernel((6 << 20) + 4096), [Kernel()]) is None


def test_a_few_damaged_pointers_are_outvoted() -> None:
    hit = find_kernel(image_with_kernel(2 << 20, damaged=4), [Kernel()])
    assert hit is not None
    assert hit[1].shift == SHIFT


def test_many_damaged_pointers_are_an_error() -> None:
    with pytest.raises(AttachError, match="damaged"):
        find_kernel(image_with_kernel(2 << 20, damaged=40), [Kernel()])


def test_a_copy_of_the_banner_alone_is_passed_over() -> None:
    image = image_with_kernel(8 << 20)
    image.data[0x2000 : 0x2000 + len(BANNER)] = BANNER.encode()
    hit = find_kernel(image, [Kernel()])
    assert hit is not None
    assert hit[1].text_paddr == 8 << 20


def test_load_addresses_are_multiples_of_2_mib_inside_the_runs() -> None:
    image = Image(bytearray())
    image.stored = (Run(0, 0x9F000, 0), Run(0x100000, 5 << 20, 0x9F000))
    assert list(load_addresses(image)) == [0, 2 << 20, 4 << 20]


def test_stretches_that_the_file_has_nothing_of_are_passed_over(tmp_path: Path) -> None:
    """A kdump's bitmap of the machine's pages may claim any number of them."""
    stored = {number: packed(bytes(4096)) for number in [*range(1024), 1 << 20]}
    (tmp_path / "vmcore").write_bytes(kdump(stored, present=range(1 << 21)))
    with open_image(tmp_path / "vmcore") as image:
        assert image.memory_size == 8 << 30
        addresses = list(load_addresses(image))
    assert addresses == [*range(0, 128 << 20, 2 << 20), *range(4 << 30, (4 << 30) + (128 << 20), 2 << 20)]


@pytest.mark.parametrize(
    ("banner", "package"),
    [
        (
            BANNER.replace("(debian)", "(debian-kernel@lists.debian.org)"),
            "linux-image-6.1.0-56-cloud-amd64 (version 6.1.192-2)",
        ),
        (
            "Linux version 5.15.0-40-generic (buildd@lcy02) (gcc) #43-Ubuntu SMP",
            "linux-image-5.15.0-40-generic",
        ),
        (
            "Linux version 6.5.6-300.fc39.x86_64 (mockbuild@x) (gcc) #1 SMP",
            "kernel-core-6.5.6-300.fc39.x86_64",
        ),
        ("Linux version 6.9.1 (me@home) (gcc) #1", None),
        ("nonsense", None),
    ],
)
def test_the_package_of_a_banner(banner: str, package: str | None) -> None:
    assert package_of(banner) == package

"""Images in which pages are zeros, as those have that could not be read when the image was made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.procfs.pagemap import FRAME
from hybridbridge_vol.units import PAGE_SIZE


def blank_copy(session: Session, paddrs: Iterable[int], copy: Path) -> Path:
    """A copy of a session's image with zeros in the pages of physical addresses."""
    subprocess.run(["cp", "--sparse=always", session.bridge.image.path, copy], check=True)
    with open(copy, "r+b") as stream:
        for paddr in paddrs:
            stream.seek(paddr & -PAGE_SIZE)  # raw: the offset is the address
            stream.write(bytes(PAGE_SIZE))
    return copy


def kernel_paddr(session: Session, vaddr: int) -> int:
    """The physical address of what is mapped at one of the kernel's addresses."""
    place = session.bridge.layout.translate(session.bridge.image, vaddr)
    assert place is not None
    return place.paddr


def process_page(session: Session, pid: int, vaddr: int) -> int:
    """The physical address of the page that a process has at an address."""
    entry = session.files.read_at(f"/proc/{pid}/pagemap", vaddr // PAGE_SIZE * 8, 8)
    return (int.from_bytes(entry, "little") & FRAME) * PAGE_SIZE

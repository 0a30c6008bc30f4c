"""Copies of sample images that tests plant hooks in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hybridbridge_vol import tools
from hybridbridge_vol.guest.session import Session

NAME = "6.1 two CPUs"
"""The guest that most plants are made in."""
ELSEWHERE = 0xFFFF_FFFF_C0DE_0000
"""In the module area, where no module of the sample lies."""


def check(session: Session) -> list[dict[str, Any]]:
    """The rows of `hb.check`."""
    tool = tools.load("check")
    names = [column.name for column in tool.columns]
    return [dict(zip(names, row.cells, strict=True)) for row in tool.rows(session, {})]


class Victim:
    """A copy of a sample image to plant things in, and its kernel's places."""

    def __init__(self, session: Session, path: Path) -> None:
        self.path = path
        self.bridge = session.bridge
        self.session = session

    def vaddr(self, symbol: str) -> int:
        """A symbol's address in the snapshot."""
        return self.bridge.snapshot(symbol)

    def offset(self, vaddr: int) -> int:
        """Where an address lies in the image file, by the snapshot's own page tables."""
        place = self.bridge.layout.translate(self.bridge.image, vaddr)
        assert place is not None
        offset = self.bridge.image.offset_of(place.paddr)
        assert offset is not None
        return offset

    def read(self, vaddr: int, size: int) -> bytes:
        """Bytes of the sample."""
        with open(self.path, "rb") as stream:
            stream.seek(self.offset(vaddr))
            return stream.read(size)

    def write(self, vaddr: int, data: bytes) -> None:
        """Edit the copy."""
        with open(self.path, "r+b") as stream:
            stream.seek(self.offset(vaddr))
            stream.write(data)

    def word(self, vaddr: int) -> int:
        """A pointer of the sample."""
        return int.from_bytes(self.read(vaddr, 8), "little")

    def set_word(self, vaddr: int, value: int) -> None:
        """Plant a pointer."""
        self.write(vaddr, value.to_bytes(8, "little"))

    def jump(self, vaddr: int, to_vaddr: int) -> None:
        """Plant a five-byte jump."""
        self.write(vaddr, b"\xe9" + (to_vaddr - vaddr - 5 & 0xFFFFFFFF).to_bytes(4, "little"))

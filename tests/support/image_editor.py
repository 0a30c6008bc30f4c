"""Editing a copy of a sample's image, as an intruder would edit memory, and what `hidden` says of it."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybridbridge_vol import tools
from hybridbridge_vol.guest.session import Session, open_session

Lab = Any
Row = tuple[Any, ...]
U64 = (1 << 64) - 1


def hidden(session: Session) -> list[Row]:
    """The rows of the tool."""
    return [row.cells for row in tools.load("hidden").rows(session, {"probe": None})]


class Editor:
    """Words of the snapshot's memory, to be changed in a copy of its image."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.bridge = session.bridge
        self.words: dict[int, int] = {}

    def read(self, vaddr: int) -> int:
        """The word at a virtual address."""
        self.bridge.space.complete(vaddr)
        return self.bridge.machine.read_u64(vaddr)

    def write(self, vaddr: int, word: int) -> None:
        """Replace the word at a virtual address."""
        text = vaddr - self.bridge.layout.text_vaddr
        if 0 <= text < self.bridge.layout.size:
            paddr = self.bridge.layout.text_paddr + text
        else:
            place = self.bridge.layout.translate(self.bridge.image, vaddr)
            assert place is not None
            paddr = place.paddr
        offset = self.bridge.image.offset_of(paddr)
        assert offset is not None
        self.words[offset] = word

    def unlink(self, node: int) -> None:
        """Take a `struct list_head` off its list, as list_del does."""
        following, before = self.read(node), self.read(node + 8)
        self.write(before, following)
        self.write(following + 8, before)

    def call(self, function: str, *arguments: int) -> int:
        """A function of the snapshot's kernel, whose answer is a pointer."""
        return self.session.caller.call(self.bridge.snapshot(function), *arguments) & U64

    def save(self, dump: Path, path: Path) -> None:
        """The image `dump` with the new words."""
        subprocess.run(["cp", "--sparse=always", dump, path], check=True)
        with open(path, "r+b") as stream:
            for offset, word in self.words.items():
                stream.seek(offset)
                stream.write(word.to_bytes(8, "little"))


def planted(lab: Lab, generation: str, path: Path, edit: Callable[[Editor], None]) -> list[Row]:
    """Edit a copy of a sample at `path`, and what `hidden` says of it; the copy is removed."""
    editor = Editor(lab.session(generation))
    edit(editor)
    assert editor.words
    try:
        editor.save(lab.sample(generation).dump, path)
        with open_session(path, lab.store.root) as session:
            return hidden(session)
    finally:
        path.unlink(missing_ok=True)


def save_without_a_page(dump: Path, paddr: int, target: Path) -> None:
    """A raw image as LiME, but for the page at a physical address."""
    with open(dump, "rb") as raw, open(target, "wb") as lime:
        for start, end in ((0, paddr), (paddr + 4096, dump.stat().st_size)):
            lime.write(struct.pack("<IIQQQ", 0x4C694D45, 1, start, end - 1, 0))
            raw.seek(start)
            lime.write(raw.read(end - start))

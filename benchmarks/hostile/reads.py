"""What a session reads of an image: by the kernel's code, under taint, and by Python.

A row can change without showing a changed byte: a pointer on the way to it, a length, a name that was
compared, a number that a total is made of. All of these were read. A row that changed though nothing has read
what was changed cannot be explained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from hybridbridge_vol.bridge.image_pages import ImagePages
from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.machine.memory import PhysicalMemory
from hybridbridge_vol.memory_image.physical import PhysicalImage

WORD = 8
Words = frozenset[int]
"""Physical addresses of words of a raw image, divided by `WORD`: of the parts of one block they are offsets
in the file, too."""


class Reads:
    """Of a session that answers under taint: what was read while it was opened, for each source of an answer,
    and since `begin`. `by_python`: what Python read since the last answer."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self.by_python: set[int] = set()
        self._since: set[int] = set()
        self.opening: Words = frozenset()
        self.of_source: dict[str, set[int]] = {}

    def note(self, paddr: int, size: int) -> None:
        """Python reads the image."""
        if size > 0:
            self.by_python.update(range(paddr // WORD, (paddr + size - 1) // WORD + 1))

    def watch(self, session: Session) -> None:
        """The session is open. What is read from here on belongs to the next answer."""
        self.opening = frozenset(self.by_python)
        self.by_python.clear()
        self._session = session
        session.caller.hybrid.slow.engine.watch_reads(session.bridge.image.end_paddr)
        keep = session.answer_labels.keep

        def keep_reads(source: str, offset: int, size: int, more: bool) -> None:
            keep(source, offset, size, more)
            self.of_source.setdefault(source, set()).update(self._take())

        setattr(session.answer_labels, "keep", keep_reads)  # noqa: B010  of this one object

    def begin(self) -> None:
        """The next tool begins."""
        self._take()
        self._since = set()

    def since_begin(self) -> Words:
        """All that was read since."""
        self._take()
        return frozenset(self._since)

    def _take(self) -> set[int]:
        assert self._session is not None
        words = self.by_python | set(self._session.caller.hybrid.slow.engine.take_reads())
        self.by_python = set()
        self._since |= words
        return words


@contextlib.contextmanager
def noted_reads() -> Iterator[Reads]:
    """Note what Python reads of all images that are open in this process."""
    reads = Reads()

    def of_image(image: Any, paddr: int, size: int) -> bytes | None:
        reads.note(paddr, size)
        return read_available(image, paddr, size)

    def of_memory(memory: Any, paddr: int, size: int) -> bytes:
        if paddr >= SNAPSHOT_PADDR:
            reads.note(paddr - SNAPSHOT_PADDR, size)
        return read(memory, paddr, size)

    def of_pages(pages: Any, paddr: int, size: int) -> memoryview | bytes | None:
        reads.note(paddr, size)
        return bytes_at(pages, paddr, size)

    read_available, read = PhysicalImage.read_available, PhysicalMemory.read
    bytes_at = ImagePages.bytes_at
    with (
        replaced(PhysicalImage, "read_available", of_image),
        replaced(PhysicalMemory, "read", of_memory),
        replaced(ImagePages, "bytes_at", of_pages),
    ):
        yield reads


@contextlib.contextmanager
def replaced(owner: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)

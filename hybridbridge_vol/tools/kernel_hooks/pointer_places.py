"""Where in the image the pointers lie by which the kernel calls handlers, for `--provenance`."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.guest.answer_labels import AnswerLabels
from hybridbridge_vol.guest.file_content import PhysicalRange
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual

_POINTER_SIZE, _MOST_WORDS = 8, 128
"""A structure is searched so far: those with handlers of their own are smaller."""


class PointerPlaces:
    """Of one answer. Nothing is searched unless somebody wants it."""

    def __init__(self, memory: TypedMemory, labels: AnswerLabels) -> None:
        self._memory = memory
        self._labels = labels

    def sources(self, object_vaddr: object, target_vaddr: object) -> tuple[Source, ...]:
        """The pointer to a function or table in an object that has it; nothing where it has none, as where
        the object only leads to the one that has it."""
        if not self._labels.is_started or not isinstance(object_vaddr, int) or not target_vaddr:
            return ()
        for vaddr in self._places(object_vaddr, target_vaddr):
            paddr = self._memory.paddr(vaddr)
            if paddr is None:
                return ()
            name = f"pointer at {vaddr:#x}"
            self._labels.place(name, (PhysicalRange(0, _POINTER_SIZE, paddr),))
            return (Source(name, 0, _POINTER_SIZE),)
        return ()

    def _places(self, object_vaddr: int, target: object) -> Iterator[int]:
        for number in range(_MOST_WORDS):
            vaddr = object_vaddr + _POINTER_SIZE * number
            try:
                if self._memory.word(vaddr) == target:
                    yield vaddr
            except UnreadableVirtual:
                return

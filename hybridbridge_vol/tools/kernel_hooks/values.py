"""What the walks of the kernel's handlers find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge.objects.list_ends import Broken
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual


class Hook(NamedTuple):
    """A function that the kernel calls. `what` says when, in words; `object_vaddr` is the structure that has
    the pointer. `suspicion` is what is wrong besides the function itself; empty if nothing is."""

    what: str
    function_vaddr: int
    object_vaddr: int
    suspicion: str = ""


class Operations(NamedTuple):
    """A table of functions at `table_vaddr`, a structure of the type `struct_name`, which the object uses."""

    what: str
    struct_name: str
    table_vaddr: int
    object_vaddr: int
    suspicion: str = ""


class Lost(NamedTuple):
    """Something that could not be followed, and why."""

    reason: str


Found = Hook | Operations | Lost


def each(items: Iterable[int], found: Callable[[int], Iterable[Found]]) -> Iterator[Found]:
    """What is found at each of some objects. An object that cannot be read loses itself, a list that breaks
    loses its rest; both are reported."""
    try:
        for item in items:
            try:
                yield from found(item)
            except UnreadableVirtual as error:
                yield Lost(str(error))
    except Broken as error:
        yield Lost(str(error))

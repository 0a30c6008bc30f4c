"""The modules that the snapshot's kernel lists, and whose memory an address is in.

Of `struct module` (kernel/module/main.c has the list, `modules`) two fields are needed: its name, where a
trusted file of any module has it, and the list's node. Both stand at its beginning (state, list, name: since
2.6), but for kernels that draw the order of fields when they are built (RANDSTRUCT): there the distance
between them is the one at which most nodes of the list have a name. Which of its other words point to memory
of the module is not known: any that is the address of a page of the modules area may.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory
from hybridbridge_vol.units import PAGE_SIZE

MAX_MODULES = 8192
"""Modules of the list that are read; distributions build up to 4,500."""
MAX_EARLIER = 16
"""Modules that are looked at where the one with the nearest page does not have an address."""
_MOST_ASKED = 64
"""Nodes of the list that are asked where their names are."""
_MAX_DISTANCE = 16 << 20
"""From the first page of a module's memory to an address in it."""
_LIST_OFFSET, _NAME_OFFSET, _NAME_SIZE = 8, 24, 56
"""struct module: state, list, name[MODULE_NAME_LEN]."""
_NEXT, _PREVIOUS = 0, 8
"""struct list_head."""
STRUCT_SIZE = 2048
"""Bytes of a `struct module` that are searched for its name, and for addresses of its memory."""
_NAME = re.compile(rb"[\w-]{1,55}\0")
_WHOLE_NAME = re.compile(rb"(?=[\w-]{2,55}\0)[\w-]+\0+")
"""As the file of a module has it: zeros up to its end."""
NameOffset = Callable[[str], int | None]
"""Where in its `struct module` a module's trusted file has its name; None if there is no such file."""


class _Fields(NamedTuple):
    """Byte offsets of the list's node and of the name in a `struct module`."""

    node: int
    name: int


def _no_file(_name: str) -> int | None:
    return None


class ModuleList:
    """See the module's text. `head_vaddr` is the list's head, None if the kernel has none; the list is read
    when it is first asked for. `name_offset` is asked for names of the list."""

    def __init__(
        self, snapshot: VirtualMemory, head_vaddr: int | None, name_offset: NameOffset = _no_file
    ) -> None:
        self._snapshot = snapshot
        self._area = snapshot.layout.modules
        self._head_vaddr = head_vaddr
        self._name_offset = name_offset

    def names_at(self, vaddr: int) -> list[str]:
        """Modules that have the nearest page before an address, the likeliest first: its owner, and perhaps
        one whose memory ends there. Empty outside of the modules area."""
        if vaddr not in self._area:
            return []
        index = bisect_right(self._pages, vaddr) - 1
        if index < 0 or vaddr - self._pages[index] > _MAX_DISTANCE:
            return []
        return self._owners[self._pages[index]]

    def earlier_names(self, vaddr: int) -> list[str]:
        """Further modules that may own an address, the nearest pages first, at most `MAX_EARLIER`: a page of
        another one may lie in a module's memory, as `struct module` keeps where the code of its
        initialisation was, which is freed."""
        nearest = self.names_at(vaddr)
        found = dict.fromkeys(nearest)
        index = bisect_right(self._pages, vaddr) - 2
        while nearest and index >= 0 and vaddr - self._pages[index] <= _MAX_DISTANCE:
            found |= dict.fromkeys(self._owners[self._pages[index]])
            if len(found) >= len(nearest) + MAX_EARLIER:
                break
            index -= 1
        return list(found)[len(nearest) :][:MAX_EARLIER]

    def pages_of(self, name: str) -> list[int]:
        """Virtual addresses at which memory of a module may begin."""
        return self._pages_by_name.get(name, [])

    @cached_property
    def structs(self) -> dict[str, tuple[int, list[int]]]:
        """Of each module of the list: the address of its `struct module`, and the pages of the modules area
        whose addresses are in it."""
        found: dict[str, tuple[int, list[int]]] = {}
        for name, vaddr, record in self._records():
            found.setdefault(name, (vaddr, list(_pages_in(record, self._area))))
        return found

    def struct_pages(self, size: int) -> frozenset[int]:
        """The pages that hold a part of a `struct module` of `size` bytes."""
        return frozenset(
            part & -PAGE_SIZE for vaddr, _pages in self.structs.values() for part in (vaddr, vaddr + size - 1)
        )

    @cached_property
    def _pages_by_name(self) -> dict[str, list[int]]:
        pages: dict[str, list[int]] = {}
        for page, names in self._owners.items():
            for name in names:
                pages.setdefault(name, []).append(page)
        return pages

    @cached_property
    def _owners(self) -> dict[int, list[str]]:
        """By page: the modules that have its address. A module's last page is likelier the end of its memory,
        so the others come first."""
        owners: dict[int, list[str]] = {}
        for page, name in self._listed_pages():
            owners.setdefault(page, []).append(name)
        last = {name: page for page in sorted(owners) for name in owners[page]}
        for page, names in owners.items():
            names.sort(key=lambda name: last[name] == page)
        return owners

    @cached_property
    def _pages(self) -> list[int]:
        return sorted(self._owners)

    def _listed_pages(self) -> Iterator[tuple[int, str]]:
        """`(address, module)` of each word of a listed module that is the address of a page of the area."""
        for name, (_vaddr, pages) in self.structs.items():
            for page in pages:
                yield page, name

    def _records(self) -> Iterator[tuple[str, int, bytes]]:
        """The name, the address and the bytes of each `struct module` of the list."""
        fields = self._fields
        for node in self._nodes:
            record = self._snapshot.read_padded(node - fields.node, STRUCT_SIZE)
            name = _NAME.match(record, fields.name)
            if name:
                yield _plain(name[0]), node - fields.node, record

    @cached_property
    def is_whole(self) -> bool:
        """Whether the list leads back to its head, and each of its nodes is in a module with a name."""
        nodes = self._nodes
        end = self._word(nodes[-1]) if nodes else self._head_vaddr
        return end == self._head_vaddr and len(nodes) == len(self.structs)

    @cached_property
    def _nodes(self) -> list[int]:
        """The nodes of the list, up to its end or to where it is cyclic, at most `MAX_MODULES`. Where the
        image lacks a node, those behind it are found from the list's other end."""
        head = self._head_vaddr
        if head is None:
            return []
        seen: dict[int, None] = {}
        for link in (_NEXT, _PREVIOUS):
            node = self._word(head + link)
            while node != head and node and node not in seen and len(seen) < MAX_MODULES:
                seen[node] = None
                node = self._word(node + link)
            if node == head:
                break
        return list(seen)

    @cached_property
    def _fields(self) -> _Fields:
        """Where node and name are. Names that no trusted file has say nothing about a random order."""
        usual = _Fields(_LIST_OFFSET, _NAME_OFFSET)
        distances: Counter[tuple[int, int]] = Counter()
        for node in self._nodes[:_MOST_ASKED]:
            around = self._snapshot.read_padded(node - STRUCT_SIZE, 2 * STRUCT_SIZE)
            for at in range(0, len(around) - _NAME_SIZE, 8):
                found = _WHOLE_NAME.fullmatch(around, at, at + _NAME_SIZE)
                offset = None if found is None else self._name_offset(_plain(found[0]))
                if offset is not None:
                    distance = at - STRUCT_SIZE
                    if (offset - distance, offset) == usual:
                        return usual
                    distances[distance, offset] += 1
        if not distances:
            return usual
        (distance, offset), _count = distances.most_common(1)[0]
        return _Fields(offset - distance, offset)

    def _word(self, vaddr: int) -> int:
        return int.from_bytes(self._snapshot.read_padded(vaddr, 8), "little")


def _plain(name: bytes) -> str:
    """A name without its zeros, as the kernel compares it."""
    return name.rstrip(b"\0").decode("ascii").replace("-", "_")


def _pages_in(record: bytes, area: range) -> Iterator[int]:
    for word in memoryview(record).cast("Q"):
        if not word % PAGE_SIZE and word in area:
            yield word

"""The snapshot's kernel objects by the names of their fields, as the trusted kernel's own type information
(BTF) has them.

For what no file of the kernel shows: lists of handlers, tables of functions. Nothing here runs code: bytes
are read by the snapshot's own page tables, and each list ends at a bound, where it leads back into itself, or
where the image lacks it; that is reported, and what was found before it counts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.objects.list_ends import MAX_NODES, BrokenList, both_ends
from hybridbridge_vol.bridge.sides import moved
from hybridbridge_vol.snapshot.blank_pages import WHY, ZERO_PAGE
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.trust.type_information import struct_layouts
from hybridbridge_vol.units import PAGE_SIZE, U64

MAX_READS = 1 << 25
"""Reads for one question, a minute of them: lists that are short by themselves can lead to one another."""
_CHECK_EVERY = 1 << 12
"""Reads between two looks at what the answer has taken: some milliseconds."""
_MAX_TEXT = 256
_LINKS = struct.Struct("<QQ")
"""struct list_head: next, prev."""
_KEPT_PAGES = 4096
_VARIABLES = "dDbB"
"""Kinds of symbols, as nm(1) has them."""
_CPU_BITS = 8192
"""NR_CPUS of x86-64 with CONFIG_MAXSMP."""


class TypedMemory:
    """See the module's text. KernelFileError or StoreError if the kernel has no type information."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.types = struct_layouts(bridge.kernel)
        self._pages: dict[int, bytes] = {}
        self._reads = 0
        self._until = 0
        """Reads at which to look what the answer has taken, or that are too many."""
        self.begin()
        self.torn: set[int] = set()
        """Pages in which a node of a list or tree contradicts its neighbour, by their virtual addresses: no
        moment of the machine had both, but for the few instructions in which a list is changed."""

    # --- symbols ------------------------------------------------------------------------------------------

    def symbol(self, name: str) -> int:
        """Where the snapshot has a symbol, of several of that name the first variable that can be written;
        LookupError."""
        symbols = self.bridge.kernel.symbols
        places = symbols.addresses(name)
        if len(places) > 1:
            places.sort(key=lambda at: symbols.kind(name, at) not in _VARIABLES)
        if not places:
            raise LookupError(f"this kernel has no symbol {name}")
        return moved(places[0], self.bridge.layout.shift)

    def ring(self, name: str) -> int:
        """Where the snapshot has the head of a list, of several symbols of that name the first variable that
        is the head of one; LookupError."""
        symbols = self.bridge.kernel.symbols
        places = [moved(place, self.bridge.layout.shift) for place in symbols.addresses(name)]
        heads = [place for place in places if self._is_head(place)] if len(places) > 1 else []
        return heads[0] if heads else self.symbol(name)

    def _is_head(self, vaddr: int) -> bool:
        try:
            following = self.word(vaddr)
            return following >> 63 == 1 and self.word(following + 8) == vaddr
        except UnreadableVirtual:
            return False

    def has_symbol(self, name: str) -> bool:
        """Whether the kernel has a symbol."""
        return name in self.bridge.kernel.symbols

    def size_of_symbol(self, name: str) -> int:
        """Bytes from a symbol to the next one."""
        return self.bridge.kernel.symbols.size(name)

    def per_cpu(self, name: str) -> Iterator[tuple[int, int]]:
        """The number of each possible CPU, and where its copy of a per-CPU variable lies. LookupError,
        UnreadableVirtual."""
        base = self.symbol(name)
        for cpu in self.cpus():
            yield cpu, base + self.per_cpu_area(cpu) & U64

    def per_cpu_area(self, cpu: int) -> int:
        """What a CPU adds to a per-CPU variable's address. UnreadableVirtual."""
        offsets = self.bridge.sides.per_cpu_offsets
        return 0 if offsets is None else self.word(offsets + 8 * cpu)

    def cpus(self) -> list[int]:
        """The numbers of the CPUs that there may be. LookupError, UnreadableVirtual."""
        size = min(self.size_of_symbol("__cpu_possible_mask"), _CPU_BITS // 8)
        mask = int.from_bytes(self.read(self.symbol("__cpu_possible_mask"), size), "little")
        return [cpu for cpu in range(8 * size) if mask >> cpu & 1]

    def begin(self) -> None:
        """A new question: `MAX_READS` may be read again."""
        self._reads = 0
        self._until = min(_CHECK_EVERY, MAX_READS + 1)

    # --- bytes --------------------------------------------------------------------------------------------

    def read(self, vaddr: int, size: int) -> bytes:
        """Bytes at a virtual address; UnreadableVirtual; BrokenList after `MAX_READS`."""
        self._reads += 1
        if self._reads >= self._until:
            self._look_up()
        at = vaddr % PAGE_SIZE
        if at + size <= PAGE_SIZE:
            return self._page(vaddr - at)[at : at + size] if size > 0 else b""
        parts = []
        while size > 0:
            at = vaddr % PAGE_SIZE
            step = min(size, PAGE_SIZE - at)
            parts.append(self._page(vaddr - at)[at : at + step])
            vaddr, size = vaddr + step & U64, size - step
        return b"".join(parts)

    def _look_up(self) -> None:
        """LimitReached; BrokenList after `MAX_READS`."""
        if self._reads > MAX_READS:
            raise BrokenList("the image leads to more lists than can be followed")
        self.bridge.allowance.check()
        self._until = min(self._reads + _CHECK_EVERY, MAX_READS + 1)

    def _page(self, page_vaddr: int) -> bytes:
        page = self._pages.get(page_vaddr)
        if page is None:
            page = self._read_page(page_vaddr)
            if len(self._pages) >= _KEPT_PAGES:
                self._pages.clear()
            self._pages[page_vaddr] = page
        return page

    def _read_page(self, page_vaddr: int) -> bytes:
        paddr = self.paddr(page_vaddr)
        data = None if paddr is None else self.bridge.image.read_available(paddr, PAGE_SIZE)
        if paddr is None or data is None:
            raise UnreadableVirtual(page_vaddr)
        if data == ZERO_PAGE and self.bridge.virtual_memory.is_blank(paddr):
            raise UnreadableVirtual(page_vaddr, WHY)
        return data

    def paddr(self, vaddr: int) -> int | None:
        """The physical address of a virtual one; None where the snapshot maps nothing."""
        memory, layout = self.bridge.virtual_memory, self.bridge.layout
        offset = vaddr - layout.text_vaddr
        if 0 <= offset < layout.size:  # where the kernel image was found, whatever its page tables say
            return layout.text_paddr + offset
        # the lower half of the address space is a process's
        place = memory.translate(vaddr) if vaddr >> 63 else None
        return None if place is None else place.paddr

    def word(self, vaddr: int) -> int:
        """A 64-bit word; UnreadableVirtual."""
        at = vaddr % PAGE_SIZE
        page = self._pages.get(vaddr - at)
        if page is None or at > PAGE_SIZE - 8 or self._reads >= self._until:
            return self.number(vaddr, 8)
        self._reads += 1
        return int.from_bytes(page[at : at + 8], "little")

    def unpack(self, vaddr: int, layout: struct.Struct) -> tuple[int, ...]:
        """Numbers of a structure that is read as a whole; UnreadableVirtual."""
        at = vaddr % PAGE_SIZE
        page = self._pages.get(vaddr - at)
        if page is None or at > PAGE_SIZE - layout.size or self._reads >= self._until:
            return layout.unpack(self.read(vaddr, layout.size))
        self._reads += 1
        return layout.unpack_from(page, at)

    def number(self, vaddr: int, size: int, signed: bool = False) -> int:
        """A little-endian number; UnreadableVirtual."""
        return int.from_bytes(self.read(vaddr & U64, size), "little", signed=signed)

    def text(self, vaddr: int, size: int = _MAX_TEXT) -> str:
        """A string that ends with a zero, or after `size` bytes; empty for a null pointer.
        UnreadableVirtual."""
        if not vaddr:
            return ""
        data = b""
        while b"\0" not in data and len(data) < size:
            step = min(size - len(data), PAGE_SIZE - (vaddr + len(data)) % PAGE_SIZE)
            data += self.read(vaddr + len(data), step)
        return data.split(b"\0")[0].decode("utf-8", "surrogateescape")

    # --- fields -------------------------------------------------------------------------------------------

    def at(self, vaddr: int, struct_name: str, path: str) -> int:
        """The address of a field of a structure at `vaddr`; LookupError."""
        return vaddr + self.types.offset(struct_name, path) & U64

    def get(self, vaddr: int, struct_name: str, path: str) -> int:
        """A field that is a number or a pointer, unsigned; LookupError, UnreadableVirtual."""
        offset, size, bit, mask = self.types.number(struct_name, path)
        number = self.word(vaddr + offset & U64) if size == 8 else self.number(vaddr + offset, size)
        if not number:
            self._check_filled(vaddr, struct_name)
        return number >> bit & mask

    def _check_filled(self, vaddr: int, struct_name: str) -> None:
        """UnreadableVirtual if a structure that a pointer leads to is zeros, and its pages are. Variables of
        the kernel may be."""
        page = vaddr & -PAGE_SIZE
        if self._pages.get(page) != ZERO_PAGE:
            return
        if 0 <= vaddr - self.bridge.layout.text_vaddr < self.bridge.layout.size:
            return
        if not any(self.read(vaddr, self.types.size(struct_name))):
            raise UnreadableVirtual(vaddr, WHY)

    def name(self, vaddr: int, struct_name: str, path: str) -> str:
        """A field that is an array of characters; LookupError, UnreadableVirtual."""
        return self.text(self.at(vaddr, struct_name, path), self.types.count(struct_name, path))

    # --- lists and trees ----------------------------------------------------------------------------------

    def list(self, head_vaddr: int, struct_name: str, path: str) -> Iterator[int]:
        """The structures of a ring of `struct list_head` (include/linux/list.h) whose link is the field
        `path`; BrokenList, UnreadableVirtual, LookupError."""
        offset = self.types.offset(struct_name, path)
        for node in both_ends(self._forward, self.word, head_vaddr):
            yield node - offset & U64

    def _forward(self, head_vaddr: int, seen: dict[int, None]) -> Iterator[int]:
        before, node = head_vaddr, self.word(head_vaddr)
        if not node:
            return  # not initialised
        while node != head_vaddr:
            self.count(node, seen)
            links = self._links(node)
            if links is None:
                self.compare(node, node + 8, before)
                yield node
                before, node = node, self.word(node)
                continue
            following, back = links
            if back != before:
                self.torn.update((node & -PAGE_SIZE, before & -PAGE_SIZE))
            yield node
            before, node = node, following

    def _links(self, node: int) -> tuple[int, int] | None:
        """Both words of a node, next and previous one, if its page was read before: of most nodes of a long
        list."""
        at = node % PAGE_SIZE
        page = self._pages.get(node - at)
        if page is None or at > PAGE_SIZE - _LINKS.size or self._reads >= self._until:
            return None
        self._reads += 2
        following, back = _LINKS.unpack_from(page, at)
        return following, back

    def compare(self, node: int, back_vaddr: int, before: int) -> None:
        """Note where a node's pointer back, at `back_vaddr`, does not lead to where its list came from."""
        try:
            back = self.word(back_vaddr)
        except UnreadableVirtual:
            return
        if back != before:
            self.torn.update((node & -PAGE_SIZE, before & -PAGE_SIZE))

    def chain(self, first: int, next_offset: int) -> Iterator[int]:
        """The structures of a list that ends with a null pointer, or with one that is marked by its lowest
        bit; each has the next one's address at `next_offset`. BrokenList, UnreadableVirtual."""
        seen: dict[int, None] = {}
        node = first
        while node and not node & 1:
            self.count(node, seen)
            yield node
            node = self.word(node + next_offset)

    def hlist(self, head_vaddr: int, struct_name: str, path: str) -> Iterator[int]:
        """The structures of a `struct hlist_head`, whose nodes are the field `path`. As `list`."""
        offset = self.types.offset(struct_name, path)
        before = head_vaddr
        for node in self.chain(self.word(head_vaddr), 0):
            self.compare(node, node + 8, before)
            before = node
            yield node - offset & U64

    def tree(self, root_vaddr: int, struct_name: str, path: str) -> Iterator[int]:
        """The structures of a `struct rb_root` (include/linux/rbtree_types.h), in their order. As `list`."""
        offset = self.types.offset(struct_name, path)
        left, right = (self.types.offset("rb_node", name) for name in ("rb_left", "rb_right"))
        seen: dict[int, None] = {}
        stack: list[int] = []
        above, node = 0, self.word(root_vaddr)
        while node or stack:
            while node:
                self.count(node, seen)
                self._compare_parent(node, above)
                stack.append(node)
                above, node = node, self.word(node + left)
            node = stack.pop()
            yield node - offset & U64
            above, node = node, self.word(node + right)

    def _compare_parent(self, node: int, above: int) -> None:
        """Note a node of a tree that is not below the node that leads to it. The lowest bits of the word are
        its colour."""
        try:
            parent = self.word(node) & -4
        except UnreadableVirtual:
            return
        if parent != above:
            self.torn.update((node & -PAGE_SIZE, above & -PAGE_SIZE))

    def count(self, node: int, seen: dict[int, None]) -> None:
        """One more node of a list or tree; BrokenList if there can be no such one."""
        if node in seen:
            raise BrokenList(f"a list leads back into itself at {node:#x}")
        if len(seen) >= MAX_NODES:
            raise BrokenList(f"a list has more than {MAX_NODES} entries")
        if not node >> 63:
            raise BrokenList(f"a list leads out of the kernel, to {node:#x}")
        seen[node] = None

    def pointers(self, vaddr: int, count: int) -> Iterable[int]:
        """An array of 64-bit words; UnreadableVirtual."""
        return memoryview(self.read(vaddr, 8 * count)).cast("Q")

"""The snapshot's kernel held against the trusted one: its text, its constants, its tables of functions.

The expected kernel is the file of the trusted package, relocated to where the snapshot's lies. What the kernel's own
patching may have done to it is taken over first (`image.patching`); everything that differs then is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import chain, groupby, islice

from hybridbridge_vol.bridge.attach import Bridge
from hybridbridge_vol.guest.kernel import Difference
from hybridbridge_vol.guest.places import Places
from hybridbridge_vol.image.function_pointers import Range, Stores, holds_pointers, joined, pointers_into
from hybridbridge_vol.image.gates import GATE_SIZE, VECTORS, ExpectedGates, Gate, read_gates
from hybridbridge_vol.image.instructions import Instruction, Reader, Thunks
from hybridbridge_vol.image.patch_tables import PatchTables, read_patch_tables
from hybridbridge_vol.image.patching import NOP5, Patcher
from hybridbridge_vol.machine.memory import PAGE_SIZE, page_up
from hybridbridge_vol.snapshot.kernel_memory import kernel_pieces
from hybridbridge_vol.trust.layout import START_KERNEL_MAP
from hybridbridge_vol.trust.linked import linked_kernel

MOST_DIFFERENCES = 1000
"""Rows of one kind; a kernel with more is not patched here and there, it is another kernel or a ruin."""
SYSCALL_TABLES = ("sys_call_table", "ia32_sys_call_table", "x32_sys_call_table")
_TRACERS = ("ftrace_caller", "ftrace_regs_caller")
_SAME_PLACE = 8
"""Differing bytes of text that are less far apart are one difference."""
_SHOWN = 48
"""Bytes of one difference that are shown."""
_LONGEST_FUNCTION = 1 << 16
_INT3 = 0xCC
_KERNEL_ADDRESS = re.compile(r"0xffff[0-9a-f]{12}\b")
_U64 = (1 << 64) - 1


class Integrity:
    """The comparison of one snapshot. Offsets count from `_text`."""

    def __init__(self, bridge: Bridge, places: Places) -> None:
        kernel, layout = bridge.kernel, bridge.layout
        self._bridge = bridge
        self._places = places
        self._symbols = kernel.symbols
        self._text = kernel.text_link_vaddr
        self._text_vaddr = layout.text_vaddr
        self._linked = linked_kernel(kernel)
        self._code_end = self._offset("_etext")
        self._constants = (self._offset("__start_rodata"), self._offset("__end_rodata"))
        self._read_only_later = (self._offset("__start_ro_after_init"), self._offset("__end_ro_after_init"))
        self._data = (self._offset("_sdata"), self._offset("_edata"))
        self._expected = self._linked.relocated(layout.shift)
        self._found = bytearray(self._data[1])
        self._paddrs: dict[int, int | None] = {}
        self._patcher = Patcher(self._expected, self._found, self._symbols, self._text, layout.shift, self._word)

    @cached_property
    def _tables(self) -> PatchTables:
        return read_patch_tables(self._linked.flat, self._symbols, self._text)

    def differences(self) -> Iterator[Difference]:
        """Everything that nothing explains, in order of addresses within each kind."""
        yield from self._pages()
        self._patcher.accept(self._tables)
        yield from _limited(self._code_differences(), "text")
        yield from _limited(self._constant_differences(), "rodata")
        yield from _limited(self._pointer_differences(), "data")
        yield from self._gate_differences()

    # --- reading ------------------------------------------------------------------------------------------

    def _offset(self, name: str) -> int:
        return self._symbols.address(name) - self._text

    def _word(self, offset: int) -> int | None:
        """A variable of the snapshot's kernel."""
        data = self._bridge.image.read_available(self._bridge.layout.text_paddr + offset, 8)
        return None if data is None else int.from_bytes(data, "little")

    def _pages(self) -> Iterator[Difference]:
        """Fill in what is found. What is missing is told, and compares as expected."""
        ranges = ((0, page_up(self._code_end)), (self._constants[0] & -PAGE_SIZE, page_up(self._constants[1])), self._data)
        absent: list[int] = []
        for start, end in ranges:
            for piece in kernel_pieces(self._bridge.image, self._bridge.layout, start & -PAGE_SIZE, page_up(end)):
                last = min(piece.end, len(self._found))
                for page in range(piece.start, last, PAGE_SIZE):
                    self._paddrs[page] = None if piece.paddr is None else piece.paddr + page - piece.start
                usual = self._bridge.layout.text_paddr + piece.start
                if piece.paddr is not None and piece.paddr != usual:
                    yield self._told(
                        "mapping", piece.start, f"physical {usual:#x}", f"physical {piece.paddr:#x}", f"{piece.end - piece.start} bytes"
                    )
                if piece.data is None:
                    self._found[piece.start : last] = self._expected[piece.start : last]
                    absent += range(piece.start, last, PAGE_SIZE)
                else:
                    self._found[piece.start : last] = piece.data[: last - piece.start]
        for start, end in joined(absent, PAGE_SIZE + 1):
            pages = (end - 1 - start) // PAGE_SIZE + 1
            yield self._told("missing", start, None, f"{pages} pages are not in the image and cannot be checked")

    def _told(
        self, what: str, offset: int, expected: str | None, found: str | None, leads: str | None = None, symbol: str | None = None
    ) -> Difference:
        paddr = self._paddrs.get(offset & -PAGE_SIZE)
        place = None if paddr is None else self._bridge.image.offset_of(paddr + offset % PAGE_SIZE)
        vaddr = self._text_vaddr + offset & _U64
        return Difference(what, vaddr, place, symbol or self._places.symbol(vaddr) or "", expected, found, leads)

    def _unequal(self, start: int, end: int) -> Iterator[int]:
        """Offsets of the bytes that differ."""
        expected, found = self._expected, self._found
        for page in range(start & -PAGE_SIZE, end, PAGE_SIZE):
            first, last = max(start, page), min(end, page + PAGE_SIZE)
            if expected[first:last] != found[first:last]:
                yield from (at for at in range(first, last) if expected[at] != found[at])

    # --- text ---------------------------------------------------------------------------------------------

    def _code_differences(self) -> Iterator[Difference]:
        traceable = frozenset(self._tables.mcount)
        for start, end in joined(self._unequal(0, self._code_end), _SAME_PLACE, PAGE_SIZE):
            first, last = self._whole_instructions(start, min(end, start + _SHOWN))
            expected = self._decode(self._expected, first, last)
            found = self._decode(self._found, first, last)
            more = f"; ... ({end - first} bytes)" if end > last else ""
            targets = [instruction.target for instruction in found if instruction.target is not None]
            what = "text"
            if first in traceable and found and found[0].mnemonic == "call" and self._is_tracer(found[0].target):
                what = "traced"
            elif self._is_breakpoint(first, start, end):
                what = "kprobe"
            leads = self._places.leads([*targets, *_addresses(found, expected)])
            yield self._told(what, first, _words(expected) + more, _words(found) + more, leads)

    def _is_tracer(self, vaddr: int | None) -> bool:
        return vaddr is not None and self._places.symbol(vaddr) in _TRACERS

    def _is_breakpoint(self, first: int, start: int, end: int) -> bool:
        """Whether nothing is changed but the first byte of an instruction, which is `int3`."""
        if self._found[first] != _INT3:
            return False
        return (start, end) == (first, first + 1) or self._found[first + 1 : end] == NOP5[1 : end - first]

    def _whole_instructions(self, start: int, end: int) -> Range:
        """The expected instructions that hold the bytes from `start` to `end`."""
        found = self._symbols.lookup(self._text + start)
        if found is None or found[1] > _LONGEST_FUNCTION:
            return start, end
        first = start - found[1]
        place, last = start, end
        for instruction in self._patcher.reader.decode(bytes(self._expected[first : end + 16]), self._text_vaddr + first):
            at = instruction.vaddr - self._text_vaddr
            if at <= start:
                place = at
            if at >= end:
                last = at
                break
        return place, min(last, self._code_end)

    def _decode(self, code: bytearray, start: int, end: int) -> list[Instruction]:
        return self._patcher.reader.decode(bytes(code[start:end]), self._text_vaddr + start & _U64)

    # --- constants and pointers ---------------------------------------------------------------------------

    def _constant_differences(self) -> Iterator[Difference]:
        start, end = self._constants
        later = self._read_only_later
        pointers = frozenset(self._linked.abs64)
        offsets = chain(self._unequal(start, later[0]), self._unequal(later[1], end))
        words = (at for at, _same in groupby(at & -8 for at in offsets))
        for is_pointer, some in groupby(words, pointers.__contains__):
            if is_pointer:
                yield from (self._constant_pointer(at) for at in some)
                continue
            for first, last in joined(some, 9, PAGE_SIZE):
                size = last + 7 - first
                more = f" ... ({size} bytes)" if size > _SHOWN else ""
                expected, found = (code[first : first + min(size, _SHOWN)].hex(" ") for code in (self._expected, self._found))
                yield self._told("rodata", first, expected + more, found + more)

    def _constant_pointer(self, offset: int) -> Difference:
        found = self._symbols.lookup(self._text + offset)
        if found is not None and found[0] in SYSCALL_TABLES:
            return self._pointer("syscall", offset, f"{found[0]}[{found[1] // 8}]")
        return self._pointer("rodata", offset)

    def _pointer(self, what: str, offset: int, symbol: str | None = None) -> Difference:
        before = int.from_bytes(self._expected[offset : offset + 8], "little")
        after = int.from_bytes(self._found[offset : offset + 8], "little")
        return self._told(
            what, offset, self._places.symbol(before) or f"{before:#x}", f"{after:#x}", self._places.leads([after]), symbol
        )

    def _pointer_differences(self) -> Iterator[Difference]:
        """Pointers to functions and tables that were linked into data and are neither what they were nor what the kernel
        makes them."""
        code = [(0, self._code_end), (self._offset("_sinittext"), self._offset("_einittext"))]
        ranges = [self._read_only_later, self._data]
        abs64 = self._linked.abs64
        for site, target in pointers_into(self._linked.flat, abs64, self._text, ranges, [*code, self._constants]):
            if self._found[site : site + 8] == self._expected[site : site + 8] or self._is_explained(site):
                continue
            following = (self._symbols.next_address(self._text + target) or self._text) - self._text
            if any(first <= target < last for first, last in code) or holds_pointers(abs64, target, following):
                yield self._pointer("data", site)

    def _is_explained(self, site: int) -> bool:
        """Whether the trusted kernel's boot has made the same of a pointer, or code of the trusted kernel does."""
        after = int.from_bytes(self._found[site : site + 8], "little")
        start = self._text - START_KERNEL_MAP + site
        at_home = int.from_bytes(self._bridge.ram.view[start : start + 8], "little")
        if at_home >= START_KERNEL_MAP:
            at_home = at_home - self._bridge.home_delta + self._bridge.layout.shift & _U64
        target = after - self._text_vaddr
        if after == at_home or target in self._processors.get(site, ()):
            return True
        inside = 0 <= target < self._code_end or self._constants[0] <= target < self._constants[1]
        return inside and self._stores.stores(target, site)

    @cached_property
    def _processors(self) -> dict[int, frozenset[int]]:
        """`this_cpu` is one of a list that lies in initialisation data (early_cpu_init, arch/x86/kernel/cpu/common.c)."""
        variable, start, end = (self._symbols.get(name) for name in ("this_cpu", "__x86_cpu_dev_start", "__x86_cpu_dev_end"))
        if variable is None or start is None or end is None:
            return {}
        words = memoryview(self._linked.flat)[start - self._text : end - self._text].cast("Q")
        return {variable - self._text: frozenset(word - self._text for word in words)}

    @cached_property
    def _stores(self) -> Stores:
        thunks = Thunks({}, frozenset())
        return Stores(self._linked.flat, self._linked.abs32, self._symbols, self._text, Reader(thunks))

    # --- interrupts ---------------------------------------------------------------------------------------

    def _gate_differences(self) -> Iterator[Difference]:
        offset = self._offset("idt_table")
        paddr = self._bridge.layout.text_paddr + offset
        table = self._bridge.image.read_available(paddr, VECTORS * GATE_SIZE)
        if table is None:
            yield self._told("missing", offset, None, "the table is not in the image and cannot be checked")
            return
        expected = ExpectedGates(self._linked.flat, self._symbols, self._text)
        for vector, gate in enumerate(read_gates(table)):
            linked = gate._replace(handler=gate.handler - self._bridge.layout.shift & _U64)
            if expected.allows(vector, linked):
                continue
            usual = expected.usual(vector)
            moved = None if usual is None else usual._replace(handler=usual.handler + self._bridge.layout.shift & _U64)
            yield Difference(
                "idt",
                self._text_vaddr + offset + vector * GATE_SIZE,
                self._bridge.image.offset_of(paddr + vector * GATE_SIZE),
                f"idt_table[{vector:#x}]",
                "an entry point for this vector" if moved is None else self._gate(moved),
                self._gate(gate),
                self._places.leads([gate.handler]),
            )

    def _gate(self, gate: Gate) -> str:
        name = self._places.symbol(gate.handler) or f"{gate.handler:#x}"
        return f"{name} (selector {gate.selector:#x}, type {gate.bits:#x})"


def _limited(differences: Iterator[Difference], what: str) -> Iterator[Difference]:
    """The first of them, and a word about the rest."""
    yield from islice(differences, MOST_DIFFERENCES)
    following = next(differences, None)
    if following is not None:
        yield following._replace(what="more", symbol=what, expected=None, found="more differences follow, not shown", leads=None)


def _words(instructions: list[Instruction]) -> str:
    return "; ".join(map(str, instructions))


def _addresses(found: list[Instruction], expected: list[Instruction]) -> Iterator[int]:
    """Kernel addresses that stand as numbers in the code found and not in the code expected."""
    usual = _words(expected)
    for number in _KERNEL_ADDRESS.findall(" ".join(instruction.operands for instruction in found)):
        if number not in usual:
            yield int(number, 16)

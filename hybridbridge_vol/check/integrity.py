"""The snapshot's kernel compared with the trusted one: its text, its constants, its tables of functions.

The expected kernel is the file of the trusted package, relocated to the address of the snapshot's kernel.
Changes that the kernel's own patching may have made are accepted first (`check.patching`); every other
difference is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from itertools import chain, groupby

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.check.call_checks import CallChecks
from hybridbridge_vol.check.call_depth import lead_calls_behind
from hybridbridge_vol.check.code_differences import SHOWN, CodeComparison, unequal
from hybridbridge_vol.check.cpu_registers import register_differences
from hybridbridge_vol.check.cut_strings import accept_cut_strings
from hybridbridge_vol.check.difference import Difference
from hybridbridge_vol.check.doubts import UNREAD, Doubts, blank_pages, in_a_row
from hybridbridge_vol.check.function_pointers import (
    holds_pointers,
    inside,
    joined,
    sites_in,
    unequal_words,
)
from hybridbridge_vol.check.interrupt_gates import GATE_SIZE, VECTORS, ExpectedGates, Gate, read_gates
from hybridbridge_vol.check.kernel_context import KernelAround
from hybridbridge_vol.check.kernel_pointers import ExplainedPointers
from hybridbridge_vol.check.modules.all_modules import AllModules
from hybridbridge_vol.check.modules.integrity import ModuleIntegrity
from hybridbridge_vol.check.modules.stored_pointers import StoredPointers
from hybridbridge_vol.check.patch_tables import PatchTables, read_call_sites, read_patch_tables
from hybridbridge_vol.check.patching import Patcher
from hybridbridge_vol.check.symbol_names import Places, bpf_code, known_modules
from hybridbridge_vol.check.tracers import Tracers
from hybridbridge_vol.check.vdso_images import vdso_images
from hybridbridge_vol.errors import StoreError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.procfs.system import Module
from hybridbridge_vol.snapshot.kernel_memory import kernel_pieces
from hybridbridge_vol.trust.linked_kernel import linked_kernel
from hybridbridge_vol.units import PAGE_SIZE, U64

SYSCALL_TABLES = ("sys_call_table", "ia32_sys_call_table", "x32_sys_call_table")


def differences(kernel: GuestKernel) -> Iterator[Difference]:
    """What of the guest's kernel differs from the trusted one, and is not explained by its own patching.
    StoreError or KernelFileError if the trusted kernel's files cannot be read."""
    listed, lost = known_modules(kernel)
    if lost is not None:
        reason = f"only {len(listed)} modules can be checked: {lost.reason}"
        head_vaddr = kernel.bridge.snapshot("modules")
        yield Difference("missing", head_vaddr, None, "modules", None, reason)
    yield from Integrity(kernel.bridge, listed, partial(bpf_code, kernel), lost is None).differences()


class Integrity:
    """The comparison of one snapshot, whose kernel lists the modules `listed`, and no others if these
    `are_all`; `bpf_name` names its code of BPF. Offsets count from `_text`."""

    def __init__(
        self, bridge: Bridge, listed: list[Module], bpf_name: Callable[[int], str], are_all: bool = True
    ) -> None:
        kernel, layout = bridge.kernel, bridge.layout
        self._bridge = bridge
        self._listed = listed
        self._symbols = kernel.symbols
        self._text = kernel.text_link_vaddr
        self._text_vaddr = layout.text_vaddr
        self._linked = linked_kernel(kernel)
        self._code_end = self._offset("_etext")
        self._constants = (self._offset("__start_rodata"), self._offset("__end_rodata"))
        self._read_only_later = (self._offset("__start_ro_after_init"), self._offset("__end_ro_after_init"))
        self._data = (self._offset("_sdata"), self._offset("_edata"))
        self._init_code = (self._offset("_sinittext"), self._offset("_einittext"))
        self._expected = self._linked.relocated(layout.shift)
        self._found = bytearray(self._data[1])
        self._paddrs: dict[int, int | None] = {}
        self._missing: list[int] = []
        self._modules = AllModules(bridge, listed)
        self._places = Places(bridge, listed, self._modules.part_at, self._modules.by_name, bpf_name, are_all)
        self._stored = StoredPointers(self._modules, bridge.sides.snapshot_all("__static_call_return0"))
        self._around = KernelAround(bridge, self._expected, self._modules.function)
        self._tracers = Tracers(self._around, self._places, bridge.space.modules.read)

    @cached_property
    def _tables(self) -> PatchTables:
        return read_patch_tables(self._linked.flat, self._symbols, self._text)

    def differences(self) -> Iterator[Difference]:
        """All unexplained differences, in order of addresses within each kind."""
        yield from self._pages()
        self._take_out_counting()
        self._accept_call_checks()
        patcher = Patcher(self._expected, self._found, self._text_vaddr, self._around.reader, self._around)
        patcher.accept(self._tables)
        yield from self._code_differences(Doubts(self._missing, patcher.unread))
        yield from self._constant_differences()
        yield from self._vdso_differences()
        yield from self._pointer_differences()
        yield from self._gate_differences()
        yield from register_differences(self._bridge, self._places)
        modules = ModuleIntegrity(
            self._bridge, self._places, self._around, self._tracers, self._modules, self._stored
        )
        yield from modules.differences(self._listed)

    # --- reading ------------------------------------------------------------------------------------------

    def _offset(self, name: str) -> int:
        found = self._symbols.get(name)
        if found is None:
            raise StoreError(
                f"{self._bridge.kernel.name}: this kernel has no symbol {name}; it cannot be checked"
            )
        return found - self._text

    def _pages(self) -> Iterator[Difference]:
        """Read the snapshot's pages. Missing ones are reported, and compare as equal."""
        ranges = (
            (0, page_up(self._code_end)),
            (self._constants[0] & -PAGE_SIZE, page_up(self._constants[1])),
            self._data,
        )
        absent: list[int] = []
        blank: list[int] = []
        for start, end in ranges:
            for piece in kernel_pieces(
                self._bridge.image, self._bridge.layout, start & -PAGE_SIZE, page_up(end)
            ):
                last = min(piece.end, len(self._found))
                for page in range(piece.start, last, PAGE_SIZE):
                    self._paddrs[page] = None if piece.paddr is None else piece.paddr + page - piece.start
                usual = self._bridge.layout.text_paddr + piece.start
                if piece.paddr is not None and piece.paddr != usual:
                    yield self._difference(
                        "mapping",
                        piece.start,
                        f"physical {usual:#x}",
                        f"physical {piece.paddr:#x}",
                        f"{piece.end - piece.start} bytes",
                    )
                if piece.data is None:
                    self._found[piece.start : last] = self._expected[piece.start : last]
                    absent += range(piece.start, last, PAGE_SIZE)
                else:
                    self._found[piece.start : last] = piece.data[: last - piece.start]
                    blank += self._blanked(piece.start, last)
        self._missing += (*absent, *blank)
        for missing, how in ((absent, "not in the image"), (blank, "zeros")):
            for start, pages in in_a_row(missing):
                yield self._difference(
                    "missing", start, None, f"{pages} pages are {how} and cannot be checked"
                )

    def _blanked(self, start: int, end: int) -> Iterator[int]:
        """The pages that are zeros and should not be. They compare as equal."""
        for page in blank_pages(self._expected, self._found, start, end):
            whole = slice(page, min(page + PAGE_SIZE, end))
            self._found[whole] = self._expected[whole]
            yield page

    def _difference(
        self,
        what: str,
        offset: int,
        expected: str | None,
        found: str | None,
        leads: str | None = None,
        symbol: str | None = None,
    ) -> Difference:
        paddr = self._paddrs.get(offset & -PAGE_SIZE)
        place = None if paddr is None else self._bridge.image.offset_of(paddr + offset % PAGE_SIZE)
        vaddr = self._text_vaddr + offset & U64
        name = symbol or self._places.symbol(vaddr) or ""
        return Difference(what, vaddr, place, name, expected, found, leads, self._places.doubt(leads))

    def _take_out_counting(self) -> None:
        around = self._around
        if around.counting is not None and around.counting.take_out(
            self._expected, self._found, self._text_vaddr
        ):
            around.calls_are_counted = True
            sites = {*read_call_sites(self._linked.flat, self._symbols, self._text), *self._tables.calls()}
            lead_calls_behind(sites, self._found, self._text_vaddr, around.counts)

    def _accept_call_checks(self) -> None:
        tables = self._tables
        if not tables.preambles:
            return
        texts, sites = (self._expected, self._found), (tables.preambles, tables.retpolines)
        self._around.call_checks = CallChecks.of(self._around.call_templates, *texts, *sites)
        self._around.call_checks.accept(*texts, *sites, frozenset(tables.seals))

    # --- text ---------------------------------------------------------------------------------------------

    def _code_differences(self, doubts: Doubts) -> Iterator[Difference]:
        def function_start(offset: int) -> int:
            found = self._symbols.lookup(self._text + offset)
            return offset if found is None else offset - found[1]

        comparison = CodeComparison(
            self._expected, self._found, self._text_vaddr, self._around.reader, self._places, self._tracers,
            function_start, frozenset(self._tables.mcount),
        )  # fmt: skip
        for one in comparison.differences(self._code_end):
            found = self._difference(one.what, one.start, one.expected, one.found, one.leads)
            yield found._replace(doubt=doubts.of(one.start, one.end) or found.doubt)

    # --- constants and pointers ---------------------------------------------------------------------------

    def _constant_differences(self) -> Iterator[Difference]:
        start, end = self._constants
        accept_cut_strings(self._expected, self._found, start, end)
        self._accept_empty_gaps(start, end)
        later = self._read_only_later
        pointers = frozenset(self._linked.abs64)
        offsets = chain(
            unequal(self._expected, self._found, start, later[0]),
            unequal(self._expected, self._found, later[1], end),
        )
        words = (at for at, _same in groupby(at & -8 for at in offsets))
        for is_pointer, some in groupby(words, pointers.__contains__):
            if is_pointer:
                yield from (self._constant_pointer(at) for at in some)
                continue
            for first, last in joined(some, 9, PAGE_SIZE):
                yield self._difference("rodata", first, *self._shown(first, last + 7))

    def _vdso_differences(self) -> Iterator[Difference]:
        for image in vdso_images(self._linked.flat, self._symbols, self._text):
            end = image.start + image.size
            if end > len(self._found) or image.sites is None:
                reason = f"{image.name}: its alternatives are not in a known form"
                yield self._difference("missing", image.start, None, reason, symbol=image.name)
                continue
            image.accept(self._expected, self._found)
            for first, last in joined(unequal(self._expected, self._found, image.start, end), 9, PAGE_SIZE):
                symbol = f"{image.name}+{first - image.start:#x}"
                yield self._difference(
                    "vdso", first, *self._shown(first, last), "code of every process", symbol
                )

    def _shown(self, start: int, end: int) -> tuple[str, str]:
        """The expected bytes of a range and those found, in hexadecimal, as far as they are shown."""
        size = end - start
        more = f" ... ({size} bytes)" if size > SHOWN else ""
        expected, found = (
            code[start : start + min(size, SHOWN)].hex(" ") + more for code in (self._expected, self._found)
        )
        return expected, found

    def _accept_empty_gaps(self, start: int, end: int) -> None:
        """See `LinkedKernel.gaps`: nothing of the kernel's is in them."""
        for first, last in zip(self._linked.gaps[::2], self._linked.gaps[1::2], strict=True):
            inner = slice(max(first, start), min(last, end))
            if not any(self._found[inner]):
                self._expected[inner] = self._found[inner]

    def _constant_pointer(self, offset: int) -> Difference:
        found = self._symbols.lookup(self._text + offset)
        if found is not None and found[0] in SYSCALL_TABLES:
            return self._pointer("syscall", offset, f"{found[0]}[{found[1] // 8}]")
        return self._pointer("rodata", offset)

    def _pointer(self, what: str, offset: int, symbol: str | None = None) -> Difference:
        before = int.from_bytes(self._expected[offset : offset + 8], "little")
        after = int.from_bytes(self._found[offset : offset + 8], "little")
        return self._difference(
            what,
            offset,
            self._places.symbol(before) or f"{before:#x}",
            f"{after:#x}",
            self._places.leads([after]),
            symbol,
        )

    def _pointer_differences(self) -> Iterator[Difference]:
        """Pointers to functions and tables that were linked into data and have neither their linked value nor
        one that the kernel stores there."""
        code = [(0, self._code_end), self._init_code]
        explained = ExplainedPointers(
            self._bridge, self._linked, [*code, self._constants], self._around, self._stored
        )
        abs64, flat, found, expected = self._linked.abs64, self._linked.flat, self._found, self._expected
        sites = sites_in(abs64, (self._read_only_later, self._data))
        for site in unequal_words(sites, found, expected):
            target = int.from_bytes(flat[site : site + 8], "little") - self._text
            is_table = inside(target, [self._constants]) and holds_pointers(
                abs64, target, explained.behind(target)
            )
            unread = self._around.unread
            if (is_table or inside(target, code)) and not explained.explains(
                int.from_bytes(found[site : site + 8], "little"), site
            ):
                found_in = self._symbols.lookup(self._text + site)
                value = int.from_bytes(found[site : site + 8], "little")
                owner = None if found_in is None else self._tracers.owner(found_in[0], value)
                found_one = self._pointer(owner or "data", site)
                yield found_one._replace(doubt=UNREAD) if self._around.unread > unread else found_one

    # --- interrupts ---------------------------------------------------------------------------------------

    def _gate_differences(self) -> Iterator[Difference]:
        offset = self._offset("idt_table")
        paddr = self._bridge.layout.text_paddr + offset
        table = self._bridge.image.read_available(paddr, VECTORS * GATE_SIZE)
        if table is None or not any(table):
            how = "not in the image" if table is None else "zeros"
            yield self._difference("missing", offset, None, f"the table is {how} and cannot be checked")
            return
        expected = ExpectedGates(self._linked.flat, self._symbols, self._text)
        for vector, gate in enumerate(read_gates(table)):
            linked = gate._replace(handler=gate.handler - self._bridge.layout.shift & U64)
            if expected.allows(vector, linked):
                continue
            usual = expected.usual(vector)
            moved = (
                None
                if usual is None
                else usual._replace(handler=usual.handler + self._bridge.layout.shift & U64)
            )
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

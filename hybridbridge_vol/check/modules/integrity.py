"""Code, constants and pointers of the snapshot's modules, compared with the trusted package's files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.check.call_depth import lead_calls_behind
from hybridbridge_vol.check.code_differences import CodeComparison
from hybridbridge_vol.check.difference import Difference
from hybridbridge_vol.check.doubts import ABSENT, EMPTY, Doubts, in_a_row
from hybridbridge_vol.check.kernel_context import KernelAround
from hybridbridge_vol.check.modules.all_modules import AllModules
from hybridbridge_vol.check.modules.linked_module import DATA, LATER, RODATA, TEXT
from hybridbridge_vol.check.modules.names import Names
from hybridbridge_vol.check.modules.patch_sites import SiteColumns
from hybridbridge_vol.check.modules.placed_module import Memory, PlacedModule
from hybridbridge_vol.check.modules.stored_pointers import StoredPointers
from hybridbridge_vol.check.packages import ModulePackage
from hybridbridge_vol.check.patching import Patcher
from hybridbridge_vol.check.symbol_names import Places
from hybridbridge_vol.check.tracepoints import PREFIX, is_recorded
from hybridbridge_vol.check.tracers import Tracers
from hybridbridge_vol.procfs.system import Module
from hybridbridge_vol.units import PAGE_SIZE

_ALIKE = 0.6
"""Share of a module's code that must be as in its file: patch sites change a few bytes in a hundred."""
_KERNEL_HALF = 1 << 63


class ModuleIntegrity:
    """The comparison of the modules that the snapshot's kernel lists."""

    def __init__(
        self,
        bridge: Bridge,
        places: Places,
        around: KernelAround,
        tracers: Tracers,
        modules: AllModules,
        stored: StoredPointers,
    ) -> None:
        self._bridge = bridge
        self.places = places
        self.around = around
        self.tracers = tracers
        self.modules = modules
        self.stored = stored

    def differences(self, listed: Iterable[Module]) -> Iterator[Difference]:
        """Module by module. One that cannot be checked is reported."""
        for module in listed:
            placed = self.modules.by_name.get(module.name)
            comparison = None if placed is None else _Comparison(self, placed)
            if comparison is not None and comparison.is_like_file():
                yield from comparison.differences()
                continue
            reason = "does not lie where it is listed, or is not like its file"
            if not self._bridge.space.modules.has_file(module.name):
                reason = "no trusted file; add the package that it came in with 'hb trust add'"
            reason = f"module {module.name} cannot be checked: {reason}"
            yield self.difference("missing", module.address_vaddr, module.name, None, reason)

    def records(self, module: str, variable: str, function_vaddr: int) -> bool:
        """Whether a module's variable is the key of a tracepoint of its own, and the kernel just records its
        events."""
        if not variable.startswith(PREFIX):
            return False
        package = ModulePackage(module, self.modules, self.stored)
        function = self.modules.name_of(function_vaddr)
        return is_recorded(variable, function_vaddr, function, package, self.around.word)

    def difference(
        self,
        what: str,
        vaddr: int,
        symbol: str,
        expected: str | None,
        found: str | None,
        leads: str | None = None,
    ) -> Difference:
        """A difference at an address of the snapshot."""
        place = self._bridge.layout.translate(self._bridge.image, vaddr)
        offset = None if place is None else self._bridge.image.offset_of(place.paddr)
        return Difference(what, vaddr, offset, symbol, expected, found, leads, self.places.doubt(leads))


class _Pointer(NamedTuple):
    """A pointer at `vaddr`: its linked value, and the value found."""

    vaddr: int
    linked: int
    found: int


class _Comparison:
    """One module. Offsets count from the beginning of its code, or of its constants."""

    def __init__(self, integrity: ModuleIntegrity, placed: PlacedModule) -> None:
        self._all = integrity
        self._placed = placed
        self._name = placed.name
        self._found = placed.text.data
        self._expected = placed.expected(TEXT, placed.text)
        self._unread: set[int] = set()
        self._accept_patches()

    def is_like_file(self) -> bool:
        """Whether it is this module at all."""
        if self._expected == self._found:
            return True
        expected, found = (np.frombuffer(data, np.uint8) for data in (self._expected, self._found))
        return float(np.mean(expected == found)) >= _ALIKE

    def differences(self) -> Iterator[Difference]:
        """Of code, then of constants, then of pointers in data."""
        yield from self._missing(self._placed.text)
        yield from self._unresolved()
        yield from self._code()
        yield from self._constants()
        yield from self._pointers()
        for vaddr in self._all.modules.empty_keys(self._placed):
            found = self._all.around.word(vaddr)
            if found:
                yield from self._pointer(_Pointer(vaddr, 0, found))

    def _unresolved(self) -> Iterator[Difference]:
        if self._placed.unresolved:
            names = ", ".join(self._placed.unresolved)
            reason = f"references of module {self._name} cannot be checked: no trusted file has {names}"
            yield self._all.difference("missing", self._placed.text_vaddr, self._name, None, reason)

    def _missing(self, memory: Memory) -> Iterator[Difference]:
        for missing, how in ((memory.absent, ABSENT), (memory.blank, EMPTY)):
            for start, pages in in_a_row(missing):
                reason = f"{pages} pages of module {self._name} are {how}"
                yield self._all.difference("missing", memory.vaddr + start, self._name, None, reason)

    def _accept_patches(self) -> None:
        """Take over what the loader and the kernel may have written at patch sites."""
        around, sites, vaddr = self._all.around, self._placed.linked.sites, self._placed.text_vaddr
        key_of = self._all.modules.key_of(self._placed)
        if around.counting is not None and around.calls_are_counted:
            self._found = self._found.copy()
            around.counting.take_out(self._expected, self._found, vaddr)
            calls = SiteColumns(sites, self._expected, self._found, vaddr).remaining(key_of).calls()
            lead_calls_behind({*sites.calls.tolist(), *calls}, self._found, vaddr, around.counts)
        if around.call_checks is not None:
            around.call_checks.accept(
                self._expected, self._found, sites.preambles.tolist(), sites.retpolines.tolist(),
                frozenset(sites.seals.tolist()),
            )  # fmt: skip
        columns = SiteColumns(sites, self._expected, self._found, vaddr)
        columns.accept_usual(around.reader.return_thunks)
        if self._expected != self._found:
            tables = columns.remaining(key_of)
            patcher = Patcher(self._expected, self._found, vaddr, around.reader, around)
            patcher.accept(tables)
            self._unread = patcher.unread

    def _code(self) -> Iterator[Difference]:
        if self._expected == self._found:
            return
        vaddr, names = self._placed.text_vaddr, self._names
        comparison = CodeComparison(
            self._expected, self._found, vaddr, self._all.around.reader, self._all.places, self._all.tracers,
            names.function_start, frozenset(self._placed.linked.sites.mcount.tolist()),
        )  # fmt: skip
        doubts = Doubts((*self._placed.text.absent, *self._placed.text.blank), self._unread)
        for one in comparison.differences(len(self._found)):
            what = "module" if one.what == "text" else one.what
            found = self._all.difference(
                what, vaddr + one.start, names.describe(one.start), one.expected, one.found, one.leads
            )
            yield found._replace(doubt=doubts.of(one.start, one.end) or found.doubt)

    def _constants(self) -> Iterator[Difference]:
        constants = self._placed.linked.segments[RODATA]
        if not len(constants.sections):
            return
        vaddr = self._placed.vaddr_of(RODATA, 0)
        if vaddr is None:
            reason = f"constants of module {self._name} cannot be checked: they were not found"
            yield self._all.difference("missing", self._placed.text_vaddr, self._name, None, reason)
            return
        memory = self._all.modules.read(vaddr, len(constants.content))
        expected = self._placed.expected(RODATA, memory)
        yield from self._missing(memory)
        if expected == memory.data:
            return
        unequal = np.flatnonzero(np.frombuffer(expected, np.uint8) != memory.bytes)
        for at in np.unique(unequal & -8).tolist():
            before, after = (int.from_bytes(data[at : at + 8], "little") for data in (expected, memory.data))
            is_pointer = before >> 47 == (1 << 17) - 1
            yield self._all.difference(
                "module",
                vaddr + at,
                f"{self._name}:.rodata+{at:#x}",
                self._described(before) if is_pointer else expected[at : at + 8].hex(" "),
                f"{after:#x}" if is_pointer else memory.data[at : at + 8].hex(" "),
                self._all.places.leads([after]) if is_pointer else None,
            )

    def _pointers(self) -> Iterator[Difference]:
        for segment in (LATER, DATA):
            places, linked = self._placed.pointers(segment)
            vaddr = self._placed.vaddr_of(segment, 0)
            if vaddr is None or not len(places):
                continue
            size = int(places.max()) - vaddr + 8
            if not 0 < size <= len(self._placed.linked.segments[segment]) + 8:
                reason = f"data of module {self._name} cannot be checked: it does not lie where its code says"
                yield self._all.difference("missing", self._placed.text_vaddr, self._name, None, reason)
                continue
            memory = self._all.modules.read(vaddr, size)
            count = len(memory.data) - 7
            words = np.ndarray((count,), "<u8", memory.data, 0, (1,))[places - np.uint64(vaddr)]
            for at in np.flatnonzero(words != linked).tolist():
                pointer = _Pointer(int(places[at]), int(linked[at]), int(words[at]))
                page = (pointer.vaddr - vaddr) & -PAGE_SIZE
                if page in memory.absent or page in memory.blank:
                    continue
                found = list(self._pointer(pointer))
                if found and not pointer.found and self._is_blank(pointer.vaddr):
                    memory.blank.append(page)
                else:
                    yield from found
            yield from self._missing(memory)

    def _is_blank(self, vaddr: int) -> bool:
        """Whether the whole page of an address is zeros."""
        return not any(self._all.modules.read(vaddr & -PAGE_SIZE, PAGE_SIZE).data)

    def _pointer(self, pointer: _Pointer) -> Iterator[Difference]:
        stored = self._all.stored
        if stored.explains(pointer.found, pointer.vaddr) or (
            not pointer.linked and stored.answers_nothing(pointer.found, pointer.vaddr)
        ):
            return
        if not pointer.found and stored.clears(pointer.linked, pointer.vaddr):
            return
        name = self._names.variable(pointer.vaddr)
        if self._all.records(self._name, name, pointer.found):
            return
        yield self._all.difference(
            self._all.tracers.owner(name, pointer.found) or "module",
            pointer.vaddr,
            f"{self._name}:{name}",
            self._described(pointer.linked) if pointer.linked else "0x0",
            f"{pointer.found:#x}",
            self._all.places.leads([pointer.found]),
        )

    def _described(self, vaddr: int) -> str:
        """Where a linked pointer leads, by name where it is a function of the module."""
        if self._placed.holds(vaddr):
            return self._names.describe(vaddr - self._placed.text_vaddr)
        return self._all.places.describe(vaddr)

    @cached_property
    def _names(self) -> Names:
        return self._all.modules.names(self._name)

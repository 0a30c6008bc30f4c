"""Code and constants of the snapshot's modules held against the trusted package's files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.modules.relocated_module import RelocatedModule, Segment
from hybridbridge_vol.check.call_depth import lead_calls_behind
from hybridbridge_vol.check.code_differences import CodeComparison, unequal
from hybridbridge_vol.check.difference import Difference
from hybridbridge_vol.check.function_pointers import joined
from hybridbridge_vol.check.kernel_context import KernelAround
from hybridbridge_vol.check.module_patch_tables import module_call_sites, module_patch_tables
from hybridbridge_vol.check.patching import Patcher
from hybridbridge_vol.check.symbol_names import Places
from hybridbridge_vol.check.tracers import Tracers
from hybridbridge_vol.procfs.system import Module
from hybridbridge_vol.units import PAGE_SIZE

_CONSTANTS = (".rodata", ".data.rel.ro")
"""The other constant sections are the loader's tables, some of which it sorts."""
_TRAMPOLINE, _KEY = "__SCT__", "__SCK__"


class ModuleIntegrity:
    """The comparison of the modules that the snapshot's kernel lists."""

    def __init__(self, bridge: Bridge, places: Places, around: KernelAround, tracers: Tracers) -> None:
        self._bridge = bridge
        self._places = places
        self._around = around
        self._tracers = tracers
        self._modules = bridge.space.modules

    def differences(self, listed: Iterable[Module]) -> Iterator[Difference]:
        """Module by module. One that cannot be checked is told."""
        for module in listed:
            trusted = self._modules.at(module.address_vaddr)
            if trusted is None or trusted.module.name != module.name:
                reason = "does not lie where it is listed, or is not like its file"
                if not self._modules.has_file(module.name):
                    reason = "no trusted file; add the package that it came in with 'hb trust add'"
                yield self._told(
                    "missing",
                    module.address_vaddr,
                    module.name,
                    None,
                    f"module {module.name} cannot be checked: {reason}",
                )
                continue
            yield from _Comparison(self, trusted.module, trusted.proven.trusted).differences()

    def _told(
        self,
        what: str,
        vaddr: int,
        symbol: str,
        expected: str | None,
        found: str | None,
        leads: str | None = None,
    ) -> Difference:
        place = self._bridge.layout.translate(self._bridge.image, vaddr)
        offset = None if place is None else self._bridge.image.offset_of(place.paddr)
        return Difference(what, vaddr, offset, symbol, expected, found, leads)

    def _resolve(self, name: str) -> list[int]:
        """Addresses of a symbol of the kernel, or else of another module that is in use."""
        found = self._around.addresses(name)
        if found:
            return found
        exports = (trusted.module.symbol_vaddr(name) for trusted in self._modules.segments)
        return list(dict.fromkeys(vaddr for vaddr in exports if vaddr is not None))

    def _read(self, segment: Segment) -> tuple[bytearray, list[int]]:
        """What the snapshot has in a segment's place, and the offsets of pages that the image lacks: these
        are as expected."""
        found, absent = bytearray(), []
        for offset in range(0, len(segment.content), PAGE_SIZE):
            place = self._bridge.layout.translate(self._bridge.image, segment.vaddr + offset)
            page = None if place is None else self._bridge.image.read_available(place.paddr, PAGE_SIZE)
            if page is None:
                absent.append(offset)
            found += segment.content[offset : offset + PAGE_SIZE] if page is None else page
        return found, absent


class _Comparison:
    """One module. Offsets count from the beginning of its code, or of its constants."""

    def __init__(
        self, all_modules: ModuleIntegrity, module: RelocatedModule, redirected: frozenset[int]
    ) -> None:
        self._all = all_modules
        self._module = module
        self._redirected = redirected

    def differences(self) -> Iterator[Difference]:
        """Of code, then of constants."""
        text = self._module.text
        found, absent = self._all._read(text)
        yield from self._missing(text, absent)
        expected = self._sections_only(text, found, self._module.file.text_layout()[0], "")
        for offset, data in text.as_loaded.items():
            expected[offset : offset + len(data)] = data
        for offset in self._redirected:
            self._take_reference(text, expected, found, offset)
        tables = module_patch_tables(self._module, self._all._resolve)
        tables.static_calls[:] = [call._replace(key=self._key(call.key)) for call in tables.static_calls]
        around = self._all._around
        if around.counting is not None and around.calls_are_counted:
            around.counting.take_out(expected, found, text.vaddr)
            sites = {*module_call_sites(self._module, self._all._resolve), *tables.calls()}
            lead_calls_behind(sites, found, text.vaddr, around.counts)
        Patcher(expected, found, text.vaddr, around.reader, around).accept(tables)
        comparison = CodeComparison(
            expected,
            found,
            text.vaddr,
            around.reader,
            self._all._places,
            self._all._tracers,
            self._function_start,
            frozenset(tables.mcount),
        )
        for one in comparison.differences(len(found)):
            what = "module" if one.what == "text" else one.what
            yield self._all._told(
                what, text.vaddr + one.start, self._symbol(one.start), one.expected, one.found, one.leads
            )
        if self._module.rodata is not None:
            yield from self._constants(self._module.rodata)

    def _sections_only(
        self, segment: Segment, found: bytearray, layout: dict[int, int], prefix: str | tuple[str, ...]
    ) -> bytearray:
        """What is expected of the sections whose names begin so; all between them is taken as it is."""
        expected = found.copy()
        for number, start in layout.items():
            section = self._module.file.sections[number]
            if section.name.startswith(prefix):
                expected[start : start + section.size] = segment.content[start : start + section.size]
        return expected

    def _missing(self, segment: Segment, absent: list[int]) -> Iterator[Difference]:
        for start, end in joined(absent, PAGE_SIZE + 1):
            pages = (end - 1 - start) // PAGE_SIZE + 1
            reason = f"{pages} pages of module {self._module.name} are not in the image and cannot be checked"
            yield self._all._told("missing", segment.vaddr + start, self._module.name, None, reason)

    def _take_reference(self, segment: Segment, expected: bytearray, found: bytearray, offset: int) -> None:
        """A field that was turned to the trusted kernel's object must be one of the snapshot's here."""
        reference = segment.references.get(offset)
        if reference is None:
            return
        for vaddr in self._all._resolve(reference.name):
            data = reference.field(vaddr, segment.vaddr + offset)
            expected[offset : offset + len(data)] = data
            if found[offset : offset + len(data)] == data:
                return

    def _key(self, key: int) -> int:
        """A static call's key; where the module knows but the trampoline, that one's."""
        text = self._module.text.vaddr
        name = self._all._around.function(text + key)
        if name is None or not name.startswith(_TRAMPOLINE):
            return key
        found = self._all._around.address(_KEY + name.removeprefix(_TRAMPOLINE))
        return key if found is None else found - text

    def _constants(self, rodata: Segment) -> Iterator[Difference]:
        found, absent = self._all._read(rodata)
        yield from self._missing(rodata, absent)
        expected = self._sections_only(rodata, found, self._module.file.rodata_layout()[0], _CONSTANTS)
        words = sorted({at & -8 for at in unequal(expected, found, 0, len(found))})
        for at in words:
            before, after = (int.from_bytes(data[at : at + 8], "little") for data in (expected, found))
            wanted = (
                self._all._places.describe(before)
                if before >> 47 == (1 << 17) - 1
                else expected[at : at + 8].hex(" ")
            )
            is_pointer = before >> 47 == (1 << 17) - 1
            yield self._all._told(
                "module",
                rodata.vaddr + at,
                f"{self._module.name}:{_CONSTANTS[0]}+{at:#x}",
                wanted,
                f"{after:#x}" if is_pointer else found[at : at + 8].hex(" "),
                self._all._places.leads([after]) if is_pointer else None,
            )

    # --- names --------------------------------------------------------------------------------------------

    @cached_property
    def _functions(self) -> list[tuple[int, str]]:
        """Offsets of the symbols in the code, ascending."""
        text = self._module.file.text_layout()[0]
        return sorted(
            (text[symbol.section] + symbol.value, symbol.name)
            for symbol in self._module.file.symbols()
            if symbol.section in text and symbol.name
        )

    def _function(self, offset: int) -> tuple[int, str]:
        index = bisect_right(self._functions, (offset, "\U0010ffff")) - 1
        return self._functions[index] if index >= 0 else (offset, "?")

    def _function_start(self, offset: int) -> int:
        return self._function(offset)[0]

    def _symbol(self, offset: int) -> str:
        start, name = self._function(offset)
        return f"{self._module.name}:{name}" + (f"+{offset - start:#x}" if offset > start else "")

"""All modules that the snapshot's kernel lists, each placed by its trusted file, and what they mean to one
another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import cached_property, partial

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.sides import moved
from hybridbridge_vol.cached_method import cached_method
from hybridbridge_vol.check.modules.file_references import FileReferences
from hybridbridge_vol.check.modules.linked_module import DATA, LATER, TEXT
from hybridbridge_vol.check.modules.module_store import linked_modules
from hybridbridge_vol.check.modules.names import Names
from hybridbridge_vol.check.modules.placed_module import Memory, PlacedModule
from hybridbridge_vol.kernel_file.module import ModuleFile
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.procfs.system import Module
from hybridbridge_vol.snapshot.bulk_reader import BulkReader
from hybridbridge_vol.trust import modules

TRAMPOLINE, KEY = "__SCT__", "__SCK__"
_ENDBR_SIZE = 4


class AllModules:
    """See the module's text. `by_name` are those with a trusted file."""

    def __init__(self, bridge: Bridge, listed: Iterable[Module]) -> None:
        self._bridge = bridge
        self._reader = BulkReader(bridge.virtual_memory)
        self.by_name: dict[str, PlacedModule] = {}
        structs = bridge.space.modules.listed.structs
        where = {one.name: one.address_vaddr for one in listed if one.name in structs}
        for name, linked in linked_modules(bridge.kernel.folder, where).items():
            struct_vaddr, pages = structs[name]
            placed = PlacedModule(linked, where[name], struct_vaddr, self.read)
            behind_text = page_up(where[name] + len(linked.segments[TEXT]))
            placed.place_rodata([behind_text, *pages], self.read)
            placed.place_data(pages)
            self.by_name[name] = placed
        self._resolve()

    def _resolve(self) -> None:
        """Lead the modules' references to the kernel, and to each other."""
        names = {name for placed in self.by_name.values() for name in placed.linked.imports}
        shift = self._bridge.layout.shift
        vaddrs = {name: [vaddr] for placed in self.by_name.values() for name, vaddr in placed.exports()}
        vaddrs |= {
            name: [moved(link_vaddr, shift) for link_vaddr in found]
            for name, found in self._bridge.kernel.symbols.find(names).items()
        }
        several = frozenset(name for name, found in vaddrs.items() if len(found) > 1)
        for placed in self.by_name.values():
            placed.resolve(vaddrs, several)

    def read(self, vaddr: int, size: int) -> Memory:
        """Memory of the snapshot, page by page by its own page tables."""
        return Memory(vaddr, *self._reader.read(vaddr, size))

    @cached_method
    def file(self, name: str) -> ModuleFile:
        """A module's trusted file."""
        file = modules.load(self._bridge.kernel.folder, name)
        assert file is not None  # it was linked from it
        return file

    # --- code ---------------------------------------------------------------------------------------------

    @cached_property
    def _by_text(self) -> tuple[list[int], list[PlacedModule]]:
        ordered = sorted(self.by_name.values(), key=lambda placed: placed.text_vaddr)
        return [placed.text_vaddr for placed in ordered], ordered

    def at(self, vaddr: int) -> PlacedModule | None:
        """The module whose code is at an address."""
        starts, ordered = self._by_text
        index = bisect_right(starts, vaddr) - 1
        return ordered[index] if index >= 0 and ordered[index].holds(vaddr) else None

    def part_at(self, vaddr: int) -> tuple[str, int] | None:
        """The name of the module whose code is at an address, and the offset in the code; `NAME data` and the
        offset in it, if it is another part."""
        placed = self.at(vaddr)
        if placed is not None:
            return placed.name, vaddr - placed.text_vaddr
        found = self._part(vaddr)
        return None if found is None else (f"{found[2].name} data", vaddr - found[0])

    @cached_property
    def _by_data(self) -> list[tuple[int, int, PlacedModule]]:
        """Starts and ends of all other segments, ascending."""
        return sorted(
            (
                (vaddr, vaddr + len(segment), placed)
                for placed in self.by_name.values()
                for number, segment in enumerate(placed.linked.segments)
                if number != TEXT and len(segment) and (vaddr := placed.vaddr_of(number, 0)) is not None
            ),
            key=lambda item: item[:2],
        )

    def with_data(self, vaddr: int) -> PlacedModule | None:
        """The module whose data is at an address."""
        found = self._part(vaddr)
        return None if found is None else found[2]

    def _part(self, vaddr: int) -> tuple[int, int, PlacedModule] | None:
        index = bisect_right(self._by_data, vaddr, key=lambda item: item[0]) - 1
        return self._by_data[index] if index >= 0 and vaddr < self._by_data[index][1] else None

    @cached_method
    def names(self, name: str) -> Names:
        """Names for the parts of a module."""
        return Names(self.by_name[name], self.file(name), partial(self.references, name))

    @cached_method
    def references(self, name: str) -> FileReferences:
        """What refers to what in a module's trusted file: for its names, its code and its tables."""
        return FileReferences(self.file(name))

    @cached_method
    def _traceable(self, name: str) -> frozenset[int]:
        return frozenset(self.by_name[name].linked.sites.mcount.tolist())

    def function(self, vaddr: int) -> str | None:
        """The function of a module that begins at an address; None if none does."""
        placed = self.at(vaddr)
        if placed is None:
            return None
        offset = vaddr - placed.text_vaddr
        if not self._traceable(placed.name).isdisjoint((offset, offset + _ENDBR_SIZE)):
            return f"{placed.name}+{offset:#x}"
        return self.names(placed.name).begins(offset)

    def name_of(self, vaddr: int) -> str | None:
        """The name of the function of a module that begins at an address, from its file; None if none
        does."""
        placed = self.at(vaddr)
        return None if placed is None else self.names(placed.name).begins(vaddr - placed.text_vaddr)

    # --- static calls -------------------------------------------------------------------------------------

    def empty_keys(self, placed: PlacedModule) -> list[int]:
        """Addresses of the keys of its own static calls that call nothing as linked."""
        rows = placed.linked.sites.static_calls.reshape(-1, 3)
        keys = {
            vaddr
            for place, offset in set(zip(rows[:, 2].tolist(), placed.linked.sites.keys.tolist(), strict=True))
            if place in (LATER, DATA) and (vaddr := placed.vaddr_of(place, offset)) is not None
        }
        linked = (
            {int(vaddr) for segment in (LATER, DATA) for vaddr in placed.pointers(segment)[0]} if keys else ()
        )
        return sorted(keys.difference(linked))

    def key_of(self, placed: PlacedModule) -> Callable[[int, int], int | None]:
        """How to find the keys of a module's static calls, by place and offset. Where the module knows but
        the trampoline, it is that one's."""
        first = placed.linked.absolute + 1

        def key_vaddr(place: int, offset: int) -> int | None:
            if place >= first:
                name = placed.linked.imports[place - first]
                if name.startswith(TRAMPOLINE):
                    kernels = self._key_of_kernel(KEY + name.removeprefix(TRAMPOLINE))
                    return kernels or self._keys.get(placed.vaddr_of(place, 0) or 0)
            vaddr = placed.vaddr_of(place, offset)
            return self._keys.get(vaddr) if place == TEXT and vaddr is not None else vaddr

        return key_vaddr

    @cached_method
    def _key_of_kernel(self, name: str) -> int | None:
        return next(iter(self._bridge.sides.snapshot_all(name)), None)

    @cached_property
    def _keys(self) -> dict[int, int]:
        """By the trampoline of a static call of a module, its key."""
        found = {}
        for placed in self.by_name.values():
            rows = placed.linked.sites.static_calls.reshape(-1, 3).tolist()
            for (code, _tail, place), offset in zip(rows, placed.linked.sites.keys.tolist(), strict=True):
                key = placed.vaddr_of(place, offset)
                if key is not None:
                    found[placed.text_vaddr + code] = key
        return found

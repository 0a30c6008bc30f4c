"""The modules of a snapshot: found when their memory is first accessed, run from trusted files only.

Which modules there are is read from the snapshot's own list. Where a module's code is, is found by comparing
its memory with the trusted file. Code and constants are mapped like the twin, as trusted segments; all other
memory of a module is data of the snapshot's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, cached_property, partial
from itertools import pairwise

from hybridbridge_vol.bridge.memo import Memo, Proven
from hybridbridge_vol.bridge.modules.added_module import AddedModule, lay_out, unresolved
from hybridbridge_vol.bridge.modules.added_room import AddedRoom
from hybridbridge_vol.bridge.modules.first_page import ALIKE, FirstPage
from hybridbridge_vol.bridge.modules.locate import (
    STRUCT_SECTION,
    Location,
    Resolve,
    exported_vaddr,
    locate,
    text_by_exit,
)
from hybridbridge_vol.bridge.modules.module_list import ModuleList
from hybridbridge_vol.bridge.modules.names import ModuleNames
from hybridbridge_vol.bridge.modules.per_cpu_fields import redirect_per_cpu
from hybridbridge_vol.bridge.modules.relocate import relocate
from hybridbridge_vol.bridge.modules.relocated_module import RelocatedModule, TrustedSegment
from hybridbridge_vol.bridge.modules.segment_room import ROOM
from hybridbridge_vol.bridge.per_cpu_window import PerCpuWindow
from hybridbridge_vol.bridge.text.call_hashes import CallHashes
from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.module import ModuleFile
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory
from hybridbridge_vol.units import PAGE_SIZE

Listener = Callable[[TrustedSegment], None]
"""Is given a trusted segment when it was added, before any of its code runs."""


class SnapshotModules:
    """See the module's text. `window` is how code reaches the snapshot's per-CPU variables; `room` is for
    modules that are added, `hashes` are those of the trusted kernel. Segments are given positions behind the
    kernel image, in the order of their first use."""

    def __init__(
        self,
        snapshot: VirtualMemory,
        memo: Memo,
        names: ModuleNames,
        window: PerCpuWindow,
        room: AddedRoom,
        hashes: CallHashes,
    ) -> None:
        self._snapshot = snapshot
        self._memo = memo
        self._names = names
        self._window = window
        self._hashes = hashes
        self.room = room
        head = next(iter(names.snapshot("modules")), None)
        # a method of this object would be a reference in a circle, which outlives a closed session
        self.listed = ModuleList(snapshot, head, partial(_name_offset, names))
        self._next = page_up(snapshot.layout.size)
        self._end = self._next + ROOM
        self._text_vaddrs: dict[str, int | None] = {}
        self._code_sections: dict[str, dict[int, int]] = {}
        """Of modules that others refer to: the sections of code and where each lies."""
        self._locations: dict[str, Location | None] = {}
        self._relocated: dict[str, RelocatedModule | None] = {}
        self._segments: list[TrustedSegment] = []
        self._listeners: list[Listener] = []

    # --- the segments in use ------------------------------------------------------------------------------

    @property
    def segments(self) -> tuple[TrustedSegment, ...]:
        """Trusted segments of the modules used so far."""
        return tuple(self._segments)

    def subscribe(self, listener: Listener) -> None:
        """Let a listener have all segments: those there are now, and each one that is added later."""
        for trusted in self._segments:
            listener(trusted)
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Undo `subscribe`."""
        self._listeners.remove(listener)

    def relocated_at(self, vaddr: int) -> TrustedSegment | None:
        """As `at`, among the segments in use."""
        return next((trusted for trusted in self._segments if vaddr in trusted.vaddrs), None)

    def at_offset(self, offset: int) -> TrustedSegment | None:
        """The segment that has this position behind the twin."""
        for trusted in self._segments:
            if 0 <= offset - trusted.twin_offset < len(trusted.vaddrs):
                return trusted
        return None

    def data_ranges(self) -> list[range]:
        """Virtual addresses in the modules area of the snapshot's data: without the segments in use."""
        edges = sorted((trusted.vaddrs.start, trusted.vaddrs.stop) for trusted in self._segments)
        area = self._snapshot.layout.modules
        bounds = [(0, area.start), *edges, (area.stop, 0)]
        return [range(before[1], after[0]) for before, after in pairwise(bounds) if before[1] < after[0]]

    # --- finding modules ----------------------------------------------------------------------------------

    def at(self, vaddr: int) -> TrustedSegment | None:
        """The trusted segment at a virtual address; None for data, and where there is no trusted file. Its
        module is relocated if it was not used before."""
        # most first accesses to a module are to the kernel's own data about it, which need no code; and the
        # size of that data is read from a module's file only if a module is accessed at all
        names = self.listed.names_at(vaddr)
        if names and vaddr & -PAGE_SIZE not in self._struct_pages:
            owner = self._owner(vaddr, names)
            if owner is not None and owner.holds(vaddr):
                self._module(owner.name)
        return self.relocated_at(vaddr)

    def _owner(self, vaddr: int, nearest: list[str]) -> Location | None:
        """The module that has an address in its code, constants or data; `nearest`: those with the nearest
        page before it."""
        owners = (self._that_covers(vaddr, name) for name in nearest)
        owner = next(filter(None, owners), None)
        if owner is None and nearest:
            owners = (self._that_covers(vaddr, name) for name in self.listed.earlier_names(vaddr))
            owner = next(filter(None, owners), None)
        return owner

    def _that_covers(self, vaddr: int, name: str) -> Location | None:
        location = self.locate(name)
        return location if location is not None and location.covers(vaddr) else None

    def name_at(self, vaddr: int) -> str | None:
        """The module that an address in the modules area belongs to, by the snapshot's list."""
        nearest = self.listed.names_at(vaddr)
        owner = self._owner(vaddr, nearest)
        return owner.name if owner is not None else next(iter(nearest), None)

    def has_file(self, name: str) -> bool:
        """Whether there is a trusted file of that name."""
        return self._names.file(name) is not None

    def read(self, vaddr: int, size: int) -> bytes:
        """Bytes of the snapshot at a virtual address; what the image does not hold reads as zero."""
        return self._snapshot.read_padded(vaddr, size)

    @cached_property
    def _struct_pages(self) -> frozenset[int]:
        """Pages with a `struct module`, whose size any module's file says."""
        files = (self._names.file(name) for name in self.listed.structs)
        sizes = (own.size for file in files if file is not None and (own := file.section(STRUCT_SECTION)))
        return self.listed.struct_pages(next(sizes, 1))

    def locate(self, name: str) -> Location | None:
        """Where the snapshot has a module's code, constants and data; None if that is not known."""
        if name not in self._locations:
            self._locations[name] = self._locate(name)
        return self._locations[name]

    def _locate(self, name: str) -> Location | None:
        text_vaddr = self._text_vaddr(name)
        file = None if text_vaddr is None else self._names.file(name)
        if text_vaddr is None or file is None:
            return None
        return locate(name, file, text_vaddr, self.read, self.listed.structs[name][1])

    def _text_vaddr(self, name: str) -> int | None:
        """Where a module's code begins; None if that is not known."""
        if name not in self._text_vaddrs:
            self._text_vaddrs[name] = self._find_text(name)
        return self._text_vaddrs[name]

    def _find_text(self, name: str) -> int | None:
        file = self._names.file(name)
        if file is None or name not in self.listed.structs:
            return None  # the list that the image has may end before a module that others depend on
        first = FirstPage(file)
        by_exit = text_by_exit(file, self.listed.structs[name][0], self.read)
        candidates = [
            # modules with the same code differ in where it is
            (first.likeness(self.read(page, PAGE_SIZE)), page == by_exit, page)
            for page in self.listed.pages_of(name)
        ]
        share, _is_own, text_vaddr = max(candidates, default=(0.0, False, 0))
        return text_vaddr if share >= ALIKE else None

    # --- adding modules -----------------------------------------------------------------------------------

    def is_listed(self, name: str) -> bool:
        """Whether the snapshot's list of modules has one of that name."""
        return bool(self.listed.pages_of(name))

    def add(self, name: str) -> AddedModule | str:
        """Lay out a module that the snapshot had not loaded, and those that it depends on must be listed or
        added before; or why that cannot be. Its `init_module` is still to be called."""
        file = self._names.file(name)
        if file is None:
            return f"the stored kernel's package has no module {name}"
        resolve = self._resolver(file)
        missing = unresolved(file, resolve)
        if missing is not None:
            return f"module {name} needs {missing}, which nothing loaded provides"
        try:
            added = lay_out(name, file, self.room, resolve)
        except KernelFileError as error:
            return str(error)
        size = 0 if added is None else sum(len(part.content) for part in (*added.module.segments, added.data))
        paddr = None if added is None else self.room.data_paddr(added.data.content)
        if added is None or paddr is None or self._next + size > self._end:
            return f"no room is left for module {name}"
        self._relocated[name] = added.module
        self._take_in(added.module, file)
        self._add(TrustedSegment(added.module, added.data, self._next, False, Proven(), paddr))
        return added

    # --- relocating them ----------------------------------------------------------------------------------

    def _module(self, name: str) -> RelocatedModule | None:
        if name not in self._relocated:
            self._relocated[name] = self._relocate(name)
        return self._relocated[name]

    def _relocate(self, name: str) -> RelocatedModule | None:
        """The module of a name; its segments are added. None if it is not found, damaged, or too large."""
        location = self.locate(name)
        if location is None:
            return None
        try:
            module = relocate(location, self.read, self._resolver(location.file))
        except KernelFileError:
            return None
        if self._next + sum(len(segment.content) for segment in module.segments) > self._end:
            return None
        self._take_in(module, location.file)
        return module

    def _take_in(self, module: RelocatedModule, file: ModuleFile) -> None:
        """Let a module's code and constants be in use."""
        module.take_hashes(self._hashes)
        proven = self._memo.of_module(module.name, file.build_id)
        for segment in module.segments:
            executable = segment is module.text
            self._add(
                TrustedSegment(module, segment, self._next, executable, proven if executable else Proven())
            )

    def _resolver(self, file: ModuleFile) -> Resolve:
        """Names as a module refers to them: the kernel's, else those exported by what it depends on."""
        names = file.facts().get("depends", "").replace("-", "_").split(",")

        @cache
        def resolve(symbol: str) -> list[int]:
            exports = (self._exported(name, symbol) for name in names if name)
            return self._names.snapshot(symbol) or [vaddr for vaddr in exports if vaddr is not None]

        return resolve

    def _exported(self, name: str, symbol: str) -> int | None:
        """Where a symbol is that a module exports; None if it does not. Only where the module lies is found
        out, of a function only where its code does: code is relocated when some of it runs."""
        module = self._relocated.get(name)
        if module is not None:
            return module.symbol_vaddr(symbol)
        file, text_vaddr = self._names.file(name), self._text_vaddr(name)
        if file is None or text_vaddr is None:
            return None
        if name not in self._code_sections:
            layout = file.text_layout()[0]
            self._code_sections[name] = {index: text_vaddr + start for index, start in layout.items()}
        found = exported_vaddr(file, self._code_sections[name], symbol)
        location = self.locate(name) if found is None and file.exported(symbol) is not None else None
        return found if location is None else location.symbol_vaddr(symbol)

    def _add(self, trusted: TrustedSegment) -> None:
        self._next += len(trusted.vaddrs)
        self._segments.append(trusted)
        if trusted.executable:
            self._set_branches(trusted)
            redirect_per_cpu(trusted.segment, self._names, self._window)
            self.redirect_to_trusted(trusted, trusted.proven.trusted)
        for listener in self._listeners:
            listener(trusted)

    def _set_branches(self, trusted: TrustedSegment) -> None:
        """Let the code's static branches be as the snapshot's keys say (`static_key.enabled` are a key's
        first 32 bits)."""
        size = len(trusted.segment.content)
        for offset, code in trusted.module.labels.patches(0, size, self._key_state):
            trusted.segment.write(offset, code)

    def _key_state(self, vaddr: int) -> int:
        return int.from_bytes(self.read(vaddr, 4), "little", signed=True)

    def redirect_to_trusted(self, trusted: TrustedSegment, fields: Iterable[int]) -> None:
        """Let the references at these offsets of a module's code reach the trusted kernel's objects."""
        text = trusted.segment
        for offset in fields:
            reference = text.references.get(offset)
            home = None if reference is None else self._names.home(reference.name)
            if reference is not None and home is not None:
                text.write(offset, reference.field(home, text.vaddr + offset))


def _name_offset(names: ModuleNames, name: str) -> int | None:
    """See `module_list.NameOffset`."""
    file = names.file(name)
    own = None if file is None else file.section(STRUCT_SECTION)
    offset = -1 if own is None else bytes(own.data).replace(b"-", b"_").find(name.encode() + b"\0")
    return None if offset < 0 else offset

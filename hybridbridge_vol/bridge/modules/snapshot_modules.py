"""The modules of a snapshot: found when their memory is first touched, run from trusted files only.

Which modules there are is read from the snapshot's own list (`modules`, kernel/module/main.c). Of `struct
module` only its beginning is taken as known (state, list, name: since 2.6); which of its words point to the
code is found by comparing what is there with the trusted file. Their text and constants are mapped like the
twin, everything else of them is data of the snapshot's.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from hybridbridge_vol.bridge.memo import Memo, Proven
from hybridbridge_vol.bridge.modules.names import ModuleNames
from hybridbridge_vol.bridge.modules.relocate import (
    ALIKE,
    FirstPage,
    Group,
    Location,
    RelocatedModule,
    field_for,
    locate,
    place,
)
from hybridbridge_vol.bridge.per_cpu_window import PerCpuWindow
from hybridbridge_vol.bridge.text.per_cpu_references import gs_fields
from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory
from hybridbridge_vol.units import PAGE_SIZE

MODULES_START = 0xFFFF_FFFF_C000_0000
"""Start of the modules area with CONFIG_RANDOMIZE_BASE, Documentation/arch/x86/x86_64/mm.rst."""
MODULES_END = 0xFFFF_FFFF_FF00_0000
"""Its end; above lies the fixmap."""
ROOM = 32 << 20
"""Bytes of trusted text and constants that the modules in use may have; the largest ones have two million."""

_MAX_MODULES = 2048
_FIELD = 4  # bytes of a displacement
_THIS_CPU_OFF = "this_cpu_off"
_MAX_DISTANCE = 16 << 20  # from a module's first page to an address in it
_LIST_AT, _NAME_AT, _NAME_SIZE = 8, 24, 56  # struct module: state, list, name[MODULE_NAME_LEN]
_STRUCT_SIZE = 2048
_NAME = re.compile(rb"[\w-]{1,55}\0")


@dataclass
class Part:
    """Trusted pages of a module: `offset` is their place behind the twin, counted as the twin's are, from
    `_text`."""

    module: RelocatedModule
    group: Group
    offset: int
    executable: bool
    proven: Proven

    @property
    def vaddrs(self) -> range:
        """Virtual addresses in the snapshot."""
        return range(self.group.vaddr, self.group.vaddr + len(self.group.content))


class SnapshotModules:
    """See the module's text. `window` is how code reaches the snapshot's per-CPU variables; parts are placed
    behind the kernel image."""

    def __init__(self, snapshot: VirtualMemory, memo: Memo, names: ModuleNames, window: PerCpuWindow) -> None:
        self._snapshot = snapshot
        self._memo = memo
        self._names = names
        self._window = window
        self._next = page_up(snapshot.layout.size)
        self._end = self._next + ROOM
        self._words: dict[int, list[str]] | None = None
        self._starts: list[int] = []
        self._located: dict[str, Location | None] = {}
        self._known: dict[str, RelocatedModule | None] = {}
        self.parts: list[Part] = []
        self.on_part: Callable[[Part], None] = lambda _part: None
        """Told of every part that is placed."""

    # --- finding ------------------------------------------------------------------------------------------

    def at(self, vaddr: int) -> Part | None:
        """The trusted part of a module that has this address; None for data, and where there is no trusted
        file."""
        if not MODULES_START <= vaddr < MODULES_END:
            return None
        for name in self._names_at(vaddr):
            location = self._location(name)
            if location is not None and location.holds(
                vaddr
            ):  # most touches are of data, which need no code made
                self._module(name)
        return self.relocated_at(vaddr)

    def relocated_at(self, vaddr: int) -> Part | None:
        """As `at`, among what was used so far."""
        return next((part for part in self.parts if vaddr in part.vaddrs), None)

    def placed_by_offset(self, offset: int) -> Part | None:
        """The part that has this place behind the twin."""
        return next(
            (part for part in self.parts if 0 <= offset - part.offset < len(part.group.content)), None
        )

    def name_at(self, vaddr: int) -> str | None:
        """The module that an address in the modules area belongs to, as the snapshot's list has it."""
        return next(iter(self._names_at(vaddr)), None) if MODULES_START <= vaddr < MODULES_END else None

    def _names_at(self, vaddr: int) -> list[str]:
        """Modules of which a word names the nearest page before an address: its owner, and behind it perhaps
        one whose memory ends there."""
        if self._words is None:
            self._words = {}
            for word, name in self._page_words():
                self._words.setdefault(word, []).append(name)
            last = {name: word for word in sorted(self._words) for name in self._words[word]}
            for word, names in self._words.items():
                names.sort(key=lambda name: last[name] == word)
            self._starts = sorted(self._words)
        index = bisect_right(self._starts, vaddr) - 1
        if index < 0 or vaddr - self._starts[index] > _MAX_DISTANCE:
            return []
        return self._words[self._starts[index]]

    def has_file(self, name: str) -> bool:
        """Whether there is a trusted file of that name."""
        return self._names.file(name) is not None

    def data_ranges(self) -> list[range]:
        """The modules area without the parts placed so far: where the snapshot's data lie."""
        edges = sorted((part.vaddrs.start, part.vaddrs.stop) for part in self.parts)
        bounds = [(0, MODULES_START), *edges, (MODULES_END, 0)]
        return [range(before[1], after[0]) for before, after in pairwise(bounds) if before[1] < after[0]]

    def _page_words(self) -> Iterator[tuple[int, str]]:
        """`(address, module)` of each word of the list's modules that can be the beginning of some memory of
        theirs."""
        heads = self._names.snapshot("modules")
        if not heads:
            return
        seen: set[int] = set()
        node = self._u64(heads[0])
        while node != heads[0] and node and node not in seen and len(seen) < _MAX_MODULES:
            seen.add(node)
            record = self.read(node - _LIST_AT, _STRUCT_SIZE)
            name = _NAME.match(record, _NAME_AT)
            if name:
                text = name[0][:-1].decode("ascii").replace("-", "_")
                for offset in range(_NAME_AT + _NAME_SIZE, _STRUCT_SIZE, 8):
                    word = int.from_bytes(record[offset : offset + 8], "little")
                    if not word % PAGE_SIZE and MODULES_START <= word < MODULES_END:
                        yield word, text
            node = self._u64(node)

    def _u64(self, vaddr: int) -> int:
        return int.from_bytes(self.read(vaddr, 8), "little")

    def read(self, vaddr: int, size: int) -> bytes:
        """Bytes of the snapshot; what it does not hold reads as zero."""
        return self._snapshot.read_padded(vaddr, size)

    # --- placing ------------------------------------------------------------------------------------------

    def _module(self, name: str) -> RelocatedModule | None:
        if name not in self._known:
            self._known[name] = None  # also against modules that depend on each other in a circle
            self._known[name] = self._placed(name)
        return self._known[name]

    def _location(self, name: str) -> Location | None:
        if name not in self._located:
            self._located[name] = self._found(name)
        return self._located[name]

    def _found(self, name: str) -> Location | None:
        file = self._names.file(name)
        if file is None or self._words is None:
            return None
        first = FirstPage(file)
        words = [word for word, names in self._words.items() if name in names]
        candidates = [(first.likeness(self.read(word, PAGE_SIZE)), word) for word in words]
        share, text_vaddr = max(candidates, default=(0.0, 0))
        return locate(name, file, text_vaddr, self.read) if share >= ALIKE else None

    def _placed(self, name: str) -> RelocatedModule | None:
        location = self._location(name)
        if location is None:
            return None
        file = location.file
        neighbours = [
            self._module(other)
            for other in file.facts().get("depends", "").replace("-", "_").split(",")
            if other
        ]

        def resolve(symbol: str) -> list[int]:
            others = (module.symbol_vaddr(symbol) for module in neighbours if module is not None)
            return self._names.snapshot(symbol) or [vaddr for vaddr in others if vaddr is not None]

        try:
            module = place(location, self.read, resolve)
        except KernelFileError:
            return None
        proven = self._memo.of_module(name, file.build_id)
        size = sum(len(group.content) for group in (module.text, module.rodata) if group is not None)
        if self._next + size > self._end:
            return None
        self._add(Part(module, module.text, self._next, True, proven))
        if module.rodata is not None:
            self._add(Part(module, module.rodata, self._next, False, Proven()))
        return module

    def _add(self, part: Part) -> None:
        self._next += len(part.group.content)
        self.parts.append(part)
        self._set_branches(part)
        if part.executable:
            self._set_per_cpu(part.group)
            self.reclassify(part, part.proven.trusted)
        self.on_part(part)

    def _set_branches(self, part: Part) -> None:
        """Let the text's static branches stand as the snapshot's keys say."""
        if part.executable:
            content = part.group.content
            for offset, code in part.module.labels.patches(0, len(content), self._key_state):
                content[offset : offset + len(code)] = code

    def _set_per_cpu(self, group: Group) -> None:
        """Let `%gs:` references to per-CPU variables of the kernel reach the trusted kernel's, as the twin's
        do, and those to variables of modules the snapshot's. These are also reached by adding `this_cpu_off`,
        which therefore is the snapshot's, too: per-CPU pointers that a module follows this way are the
        snapshot's."""
        for offset, relative in gs_fields(group.content):
            reference = group.references.get(offset)
            there = bytes(group.content[offset : offset + _FIELD])
            data = there
            if offset in group.per_cpu or reference is not None and self._is_of_a_module(reference[0]):
                name = self._window.name_of(0) + int.from_bytes(there, "little")
                data = (name & (1 << 8 * _FIELD) - 1).to_bytes(_FIELD, "little")
            elif reference is not None and relative:
                data = self._kernels_per_cpu(reference, group.vaddr + offset) or there
            if data != there:
                group.as_loaded[offset] = there
                group.content[offset : offset + _FIELD] = data

    def _is_of_a_module(self, name: str) -> bool:
        return not self._names.snapshot(name)

    def _kernels_per_cpu(self, reference: tuple[str, int, int], place_vaddr: int) -> bytes | None:
        """The field of a reference relative to RIP to a per-CPU variable of the kernel; None if it may
        stay."""
        name = reference[0]
        own = next(iter(self._names.snapshot(_THIS_CPU_OFF)), None) if name == _THIS_CPU_OFF else None
        vaddr = self._names.home_per_cpu(name) if own is None else self._window.name_of(own)
        return None if vaddr is None else field_for(reference, vaddr, place_vaddr)

    def _key_state(self, vaddr: int) -> int:
        return int.from_bytes(self.read(vaddr, 4), "little", signed=True)

    def reclassify(self, part: Part, fields: Iterable[int]) -> None:
        """Let these fields of a text reach the trusted kernel's object from now on."""
        for offset in fields:
            reference = part.group.references.get(offset)
            home = None if reference is None else self._names.home(reference[0])
            if reference is not None and home is not None:
                data = field_for(reference, home, part.group.vaddr + offset)
                part.group.content[offset : offset + len(data)] = data

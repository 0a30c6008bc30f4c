"""What speaks for and against a kernel of an image: whether it is whole, whose memory it is, whether it ran.

An image may hold more than the kernel that ran: what a soft reboot or kexec left of the one before, a crashed
kernel below kdump's capture kernel, a copy that somebody planted. A copy has page tables that lead to the
original and an account of where it was loaded that is the original's (`phys_base`,
arch/x86/kernel/head_64.S). What is left of an earlier kernel has lost its per-CPU areas to the one that ran:
in each of a running kernel, `this_cpu_off` is what `__per_cpu_offset` says (arch/x86/kernel/setup_percpu.c).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.machine.paging import FRAME_MASK, LARGE_SHIFT
from hybridbridge_vol.snapshot.find_kernel import MAJORITY, Candidate, Found, Readable
from hybridbridge_vol.snapshot.kernel_layout import (
    PAGE_STRUCT,
    SnapshotLayout,
    SymbolTable,
    Tables,
    UnreadableSnapshot,
    read_layout,
)
from hybridbridge_vol.snapshot.machine_state import MachineState, read_state
from hybridbridge_vol.units import PAGE_SIZE, START_KERNEL_MAP, U64

MAX_AREAS = 64
"""Per-CPU areas that are looked at."""
_SEARCH_WORDS, _BASE_REAL_AT, _NARROWEST_MASK = 24, 48, 0xFFFF
"""Of `struct tk_read_base` (include/linux/timekeeper_internal.h): how far into the timekeeper it is looked
for, and the offset of the time of day in nanoseconds."""
MAX_TABLES = 64
"""Of the kernel's list of all top page tables, those that are looked at."""
_LIST_IN_PAGE = 8
"""The offset of the list's entry in `struct page` (`lru` in include/linux/mm_types.h; `pt_list` of `struct
ptdesc` since 6.6)."""
_MM_SIZE = 2048
"""How far into `struct mm_struct` its `pgd` is looked for."""
_BANNER = b"Linux version "
_UPPER_HALF = 1 << 63
_STEP = 1 << LARGE_SHIFT
"""Bytes of the kernel between two places at which its page tables are followed."""
_USER_TABLES = PAGE_SIZE
"""With page-table isolation, the bit of CR3 that selects a process's own page tables."""


def roots_of(cr3: int) -> tuple[int, int]:
    """The physical addresses of the page tables that a CPU runs on, and of the kernel's that go with them."""
    root = cr3 & FRAME_MASK
    return root, root & ~_USER_TABLES


class Registers(Protocol):
    """Of one CPU of the machine."""

    @property
    def cr3(self) -> int:
        """Physical address of its page tables' root, in bits 12 and above."""


class Image(Readable, Tables, Protocol):
    """As much of a memory image as weighing needs."""

    @property
    def cpus(self) -> Sequence[Registers]:
        """The registers of the machine's CPUs; none where the format has none."""


class KnownKernel(Candidate, Protocol):
    """As much of a stored kernel as weighing needs."""

    release: str
    end_link_vaddr: int
    region_bases: list[int]
    modules_vaddr: int

    @property
    def symbols(self) -> SymbolTable:
        """Its symbols."""

    @property
    def running_constant(self) -> int | None:
        """What `system_state` is while it runs."""


class Evidence(NamedTuple):
    """None: the image does not say. `flaws` are what a kernel that runs, or ran to the machine's end, cannot
    have, each as a clause. `on_cpus`: how many of the image's CPUs have page tables that map it. `has_tasks`:
    whether page tables of tasks map it. `time`: the time of day at its last tick, in nanoseconds since the
    epoch."""

    flaws: tuple[str, ...]
    state: MachineState
    on_cpus: int | None
    time: int | None
    has_tasks: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether it can be the kernel that ran. One that kexec has ended left its memory to another, unless
        a CPU still runs it."""
        return not self.flaws and (not self.state.left_by_kexec or bool(self.on_cpus))

    def __str__(self) -> str:
        ran = [] if self.on_cpus is None else [f"runs on {self.on_cpus} of the image's CPUs"]
        return "; ".join([str(self.state), *ran, *self.flaws])


def weigh(image: Image, kernel: KnownKernel, found: Found) -> Evidence:
    """The evidence about a kernel that was `found` in the image."""
    if found.agreement < MAJORITY:
        flaw = f"only {found.agreement:.0%} of its pointers agree where it was loaded"
        return Evidence((flaw,), MachineState(), None, None)
    try:
        layout = read_layout(image, kernel, found)
    except AttachError as error:
        return Evidence((str(error),), MachineState(), None, None)
    return _Scales(image, kernel, layout).evidence()


class _Scales:
    """One kernel of the image, being weighed."""

    def __init__(self, image: Image, kernel: KnownKernel, layout: SnapshotLayout) -> None:
        self._image = image
        self._kernel = kernel
        self._layout = layout

    def evidence(self) -> Evidence:
        is_mapped_by_tasks = self._is_mapped_by_its_tasks()
        checks = (
            (self._maps(), "its page tables do not map it"),
            (self._knows_its_place(), "by its own account it was loaded elsewhere"),
            (self._has_a_cpu(), "by its own account it has no CPU"),
            (self._has_its_areas(), "its per-CPU areas are overwritten or another's"),
            (self._has_its_tables(), "its own memory descriptor has other page tables"),
            (is_mapped_by_tasks, "the page tables of its tasks map another"),
        )
        return Evidence(
            tuple(flaw for holds, flaw in checks if holds is False),
            read_state(self._number, self._kernel.running_constant),
            self._on_cpus(),
            self._time(),
            bool(is_mapped_by_tasks),
        )

    def _maps(self, root_paddr: int | None = None) -> bool | None:
        """Whether page tables, by default its own, have most of the kernel where it was found (an attacker
        may have let them lead elsewhere at some place, which `check` reports). None if they are not in the
        image."""
        answers = []
        for offset in range(0, self._layout.size, _STEP):
            with contextlib.suppress(UnreadableSnapshot):
                place = self._layout.walk(self._image, self._layout.text_vaddr + offset, root_paddr)
                answers.append(place is not None and place.paddr == self._layout.text_paddr + offset)
        return 2 * sum(answers) > len(answers) if answers else None

    def _knows_its_place(self) -> bool | None:
        base = self._number("phys_base", 8)
        text = self._layout.text_vaddr - START_KERNEL_MAP
        return None if base is None else (base + text) & U64 == self._layout.text_paddr

    def _has_a_cpu(self) -> bool | None:
        mask = self._number("__cpu_online_mask", 8)
        return None if mask is None else bool(self._layout.cpu_numbers)

    def _has_its_areas(self) -> bool | None:
        """Whether all per-CPU areas that the image holds are this kernel's. A page of zeros says nothing:
        perhaps it could not be read when the image was made."""
        own = self._kernel.symbols.get("this_cpu_off")
        if own is None:
            return None
        places = [(self._in_area(own, offset), offset) for offset in self._area_offsets()]
        answers = [
            area == offset
            for place, offset in places
            if (area := self._word(place)) is not None and not (area == 0 and self._is_empty(place))
        ]
        return all(answers) if answers else None

    def _is_empty(self, vaddr: int) -> bool:
        """Whether the page of a virtual address is zeros."""
        paddr = self._paddr(vaddr & -PAGE_SIZE)
        return paddr is not None and self._image.read_available(paddr, PAGE_SIZE) == bytes(PAGE_SIZE)

    def _area_offsets(self) -> list[int]:
        """`__per_cpu_offset` of each CPU that worked."""
        offsets = self._kernel.symbols.get("__per_cpu_offset")
        cpus = self._layout.cpu_numbers[:MAX_AREAS] if offsets else ()
        words = [self._static((offsets or 0) + 8 * cpu, 8) for cpu in cpus]
        return [word for word in words if word is not None]

    def _in_area(self, variable: int, offset: int) -> int:
        """The virtual address of a per-CPU variable: kernels link the area at 0, or in the kernel image."""
        linked = variable + self._layout.shift if variable >= START_KERNEL_MAP else variable
        return (linked + offset) & U64

    def _is_mapped_by_its_tasks(self) -> bool | None:
        """Whether the page tables of tasks, those that its CPUs had loaded and others, map it. None if they
        map no kernel: in an image taken while the machine ran a task may have ended meanwhile. Its own
        tables, which idle CPUs use, lie in the kernel image and are copied with it: they say nothing."""
        image = range(self._layout.text_paddr, self._layout.text_paddr + self._layout.size)
        roots = {root for root in (*self._loaded_tables(), *self._listed_tables()) if root not in image}
        if any(map(self._maps_under, roots)):
            return True
        return False if any(map(self._maps_another, roots)) else None

    def _loaded_tables(self) -> Iterator[int]:
        """Physical addresses of the page tables that its CPUs had loaded, by its per-CPU areas
        (`cpu_tlbstate.loaded_mm`, the first field)."""
        state, at = self._kernel.symbols.get("cpu_tlbstate"), self._tables_in_mm()
        for offset in () if state is None or at is None else self._area_offsets():
            mm = self._word(self._in_area(state or 0, offset))
            tables = self._word((mm + (at or 0)) & U64) if mm and mm >= _UPPER_HALF else None
            root = self._paddr(tables) if tables else None
            if root is not None:
                yield root

    def _listed_tables(self) -> Iterator[int]:
        """Those of its tasks, the youngest first, by the list of the pages that hold such tables (`pgd_list`,
        arch/x86/mm/fault.c)."""
        head = self._kernel.symbols.get("pgd_list")
        entry = None if head is None else self._static(head, 8)
        for _ in range(MAX_TABLES):
            if not entry or head is None or entry == (head + self._layout.shift) & U64:
                return
            number, rest = divmod(entry - _LIST_IN_PAGE - self._layout.vmemmap_base, PAGE_STRUCT)
            if rest or number < 0:
                return
            yield number * PAGE_SIZE
            entry = self._word(entry)

    def _maps_another(self, root_paddr: int) -> bool:
        """Whether page tables map another kernel where this one would be."""
        try:
            place = self._layout.walk(self._image, self._layout.text_vaddr, root_paddr)
        except UnreadableSnapshot:
            return False
        if place is None:
            return False
        banner_at = place.paddr + self._kernel.banner_link_vaddr - self._kernel.text_link_vaddr
        return self._image.read_available(banner_at, len(_BANNER)) == _BANNER

    def _has_its_tables(self) -> bool | None:
        init_mm = self._kernel.symbols.get("init_mm")
        if init_mm is None or self._static(init_mm + _MM_SIZE - 8, 8) is None:
            return None
        return self._tables_in_mm() is not None

    def _tables_in_mm(self) -> int | None:
        """The offset of `pgd` in `struct mm_struct`: the kernel's own, `init_mm`, has its own tables
        there."""
        init_mm, tables = self._kernel.symbols.get("init_mm"), self._kernel.symbols.get("init_top_pgt")
        if init_mm is None or tables is None:
            return None
        wanted = (tables + self._layout.shift) & U64
        return next((at for at in range(0, _MM_SIZE, 8) if self._static(init_mm + at, 8) == wanted), None)

    def _on_cpus(self) -> int | None:
        roots = [cpu.cr3 for cpu in self._image.cpus]
        return sum(map(self._maps_under, roots)) if roots else None

    def _maps_under(self, root_paddr: int) -> bool:
        return any(map(self._maps, roots_of(root_paddr)))

    def _time(self) -> int | None:
        """Of the timekeeper's first read base, which is recognised by its mask (all ones up to some bit)
        behind a pointer to a clock."""
        symbols = self._kernel.symbols
        start = symbols.get("tk_core") or symbols.get("timekeeper_data")
        for base in range(start, start + 8 * _SEARCH_WORDS, 8) if start else ():
            clock, mask = self._static(base, 8) or 0, self._static(base + 8, 8) or 0
            if clock >= START_KERNEL_MAP and not mask & (mask + 1) and mask >= _NARROWEST_MASK:
                return self._static(base + _BASE_REAL_AT, 8)
        return None

    def _number(self, symbol: str, size: int) -> int | None:
        vaddr = self._kernel.symbols.get(symbol)
        return None if vaddr is None else self._static(vaddr, size)

    def _static(self, link_vaddr: int, size: int) -> int | None:
        """A number of the kernel image, read where it was found."""
        paddr = self._layout.text_paddr + link_vaddr - self._kernel.text_link_vaddr
        data = self._image.read_available(paddr, size)
        return None if data is None else int.from_bytes(data, "little")

    def _word(self, vaddr: int) -> int | None:
        """The 64-bit word at a virtual address by the kernel's own tables; None if the image does not say, 0
        if nothing is mapped there."""
        try:
            place = self._layout.walk(self._image, vaddr)
        except UnreadableSnapshot:
            return None
        data = None if place is None else self._image.read_available(place.paddr, 8)
        return 0 if place is None else None if data is None else int.from_bytes(data, "little")

    def _paddr(self, vaddr: int) -> int | None:
        """Where a virtual address leads by the kernel's own tables."""
        place = self._layout.translate(self._image, vaddr)
        return None if place is None else place.paddr

"""A machine with everything that the taint engine distinguishes, in a few pages: a trusted side with its text
and its memory, a twin of that text, a user page, and a snapshot."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from assembly import assembled
from unicorn import x86_const as x86

from hybridbridge_vol.bridge.taint.address_map import AddressMap
from hybridbridge_vol.bridge.taint.engine import TaintEngine
from hybridbridge_vol.bridge.taint.events import EventKind
from hybridbridge_vol.bridge.taint.labels import POINTER
from hybridbridge_vol.bridge.taint.rules import Rule
from hybridbridge_vol.machine.cpu import EFER_MSR
from hybridbridge_vol.machine.exceptions import VECTOR_PAGE_FAULT, Verdict
from hybridbridge_vol.machine.machine import Machine, Stop
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory
from hybridbridge_vol.machine.paging import USER, WRITABLE, TableBuilder

PAGE = 0x1000
LARGE_PAGE = 0x200000

# The kernel image's window, as offsets from `_text`: a page of text, one of constants, two of data.
TEXT_SIZE, CONSTANTS, DATA = 0x4000, 0x1000, 0x2000

RAM_SIZE = 2 * LARGE_PAGE
TABLES_PADDR, HOME_PADDR, OURS_PADDR, STACK_PADDR = 0x1000, 0x100000, 0x200000, 0x300000
TWIN_PADDR, USER_PADDR, SNAPSHOT_PADDR = 1 << 30, 2 << 30, 4 << 30
SNAPSHOT_SIZE = 0x8000
STATICS = 0x2000
"""Where in the image the data of the snapshot's own kernel lie."""
PER_CPU = range(0x3800, 0x3900)
"""Offsets from `_text` that are names of per-CPU variables."""

TRUSTED_MEMORY = 0xFFFF_8000_0000_0000
"""Our memory, all of it."""
OURS, STACK = TRUSTED_MEMORY + OURS_PADDR, TRUSTED_MEMORY + STACK_PADDR
"""A page of our data; our stack."""
USER_MEMORY = 0x1000_0000
SNAPSHOT = 0xFFFF_8880_0000_0000
"""The snapshot's memory, all of it."""
SOURCE = SNAPSHOT + 0x10
BASE_WORDS = (0xF00, 0xF10)
"""Where the image has `page_offset_base` and `vmemmap_base`."""
"""Where the tests' bytes come from: the byte at 0x10 of the image, and those that follow."""
BEYOND = SNAPSHOT + SNAPSHOT_SIZE
"""Nothing is mapped here."""
HOME, TWIN = 0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_9100_0000
END = HOME + PAGE - 16
"""Where every run ends."""
RETURN = b"\xc3"


@dataclass
class Answers:
    """What a test answers to the engine's questions; see `TaintHost`."""

    image_holds: Callable[[int, int], bool] = lambda _paddr, _value: True
    replace_argument: Callable[[int, int, int], bool] = lambda _vaddr, _register, _label: False


class SmallMachine:
    """See the module's text. Registers are named in lower case. It is the engine's `TaintHost`.

    `on_demand`: pages that are mapped when they are first accessed, as virtual and guest-physical addresses.
    `hole` is which virtual addresses the engine takes for ours.
    """

    def __init__(
        self,
        trampolines: Mapping[int, Rule] | None = None,
        answers: Answers | None = None,
        hole: range = range(TRUSTED_MEMORY, TRUSTED_MEMORY + (8 << 40)),
    ) -> None:
        self.answers = answers or Answers()
        self.memory = PhysicalMemory()
        self.memory.place(0, HostMapping.anonymous(RAM_SIZE))
        self.memory.place(TWIN_PADDR, HostMapping.anonymous(DATA))
        self.memory.place(USER_PADDR, HostMapping.anonymous(PAGE))
        self.memory.place(SNAPSHOT_PADDR, guarded(SNAPSHOT_SIZE))
        self.machine = Machine(memory=self.memory, handler=self._on_exception)
        self.on_demand: dict[int, int] = {}
        self._used = {HOME: 0, TWIN: 0}
        self.start = HOME
        """Where the code of the last run begins."""
        self.tables = self._map()
        self._enter_long_mode()
        address_map = AddressMap(
            home_text=HOME,
            twin_text=TWIN,
            text_size=TEXT_SIZE,
            constants=range(HOME_PADDR, HOME_PADDR + DATA),
            trusted_size=RAM_SIZE,
            user=range(USER_PADDR, USER_PADDR + PAGE),
            snapshot_paddr=SNAPSHOT_PADDR,
            upper_half=TRUSTED_MEMORY,
            trusted_vaddrs=hole,
            twin_constant_end=DATA,
            per_cpu=PER_CPU,
            base_words=BASE_WORDS,
        )
        self.engine = TaintEngine(self.machine, address_map, self, trampolines or {})

    def close(self) -> None:
        """End the machine's thread and let the labels go."""
        self.machine.rest()
        self.engine.close()

    def _map(self) -> TableBuilder:
        memory, free = self.memory, iter(range(TABLES_PADDR + PAGE, HOME_PADDR, PAGE))
        tables = TableBuilder(TABLES_PADDR, 4, memory.read_u64, memory.write_u64, lambda: next(free))
        for offset in range(0, RAM_SIZE, LARGE_PAGE):
            tables.map_page(TRUSTED_MEMORY + offset, offset, WRITABLE, 21)
        for offset in range(0, TEXT_SIZE, PAGE):
            tables.map_page(HOME + offset, HOME_PADDR + offset, WRITABLE)
            twin = TWIN_PADDR + offset if offset < DATA else SNAPSHOT_PADDR + STATICS + offset - DATA
            tables.map_page(TWIN + offset, twin, WRITABLE)
        for offset in range(0, SNAPSHOT_SIZE, PAGE):
            tables.map_page(SNAPSHOT + offset, SNAPSHOT_PADDR + offset, WRITABLE)
        tables.map_page(USER_MEMORY, USER_PADDR, WRITABLE | USER)
        return tables

    def _enter_long_mode(self) -> None:
        machine = self.machine
        descriptors = OURS_PADDR - PAGE
        self.memory.write(descriptors, struct.pack("<4Q", 0, 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF))
        machine.uc.reg_write(x86.UC_X86_REG_GDTR, (0, TRUSTED_MEMORY + descriptors, 31, 0))
        machine.write_register("CR4", 0x620)  # PAE, and vector instructions
        machine.write_register("CR3", TABLES_PADDR)
        machine.write_msr(EFER_MSR, 0x100)
        machine.write_register("CR0", 0x80000031)
        machine.write_register("CS", 0x10)
        machine.write_register("SS", 0x18)

    def code(self, twin: bool, offset: int, size: int) -> bytes:
        """See `TaintHost`."""
        start = (TWIN_PADDR if twin else HOME_PADDR) + offset
        return self.memory.read(start, min(size, CONSTANTS - offset))

    def image_holds(self, paddr: int, value: int) -> bool:
        """See `TaintHost`."""
        return self.answers.image_holds(paddr, value)

    def replace_argument(self, vaddr: int, register: int, label: int) -> bool:
        """See `TaintHost`."""
        return self.answers.replace_argument(vaddr, register, label)

    def _on_exception(self, _machine: Machine, vector: int, _rip: int, cr2: int) -> Verdict:
        self.engine.cancel()
        page = self.on_demand.get(cr2 & -PAGE) if vector == VECTOR_PAGE_FAULT else None
        if page is None:
            return Verdict.STOP
        self.tables.map_page(cr2 & -PAGE, page, WRITABLE)
        return Verdict.RESUME

    # --- running ------------------------------------------------------------------------------------------

    def put(self, listing: str, side: int = HOME) -> int:
        """Write code (see `assembled`) and a `ret` behind what the text of that side holds; its address."""
        start = side + self._used[side]
        code = assembled(listing) + RETURN
        self.machine.write(start, code)
        self._used[side] += len(code) + -len(code) % 16
        return start

    def run(self, listing: str, side: int = HOME, seed: bool = True, **registers: int) -> Stop:
        """Run code under taint up to its `ret`. Registers are clean; if `seed`, those that hold an address of
        the snapshot's are pointers of it."""
        return self.go(self.put(listing, side), seed, **registers)

    def go(self, start: int, seed: bool = True, **registers: int) -> Stop:
        """As `run`, for code that was put before."""
        self.start = start
        for name, value in registers.items():
            self.machine.write_register(name.upper(), value)
        self.engine.begin(seed)
        stop = self.machine.call(start, (), STACK, END, 5)
        self.engine.finish()
        return stop

    # --- looking ------------------------------------------------------------------------------------------

    def image(self, offset: int, data: bytes) -> None:
        """Let the snapshot hold these bytes."""
        self.memory.write(SNAPSHOT_PADDR + offset, data)

    def labels(self, vaddr: int, size: int) -> list[int]:
        """The label of each byte, of a range within one page."""
        translation = self.machine.translate(vaddr)
        assert translation is not None
        return list(self.engine.labels(translation.paddr, size))

    def origins(self, vaddr: int, size: int) -> list[set[int]]:
        """For each byte the snapshot's bytes that it is made of, as offsets into the image."""
        return [
            {place for start, length in self.engine.origins(label) for place in range(start, start + length)}
            for label in self.labels(vaddr, size)
        ]

    def clean(self, vaddr: int, size: int) -> bool:
        """Whether no byte has any label."""
        return not any(self.labels(vaddr, size))

    def pointer(self, vaddr: int) -> bool:
        """Whether the word is a pointer of the snapshot's."""
        return all(label & POINTER for label in self.labels(vaddr, 8))

    def findings(self) -> list[tuple[EventKind, int]]:
        """What the engine noticed in the last run: the kind, and the offset of the instruction in its
        code."""
        return [(event.kind, event.vaddr - self.start) for event in self.engine.events()]


def guarded(size: int) -> HostMapping:
    """Zeroed memory with a page behind it that this process may not read."""
    pages = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapping = HostMapping(pages, size)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(mapping.address + size), ctypes.c_size_t(PAGE), 0) == 0
    return mapping


def each(start: int, size: int) -> list[set[int]]:
    """Origins of bytes copied one by one."""
    return [{place} for place in range(start, start + size)]


def word(value: int) -> bytes:
    """A 64-bit word in memory."""
    return value.to_bytes(8, "little")

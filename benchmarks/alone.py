"""The engine's limit: a stored trusted kernel that answers for itself, with no snapshot and nothing
redirected.

The same machine, system calls and tools as for a snapshot, over the /proc of the trusted kernel's own few
processes: what is slower on a snapshot is the bridge's cost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

from hybridbridge_vol.allowance import Allowance
from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.memo_for_kernel import memo_key
from hybridbridge_vol.bridge.physical_map import TABLES_PADDR
from hybridbridge_vol.bridge.sides import moved
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.paging import FRAME_MASK, TableBuilder
from hybridbridge_vol.snapshot.machine_state import NORMAL, MachineState
from hybridbridge_vol.trust.stored_kernel import Boot, StoredKernel
from hybridbridge_vol.units import PAGE_SIZE

_TABLES_SIZE = 1 << 20


@dataclass
class Alone:
    """What a session asks of a `Bridge`, where both sides are the one trusted kernel: an address of "the
    snapshot" is home's, and there is no twin."""

    kernel: StoredKernel
    boot: Boot
    machine: Machine
    ram: HostMapping
    memo: Memo
    allowance: Allowance = field(default_factory=Allowance)
    state: MachineState = NORMAL
    notes: tuple[str, ...] = ()
    image: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(path="trusted kernel", caution="", close=lambda: None)
    )

    def __post_init__(self) -> None:
        tables = HostMapping.anonymous(_TABLES_SIZE)
        self.machine.place(TABLES_PADDR, tables)
        fresh = iter(range(TABLES_PADDR, TABLES_PADDR + _TABLES_SIZE, PAGE_SIZE))
        memory = self.machine.memory
        root = self.machine.read_register("CR3") & FRAME_MASK
        builder = TableBuilder(
            root, self.machine.levels, memory.read_u64, memory.write_u64, lambda: next(fresh)
        )
        room = SimpleNamespace(memory=HostMapping.anonymous(PAGE_SIZE))  # no module is added
        self.space = SimpleNamespace(builder=builder, modules=SimpleNamespace(room=room))
        self.image_pages = SimpleNamespace(mappings=[], refill=lambda: None)
        self.layout = SimpleNamespace(shift=self.home_delta, cpu_numbers=(0,))
        self.sides = SimpleNamespace(per_cpu_offsets=self.home("__per_cpu_offset"))
        self.faults = SimpleNamespace(warned={})

    @property
    def home_delta(self) -> int:
        """What is added to a link-time address."""
        return self.boot.layout.kernel_delta

    def home(self, name: str) -> int:
        """A symbol's address; KeyError if there is none."""
        return moved(self.kernel.symbols.address(name), self.home_delta)

    snapshot = home

    def describe(self, vaddr: int) -> str:
        """An address in words, for messages."""
        found = self.kernel.symbols.lookup(vaddr - self.home_delta)
        return f"{found[0]}+{found[1]:#x}" if found else f"{vaddr:#x}"

    def in_twin(self, _vaddr: int) -> bool:
        """There is none."""
        return False

    def confirm(self) -> None:
        """Nothing runs beside us."""

    def close(self) -> None:
        """End the machine's thread."""
        self.machine.rest()


def open_alone(kernel: StoredKernel) -> Session:
    """A session on the stored kernel itself, its /proc and /sys mounted as it would mount them."""
    boot = kernel.boots()[0]
    machine = Machine()
    ram = boot.map_memory()
    machine.place(0, ram)
    machine.load_state(boot.state)
    return Session(cast(Bridge, Alone(kernel, boot, machine, ram, Memo(memo_key(kernel)))))

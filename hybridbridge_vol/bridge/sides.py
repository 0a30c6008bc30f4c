"""The two sides of a bridge: where the kernel's symbols are at home and where they are in the snapshot."""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout
from hybridbridge_vol.trust.placement import Layout
from hybridbridge_vol.trust.stored_kernel import StoredKernel
from hybridbridge_vol.units import START_KERNEL_MAP, U64


class Sides(NamedTuple):
    """Virtual addresses of one kernel on both sides. `text_link_vaddr` is where `_text` was linked; `size`
    what the kernel image takes from there on, in bytes; a delta is what is added to a link-time address."""

    symbols: Symbols
    text_link_vaddr: int
    size: int
    home_delta: int
    snapshot_delta: int

    @classmethod
    def of(cls, kernel: StoredKernel, home: Layout, snapshot: SnapshotLayout) -> Sides:
        """A trusted kernel booted at one layout, and found in a snapshot at another."""
        return cls(kernel.symbols, kernel.text_link_vaddr, kernel.size, home.kernel_delta, snapshot.shift)

    @property
    def home_text_vaddr(self) -> int:
        """`_text` of the trusted kernel."""
        return (self.text_link_vaddr + self.home_delta) & U64

    @property
    def twin_text_vaddr(self) -> int:
        """`_text` of the twin, which is the snapshot's."""
        return (self.text_link_vaddr + self.snapshot_delta) & U64

    @property
    def per_cpu_offsets(self) -> int | None:
        """The snapshot's `__per_cpu_offset`, an array: what each CPU adds to a per-CPU variable's address.
        None if there is one CPU only and its variables are like any others (CONFIG_SMP=n)."""
        vaddr = self.symbols.get("__per_cpu_offset")
        return None if vaddr is None else moved(vaddr, self.snapshot_delta)

    def home(self, name: str) -> int:
        """The trusted kernel's symbol; KeyError if there is none."""
        return moved(self.symbols.address(name), self.home_delta)

    def snapshot(self, name: str) -> int:
        """The same symbol on the snapshot's side: its data, or the twin's code. KeyError."""
        return moved(self.symbols.address(name), self.snapshot_delta)

    def home_or_none(self, name: str) -> int | None:
        """As `home`, but None if there is no such symbol."""
        return self.home(name) if name in self.symbols else None

    def snapshot_all(self, name: str) -> list[int]:
        """All addresses in the snapshot that a name may stand for (static functions of different files)."""
        return [moved(vaddr, self.snapshot_delta) for vaddr in self.symbols.addresses(name)]

    def function_at(self, offset: int) -> tuple[str, int] | None:
        """The symbol at or before an offset from `_text`, and the distance; None outside of the image."""
        return self.symbols.lookup(self.text_link_vaddr + offset) if 0 <= offset < self.size else None

    def describe(self, vaddr: int) -> str | None:
        """An address in either kernel image in words: "twin proc_pid_status+0x10"; None elsewhere."""
        for side, text_vaddr in (("home", self.home_text_vaddr), ("twin", self.twin_text_vaddr)):
            found = self.function_at(vaddr - text_vaddr)
            if found:
                return f"{side} {found[0]}+{found[1]:#x}"
        return None


def moved(link_vaddr: int, delta: int) -> int:
    """A symbol's address after relocation; offsets into per-CPU areas that are linked at 0 do not move."""
    return (link_vaddr + delta) & U64 if link_vaddr >= START_KERNEL_MAP else link_vaddr

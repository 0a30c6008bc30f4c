"""What names mean to a module of the snapshot: its trusted file, and the kernel's symbols on both sides."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.text.per_cpu_references import PerCpuText
from hybridbridge_vol.trust.stored_kernel import StoredKernel

if TYPE_CHECKING:
    from hybridbridge_vol.kernel_file.module import ModuleFile


class ModuleNames(NamedTuple):
    """Addresses are virtual. `file`: a module's trusted file by its name. Of the kernel's symbols,
    `snapshot`: all that a name may stand for in the snapshot; `home`: the trusted kernel's; `home_per_cpu`:
    the address with which code reaches the trusted kernel's per-CPU variable, None if it is the
    snapshot's."""

    file: Callable[[str], ModuleFile | None]
    snapshot: Callable[[str], list[int]]
    home: Callable[[str], int | None]
    home_per_cpu: Callable[[str], int | None]

    @classmethod
    def of(cls, kernel: StoredKernel, sides: Sides, per_cpu: PerCpuText) -> ModuleNames:
        """The names as a stored kernel and its modules have them."""
        section = range(per_cpu.start, per_cpu.end)

        def module_file(name: str) -> ModuleFile | None:
            from hybridbridge_vol.trust.modules import load  # most runs need no module

            return load(kernel.folder, name)

        def home_per_cpu(name: str) -> int | None:
            offset = (sides.symbols.get(name) or 0) - sides.text_link_vaddr
            return sides.home_text_vaddr + offset if offset in section else None

        return cls(
            file=cache(module_file),
            snapshot=cache(sides.snapshot_all),
            home=sides.home_or_none,
            home_per_cpu=cache(home_per_cpu),
        )

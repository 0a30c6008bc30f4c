"""What the taint engine must know of the address space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hybridbridge_vol.bridge.taint.operands import StaticTargets
from hybridbridge_vol.units import U64

UNKNOWN = U64
"""Where a variable is that there is not."""


@dataclass(frozen=True, slots=True)
class AddressMap:
    """Where both sides' code and data lie. Text is `text_size` bytes from `_text` on each side.

    Virtual addresses: `home_text` and `twin_text`, of `_text`; `upper_half`, the lowest that a kernel can
    have; `trusted_vaddrs`, the hole of it that the trusted kernel uses; `modules`, the snapshot's modules
    area.

    Guest-physical addresses: `constants`, home's text and `.rodata`; RAM of the trusted kernel from 0 to
    `trusted_size`; `user`, the proxy task's user memory; the image from `snapshot_paddr`.

    Offsets from `_text`: of the kernel image's window the twin provides what lies below `twin_constant_end`
    and not in `ro_after_init`; `per_cpu` are the names of per-CPU variables, where no data lie;
    `module_room`, behind the twin, is for the segments of modules.

    Physical addresses of the snapshot's: `base_words`, of its `page_offset_base` and `vmemmap_base`, if they
    are variables and hold what they lawfully may; else `UNKNOWN`.

    Offsets from GS: code of modules reaches the snapshot's per-CPU variables by `window_names` (see
    bridge/per_cpu_window.py). Immediates of the twin's text that are pointers of the snapshot's: `pointers`.
    """

    home_text: int
    twin_text: int
    text_size: int
    constants: range
    trusted_size: int
    user: range
    snapshot_paddr: int
    upper_half: int
    trusted_vaddrs: range
    twin_constant_end: int
    ro_after_init: range = range(0)
    modules: range = range(0)
    module_room: range = range(0)
    per_cpu: range = range(0)
    base_words: tuple[int, int] = (UNKNOWN, UNKNOWN)
    window_names: range = range(0)
    pointers: frozenset[int] = frozenset()

    @property
    def twin_targets(self) -> StaticTargets:
        """The static addresses that the twin's own text may name."""
        return StaticTargets(self._snapshot_statics, pointers=self.pointers)

    def module_targets(self, data: Iterable[range]) -> StaticTargets:
        """The static addresses that code of modules may name; `data` are the virtual addresses of the modules
        area where the snapshot's data lie."""
        return StaticTargets((*self._snapshot_statics, *data), self.window_names)

    @property
    def _snapshot_statics(self) -> tuple[range, ...]:
        """Virtual addresses in the kernel image's window where the snapshot's data lie."""
        text, hole = self.twin_text, self.ro_after_init
        per_cpu = self.per_cpu or range(self.text_size, self.text_size)
        return (
            range(text + self.twin_constant_end, text + per_cpu.start),
            range(text + per_cpu.stop, text + self.text_size),
            range(text + hole.start, text + hole.stop),
        )

    @property
    def twin_size(self) -> int:
        """Bytes of the twin with the room for modules behind it."""
        return max(self.text_size, self.module_room.stop)

    def engine_fields(self) -> dict[str, int]:
        """The fields of the engine's `struct engine` that describe the address space."""
        return {
            "home_text": self.home_text,
            "twin_text": self.twin_text,
            "constant_start": self.constants.start,
            "constant_end": self.constants.stop,
            "user_paddr": self.user.start,
            "snapshot_paddr": self.snapshot_paddr,
            "upper_half": self.upper_half,
            "trusted_vaddr": self.trusted_vaddrs.start,
            "trusted_vaddr_end": self.trusted_vaddrs.stop,
            "twin_constant_end": self.twin_constant_end,
            "ro_after_init": self.ro_after_init.start,
            "ro_after_init_end": self.ro_after_init.stop,
            "modules_start": self.modules.start,
            "modules_end": self.modules.stop,
            "per_cpu": self.per_cpu.start,
            "per_cpu_end": self.per_cpu.stop,
            "page_offset_word": self.base_words[0],
            "vmemmap_word": self.base_words[1],
        }

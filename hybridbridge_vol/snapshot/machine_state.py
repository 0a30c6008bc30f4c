"""In which state the machine was, by the kernel's own variables.

Of `system_state` (include/linux/kernel.h) the constants for booting come first, and kernels have two or three
of them; then running, halt, power off, restart and suspend, in this order in all. Which one is running, the
kernel's own code says: `kernel_init` (init/main.c) stores it last, right before it starts the first process.
`panic_cpu` (kernel/panic.c) and `crashing_cpu` (arch/x86/kernel/reboot.c) hold a CPU's number once there was
a panic, and once kdump has stopped the others; `kexec_in_progress` (kernel/kexec_core.c) is set before the
jump into another kernel. `elfcorehdr_addr` (kernel/crash_dump.c) is set where this kernel is kdump's capture
kernel."""

from __future__ import annotations

import struct
from typing import NamedTuple, Protocol

_BEHIND_RUNNING = ("halted", "powering off", "restarting", "suspended")
_STORE, _STORE_SIZE = b"\xc7\x05", 10
_NO_CPU = 0xFFFF_FFFF
_NO_ADDRESS = (1 << 64) - 1


class Numbers(Protocol):
    """The kernel's variables by symbol: little-endian, without sign."""

    def __call__(self, symbol: str, size: int, /) -> int | None:
        """The variable of so many bytes; None if the kernel has none, or if it cannot be read."""


class MachineState(NamedTuple):
    """`phase`: booting, running, halted, powering off, restarting, suspended; None if the image does not say.
    `panicked_on` and `crashed_on`: the CPU that had a panic, and the one that started kdump's capture kernel.
    `left_by_kexec`: another kernel was started in this one's place. `is_capture_kernel`: it is kdump's."""

    phase: str | None = None
    panicked_on: int | None = None
    crashed_on: int | None = None
    left_by_kexec: bool = False
    is_capture_kernel: bool = False

    @property
    def is_booting(self) -> bool:
        """Whether the kernel had not yet started its first process."""
        return self.phase == "booting"

    @property
    def has_ended(self) -> bool:
        """Whether another kernel was started in this one's place: by kexec, or by kdump."""
        return self.left_by_kexec or self.crashed_on is not None

    def __str__(self) -> str:
        parts = []
        if self.crashed_on is not None:
            parts.append(f"crashed on CPU {self.crashed_on}, which started the capture kernel of kdump")
        elif self.panicked_on is not None:
            parts.append(f"panicked on CPU {self.panicked_on}")
        if self.left_by_kexec:
            parts.append("ended by kexec, which started another kernel")
        elif not parts or self.phase not in ("running", None):
            parts.append(_IN_WORDS.get(self.phase or "", self.phase or "unknown"))
        if self.is_capture_kernel:
            parts.append("as the capture kernel of kdump")
        return ", ".join(parts)


NORMAL = MachineState("running")
"""Of a machine that ran when its memory was taken."""
_IN_WORDS = {"booting": "booting: the kernel had not yet started its first process"}


def running_constant(code: bytes, code_vaddr: int, variable_vaddr: int) -> int | None:
    """The constant of `system_state` for running: the largest that `kernel_init` stores in the variable.
    `code` is that function, and what it stores with is `movl $constant, variable(%rip)` (SDM volume 2, MOV:
    C7 /0)."""
    stored = []
    at = code.find(_STORE)
    while 0 <= at <= len(code) - _STORE_SIZE:
        distance, constant = struct.unpack_from("<iI", code, at + len(_STORE))
        if code_vaddr + at + _STORE_SIZE + distance == variable_vaddr:
            stored.append(constant)
        at = code.find(_STORE, at + 1)
    return max(stored, default=None)


def read_state(snapshot: Numbers, running: int | None) -> MachineState:
    """The state by the snapshot's variables; `running` as `running_constant` gives it."""
    return MachineState(
        phase=_phase(snapshot("system_state", 4), running),
        panicked_on=_cpu(snapshot("panic_cpu", 4)),
        crashed_on=_cpu(snapshot("crashing_cpu", 4)),
        left_by_kexec=bool(snapshot("kexec_in_progress", 1)),
        is_capture_kernel=snapshot("elfcorehdr_addr", 8) not in (None, _NO_ADDRESS, 0),
    )


def _phase(state: int | None, running: int | None) -> str | None:
    if state is None or running is None:
        return None
    if state <= running:
        return "running" if state == running else "booting"
    behind = state - running - 1
    return _BEHIND_RUNNING[behind] if behind < len(_BEHIND_RUNNING) else None


def _cpu(number: int | None) -> int | None:
    return None if number in (None, _NO_CPU) else number

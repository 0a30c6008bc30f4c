"""Guests that come to an end: a panic, kexec, kdump, or a stop while they boot. They hold one program
(guest/ends.c), so that they take seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from made_once import made_once

from hybridbridge_vol.kernel_file.packages import read_vmlinuz
from samples import cache_key, qemu
from samples.compiler import compile_static
from samples.initramfs import Archive
from samples.kernels import fetch

PROGRAM = Path(__file__).parent / "guest" / "ends.c"
SECONDS = 300.0
"""A guest is ended after so long."""
_COMMAND_LINE = "console=ttyS0 rdinit=/init no_timer_check panic=0"
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Ending:
    """`kernel` as `samples.kernels.fetch` takes it; `end` is what PID 1 does (guest/ends.c); `next_kernel` is
    the one that kexec or kdump starts; `marker` is what the console shows when the guest is to be stopped."""

    kernel: str
    end: str
    marker: str = "hb: ready"
    next_kernel: str | None = None
    cpus: int = 1
    append: str = ""
    ram: int = 256 << 20
    memory: str = ""
    """As QEMU's `-m` takes it, where there is more to say than `ram`."""


@dataclass(frozen=True)
class _Machine(qemu.Machine):
    memory: str = ""
    can_be_saved: bool = False

    def arguments(self) -> list[str]:
        words = super().arguments()
        if self.memory:
            words[words.index("-m") + 1] = self.memory
        if self.can_be_saved:  # memory is named as a plain machine's, and none is shared with another
            at = words.index("ivshmem-plain,memdev=shared") - 1
            words = words[:at] + words[at + 2 :]
            words = [
                word.replace("backend=ram", "backend=pc.ram").replace("id=ram", "id=pc.ram") for word in words
            ]
        return words


def _initramfs(ending: Ending) -> bytes:
    program = compile_static(PROGRAM)
    inner = Archive()
    inner.add("init", 0o100755, program)
    inner.add("dev/console", 0o20600, device=(5, 1))
    outer = Archive()
    outer.add("init", 0o100755, program)
    outer.add("dev/console", 0o20600, device=(5, 1))
    if ending.next_kernel:
        outer.add("vmlinuz", 0o100644, read_vmlinuz(fetch(ending.next_kernel)))
        outer.add("initrd", 0o100644, inner.finished())
    return outer.finished()


@contextlib.contextmanager
def ended(ending: Ending, folder: Path, can_be_saved: bool = False) -> Iterator[qemu.Guest]:
    """The guest, stopped. Its files are in `folder`: physical memory is `ram`, the console's text `console`.
    QEMU saves the state of a machine that `can_be_saved`."""
    (folder / "vmlinuz").write_bytes(read_vmlinuz(fetch(ending.kernel)))
    (folder / "initrd").write_bytes(_initramfs(ending))
    line = f"{_COMMAND_LINE} hb.end={ending.end} {ending.append}".strip()
    machine = _Machine(ending.ram, ending.cpus, memory=ending.memory, can_be_saved=can_be_saved)
    with qemu.running(folder, machine, "vmlinuz", "initrd", line, SECONDS) as guest:
        guest.command("qmp_capabilities")
        console, deadline = folder / "console", time.monotonic() + SECONDS
        while ending.marker not in (console.read_text(errors="replace") if console.exists() else ""):
            if time.monotonic() > deadline:
                raise qemu.GuestError(f"no {ending.marker!r} on the console of {folder}")
            time.sleep(_POLL_SECONDS)
        guest.command("stop")
        yield guest


def image_of(ending: Ending) -> Path:
    """The folder with the guest's memory, raw as `dump.raw` and, with the CPUs' registers, as QEMU's kdump as
    `dump.kdump`; made only once for the same guest."""
    packages = [fetch(kernel).name for kernel in (ending.kernel, ending.next_kernel) if kernel]
    key = cache_key.digest(ending, packages, PROGRAM.read_bytes(), _COMMAND_LINE)
    return made_once(f"{ending.kernel}-{ending.end}-{key[:12]}", partial(_make, ending))


def _make(ending: Ending, folder: Path) -> None:
    with ended(ending, folder) as guest:
        target = {"paging": False, "protocol": "file:dump.kdump", "format": "kdump-zlib"}
        guest.command("dump-guest-memory", target)
        qemu.save_raw(folder / "ram", ending.ram, folder / "dump.raw")
    for name in ("ram", "shared", "initrd", "vmlinuz", "qemu.log"):
        (folder / name).unlink(missing_ok=True)

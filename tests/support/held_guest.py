"""A guest that has just been stopped, still in QEMU, so that QEMU itself writes its memory in its formats."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridbridge_vol.kernel_file.packages import read_vmlinuz
from samples import guest_files, qemu
from samples.kernels import fetch
from samples.make import GUEST_SECONDS, Spec


@dataclass(frozen=True)
class _Machine(qemu.Machine):
    devices: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        return [*super().arguments(), *(word for device in self.devices for word in ("-device", device))]


@contextlib.contextmanager
def held(spec: Spec, folder: Path, devices: Sequence[str] = ()) -> Iterator[qemu.Guest]:
    """The guest at its capture time, with more of QEMU's `devices`. Its files are in `folder`: physical
    memory is `ram` (see `samples.qemu.physical_ranges`); what QEMU writes is named relative to it."""
    package = fetch(spec.kernel)
    (folder / "vmlinuz").write_bytes(read_vmlinuz(package))
    (folder / "initrd").write_bytes(guest_files.initramfs(package, spec.recipe()))
    machine = _Machine(spec.ram, spec.cpus, spec.accel, spec.la57, spec.nodes, (), tuple(devices))
    with qemu.running(folder, machine, "vmlinuz", "initrd", spec.command_line(), GUEST_SECONDS) as guest:
        guest.wait_for_capture()
        yield guest

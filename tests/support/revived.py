"""A sample's memory in a QEMU that never runs it, so that QEMU itself writes it in its formats."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from samples import qemu
from samples.make import Sample

_SECONDS = 120.0


@contextlib.contextmanager
def revived(sample: Sample, folder: Path) -> Iterator[qemu.Guest]:
    """QEMU, stopped before its first instruction, with a copy of the sample's memory; its files are in
    `folder`."""
    shutil.copyfile(sample.raw, folder / "ram")
    ram = sample.meta["ram"]
    command = [
        qemu.find_qemu(), "-S", "-machine", "pc,accel=tcg,memory-backend=pc.ram", "-m", f"{ram >> 20}M",
        # named as a plain machine's memory is in a saved state
        "-object", f"memory-backend-file,id=pc.ram,size={ram},mem-path=ram,share=on",
        "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-qmp", "stdio",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:
        try:
            guest = qemu.Guest(folder, process, time.monotonic() + _SECONDS)
            guest.command("qmp_capabilities")
            yield guest
        finally:
            process.kill()
